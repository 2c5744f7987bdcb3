package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/dyngodb/dyngo"
)

func Example() {
	db, err := dyngo.Open("", &dyngo.Options{InMemory: true}) // a directory's name keeps the store on disk
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	scores, err := db.CreateDataset("scores", nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := scores.Put([]byte("anna"), []byte("42")); err != nil {
		log.Fatal(err)
	}
	value, err := scores.Get([]byte("anna"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", value)
	// Output: 42
}

// store returns an open store with one dataset for the examples below.
func store() (*dyngo.DB, *dyngo.Dataset) {
	db, err := dyngo.Open("", &dyngo.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	ds, err := db.CreateDataset("scores", nil)
	if err != nil {
		log.Fatal(err)
	}
	return db, ds
}

func ExampleDataset_Scan() {
	db, scores := store()
	defer db.Close()
	for _, name := range []string{"anna", "bert", "berta", "carl"} {
		if _, err := scores.Put([]byte(name), []byte("1")); err != nil {
			log.Fatal(err)
		}
	}
	for kv, err := range scores.Scan(dyngo.Prefix([]byte("bert"))) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s ", kv.Key)
	}
	for kv, err := range scores.Scan(dyngo.Range{Reverse: true, Limit: 2, KeysOnly: true}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s ", kv.Key)
	}
	// Output: bert berta carl berta
}

func ExampleDataset_PutNewest() {
	db, scores := store()
	defer db.Close()
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, t := range []time.Time{noon, noon.Add(-time.Hour), noon, noon.Add(time.Hour)} {
		applied, _, err := scores.PutNewest([]byte("anna"), []byte(t.Format("15:04")), t)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(applied, " ")
	}
	// Output: true false false true
}

func ExampleDataset_PutIf() {
	db, scores := store()
	defer db.Close()
	lsn, err := scores.PutIf([]byte("anna"), []byte("1"), 0) // only if absent
	if err != nil {
		log.Fatal(err)
	}
	if _, err := scores.PutIf([]byte("anna"), []byte("2"), lsn); err != nil {
		log.Fatal(err)
	}
	_, err = scores.PutIf([]byte("anna"), []byte("3"), lsn) // somebody was faster
	fmt.Println(errors.Is(err, dyngo.ErrConflict))
	// Output: true
}

func ExampleDataset_Open() {
	db, files := store()
	defer db.Close()
	song := bytes.Repeat([]byte("la "), 100_000)
	if _, err := files.PutReader([]byte("song"), int64(len(song)), bytes.NewReader(song)); err != nil {
		log.Fatal(err)
	}
	r, err := files.Open([]byte("song"))
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Seek(-6, io.SeekEnd); err != nil {
		log.Fatal(err)
	}
	end, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", end)
	// Output: "la la "
}

func ExampleBatch() {
	db, scores := store()
	defer db.Close()
	b := db.NewBatch()
	b.Put(scores, []byte("anna"), []byte("1"))
	b.Put(scores, []byte("bert"), []byte("2"))
	b.Delete(scores, []byte("carl"))
	last, err := b.Commit() // all or nothing
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(b.Len(), "events, the last is", last)
	// Output: 3 events, the last is 5
}

func ExampleView() {
	db, scores := store()
	defer db.Close()
	if _, err := scores.Put([]byte("anna"), []byte("before")); err != nil {
		log.Fatal(err)
	}
	v, err := db.View()
	if err != nil {
		log.Fatal(err)
	}
	defer v.Close()
	if _, err := scores.Put([]byte("anna"), []byte("after")); err != nil {
		log.Fatal(err)
	}
	then, err := v.Get(scores, []byte("anna"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", then)
	// Output: before
}

func ExampleListener() {
	expired := make(chan string, 1)
	db, err := dyngo.Open("", &dyngo.Options{InMemory: true, Listener: &dyngo.Listener{
		Expired: func(dataset string, key []byte, _ dyngo.LSN, _ time.Time, _ time.Duration) {
			expired <- dataset + "/" + string(key)
		},
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	sessions, err := db.CreateDataset("sessions", &dyngo.DatasetOptions{TTL: 20 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := sessions.Put([]byte("s1"), nil); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-expired)
	// Output: sessions/s1
}

func ExampleDataset_History() {
	db, scores := store()
	defer db.Close()
	for _, points := range []string{"40", "42"} {
		if _, err := scores.PutWith([]byte("anna"), []byte(points), dyngo.WriteOptions{Reason: "match " + points}); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := scores.Delete([]byte("anna")); err != nil {
		log.Fatal(err)
	}
	for v, err := range scores.History(context.Background(), []byte("anna")) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s %q\n", v.Op, v.Value, v.Reason)
	}
	// Output:
	// delete  ""
	// put 42 "match 42"
	// put 40 "match 40"
	// dataset-created  ""
}

// Values of a subject are encrypted under a key of their own. When it is destroyed, nobody can read them any more: not here, not in
// snapshots, not in backups.
func ExampleDB_Erase() {
	db, err := dyngo.Open("", &dyngo.Options{InMemory: true, Keys: "/keys"}) // outside of the store
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	customers, err := db.CreateDataset("customers", nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = customers.PutWith([]byte("17"), []byte("Anna, 12 Elm Street"), dyngo.WriteOptions{Subject: "customer 17"})
	if err != nil {
		log.Fatal(err)
	}
	value, err := customers.Get([]byte("17"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", value)
	erased, err := db.Erase(context.Background(), "customer 17", dyngo.EraseOptions{Reason: "asked for it", Count: true})
	if err != nil {
		log.Fatal(err)
	}
	_, err = customers.Get([]byte("17"))
	fmt.Println(erased.Events, "value:", err, errors.Is(err, dyngo.ErrErased), errors.Is(err, dyngo.ErrNotFound))
	// Output:
	// Anna, 12 Elm Street
	// 1 value: dyngo: the subject was erased true true
}
