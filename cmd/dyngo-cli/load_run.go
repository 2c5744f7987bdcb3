package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/dyngo-cli/internal/rows"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/keyring"
)

// loadBatchBytes is the size of rows at which a batch is stored, whatever --batch says.
const loadBatchBytes = 4 << 20

// A loader is one load under way. Its life: run opens file, store and reader; each row is added to a batch; commit
// stores the batch and the position behind its last row together; finish or stopped tells how it ended.
type loader struct {
	cmd      *cobra.Command
	q        *loadRequest
	key      rows.Key
	version  rows.Path
	subject  rows.Path
	file     *loadFile
	reader   *rows.Reader
	progress *cli.Progress
	began    time.Time

	db        *dyngo.DB
	ds        *dyngo.Dataset
	positions *dyngo.Dataset // nil for stdin, which can't be resumed
	batch     *dyngo.Batch
	fates     []fate          // of the batch's rows
	inBatch   map[string]bool // keys of the batch
	bytes     int             // of the batch's rows
	keyBuf    []byte

	counts loadCounts // of all rows read
	exact  loadCounts // counts as of the last commit, its outcome included
	stored loadCounts // counts in the position of the last commit
	state  loadState  // what does not change, and the position of the last commit
	lsn    dyngo.LSN
	shown  int // bad rows reported

	full      atomic.Bool   // the disk is
	giveUp    chan struct{} // closed when the user ends the load while the disk is full
	closeOnce sync.Once     // of giveUp
	abandoned bool          // a commit waits for space for ever: the store can't be closed
}

// fate is what becomes of a row if it is applied.
type fate struct {
	count *int64
	bytes int
}

func (q *loadRequest) run(cmd *cobra.Command) (err error) {
	l := &loader{cmd: cmd, q: q, began: time.Now(), inBatch: map[string]bool{}, giveUp: make(chan struct{})}
	var format rows.Format
	if l.key, l.version, format, err = q.spec(); err != nil {
		return err
	}
	if q.subjectField != "" {
		if l.subject, err = rows.ParsePath(q.subjectField); err != nil {
			return cli.Usage("--subject-field FIELD", "--subject-field: %w", err)
		}
	}
	if l.file, err = openLoadFile(cmd, q.file); err != nil {
		return err
	}
	defer l.file.close()
	// A read of a pipe may wait for ever: closing it ends that.
	defer context.AfterFunc(cmd.Context(), l.file.close)()
	l.progress = cli.NewProgress(cmd, "load "+loadName(l.file.name), l.file.bytes, "bytes")
	defer l.progress.Done()

	old := q.resume && cli.StoreExists(cli.GlobalsOf(cmd).Dir)
	if !old { // a file that can't be loaded leaves no store behind
		if err := l.openReader(format, nil); err != nil {
			return err
		}
	}
	if l.db, err = cli.OpenWrite(cmd, l.listen); err != nil {
		return err
	}
	defer func() {
		if !l.abandoned {
			cli.CloseStore(l.db, &err)
		}
	}()
	if done, err := l.begin(old, format); done || err != nil {
		return err
	}
	if err := l.rows(); err != nil {
		return l.stopped(err)
	}
	return l.finish()
}

// listen tells the user why a load stands still, and lets ^C end one that waits for space.
func (l *loader) listen(o *dyngo.Options) {
	maybeGiveUp := func() {
		if l.full.Load() && l.cmd.Context().Err() != nil {
			l.closeOnce.Do(func() { close(l.giveUp) })
		}
	}
	context.AfterFunc(l.cmd.Context(), maybeGiveUp)
	o.Listener = &dyngo.Listener{DiskFull: func(full bool) {
		l.full.Store(full)
		maybeGiveUp()
		if full {
			l.progress.Notef("the disk is full: the load waits for space (^C ends it, --resume goes on later)")
		} else {
			l.progress.Notef("there is space again: the load goes on")
		}
	}}
}

