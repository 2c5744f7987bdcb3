package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

const keysDir = "/keys"

func keyed(fs vfs.FS, c *clock.Manual) *dyngo.Options {
	o := options(fs, c)
	o.Keys = keysDir
	o.SpillFrom(spillFrom, spillPiece)
	return o
}

var ofAlice, ofBob = dyngo.WriteOptions{Subject: "alice"}, dyngo.WriteOptions{Subject: "bob"}

// subjectStore is a store with values of alice and bob, and of nobody, each written in its own way.
type subjectStore struct {
	t     *testing.T
	fs    vfs.FS
	clock *clock.Manual
	db    *dyngo.DB
	ds    *dyngo.Dataset
	want  map[string]string // key to value
}

// open opens the store, again after it was closed.
func (s *subjectStore) open(tune func(*dyngo.Options)) *dyngo.DB {
	s.t.Helper()
	o := keyed(s.fs, s.clock)
	if tune != nil {
		tune(o)
	}
	s.db = mustOpen(s.t, storeDir, o)
	s.t.Cleanup(func() { s.db.Close() })
	return s.db
}

func newSubjectStore(t *testing.T, compression dyngo.Compression, tune func(*dyngo.Options)) *subjectStore {
	t.Helper()
	s := &subjectStore{t: t, fs: vfs.NewMem(), clock: manualClock(), want: map[string]string{}}
	var err error
	if s.ds, err = s.open(tune).CreateDataset("d", &dyngo.DatasetOptions{Compression: compression}); err != nil {
		t.Fatal(err)
	}
	s.write("alice", ofAlice)
	s.write("bob", ofBob)
	s.write("nobody", dyngo.WriteOptions{})
	return s
}

// write writes values in all ways.
func (s *subjectStore) write(who string, wo dyngo.WriteOptions) {
	s.t.Helper()
	key := func(way string) []byte { return []byte(way + " of " + who) }
	note := func(way, value string, err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatalf("%s of %s: %v", way, who, err)
		}
		s.want[string(key(way))] = value
	}
	value := func(way string) string { return fmt.Sprintf("secret %s %s %s", way, who, strings.Repeat("text ", 40)) }
	_, err := s.ds.PutWith(key("put"), []byte(value("put")), wo)
	note("put", value("put"), err)
	_, err = s.ds.PutWith(key("empty"), nil, wo)
	note("empty", "", err)
	_, _, err = s.ds.PutNewestWith(key("newest"), []byte(value("newest")), time.Unix(1, 0), wo)
	note("newest", value("newest"), err)
	_, err = s.ds.PutIfWith(key("if"), []byte(value("if")), 0, wo)
	note("if", value("if"), err)
	ttl := wo
	ttl.TTL, ttl.Reason = time.Hour, "why"
	_, err = s.ds.PutWith(key("ttl"), []byte(value("ttl")), ttl)
	note("ttl", value("ttl"), err)
	large := value("large") + string(big(20<<10, 7))
	_, err = s.ds.PutWith(key("large"), []byte(large), wo)
	note("large", large, err)
	several := value("pieces") + string(big(300<<10, 9))
	_, err = s.ds.PutReaderWith(key("pieces"), int64(len(several)), strings.NewReader(several), wo)
	note("pieces", several, err)
	whole := string(big(512<<10, 5)) // two pieces, both full
	_, err = s.ds.PutReaderWith(key("whole"), int64(len(whole)), strings.NewReader(whole), wo)
	note("whole", whole, err)
	for _, n := range []int{3, 24} { // the second spills
		b := s.db.NewBatch()
		for i := range n {
			b.PutWith(s.ds, key(fmt.Sprintf("batch%d-%02d", n, i)), []byte(value("batch")+fmt.Sprint(i)), wo)
		}
		_, err := b.Commit()
		for i := range n {
			note(fmt.Sprintf("batch%d-%02d", n, i), value("batch")+fmt.Sprint(i), err)
		}
	}
}

