package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/wal"
)

func newWhatifCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "whatif",
		Short: "List what would differ if some events had not been",
		Long: `Replay the log without some events, and list the keys whose value would differ:
what it is at --to, and what it would be. Left out are batches (--without-tx, by
the LSN of their first event), all that an actor wrote, or puts of JSON values
that meet all conditions of --without-where; of these, only what lies between
--from and --to. Creation and drop of datasets are not left out.

Other events are replayed as they were, but for puts that are applied only if
they are newest: that is decided anew. Such a put, and a put on the condition
that its key had a version (PutIf), depends on what was left out if it would
have been decided otherwise; its key is listed with the first one that does,
even if its value stays the same. A PutIf that failed is not in the log, and one
of an earlier version of DynGO does not say its condition.

Nothing is changed. Keys that events which are left out have touched go to a
temporary store, so memory is bounded.

` + targetHelp,
		Example: `  dyngo-replay whatif --without-tx 1234
  dyngo-replay whatif --without-actor job@repricer --from -24h -o table
  dyngo-replay whatif --without-where 'total < 0' --dataset orders`,
		Args: cli.NoArgs,
	}
	w := whatif{cmd: cmd, tx: map[event.LSN]bool{}, actors: map[string]bool{}}
	f := cmd.Flags()
	tx := f.StringSlice("without-tx", nil, "leave out the batch that begins with this `LSN` (repeatable)")
	actors := f.StringArray("without-actor", nil, "leave out what this `actor` wrote (repeatable)")
	where := cli.AddConditions(cmd, "without-where", "leave out puts of JSON values of this `condition`")
	from := f.String("from", "", "`target` before which nothing is left out (default the oldest state)")
	to := f.String("to", "", "`target` to compare at (default the newest event)")
	f.StringVar(&w.dataset, "dataset", "", "leave out and list only events of this dataset")
	limit := f.Int("limit", 0, "at most so many rows, 0 = all")
	long := f.BoolP("long", "l", false, "all columns in tables too")
	keys := addKeys(cmd, false)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if *limit < 0 {
			return cli.Usage("--limit 10", "--limit is %d: it can't be negative", *limit)
		}
		for _, s := range *tx {
			lsn, err := strconv.ParseUint(s, 10, 63)
			if err != nil || lsn == 0 {
				return cli.Usage("the LSN of the batch's first event", "--without-tx: %q is no LSN", s)
			}
			w.tx[event.LSN(lsn)] = true
		}
		for _, a := range *actors {
			w.actors[a] = true
		}
		if w.where, err = where(); err != nil {
			return err
		}
		if len(w.tx)+len(w.actors)+len(w.where) == 0 {
			return cli.Usage("--without-tx, --without-actor or --without-where", "nothing is to be left out")
		}
		if w.keys, err = keys(); err != nil {
			return err
		}
		return w.run(*from, *to, *limit, *long)
	}
	return cmd
}

// whatif replays a log without some events, in two passes: the first finds the keys that events which are left out have touched, the
// second what these keys would be. A key's state lies in a temporary store; what it was before the first of these events, and what
// it is, are read as of then.
type whatif struct {
	cmd     *cobra.Command
	tx      map[event.LSN]bool
	actors  map[string]bool
	where   cli.Where
	dataset string
	keys    dyngo.Range

	db       *dyngo.DB
	log      *cli.LogSource
	files    *wal.Files
	values   *cli.LogView
	from, to event.LSN // what lies in (from, to] may be left out
	over     *dyngo.DB
	sets     map[event.DatasetID]*touched
	filter   bits
	progress *cli.Progress

	first      event.LSN // left out first, 0 = nothing was
	left, kept int64     // events of keys left out; events of the store itself that were not
	now        int64     // log time of the newest event replayed
	base       *dyngo.View
	unknown    int // keys whose record time at base is not known
	depend     int64
}

// touched is a dataset with keys in the temporary store.
type touched struct {
	name    string
	keys    *dyngo.Dataset // each with its fate
	begun   bool           // it was created after the base
	dropped bool
	base    *seeker // of the base, nil = not yet made
}

// bits is a filter that tells most keys that are not in the temporary store.
type bits struct {
	seed maphash.Seed
	set  []uint64
}

const filterBits = 1 << 26

func (b *bits) at(id event.DatasetID, key []byte) (word int, bit uint64) {
	h := (maphash.Bytes(b.seed, key) ^ uint64(id)*0x9e3779b97f4a7c15) % filterBits
	return int(h / 64), 1 << (h % 64)
}