// openReader starts reading at the beginning or behind from.
func (l *loader) openReader(format rows.Format, from *rows.Position) error {
	r, err := rows.NewReader(l.file, rows.Options{Name: l.file.name, Format: format, From: from})
	if errors.Is(err, rows.ErrChanged) {
		return cli.Fail(cli.ExitConflict, "the same command without --resume loads the file from its beginning",
			"%s has changed since its load was interrupted: the %s bytes that were loaded are not the same now",
			l.file.name, cli.FormatCount(from.Offset))
	}
	if err == nil && r.Header() != nil {
		err = l.key.Bind(r.Header())
		if err == nil && l.version != nil {
			l.version, err = l.version.Bind(r.Header())
		}
		if err == nil && l.subject != nil {
			l.subject, err = l.subject.Bind(r.Header())
		}
	}
	var broken *rows.Broken
	switch {
	case errors.As(err, &broken):
		return cli.Fail(cli.ExitFailure, "", "%s", lineOf(l.file.name, broken.Line, broken.Msg))
	case err != nil && l.cmd.Context().Err() != nil:
		return l.cmd.Context().Err()
	case err != nil:
		return cli.Fail(cli.ExitFailure, "", "%s: %w", l.file.name, err)
	}
	l.reader = r
	return nil
}

// begin finds where to start and opens the datasets. done: an earlier load has done it all.
func (l *loader) begin(old bool, format rows.Format) (done bool, err error) {
	q, name := l.q, loadName(l.file.name)
	state, err := findPosition(l.db, q.dataset, name)
	if err != nil {
		return false, err
	}
	l.state = loadState{
		Dataset: q.dataset, File: name, FileBytes: l.file.bytes, Key: q.key, Version: q.version, Start: l.db.LSN(),
	}
	switch {
	case q.resume && state == nil:
		l.progress.Notef("no interrupted load of %s into %q: starting at its beginning", name, q.dataset)
	case q.resume:
		if err := state.continues(q, l.file); err != nil {
			return false, err
		}
		if err := l.resume(state, format); err != nil || state.Done {
			return state.Done, err
		}
	case state != nil && !state.Done && l.file.file != nil:
		l.progress.Notef("an earlier load of %s into %q stopped behind row %s: starting again at its beginning (--resume goes on)",
			name, q.dataset, cli.FormatCount(state.Position.Row))
	}
	if old && l.reader == nil {
		if err := l.openReader(format, nil); err != nil {
			return false, err
		}
	}
	if l.ds, err = cli.CreateDataset(l.db, q.dataset, nil); err != nil {
		return false, err
	}
	if l.file.file != nil {
		if l.positions, err = cli.CreateDataset(l.db, positionDataset, nil); err != nil {
			return false, err
		}
	}
	l.batch = l.db.NewBatch()
	return false, nil
}

// resume goes on behind an earlier load's last row; there is nothing left to do if that one was done.
func (l *loader) resume(state *loadState, format rows.Format) error {
	if err := l.openReader(format, &state.Position); err != nil {
		return err
	}
	l.state, l.counts, l.exact, l.stored = *state, state.Counts, state.Counts, state.Counts
	if state.Done {
		l.progress.Notef("%s is already loaded: %s", l.file.name, countNoun(state.Counts.Rows, "row"))
		return l.result()
	}
	l.progress.Notef("going on behind row %s: %s of %s are read", cli.FormatCount(state.Position.Row),
		cli.FormatBytes(state.Position.Offset), cli.FormatBytes(l.file.bytes))
	return nil
}

// rows adds row after row and stores batch after batch. Its error is why it stopped before the end of the file; what
// was sound before is stored.
func (l *loader) rows() error {
	for n := 0; ; n++ {
		if l.cmd.Context().Err() != nil {
			return l.cmd.Context().Err()
		}
		row, err := l.reader.Next()
		if l.cmd.Context().Err() != nil {
			return l.cmd.Context().Err() // err may come from the file's being closed
		}
		var bad *rows.BadRow
		switch {
		case err == nil:
			bad = l.add(row)
		case errors.As(err, &bad):
			if bad.Row != 0 {
				l.counts.Rows++
			}
		case errors.Is(err, io.EOF):
			if err := l.commit(true); err != nil {
				return err
			}
			return l.settle()
		default:
			var broken *rows.Broken
			if errors.As(err, &broken) {
				l.counts.Bad++
				if broken.Row != 0 {
					l.counts.Rows++
				}
			}
			if cerr := l.commit(false); cerr != nil {
				return cerr
			}
			return err
		}
		if bad != nil {
			l.counts.Bad++
			l.reportBad(bad)
			if l.q.strict {
				if err := l.commit(false); err != nil {
					return err
				}
				return bad
			}
		}
		if l.batch.Len() >= l.q.batch || l.bytes >= loadBatchBytes {
			if err := l.commit(false); err != nil {
				return err
			}
		}
		if n&255 == 0 {
			l.progress.Set(l.reader.Offset())
		}
	}
}