// erase erases alice.
func (s *subjectStore) erase() *dyngo.Erasure {
	s.t.Helper()
	e, err := s.db.Erase(context.Background(), "alice", dyngo.EraseOptions{Reason: "asked for it", Count: true})
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

func isOf(key, who string) bool { return strings.HasSuffix(key, " of "+who) }

// check reads everything by every route. erased says that alice is.
func (s *subjectStore) check(db *dyngo.DB, erased bool) {
	s.t.Helper()
	view, err := db.View()
	if err != nil {
		s.t.Fatal(err)
	}
	defer view.Close()
	past, err := db.ViewAt(context.Background(), dyngo.AtLSN(view.LSN()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer past.Close()
	ds, err := db.Dataset("d")
	if err != nil {
		s.t.Fatal(err)
	}
	open := func(key []byte) ([]byte, error) {
		r, err := ds.Open(key)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	lookup := func(key []byte) ([]byte, error) {
		kv, err := ds.Lookup(key)
		who := strings.TrimPrefix(string(key[bytes.Index(key, []byte(" of ")):]), " of ")
		if who == "nobody" {
			who = ""
		}
		if err == nil && kv.Subject != who {
			s.t.Errorf("%s: the subject is %q", key, kv.Subject)
		}
		return kv.Value, err
	}
	routes := map[string]func([]byte) ([]byte, error){"get": ds.Get, "open": open, "lookup": lookup,
		"view": func(key []byte) ([]byte, error) { return view.Get(ds, key) },
		"past": func(key []byte) ([]byte, error) { return past.Get(ds, key) }}
	for key, want := range s.want {
		gone := erased && isOf(key, "alice")
		for route, get := range routes {
			got, err := get([]byte(key))
			switch {
			case gone && (!errors.Is(err, dyngo.ErrErased) || !errors.Is(err, dyngo.ErrNotFound)):
				s.t.Errorf("%s of %q: %d bytes, %v, want ErrErased", route, key, len(got), err)
			case !gone && (err != nil || string(got) != want):
				s.t.Errorf("%s of %q: %d bytes, %v, want %d bytes", route, key, len(got), err, len(want))
			}
		}
		for route, has := range map[string]func() (bool, error){
			"has":      func() (bool, error) { return ds.Has([]byte(key)) },
			"past has": func() (bool, error) { return past.Has(ds, []byte(key)) },
		} {
			if ok, err := has(); err != nil || ok == gone {
				s.t.Errorf("%s of %q: %t, %v", route, key, ok, err)
			}
		}
		if strings.HasPrefix(key, "batch") && !strings.Contains(key, "-01") || testing.Short() && key[0] != 'p' {
			continue // each takes the reading of the log
		}
		n := 0
		for v, err := range ds.History(context.Background(), []byte(key)) {
			if err != nil {
				s.t.Fatalf("history of %q: %v", key, err)
			}
			if v.Op != event.OpPut {
				continue
			}
			n++
			if v.Erased != gone || gone != (v.Value == nil) || !gone && string(v.Value) != want {
				s.t.Errorf("history of %q: erased %t, %d bytes", key, v.Erased, len(v.Value))
			}
		}
		if n != 1 {
			s.t.Errorf("history of %q: %d puts", key, n)
		}
	}
	for route, scan := range map[string]func(r dyngo.Range) func(func(dyngo.KV, error) bool){
		"scan": func(r dyngo.Range) func(func(dyngo.KV, error) bool) { return ds.Scan(r) },
		"view": func(r dyngo.Range) func(func(dyngo.KV, error) bool) { return view.Scan(ds, r) },
		"past": func(r dyngo.Range) func(func(dyngo.KV, error) bool) { return past.Scan(ds, r) },
	} {
		for _, r := range []dyngo.Range{{}, {Reverse: true}, {KeysOnly: true}, {Limit: 7}} {
			have := 0
			for kv, err := range scan(r) {
				if err != nil {
					s.t.Fatalf("%s %+v: %v", route, r, err)
				}
				key := string(kv.Key)
				want, ok := s.want[key]
				if !ok || erased && isOf(key, "alice") || !r.KeysOnly && string(kv.Value) != want || isOf(key, "nobody") != (kv.Subject == "") && !r.KeysOnly {
					s.t.Errorf("%s %+v gives %q of %q", route, r, key, kv.Subject)
				}
				have++
			}
			want := len(s.want)
			if erased {
				want = want / 3 * 2
			}
			if r.Limit > 0 {
				want = r.Limit
			}
			if have != want {
				s.t.Errorf("%s %+v gives %d pairs, want %d", route, r, have, want)
			}
		}
	}
}

// Values of a subject are read by every route as others are, and by none once it is erased, wherever they lie.
func TestErase(t *testing.T) {
	t.Parallel()
	steps := map[string]func(s *subjectStore) error{
		"in memory": func(*subjectStore) error { return nil },
		"reopened": func(s *subjectStore) (err error) {
			err = s.db.Close()
			s.clock.Advance(time.Second)
			if err == nil {
				s.ds, err = s.open(nil).Dataset("d")
			}
			return err
		},
		"in segments": func(s *subjectStore) error { return s.db.Flush(context.Background()) },
		"repaired": func(s *subjectStore) error {
			err := errors.Join(s.db.Flush(context.Background()), s.db.Close())
			names, lerr := s.fs.List(storeDir + "/manifest")
			for _, name := range names {
				err = errors.Join(err, s.fs.Remove(storeDir+"/manifest/"+name))
			}
			s.clock.Advance(time.Second)
			report, rerr := dyngo.Repair(context.Background(), storeDir, keyed(s.fs, s.clock), dyngo.RepairOptions{})
			if err = errors.Join(err, lerr, rerr); err == nil && !report.Done {
				err = fmt.Errorf("nothing was repaired: %+v", report)
			}
			if err == nil {
				s.ds, err = s.open(nil).Dataset("d")
			}
			return err
		},
		"in a hot range": func(s *subjectStore) error {
			_, err := s.ds.BuildHot(nil, nil)
			return err
		},
		"merged": func(s *subjectStore) error {
			return errors.Join(s.db.Flush(context.Background()), s.db.Compact(context.Background()))
		},
	}
	for name, step := range steps {
		for _, c := range []dyngo.Compression{dyngo.NoCompression, dyngo.S2, dyngo.Zstd} {
			if testing.Short() && (name != "merged" || c != dyngo.S2) {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", name, c), func(t *testing.T) {
				s := newSubjectStore(t, c, nil)
				if err := step(s); err != nil {
					t.Fatal(err)
				}
				s.check(s.db, false)
				e := s.erase()
				if e.Already || e.Events != int64(len(s.want)/3) || e.From != 1 || e.LSN != s.db.DurableLSN() || e.Subject != "alice" {
					t.Errorf("%+v, LSN %d", e, s.db.DurableLSN())
				}
				s.check(s.db, true)
				if name != "in a hot range" { // which is there already
					if err := step(s); err != nil {
						t.Fatal(err)
					}
				}
				s.check(s.db, true)
				if err := s.db.Close(); err != nil {
					t.Fatal(err)
				}
				s.check(s.open(func(o *dyngo.Options) { o.ReadOnly = true }), true)
			})
		}
	}
}

// What was current at the floor of retention, what was overwritten above it and values that have moved are erased too.
func TestEraseBelowTheFloor(t *testing.T) {
	bound := func(o *dyngo.Options) { o.Retention.Bytes = 1 << 20 }
	s := newSubjectStore(t, dyngo.NoCompression, nil)
	put := func(key, value string) {
		t.Helper()
		if _, err := s.ds.PutWith([]byte(key), []byte(value), ofAlice); err != nil {
			t.Fatal(err)
		}
	}
	put("over", "secret version 0")  // current at the floor
	put("early", "secret version 0") // current there too, but overwritten before the floor rises: it goes into a history segment
	fill(t, s.ds, 0, 20)
	put("early", "secret version 1")
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Second)
	var err error
	if s.ds, err = s.open(bound).Dataset("d"); err != nil {
		t.Fatal(err)
	}
	mustGC(t, s.db)
	put("over", "secret version 1")
	floor := s.db.Metrics().FloorLSN
	if floor == 0 || s.db.Metrics().HistorySegments == 0 {
		t.Fatalf("retention has dropped too little: %+v", s.db.Metrics())
	}
	versions := func(key string) (values []string, erased int) {
		t.Helper()
		for v, err := range s.ds.History(t.Context(), []byte(key)) {
			if err != nil {
				t.Fatal(err)
			}
			if values = append(values, string(v.Value)); v.Erased {
				erased++
			}
		}
		return values, erased
	}
	keys := []string{"over", "early"}
	for _, key := range keys {
		if values, erased := versions(key); erased != 0 || !slices.Equal(values, []string{"secret version 1", "secret version 0"}) {
			t.Errorf("before: %q has %q, %d erased", key, values, erased)
		}
	}
	past := mustViewAt(t, s.db, dyngo.AtLSN(floor))
	defer past.Close()
	for _, key := range keys {
		if got, err := past.Get(s.ds, []byte(key)); err != nil || string(got) != "secret version 0" {
			t.Errorf("at the floor: %q has %q, %v", key, got, err)
		}
	}
	s.erase()
	for _, key := range keys {
		if values, erased := versions(key); erased != 2 || strings.Join(values, "") != "" {
			t.Errorf("after: %q has %q, %d erased", key, values, erased)
		}
		if got, err := past.Get(s.ds, []byte(key)); !errors.Is(err, dyngo.ErrErased) {
			t.Errorf("at the floor after: %q has %q, %v", key, got, err)
		}
	}
	for key := range s.want { // those of the others have moved, and are there
		_, err := s.ds.Get([]byte(key))
		if gone := errors.Is(err, dyngo.ErrErased); gone != isOf(key, "alice") || !gone && err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
}

// walkFiles visits the files of a folder and those below it.
func walkFiles(t *testing.T, fs vfs.FS, dir string, visit func(name string, content []byte)) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		name = path.Join(dir, name)
		info, err := fs.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Dir {
			walkFiles(t, fs, name, visit)
			continue
		}
		b, err := fs.ReadFile(name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		visit(name, b)
	}
}

// keyFile is the content of the only key file.
func keyFile(t *testing.T, fs vfs.FS) (name string, content []byte) {
	t.Helper()
	walkFiles(t, fs, keysDir, func(file string, b []byte) {
		if strings.HasSuffix(file, ".key") {
			name, content = file, b
		}
	})
	if content == nil {
		t.Fatal("no key file")
	}
	return name, content
}

// After an erasure no file of the store or of the keys has a byte of what was written, of the key or of the subject's name; of the
// values and the name the store never had any. The tree and its proofs hold as before, and a backup, a snapshot and a restored
// copy from before are as unreadable.
func TestErasedLeavesNoByte(t *testing.T) {
	const subject, secret = "subject-of-this-test@example.org", "what nobody may read again"
	fs, c := vfs.NewMem(), manualClock()
	o := keyed(fs, c)
	o.Integrity, o.SigningKey = true, testKey
	db := mustOpen(t, storeDir, o)
	defer func() { db.Close() }()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Compression: dyngo.S2})
	if err != nil {
		t.Fatal(err)
	}
	wo := dyngo.WriteOptions{Subject: subject}
	values := [][]byte{[]byte(secret), []byte(strings.Repeat(secret, 40)), []byte(strings.Repeat(secret, 1<<10)), []byte(secret + big(600<<10, 1))}
	var first dyngo.LSN
	for i, v := range values {
		lsn, err := ds.PutReaderWith(fmt.Append(nil, "k", i), int64(len(v)), bytes.NewReader(v), wo)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = lsn
		}
	}
	if err := errors.Join(db.Flush(t.Context()), db.Compact(t.Context())); err != nil {
		t.Fatal(err)
	}
	mustSnapshot(t, db, "snap")
	to := backup.NewDir(fs, "/backups")
	if _, err := backUp(fs, to, db, time.Unix(0, c.Now())); err != nil {
		t.Fatal(err)
	}
	if _, err := dyngo.RestoreWith(t.Context(), storeDir, "/copy", dyngo.AtEnd(), &dyngo.RestoreOptions{FS: fs, Clock: c}); err != nil {
		t.Fatal(err)
	}
	anchor, err := db.TreeHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	proof, err := db.Prove(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	_, file := keyFile(t, fs)
	key := file[120:152]
	found := func(what []byte) (names []string) {
		for _, dir := range []string{storeDir, keysDir, "/backups", "/copy"} {
			walkFiles(t, fs, dir, func(name string, b []byte) {
				if bytes.Contains(b, what) || strings.Contains(name, string(what)) {
					names = append(names, name)
				}
			})
		}
		return names
	}
	for _, what := range [][]byte{key, []byte(subject)} {
		if names := found(what); len(names) != 1 || !strings.HasPrefix(names[0], keysDir) {
			t.Errorf("before: %q is in %q, want the key file", what, names)
		}
	}
	e, err := db.Erase(t.Context(), subject, dyngo.EraseOptions{Reason: "asked for it", Ticket: "T-1", Count: true})
	if err != nil || e.Events != int64(len(values)) {
		t.Fatalf("%+v, %v", e, err)
	}
	if names, err := fs.List(keysDir); err != nil || len(names) != 3 {
		t.Errorf("the folder of keys holds %q, %v", names, err)
	}
	for n := 4; n <= len(key); n += 4 {
		if names := found(key[n-4 : n]); len(names) > 1 { // four bytes may be anywhere by chance, but not often
			t.Errorf("bytes %d to %d of the key are in %q", n-4, n, names)
		}
	}
	for _, what := range [][]byte{key[:8], key[24:], []byte(subject), []byte(secret), []byte(secret)[:12]} {
		if names := found(what); len(names) > 0 {
			t.Errorf("after: %q is in %q", what, names)
		}
	}
	// The tree.
	if err := proof.Check(parsedKey(t)); err != nil {
		t.Errorf("the proof from before: %v", err)
	}
	again, err := db.Prove(t.Context(), first)
	if err != nil || again.Event.ValueHash != proof.Event.ValueHash {
		t.Errorf("a proof from after: %v", err)
	}
	certificate, err := db.Certificate(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if err := certificate.Check(parsedKey(t)); err != nil || certificate.Proof == nil || certificate.Events != 4 {
		t.Errorf("%+v: %v", certificate, err)
	}
	forged := *certificate
	forged.Subject = "another"
	if err := forged.Check(nil); err == nil {
		t.Error("a certificate of another subject holds")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	head, err := parsedKey(t).ParseNote(anchor)
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []dyngo.Level{dyngo.LevelTree, dyngo.LevelState} {
		report, err := dyngo.VerifyWith(t.Context(), storeDir, &dyngo.Options{FS: fs}, dyngo.VerifyOptions{Level: level, Key: parsedKey(t),
			Heads: []dyngo.Anchor{{Head: head, Source: "from before"}}})
		if err := errors.Join(append(report.All(), err)...); err != nil {
			t.Errorf("level %s: %v", level, err)
		}
	}
	// Copies.
	backups, _, err := backup.List(t.Context(), to)
	if err != nil || len(backups) != 1 {
		t.Fatalf("%v, %v", backups, err)
	}
	ro := &dyngo.RestoreOptions{FS: fs, Clock: c, From: backup.FS(t.Context(), to, &backups[0])}
	if _, err := dyngo.RestoreWith(t.Context(), ".", "/restored", dyngo.AtEnd(), ro); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{storeDir, storeDir + "/snapshots/snap", "/copy", "/restored"} {
		db := mustOpen(t, dir, &dyngo.Options{FS: fs, Clock: c, Keys: keysDir, ReadOnly: true})
		ds, err := db.Dataset("d")
		if err != nil {
			t.Fatal(err)
		}
		for i := range values {
			if got, err := ds.Get(fmt.Append(nil, "k", i)); !errors.Is(err, dyngo.ErrErased) {
				t.Errorf("%s: value %d has %d bytes, %v", dir, i, len(got), err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A key whose value was erased is absent for conditions too, wherever its version lies; what newest-wins compares stays.
func TestErasedKeyIsAbsent(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		db := mustOpen(t, storeDir, keyed(vfs.NewMem(), manualClock()))
		defer db.Close()
		ds, err := db.CreateDataset("d", nil)
		if err != nil {
			t.Fatal(err)
		}
		lsn, err := ds.PutWith([]byte("k"), []byte("1"), ofAlice)
		if err == nil {
			_, _, err = ds.PutNewestWith([]byte("newest"), []byte("1"), time.Unix(10, 0), ofAlice)
		}
		var conflict *dyngo.ConflictError
		if _, cerr := ds.PutIf([]byte("k"), []byte("2"), 0); !errors.As(cerr, &conflict) || conflict.Have != lsn {
			t.Errorf("before: %v", cerr)
		}
		if err == nil && flushed {
			err = db.Flush(t.Context())
		}
		if err == nil {
			err = eraseAlice(db, ds)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ds.PutIf([]byte("k"), []byte("2"), lsn); !errors.As(err, &conflict) || conflict.Have != 0 {
			t.Errorf("flushed %t: with the LSN of what was erased: %v", flushed, err)
		}
		if _, err := ds.PutIf([]byte("k"), []byte("2"), 0); err != nil {
			t.Errorf("flushed %t: as absent: %v", flushed, err)
		}
		if got, err := ds.Get([]byte("k")); string(got) != "2" || err != nil {
			t.Errorf("flushed %t: %q, %v", flushed, got, err)
		}
		if applied, _, err := ds.PutNewest([]byte("newest"), []byte("2"), time.Unix(9, 0)); applied || err != nil {
			t.Errorf("flushed %t: an older value is applied: %t, %v", flushed, applied, err)
		}
		_, err = db.Erase(t.Context(), "nobody", dyngo.EraseOptions{})
		if !errors.Is(err, dyngo.ErrNoSubject) {
			t.Errorf("nobody: %v", err)
		}
	}
}

// A large value of a subject has a little less room than others, which is said before anything is written.
func TestLimitsOfSubjects(t *testing.T) {
	db := mustOpen(t, storeDir, keyed(vfs.NewMem(), manualClock()))
	defer db.Close()
	ds, err := db.CreateDataset("d", nil)
	if err != nil {
		t.Fatal(err)
	}
	const most = dyngo.MaxValueBytes - 256<<10
	before := db.LSN()
	_, err = ds.PutReaderWith([]byte("k"), most+1, strings.NewReader(""), ofAlice)
	if !errors.Is(err, dyngo.ErrLimit) || !strings.Contains(err.Error(), fmt.Sprint(most)) {
		t.Errorf("a value that is too large: %v", err)
	}
	if _, err = ds.PutReaderWith([]byte("k"), most, strings.NewReader("short"), ofAlice); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the largest: %v", err)
	}
	for _, subject := range []string{strings.Repeat("x", dyngo.MaxSubjectBytes+1), "\xff"} {
		if _, err := ds.PutWith([]byte("k"), nil, dyngo.WriteOptions{Subject: subject}); !errors.Is(err, dyngo.ErrLimit) {
			t.Errorf("subject %q: %v", subject, err)
		}
		if _, err := db.Erase(t.Context(), subject, dyngo.EraseOptions{}); !errors.Is(err, dyngo.ErrLimit) {
			t.Errorf("erase %q: %v", subject, err)
		}
	}
	if db.LSN() != before {
		t.Errorf("something was written: LSN %d, was %d", db.LSN(), before)
	}
	for name, keys := range map[string]string{"the store": storeDir, "within": storeDir + "/keys"} {
		if _, err := dyngo.Open(storeDir, &dyngo.Options{FS: vfs.NewMem(), Keys: keys}); err == nil || !strings.Contains(err.Error(), keys) {
			t.Errorf("keys in %s: %v", name, err)
		}
	}
}

// A store that was set back to before an erasure has no event of it any more. What was erased stays erased, and the certificate is
// made without a proof.
func TestEraseAndRecoverTo(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	o := keyed(fs, c)
	o.Integrity, o.Session.Actor = true, "anna"
	db := mustOpen(t, storeDir, o)
	ds, err := db.CreateDataset("d", nil)
	var put dyngo.LSN
	if err == nil {
		put, err = ds.PutWith([]byte("k"), []byte("v"), ofAlice)
	}
	if err == nil {
		err = eraseAlice(db, ds)
	}
	if err != nil {
		t.Fatal(err)
	}
	look := func(proved bool, reason string) {
		t.Helper()
		e, err := db.Erase(t.Context(), "alice", dyngo.EraseOptions{Reason: "again"})
		if err != nil || !e.Already || e.LSN != put+1 || e.Reason != reason {
			t.Fatalf("%+v, %v", e, err)
		}
		certificate, err := db.Certificate(t.Context(), e)
		if err != nil || (certificate.Proof != nil) != proved {
			t.Fatalf("%+v, %v", certificate, err)
		}
		if err := certificate.Check(nil); err != nil {
			t.Error(err)
		}
	}
	look(true, "test")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	o.RecoverTo = dyngo.AtLSN(put)
	db = mustOpen(t, storeDir, o)
	defer db.Close()
	look(false, "")
	if ds, err = db.Dataset("d"); err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Get([]byte("k")); !errors.Is(err, dyngo.ErrErased) {
		t.Error(err)
	}
	for range 3 { // the LSN is of something else then
		if _, err := ds.Put([]byte("other"), nil); err != nil {
			t.Fatal(err)
		}
	}
	look(false, "")
}
