package dyngo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"unsafe"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/offheap"
	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// sideBuild makes one side file: it reads the log file once and sorts its events in memory, in runs when they are more than
// fit, which are merged. Its memory lies outside of Go's heap, until end.
type sideBuild struct {
	fs    vfs.FS
	dir   string
	piece func(event.Piece) ([]byte, error) // of a spilled batch
	opts  segment.WriterOptions
	seq   uint64
	limit int // of memory, in bytes
	upTo  LSN // not beyond the frame with this LSN, 0 = the whole file

	memory []byte // of arena and keys
	arena  []byte // for each event: dataset and key, then the rest; see add
	keys   []sideKey
	runs   []string // names of segments without filter

	wide, sessions, times, lost           []byte // bodies of the properties without their counts
	nWide, nSession, nTime, nLost, events int
	value, parts                          []byte
}

// sideKey finds an event in the arena: 16 bytes to sort by.
type sideKey struct {
	prefix uint64
	off    uint32
	length uint32 // of dataset and key
}

const (
	sideKeyBytes  = 16
	sideRestBytes = 96 // what an event takes in the arena beside its key, at most
)

// addEntry takes entries in the order of segments.
type addEntry func(e *segment.Entry) error

// errTooWide says that a log file gets no side file.
var errTooWide = errors.New("dyngo: too many range deletes or sessions for a side file")

// sideMemory is how much memory a build takes, so that a log file makes at most some ten runs.
func sideMemory(o *Options) int {
	return int(max(min(o.MemoryBudget/32, 16<<20), o.LogFileBytes/32, 1<<20))
}

// buildSide makes the side file of a sealed log file under a temporary name and returns its properties.
func (db *DB) buildSide(ctx context.Context, file wal.FileInfo, name string) (*segment.Properties, error) {
	b := &sideBuild{fs: db.opts.FS, dir: db.side.dir, piece: db.readPiece, seq: file.Seq, limit: db.side.memory,
		opts: segment.WriterOptions{Num: file.Seq, CreatedAt: db.opts.Clock.Wall(), HashSeed: db.sorted.seed()}}
	work := db.pacer.Begin(pacer.Verify)
	defer work.End()
	from, err := b.scan(db.opts.FS, db.walDir(), func(bytes int64) error { return work.Wait(ctx, bytes) })
	if err != nil {
		b.end()
		return nil, err
	}
	return b.finish(name, &from, func(add addEntry) addEntry {
		return paced(ctx, work, add)
	})
}

// end removes the runs and gives the memory back.
func (b *sideBuild) end() {
	for _, run := range b.runs {
		_ = b.fs.Remove(run) // the next process removes what stays
	}
	b.free()
}

func (b *sideBuild) free() {
	offheap.Free(b.memory)
	b.memory, b.arena, b.keys = nil, nil, nil
}

// finish writes the side file of the events that were added.
func (b *sideBuild) finish(name string, from *origin, pace func(addEntry) addEntry) (*segment.Properties, error) {
	defer b.end()
	counted := func(n int, body []byte) []byte { return append(coding.AppendUvarint(nil, uint64(n)), body...) }
	o := b.opts
	o.Extra = []segment.Property{
		{Tag: sideOrigin, Body: appendOrigin(nil, from)}, {Tag: sideWide, Body: counted(b.nWide, b.wide)},
		{Tag: sideSessions, Body: counted(b.nSession, b.sessions)}, {Tag: sideTimes, Body: counted(b.nTime, b.times)},
		{Tag: sideLost, Body: counted(b.nLost, b.lost)},
	}
	return b.write(name, o, func(add addEntry) error {
		add = pace(add)
		if len(b.runs) == 0 {
			return b.sorted(add)
		}
		if err := b.spill(); err != nil {
			return err
		}
		b.free()
		return b.merge(add)
	})
}

// paced lets other work go first.
func paced(ctx context.Context, work *pacer.Job, add addEntry) addEntry {
	step := steps(ctx, work)
	return func(e *segment.Entry) error {
		if err := step(len(e.Key) + 32); err != nil {
			return err
		}
		return add(e)
	}
}

// steps lets other work go first, every 64 KiB of what it is told.
func steps(ctx context.Context, work *pacer.Job) func(bytes int) error {
	n := 0
	return func(bytes int) error {
		if n += bytes; n < 64<<10 {
			return nil
		}
		n = 0
		return work.Wait(ctx, 64<<10)
	}
}