func (w *whatif) run(from, to string, limit int, long bool) (err error) {
	if w.log, err = cli.StoreLog(w.cmd); err != nil {
		return err
	}
	if w.files, err = w.log.OpenFiles(); err != nil {
		return err
	}
	defer w.files.Close() // only read from
	w.values = cli.NewLogView(w.files, cli.LogFilter{Values: true, Keys: cli.OpenKeys(w.cmd)})
	oldest, err := oldestOf(from)
	if err != nil {
		return err
	}
	db, end, err := cli.OpenAny(w.cmd, oldest...)
	if err != nil {
		return err
	}
	defer end(&err)
	w.db = db
	if w.from, err = lsnOf(w.cmd, db, "--from", from, db.Metrics().FloorLSN); err != nil {
		return err
	}
	if w.to, err = lsnOf(w.cmd, db, "--to", to, db.DurableLSN()); err != nil {
		return err
	}
	if w.from >= w.to {
		return cli.Usage("the earlier target first", "--from is LSN %d, which is not before --to, LSN %d", w.from, w.to)
	}
	if len(w.tx) > 0 && len(w.actors)+len(w.where) == 0 { // all that is left out begins with the first of them
		if min := minKey(w.tx); min > w.from+1 {
			w.from = min - 1
		}
	}
	dir, err := os.MkdirTemp("", "dyngo-whatif-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if w.over, err = dyngo.Open(filepath.ToSlash(dir), &dyngo.Options{MemoryBudget: 64 << 20}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.over.Close()) }()
	w.sets = map[event.DatasetID]*touched{}
	w.filter = bits{maphash.MakeSeed(), make([]uint64, filterBits/64)}
	w.progress = cli.NewProgress(w.cmd, "whatif", 2*int64(w.to-w.from), "events")
	defer w.progress.Done()
	if err := w.find(); err != nil {
		return err
	}
	if w.left == 0 {
		return cli.Fail(cli.ExitNotFound, "dyngo-replay dump with --tx or --actor shows what there is",
			"nothing to leave out of LSN %d to %d", w.from+1, w.to)
	}
	if w.base, err = db.ViewAt(w.cmd.Context(), dyngo.AtLSN(w.first-1)); err != nil {
		return err
	}
	defer func() {
		for _, t := range w.sets {
			t.base.end()
		}
		err = errors.Join(err, w.base.Close())
	}()
	if err := w.replay(); err != nil {
		return err
	}
	w.progress.Done()
	return w.print(limit, long)
}

func minKey(m map[event.LSN]bool) event.LSN {
	least := event.LSN(event.MaxLSN)
	for lsn := range m {
		least = min(least, lsn)
	}
	return least
}

// pass visits the events after an LSN up to w.to.
func (w *whatif) pass(after event.LSN, visit func(e *cli.LogEvent) error) error {
	v := cli.NewLogView(w.files, cli.LogFilter{From: after + 1, To: w.to})
	if w.left == 0 { // it is told once
		v.Lost = cli.TellLost(w.cmd)
	}
	_, err := w.log.Each(w.cmd.Context(), v, func(f *wal.Frame) error {
		if f.Kind == wal.KindCommit {
			w.progress.Add(int64(f.Count))
		}
		return v.Events(f, visit)
	})
	return err
}

// omits says whether an event is left out.
func (w *whatif) omits(e *cli.LogEvent) (bool, error) {
	switch {
	case e.LSN <= w.from:
		return false, nil
	case w.tx[e.Tx] || w.actors[e.Who.Actor] && e.Session != 0:
		return true, nil
	case len(w.where) == 0 || e.Op != event.OpPut:
		return false, nil
	}
	if err := w.values.CheckKey(e); err != nil {
		return false, err
	}
	b, err := w.value(e)
	return b != nil && w.where.Holds(b), err
}

// value is the value of an event, nil if it is gone.
func (w *whatif) value(e *cli.LogEvent) ([]byte, error) {
	b, _, err := w.values.Value(e)
	return b, err
}

// concerns says whether an event is about keys that are asked for.
func (w *whatif) concerns(e *cli.LogEvent) bool {
	return (w.dataset == "" || e.DatasetName == w.dataset) && cli.Touches(e, w.keys)
}

// find is the first pass.
func (w *whatif) find() error {
	return w.pass(w.from, func(e *cli.LogEvent) error {
		if e.Op.System() {
			if omit, err := w.omits(e); err != nil || !omit {
				return err
			}
			if e.Op == event.OpDatasetCreated || e.Op == event.OpDatasetDropped {
				w.kept++
			}
			return nil
		}
		if !w.concerns(e) || e.Flags&event.FlagNotApplied != 0 {
			return nil
		}
		omit, err := w.omits(e)
		if err != nil || !omit {
			return err
		}
		if w.left++; w.first == 0 {
			w.first = e.LSN
		}
		if e.Op == event.OpDeleteRange {
			return w.touchRange(e)
		}
		return w.touch(e, e.Key)
	})
}

// set is a dataset's keys, with a place in the temporary store.
func (w *whatif) set(e *cli.LogEvent) (*touched, error) {
	t := w.sets[e.Dataset]
	if t == nil {
		keys, err := w.over.CreateDataset(strconv.FormatUint(uint64(e.Dataset), 10), &dyngo.DatasetOptions{Consistency: dyngo.Eventual})
		if err != nil {
			return nil, err
		}
		t = &touched{keys: keys}
		w.sets[e.Dataset] = t
	}
	t.name = e.DatasetName
	return t, nil
}

// touch notes that a key may differ.
func (w *whatif) touch(e *cli.LogEvent, key []byte) error {
	t, err := w.set(e)
	if err != nil {
		return err
	}
	word, bit := w.filter.at(e.Dataset, key)
	w.filter.set[word] |= bit
	return w.put(t, key, &fate{state: fateBase})
}

// put stores a key's fate.
func (w *whatif) put(t *touched, key []byte, f *fate) error {
	_, err := t.keys.Put(key, f.append(nil))
	return err
}

// touchRange notes the keys that a range delete has ended.
func (w *whatif) touchRange(e *cli.LogEvent) error {
	was, err := w.db.ViewAt(w.cmd.Context(), dyngo.AtLSN(e.LSN-1))
	if err != nil {
		return err
	}
	defer was.Close()
	ds, err := was.Dataset(e.DatasetName)
	if err != nil {
		return err
	}
	r := cli.KeyRange(nil, bytes.Clone(e.Key), bytes.Clone(e.Value))
	if bytes.Compare(w.keys.From, r.From) > 0 {
		r.From = w.keys.From
	}
	if w.keys.To != nil && (r.To == nil || bytes.Compare(w.keys.To, r.To) < 0) {
		r.To = w.keys.To
	}
	r.KeysOnly = true
	if cli.Empty(r) {
		return nil
	}
	for kv, err := range was.Scan(ds, r) {
		if err == nil {
			err = w.touch(e, kv.Key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fate is what a key would be.
type fate struct {
	state    byte
	lsn      event.LSN // of the event that decides
	time     int64     // its log time
	at       wal.Position
	wire     []byte // of a put: its wire form
	age      int64  // record time
	hasAge   bool
	knowsAge bool // else it is that of the base

	lastLeft   event.LSN // the newest event of the key that was left out
	depends    int64     // events that depend on what was left out
	dependent  event.LSN // the first of them,
	dependTx   event.LSN // its batch,
	dependsHow byte      // and how
	dependsOn  event.LSN
}

const (
	fateBase byte = iota // as before the first event that was left out
	fatePut
	fateGone
)

const (
	wouldApply = iota + 1
	wouldBeStale
	wouldConflict
)

func (f *fate) append(b []byte) []byte {
	flags := byte(0)
	if f.hasAge {
		flags |= 1
	}
	if f.knowsAge {
		flags |= 2
	}
	b = append(b, f.state, flags, f.dependsHow)
	for _, n := range []uint64{uint64(f.lsn), uint64(f.time), f.at.File, uint64(f.at.Offset), uint64(f.age), uint64(f.lastLeft),
		uint64(f.depends), uint64(f.dependent), uint64(f.dependTx), uint64(f.dependsOn)} {
		b = coding.AppendUvarint(b, n)
	}
	return append(b, f.wire...)
}

func parseFate(b []byte) (f fate, err error) {
	r := coding.NewReader(b)
	f.state = r.Byte()
	flags := r.Byte()
	f.dependsHow = r.Byte()
	f.hasAge, f.knowsAge = flags&1 != 0, flags&2 != 0
	n := func() uint64 { return r.Uvarint() }
	f.lsn, f.time = event.LSN(n()), int64(n())
	f.at = wal.Position{File: n(), Offset: int64(n())}
	f.age, f.lastLeft, f.depends = int64(n()), event.LSN(n()), int64(n())
	f.dependent, f.dependTx, f.dependsOn = event.LSN(n()), event.LSN(n()), event.LSN(n())
	if r.Err() != nil {
		return f, fmt.Errorf("temporary store: %w", r.Err())
	}
	f.wire = b[r.Offset():]
	return f, nil
}

// replay is the second pass.
func (w *whatif) replay() error {
	var buf []byte
	return w.pass(w.first-1, func(e *cli.LogEvent) error {
		w.now = e.Time
		t := w.sets[e.Dataset]
		if t == nil {
			return nil
		}
		switch e.Op {
		case event.OpDatasetCreated:
			t.begun = true
		case event.OpDatasetDropped:
			t.dropped = true
		case event.OpDeleteRange:
			omit, err := w.omits(e)
			if err != nil {
				return err
			}
			return w.endRange(t, e, omit && w.concerns(e))
		case event.OpPut, event.OpDelete, event.OpExpire:
			word, bit := w.filter.at(e.Dataset, e.Key)
			if w.filter.set[word]&bit == 0 {
				return nil
			}
			b, err := t.keys.AppendGet(buf[:0], e.Key)
			if errors.Is(err, dyngo.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			buf = b
			f, err := parseFate(b)
			if err != nil {
				return err
			}
			return w.apply(t, e, &f)
		}
		return nil
	})
}

// apply has an event act on a key.
func (w *whatif) apply(t *touched, e *cli.LogEvent, f *fate) error {
	stale := e.Flags&event.FlagNotApplied != 0
	if omit, err := w.omits(e); err != nil {
		return err
	} else if omit && w.concerns(e) {
		if stale {
			return nil
		}
		f.lastLeft = e.LSN
		return w.put(t, e.Key, f)
	}
	age, newest := event.RecordTime(e.Parts)
	prev, named := event.PrevLSN(e.Parts)
	switch e.Op {
	case event.OpExpire: // ends one version only
		now, err := w.current(t, e.Key, f)
		if err != nil || now != prev {
			return err
		}
		f.state, f.lsn, f.wire = fateGone, e.LSN, nil
	case event.OpDelete:
		f.state, f.lsn, f.wire = fateGone, e.LSN, nil
	case event.OpPut:
		if newest {
			if err := w.recordTime(t, e.Key, f); err != nil {
				return err
			}
			wasStale := stale
			if stale = f.hasAge && age <= f.age; stale != wasStale {
				how := byte(wouldApply)
				if stale {
					how = wouldBeStale
				}
				w.dependent(f, e, how, f.lastLeft)
			}
			if stale {
				if !wasStale {
					return w.put(t, e.Key, f)
				}
				return nil
			}
		}
		if named {
			now, err := w.current(t, e.Key, f)
			if err != nil {
				return err
			}
			if now != prev {
				w.dependent(f, e, wouldConflict, f.lastLeft)
			}
		}
		f.state, f.lsn, f.time, f.at, f.wire = fatePut, e.LSN, e.Time, e.At, e.Wire
		f.age, f.hasAge, f.knowsAge = age, newest, true
	}
	return w.put(t, e.Key, f)
}

func (w *whatif) dependent(f *fate, e *cli.LogEvent, how byte, on event.LSN) {
	w.depend++
	if f.depends++; f.depends == 1 {
		f.dependent, f.dependTx, f.dependsHow, f.dependsOn = e.LSN, e.Tx, how, on
	}
}

// current is the LSN of the version that a key would have now, 0 = it would be absent.
func (w *whatif) current(t *touched, key []byte, f *fate) (event.LSN, error) {
	switch f.state {
	case fateGone:
		return 0, nil
	case fatePut:
		e, _, _, err := event.ParseWire(f.wire)
		if due, ok := event.Expiry(e.Parts); err != nil || ok && due <= w.now {
			return 0, err
		}
		return f.lsn, nil
	}
	kv, ok, err := w.atBase(t, key, w.now)
	if !ok {
		return 0, err
	}
	return kv.LSN, err
}

// atBase is what a key was before the first event that was left out, unless it has expired by a time.
func (w *whatif) atBase(t *touched, key []byte, now int64) (kv dyngo.KV, ok bool, err error) {
	if t.begun {
		return kv, false, nil
	}
	if t.base == nil {
		ds, err := w.base.Dataset(t.name)
		if err != nil {
			return kv, false, err
		}
		t.base = &seeker{v: w.base, ds: ds}
	}
	if kv, ok, err = t.base.find(key); ok && !kv.Expires.IsZero() && kv.Expires.UnixNano() <= now {
		ok = false
	}
	return kv, ok, err
}

// seeker looks keys up in a view. Keys that follow each other closely are found by one scan.
type seeker struct {
	v    *dyngo.View
	ds   *dyngo.Dataset
	next func() (dyngo.KV, error, bool)
	stop func()
	kv   dyngo.KV // where the scan is
	at   bool     // it is somewhere
}

// seekSteps is how far a scan goes on before it costs more than to begin another.
const seekSteps = 24

// find looks a key up. The pair is valid until the next call.
func (s *seeker) find(key []byte) (kv dyngo.KV, ok bool, err error) {
	if s.next == nil || s.at && bytes.Compare(s.kv.Key, key) > 0 {
		s.begin(key)
	}
	for n := 0; ; n++ {
		if s.at {
			if c := bytes.Compare(s.kv.Key, key); c >= 0 {
				return s.kv, c == 0, nil
			}
		}
		if n == seekSteps {
			s.begin(key)
		}
		kv, err, more := s.next()
		if !more || err != nil { // nothing lies behind
			s.end()
			return dyngo.KV{}, false, err
		}
		s.kv, s.at = kv, true
	}
}

func (s *seeker) begin(key []byte) {
	s.end()
	s.next, s.stop = iter.Pull2(s.v.Scan(s.ds, dyngo.Range{From: bytes.Clone(key)}))
}

func (s *seeker) end() {
	if s != nil && s.stop != nil {
		s.stop()
		s.next, s.stop, s.at = nil, nil, false
	}
}

// recordTime finds out how new a key was at the base.
func (w *whatif) recordTime(t *touched, key []byte, f *fate) error {
	if f.knowsAge {
		return nil
	}
	f.knowsAge = true
	if t.begun {
		return nil
	}
	ds, err := w.db.Dataset(t.name)
	if errors.Is(err, dyngo.ErrNoDataset) || t.dropped {
		w.unknown++
		return nil
	}
	if err != nil {
		return err
	}
	for v, err := range ds.History(w.cmd.Context(), key) {
		if err != nil {
			return err
		}
		if v.LSN >= w.first || v.NotApplied || v.Op == event.OpDeleteRange || v.Op.System() {
			continue
		}
		f.age, f.hasAge = v.RecordTime.UnixNano(), !v.RecordTime.IsZero()
		break
	}
	return nil
}

// endRange has a range delete act, or be left out.
func (w *whatif) endRange(t *touched, e *cli.LogEvent, omit bool) error {
	for kv, err := range t.keys.Scan(cli.KeyRange(nil, bytes.Clone(e.Key), bytes.Clone(e.Value))) {
		if err != nil {
			return err
		}
		f, err := parseFate(kv.Value)
		if err != nil {
			return err
		}
		if omit {
			f.lastLeft = e.LSN
		} else {
			f.state, f.lsn, f.wire = fateGone, e.LSN, nil
		}
		if err := w.put(t, kv.Key, &f); err != nil {
			return err
		}
	}
	return nil
}

// print lists what differs.
func (w *whatif) print(limit int, long bool) error {
	is, err := w.db.ViewAt(w.cmd.Context(), dyngo.AtLSN(w.to))
	if err != nil {
		return err
	}
	defer is.Close()
	r := cli.NewRenderer(w.cmd, cli.ManyRows, cli.Column{Name: "dataset"}, cli.Column{Name: "key"}, cli.Column{Name: "change"},
		cli.Column{Name: "is"}, cli.Column{Name: "would_be"}, cli.Column{Name: "depends"}, cli.Column{Name: "is_lsn", Detail: true},
		cli.Column{Name: "would_be_lsn", Detail: true}, cli.Column{Name: "dependents", Detail: true})
	r.Detail = long
	var sets []*touched
	for _, t := range w.sets {
		if !t.dropped { // else it is gone in any case
			sets = append(sets, t)
		}
	}
	slices.SortFunc(sets, func(a, b *touched) int { return strings.Compare(a.name, b.name) })
	n, rows := int64(0), 0
	for _, t := range sets {
		ds, err := is.Dataset(t.name)
		if err != nil {
			return cli.Flushed(r, err)
		}
		now := &seeker{v: is, ds: ds}
		defer now.end()
		for kv, err := range t.keys.Scan(dyngo.Range{}) {
			var row []any
			if err == nil {
				err = w.cmd.Context().Err()
			}
			if err == nil {
				row, err = w.row(t, now, kv.Key, kv.Value)
			}
			if err != nil {
				return cli.Flushed(r, err)
			}
			if row == nil {
				continue
			}
			if row[2] != unchanged {
				n++
			}
			if limit > 0 && rows == limit {
				continue // what differs is counted all the same
			}
			rows++
			if err := r.Row(row...); err != nil {
				return err
			}
		}
	}
	if err := r.Close(); err != nil {
		return err
	}
	w.tell(n)
	return nil
}

const unchanged = "none"

// row is that of a key, nil if there is nothing to say.
func (w *whatif) row(t *touched, is *seeker, key, stored []byte) ([]any, error) {
	f, err := parseFate(stored)
	if err != nil {
		return nil, err
	}
	now, there, err := is.find(key)
	if err != nil {
		return nil, err
	}
	would, wouldThere, err := w.final(t, key, &f)
	if err != nil {
		return nil, err
	}
	change := "changed"
	switch {
	case !there && !wouldThere, there && wouldThere && (now.LSN == would.LSN || bytes.Equal(now.Value, would.Value)):
		change = unchanged
	case !there:
		change = "created"
	case !wouldThere:
		change = "deleted"
	}
	if change == unchanged && f.depends == 0 {
		return nil, nil
	}
	var isCell, wouldCell, isLSN, wouldLSN, depends, dependents any
	if there {
		isCell, isLSN = cli.ValueCell(now.Value), now.LSN
	}
	if wouldThere {
		wouldCell, wouldLSN = cli.ValueCell(would.Value), would.LSN
	}
	if f.depends > 0 {
		depends, dependents = f.explain(), cli.CountCell(f.depends)
	}
	return []any{t.name, cli.KeyCell(bytes.Clone(key)), change, isCell, wouldCell, depends, isLSN, wouldLSN, dependents}, nil
}

// final is what a key would be in the end.
func (w *whatif) final(t *touched, key []byte, f *fate) (kv dyngo.KV, ok bool, err error) {
	switch f.state {
	case fateGone:
		return kv, false, nil
	case fateBase:
		return w.atBase(t, key, w.now)
	}
	e, _, _, err := event.ParseWire(f.wire)
	if err != nil {
		return kv, false, cli.LocateIn(err, w.files.Name(f.at.File), f.at.Offset)
	}
	if due, ok := event.Expiry(e.Parts); ok && due <= w.now {
		return kv, false, nil
	}
	e.LSN, e.Time = f.lsn, f.time
	b, err := w.value(&cli.LogEvent{Event: &e, At: f.at, Wire: f.wire})
	if b == nil && e.Flags&(event.FlagSealed|event.FlagRedacted) != 0 { // it was redacted, or its subject erased; without keys what is could not have been read
		return kv, false, err
	}
	return dyngo.KV{Key: key, Value: b, LSN: f.lsn, Time: time.Unix(0, f.time)}, err == nil, err
}

// explain says what depends on an event that was left out.
func (f *fate) explain() string {
	s := fmt.Sprintf("LSN %d", f.dependent)
	if f.dependTx != f.dependent {
		s += fmt.Sprintf(" of batch %d", f.dependTx)
	}
	switch f.dependsHow {
	case wouldApply:
		s += " would not be stale"
	case wouldBeStale:
		s += " would be stale"
	case wouldConflict:
		s += " would be refused"
	}
	if f.dependsOn > 0 {
		s += fmt.Sprintf(" without LSN %d", f.dependsOn)
	}
	if f.depends > 1 {
		s += ", and " + cli.FormatCount(f.depends-1) + " more"
	}
	return s
}

func (w *whatif) tell(differ int64) {
	say := func(format string, args ...any) {
		fmt.Fprintf(w.cmd.ErrOrStderr(), "%s: "+format+"\n", append([]any{w.cmd.Root().Name()}, args...)...)
	}
	say("%s left out from LSN %d on; at LSN %d %s would differ", cli.Plural(w.left, "event"), w.first, w.to, cli.Plural(differ, "key"))
	if w.depend > 0 {
		say("%s would have been decided otherwise", cli.Plural(w.depend, "later event"))
	}
	if w.kept > 0 {
		say("%s of a dataset was not left out", cli.Plural(w.kept, "creation or drop"))
	}
	if w.unknown > 0 {
		say("%s: how new it was before is not known, since its dataset was dropped", cli.Plural(int64(w.unknown), "key"))
	}
}
