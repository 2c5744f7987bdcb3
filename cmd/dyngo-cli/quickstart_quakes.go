package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/dyngo-cli/internal/rows"
	"github.com/dyngodb/dyngo/cmd/dyngo-cli/internal/sample"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

const (
	quakeSeed   = 1 // of the feed's order: every run shows the same
	quakeCopies = 8 // every so many-th quake gets an older copy, and the one after it a newer one
	quakeBatch  = 100
)

// quakeShown is the quake whose versions are shown: one that has an older and a newer copy.
const quakeShown = "us1000chhc"

// A message is one version of a quake as the feed delivers it.
type message struct {
	id      string
	updated time.Time
	row     []byte
	kind    string
}

var (
	quakeID      = rows.Path{"id"}
	quakeUpdated = rows.Path{"properties", "updated"}
)

// sampleRows returns all rows of an embedded file, each in memory of its own.
func sampleRows(name string) ([]rows.Row, error) {
	data, err := sample.Read(name)
	if err != nil {
		return nil, err
	}
	r, err := rows.NewReader(bytes.NewReader(data), rows.Options{Name: name})
	if err != nil {
		return nil, err
	}
	var all []rows.Row
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("embedded %s: %w", name, err)
		}
		row.JSON = bytes.Clone(row.JSON)
		all = append(all, row)
	}
}

// quakeFeed is the feed shuffled, with older and newer copies of some quakes between; newest holds, for each quake, the
// time of its newest version.
func quakeFeed() (feed []message, newest map[string]time.Time, err error) {
	all, err := sampleRows(sample.Earthquakes)
	if err != nil {
		return nil, nil, err
	}
	newest = map[string]time.Time{}
	add := func(row []byte, kind string) error {
		id, err := rows.Text(row, quakeID)
		if err != nil {
			return err
		}
		t, err := rows.Version(row, quakeUpdated)
		if err != nil {
			return err
		}
		feed = append(feed, message{string(id), t, row, kind})
		if t.After(newest[string(id)]) {
			newest[string(id)] = t
		}
		return nil
	}
	for i, row := range all {
		id, err := rows.Text(row.JSON, quakeID)
		if err != nil {
			return nil, nil, err
		}
		shown := string(id) == quakeShown
		err = add(row.JSON, "as published")
		if err == nil && (i%quakeCopies == 0 || shown) {
			err = add(shifted(row.JSON, -time.Hour), "an older copy")
		}
		if err == nil && (i%quakeCopies == 1 || shown) {
			err = add(shifted(row.JSON, time.Hour), "a newer copy")
		}
		if err != nil {
			return nil, nil, err
		}
	}
	rnd := rand.New(rand.NewPCG(quakeSeed, 0))
	rnd.Shuffle(len(feed), func(i, j int) { feed[i], feed[j] = feed[j], feed[i] })
	return feed, newest, nil
}

// shifted is a copy of a row that says it was updated earlier or later.
func shifted(row []byte, by time.Duration) []byte {
	const field = `"updated":`
	i := bytes.Index(row, []byte(field)) + len(field)
	n := bytes.IndexAny(row[i:], ",}")
	ms, err := strconv.ParseInt(string(row[i:i+n]), 10, 64)
	if err != nil {
		panic("dyngo: bug: embedded earthquake without a time of update: " + err.Error())
	}
	out := strconv.AppendInt(bytes.Clone(row[:i]), ms+by.Milliseconds(), 10)
	return append(out, row[i+n:]...)
}

func tourQuakes(t *tour) (chapterResult, error) {
	feed, newest, err := quakeFeed()
	if err != nil {
		return chapterResult{}, err
	}
	t.say("A week of the USGS feed, %s quakes. Here it comes in random order, and some quakes come again in an "+
		"older or a newer version: %s messages.", cli.FormatCount(int64(len(newest))), cli.FormatCount(int64(len(feed))))
	t.say("")
	quakes, err := t.db.CreateDataset("quakes", nil)
	if err != nil {
		return chapterResult{}, err
	}
	start := time.Now()
	applied, err := playFeed(t, quakes, feed)
	if err != nil {
		return chapterResult{}, err
	}
	stale := 0
	for _, ok := range applied {
		if !ok {
			stale++
		}
	}
	t.say("%s messages stored in %s: %s applied, %s stale (logged, not applied).", cli.FormatCount(int64(len(feed))),
		took(start), cli.FormatCount(int64(len(feed)-stale)), cli.FormatCount(int64(stale)))
	t.say("So came %s (%s):", quakeShown, placeOf(feed))
	t.say("")
	for i, m := range feed {
		if m.id == quakeShown {
			outcome := t.paint("1;32", "applied")
			if !applied[i] {
				outcome = t.paint("33", "stale")
			}
			t.line(fmt.Sprintf("message %5s   updated %s   %s %s", cli.FormatCount(int64(i+1)),
				m.updated.Format("2006-01-02 15:04:05"), padRight(m.kind, 14), outcome))
		}
	}
	t.say("")
	if err := checkNewest(quakes, newest); err != nil {
		return chapterResult{}, err
	}
	t.good("each of the %s quakes is there in its newest version", cli.FormatCount(int64(len(newest))))
	return chapterResult{int64(len(feed)), int64(len(feed)),
		fmt.Sprintf("%d quakes in their newest version, %d stale messages", len(newest), stale)}, nil
}

// playFeed stores the messages and tells which were applied.
func playFeed(t *tour, quakes *dyngo.Dataset, feed []message) (applied []bool, err error) {
	batch := t.db.NewBatch()
	for len(applied) < len(feed) {
		if err := t.cmd.Context().Err(); err != nil {
			return nil, err
		}
		next := feed[len(applied):min(len(applied)+quakeBatch, len(feed))]
		batch.Reset()
		for _, m := range next {
			batch.PutNewest(quakes, []byte(m.id), m.row, m.updated)
		}
		if _, err := batch.Commit(); err != nil {
			return nil, err
		}
		for i := range next {
			applied = append(applied, batch.Applied(i))
		}
	}
	return applied, nil
}

func placeOf(feed []message) string {
	for _, m := range feed {
		if m.id == quakeShown {
			if title, err := rows.Text(m.row, rows.Path{"properties", "title"}); err == nil {
				return string(title)
			}
		}
	}
	return "?"
}

// checkNewest compares what is stored with what the feed held.
func checkNewest(quakes *dyngo.Dataset, newest map[string]time.Time) error {
	found := 0
	for kv, err := range quakes.Scan(dyngo.Range{}) {
		if err != nil {
			return err
		}
		got, err := rows.Version(kv.Value, quakeUpdated)
		if err != nil {
			return err
		}
		if !got.Equal(newest[string(kv.Key)]) {
			return fmt.Errorf("quake %s is stored as of %v, the newest version is of %v", kv.Key, got, newest[string(kv.Key)])
		}
		found++
	}
	if found != len(newest) {
		return fmt.Errorf("%d quakes are stored, %d came in", found, len(newest))
	}
	return nil
}