// scan reads the log file. It calls wait after each frame.
func (b *sideBuild) scan(log vfs.FS, dir string, wait func(bytes int64) error) (origin, error) {
	s, err := wal.NewScanner(log, dir, wal.ScanOptions{ReadOnly: true, FromFile: b.seq, Only: true})
	if err != nil {
		return origin{}, err
	}
	defer s.Close()
	for b.upTo == 0 || s.Tail().NextLSN <= b.upTo { // what lies behind may be on its way
		f, err := s.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = b.frame(f)
		}
		if err == nil {
			err = wait(int64(len(f.Body)))
		}
		if err != nil {
			return origin{}, err
		}
		if len(b.wide)+len(b.sessions)+len(b.times)+len(b.lost) > maxSideProps {
			return origin{}, errTooWide
		}
	}
	t := s.Tail()
	return origin{logID: s.LogID(), seq: b.seq, end: uint64(t.End), chain: t.Chain}, nil
}

func (b *sideBuild) frame(f *wal.Frame) error {
	if f.Kind == wal.KindDictionary {
		d, err := event.ParseDictionary(f.Body)
		if err != nil {
			return corruption.Locate(err, f.Name, f.Offset)
		}
		for _, s := range d.Sessions {
			b.session(event.AppendSession(nil, s))
		}
		return nil
	}
	if f.Kind != wal.KindCommit {
		return nil
	}
	err := f.Places(b.piece, b.add)
	if err != nil && unlessDropped(f, err) == nil {
		b.lost = coding.AppendUvarint(coding.AppendUvarint(b.lost, uint64(f.BaseLSN)), uint64(f.Count))
		b.nLost++
		return nil
	}
	return err
}

// unlessDropped passes over a batch that began in a log file which was dropped before anybody noted the keys in it: what it
// was is not known any more.
func unlessDropped(f *wal.Frame, err error) error {
	if f.Flags&wal.FrameSpilled != 0 && errors.Is(err, wal.ErrDropped) {
		return nil
	}
	return err
}

func (b *sideBuild) session(encoded []byte) {
	b.sessions = coding.AppendBytes(b.sessions, encoded)
	b.nSession++
}

func (b *sideBuild) add(e *event.Event, at wal.Position, wire []byte) error {
	if b.events%sampleEvery == 0 {
		b.times = binary.LittleEndian.AppendUint64(coding.AppendUvarint(b.times, uint64(e.LSN)), uint64(e.Time))
		b.nTime++
	}
	b.events++
	p := placeOf(e, at, wire)
	switch {
	case e.Op == event.OpSessionOpened:
		b.session(e.Value)
		return nil
	case e.Op == event.OpDeleteRange, e.Op >= event.OpDatasetCreated && e.Op <= event.OpDatasetDropped:
		w := wideEvent{place: p, dataset: e.Dataset, key: e.Key}
		if e.Op == event.OpDeleteRange {
			w.to = e.Value
		}
		b.wide = appendWide(b.wide, b.seq, &w)
		b.nWide++
		return nil
	case !e.Op.Known() || e.Op.System():
		return nil
	}
	if b.memory == nil {
		n := max(b.limit/4/sideKeyBytes, 1)
		b.memory = offheap.Alloc(max(b.limit, n*sideKeyBytes))
		b.keys = unsafe.Slice((*sideKey)(unsafe.Pointer(unsafe.SliceData(b.memory))), n)[:0]
		b.arena = b.memory[n*sideKeyBytes : n*sideKeyBytes : len(b.memory)]
	}
	if n := len(b.keys); n > 0 && (n == cap(b.keys) || len(b.arena)+len(e.Key)+sideRestBytes > cap(b.arena)) {
		if err := b.spill(); err != nil {
			return err
		}
	}
	off := len(b.arena)
	b.arena = append(binary.BigEndian.AppendUint32(b.arena, uint32(e.Dataset)), e.Key...)
	b.keys = append(b.keys, sideKey{prefix: sidePrefix(e.Dataset, e.Key), off: uint32(off), length: uint32(len(b.arena) - off)})
	b.arena = append(b.arena, byte(e.Op), byte(e.Flags&event.FlagNotApplied))
	b.arena = binary.LittleEndian.AppendUint64(b.arena, uint64(e.LSN))
	b.arena = binary.LittleEndian.AppendUint64(b.arena, uint64(e.Time))
	b.arena = coding.AppendUvarint(b.arena, uint64(e.Session))
	b.value = appendPlace(b.value[:0], b.seq, &p)
	b.arena = coding.AppendBytes(b.arena, b.value)
	b.parts = b.parts[:0]
	if due, ok := event.Expiry(e.Parts); ok && e.Op == event.OpPut && e.Flags&event.FlagNotApplied == 0 {
		b.parts = event.AppendExpiry(b.parts, due)
	}
	b.arena = coding.AppendBytes(b.arena, b.parts)
	return nil
}