// add puts a row into the batch, or says why it can't.
func (l *loader) add(row rows.Row) *rows.BadRow {
	l.counts.Rows++
	refuse := func(err error) *rows.BadRow {
		return &rows.BadRow{Line: row.Line, Row: row.Number, Msg: err.Error()}
	}
	key, err := l.key.Append(l.keyBuf[:0], row)
	l.keyBuf = key
	switch {
	case err != nil:
		return refuse(err)
	case len(key) == 0:
		return refuse(errors.New("the key is empty"))
	case len(key) > dyngo.MaxKeyBytes:
		return refuse(errors.New("the key has " + cli.FormatCount(int64(len(key))) + " bytes, the limit is 64 KiB"))
	}
	count, err := l.foresee(key)
	if err != nil {
		return refuse(err)
	}
	wo := l.q.why
	if l.subject != nil {
		subject, err := rows.Text(row.JSON, l.subject)
		if err == nil {
			err = keyring.CheckSubject(string(subject))
		}
		if err != nil {
			return refuse(fmt.Errorf("subject: %w", err))
		}
		wo.Subject = string(subject)
	}
	if l.version != nil {
		t, err := rows.Version(row.JSON, l.version)
		if err != nil {
			return refuse(err)
		}
		l.batch.PutNewestWith(l.ds, key, row.JSON, t, wo)
	} else {
		l.batch.PutWith(l.ds, key, row.JSON, wo)
	}
	l.inBatch[string(key)] = true
	l.fates = append(l.fates, fate{count, len(row.JSON)})
	l.bytes += len(key) + len(row.JSON)
	return nil
}

// foresee says which count a row with this key belongs to if it is applied. The store is written by nobody else, so a
// version behind the load's start is of this load.
func (l *loader) foresee(key []byte) (*int64, error) {
	if l.inBatch[string(key)] {
		return &l.counts.Duplicate, nil
	}
	ok, err := l.ds.Has(key)
	if err != nil || !ok {
		return &l.counts.New, err
	}
	kv, err := l.ds.Lookup(key)
	switch {
	case errors.Is(err, dyngo.ErrNotFound): // it expired just now
		return &l.counts.New, nil
	case err != nil:
		return nil, err
	case kv.LSN > l.state.Start:
		return &l.counts.Duplicate, nil
	}
	return &l.counts.Replaced, nil
}

// commit stores the batch and the position behind it. Nothing is in the store if it fails, unless the error is
// ErrOutcomeUnknown.
func (l *loader) commit(done bool) error {
	state := l.state
	state.Counts, state.Position, state.Done = l.counts, l.reader.Position(), done
	if l.positions != nil {
		// Which rows are stale is known only behind the commit: what is stored takes all as applied until settle.
		for _, f := range l.fates {
			addTo(&state.Counts, &l.counts, f)
		}
		value, err := json.Marshal(state)
		if err != nil {
			return err
		}
		l.batch.Put(l.positions, positionKey(state.Dataset, state.File), value)
	}
	lsn, err := l.commitBatch()
	if err != nil {
		return err
	}
	for i, f := range l.fates {
		if !l.batch.Applied(i) {
			l.counts.Stale++
			continue
		}
		*f.count++
		l.counts.Bytes += int64(f.bytes)
	}
	if lsn != 0 {
		l.lsn = lsn
	}
	l.state, l.exact, l.stored = state, l.counts, state.Counts
	l.batch.Reset()
	l.fates, l.bytes = l.fates[:0], 0
	clear(l.inBatch)
	l.progress.Set(l.reader.Offset())
	return nil
}

// commitBatch commits the batch. On a full disk that waits for space; ^C then leaves the commit alone and the store as
// a crash would: the batch is there whole or not at all, and the position with it.
func (l *loader) commitBatch() (dyngo.LSN, error) {
	type outcome struct {
		lsn dyngo.LSN
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		lsn, err := l.batch.CommitWith(dyngo.WriteOptions{Ack: dyngo.AckDurable})
		done <- outcome{lsn, err}
	}()
	select {
	case o := <-done:
		return o.lsn, o.err
	case <-l.giveUp:
		l.abandoned = true
		return 0, l.cmd.Context().Err()
	}
}