// sidePrefix orders keys as far as 8 bytes can. Datasets of large numbers have one prefix for all keys.
func sidePrefix(ds event.DatasetID, key []byte) uint64 {
	if ds >= 0xffff {
		return 0xffff << 48
	}
	var k [8]byte
	copy(k[:], key)
	return uint64(ds)<<48 | binary.BigEndian.Uint64(k[:])>>16
}

// sorted gives the events in the arena to add, in the order of segments.
func (b *sideBuild) sorted(add addEntry) error {
	slices.SortFunc(b.keys, func(x, y sideKey) int {
		if c := cmp.Compare(x.prefix, y.prefix); c != 0 {
			return c
		}
		if c := bytes.Compare(b.arena[x.off:][:x.length], b.arena[y.off:][:y.length]); c != 0 {
			return c
		}
		return cmp.Compare(y.off, x.off) // LSNs ascend in the arena
	})
	var e segment.Entry
	for _, k := range b.keys {
		r := coding.NewReader(b.arena[k.off:])
		e.Dataset = event.DatasetID(binary.BigEndian.Uint32(r.Next(4)))
		e.Key = r.Next(uint64(k.length) - 4)
		e.Op, e.Flags = event.Op(r.Byte()), event.Flags(r.Byte())
		e.LSN, e.Time, e.Session = LSN(r.Uint64()), int64(r.Uint64()), event.SessionID(r.Uvarint())
		e.Value, e.Parts = r.Bytes(), r.Bytes()
		if r.Err() != nil {
			panic("dyngo: bug: side file: " + r.Err().Error())
		}
		if err := add(&e); err != nil {
			return err
		}
	}
	b.arena, b.keys = b.arena[:0], b.keys[:0]
	return nil
}

// spill writes the events in the arena as a run.
func (b *sideBuild) spill() error {
	name := path.Join(b.dir, fmt.Sprintf("%010d.run%d", b.seq, len(b.runs)))
	b.runs = append(b.runs, name)
	_, err := b.write(name, segment.WriterOptions{Num: b.seq, FilterBits: -1}, b.sorted)
	return err
}

// write makes a segment of the entries that each gives to its argument.
func (b *sideBuild) write(name string, o segment.WriterOptions, each func(add addEntry) error) (
	*segment.Properties, error) {
	if err := b.fs.Remove(name); err != nil && !isMissing(err) {
		return nil, err
	}
	o.NoSync = true
	w, err := segment.Create(b.fs, name, o)
	if err != nil {
		return nil, err
	}
	defer w.Abort() // does nothing after Finish
	if err := each(w.Add); err != nil {
		return nil, err
	}
	return w.Finish()
}

// merge gives the events of all runs to add.
func (b *sideBuild) merge(add addEntry) error {
	var its []*segment.Iter
	ahead := segment.NewAheadBudget(int64(b.limit) * 3 / 4) // the rest is for their indexes
	for _, name := range b.runs {
		r, err := segment.Open(b.fs, name, segment.ReaderOptions{Ahead: ahead})
		if err != nil {
			return err
		}
		defer r.Close()
		it := r.NewIter(segment.IterOptions{})
		defer it.Close()
		its = append(its, it)
	}
	return mergeEntries(its, func(_ int, e *segment.Entry) error { return add(e) })
}

// mergeEntries visits the entries of all iterators in the order of segments, with the index of the iterator.
func mergeEntries(its []*segment.Iter, visit func(i int, e *segment.Entry) error) error {
	var live []int
	for i, it := range its {
		if it.First() {
			live = append(live, i)
		} else if it.Err() != nil {
			return it.Err()
		}
	}
	for len(live) > 0 {
		first := 0
		for i := 1; i < len(live); i++ {
			if compareEntries(its[live[i]].Entry(), its[live[first]].Entry()) < 0 {
				first = i
			}
		}
		it := its[live[first]]
		if err := visit(live[first], it.Entry()); err != nil {
			return err
		}
		if !it.Next() {
			if err := it.Err(); err != nil {
				return err
			}
			live = slices.Delete(live, first, first+1)
		}
	}
	return nil
}

func compareEntries(a, b *segment.Entry) int {
	return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), bytes.Compare(a.Key, b.Key), cmp.Compare(b.LSN, a.LSN))
}