// settle corrects the counts in the stored position, so that a resumed load tells the truth. Only a crash between
// commit and settle leaves stale rows counted as stored.
func (l *loader) settle() error {
	if l.positions == nil || l.stored == l.exact || l.abandoned {
		return nil
	}
	state := l.state
	state.Counts = l.exact
	value, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if l.lsn, err = l.positions.Put(positionKey(state.Dataset, state.File), value); err != nil {
		return err
	}
	l.stored = l.exact
	return nil
}

// addTo counts a fate in to what it would count in from.
func addTo(to, from *loadCounts, f fate) {
	to.Bytes += int64(f.bytes)
	switch f.count {
	case &from.New:
		to.New++
	case &from.Replaced:
		to.Replaced++
	case &from.Duplicate:
		to.Duplicate++
	}
}

func (l *loader) reportBad(bad *rows.BadRow) {
	l.shown++
	switch {
	case l.q.showBad == 0 || l.shown <= l.q.showBad:
		l.progress.Notef("%s", lineOf(l.file.name, bad.Line, bad.Msg))
	case l.shown == l.q.showBad+1:
		l.progress.Notef("%s: more bad rows are counted, not shown (--show-bad 0 shows all)", l.file.name)
	}
}

// finish tells how the load went.
func (l *loader) finish() error {
	l.progress.Done()
	if err := l.result(); err != nil || l.counts.Bad == 0 {
		return err
	}
	verb, rest := "are", "the others are"
	if l.counts.Bad == 1 {
		verb = "is"
	}
	return cli.Fail(cli.ExitFailure, "", "%s of %s in %s %s bad and left out; %s stored", cli.FormatCount(l.counts.Bad),
		countNoun(l.counts.Rows, "row"), l.file.name, verb, rest)
}

// stopped tells what is stored when a load ends early, and how to go on.
func (l *loader) stopped(err error) error {
	l.progress.Done()
	ctx := l.cmd.Context()
	var bad *rows.BadRow
	var broken *rows.Broken
	kept := fmt.Sprintf("%s, from what %s holds up to row %s", countNoun(l.counts.stored(), "row"), l.file.name,
		cli.FormatCount(l.state.Position.Row))
	again := ""
	if l.positions != nil {
		again = l.q.again(l.cmd)
	}
	switch {
	case errors.As(err, &bad):
		err = cli.Fail(cli.ExitFailure, "correct the row and load the file again",
			"stopped at the first bad row; stored before it: %s", countNoun(l.counts.stored(), "row"))
	case errors.As(err, &broken):
		l.reportBad(&rows.BadRow{Line: broken.Line, Msg: broken.Msg})
		err = cli.Fail(cli.ExitFailure, "correct the file and load it again",
			"%s can't be read further; stored before that: %s", l.file.name, countNoun(l.counts.stored(), "row"))
	case ctx.Err() != nil:
		l.progress.Notef("stored: %s", kept)
		if again != "" {
			l.progress.Notef("Go on with: %s", again)
		}
		if serr := l.settle(); serr != nil {
			return serr
		}
		return ctx.Err()
	default:
		l.progress.Notef("stored: %s", kept)
		if again != "" {
			l.progress.Notef("Go on later with: %s", again)
		}
		return fmt.Errorf("load %s: %w", l.file.name, err)
	}
	if serr := l.settle(); serr != nil {
		return serr
	}
	if rerr := l.result(); rerr != nil {
		return rerr
	}
	return err
}

// result prints the counts.
func (l *loader) result() error {
	r := cli.NewRenderer(l.cmd, cli.OneSheet, loadColumns()...)
	var lsn any
	if l.lsn != 0 {
		lsn = l.lsn
	}
	c := &l.counts
	err := r.Row(l.q.dataset, loadName(l.file.name), l.reader.Format().String(), cli.CountCell(c.Rows),
		cli.CountCell(c.stored()), cli.CountCell(c.New), cli.CountCell(c.Replaced), cli.CountCell(c.Duplicate), cli.CountCell(c.Stale),
		cli.CountCell(c.Bad), cli.ByteCell(c.Bytes), lsn, cli.Round3(time.Since(l.began).Seconds()))
	if err != nil {
		return err
	}
	return r.Close()
}
