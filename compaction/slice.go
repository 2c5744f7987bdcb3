package compaction

import (
	"bytes"
	"context"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/iter"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
)

// slice merges the versions of keys in [lo, hi), nil = no bound.
type slice struct {
	r      *job
	lo, hi *manifest.Key
	keep   keeper
	below  *below
	out    output
	res    Result

	source int             // of the version before, newest run = 0
	held   []segment.Entry // the last tombstone of the key, at most one, needed only if an older version stays; a copy
	heldAt event.LSN       // the least LSN at which it is read
	work   int64           // bytes since the last call of Pace
}

// newSlice returns a slice with its outputs' options.
func (r *job) newSlice(lo, hi *manifest.Key) *slice {
	s := &slice{r: r, lo: lo, hi: hi, below: newBelow(r.o.Version, r.Output)}
	s.keep.l = &r.o.Live
	opts := segment.WriterOptions{Run: uint64(r.Output), CreatedAt: r.o.CreatedAt, FlushedLSN: r.o.FlushedLSN,
		HashSeed: r.o.HashSeed, Compression: r.compression()}
	for _, in := range r.Inputs {
		opts.Replaces = append(opts.Replaces, uint64(in.Num))
	}
	s.out = output{o: r.o, opts: opts, cutter: r.cutter(r.o.Version, &r.o.Options)}
	return s
}

// compression is slow and good only for what will stay: the oldest run of a store that is not small.
func (r *job) compression() segment.Compression {
	runs := r.o.Version.Runs
	for i := len(runs) - 1; i >= 0; i-- {
		if len(withEntries(runs[i].Segments)) > 0 {
			if runs[i].ID == r.Output && runs[i].SizeBytes() >= r.o.Options.ZstdBytes {
				return segment.Zstd
			}
			break
		}
	}
	return segment.S2
}

// sources returns the inputs by run, newest first.
func (s *slice) sources() (sources []*source) {
	for _, in := range s.r.Inputs {
		if in.Entries == 0 {
			continue
		}
		n := len(sources)
		if n == 0 || sources[n-1].segs[0].Run != in.Run {
			sources = append(sources, &source{open: s.r.o.Open})
			n++
		}
		sources[n-1].segs = append(sources[n-1].segs, in)
	}
	return sources
}

func (s *slice) merge(ctx context.Context) error {
	sources := s.sources()
	merged := make([]iter.Source, len(sources))
	for i, src := range sources {
		defer src.release()
		merged[i] = src
	}
	m := iter.New(merged...)
	ok := false
	if s.lo == nil {
		ok = m.First()
	} else {
		ok = m.SeekGE(s.lo.Dataset, s.lo.Key)
	}
	var ds event.DatasetID
	var key []byte
	for ; ok; ok = m.Next() {
		e := sources[m.Source()].entry()
		if e.Dataset != ds || !bytes.Equal(e.Key, key) {
			if s.hi != nil && s.hi.Compare(manifest.Key{Dataset: e.Dataset, Key: e.Key}) <= 0 {
				break
			}
			if e.Dataset != ds {
				ds = e.Dataset
				s.dataset(ds)
			}
			key = append(key[:0], e.Key...)
			s.keep.key()
			s.forget()
			s.source = m.Source()
		}
		if err := s.pace(ctx, int64(len(e.Key)+len(e.Value)+len(e.Parts)+entryOverhead)); err != nil {
			return err
		}
		if m.Source() < len(sources)-1 {
			s.res.Newer++
		}
		if err := s.version(e, m.Source()); err != nil {
			return err
		}
		s.source = m.Source()
	}
	s.forget()
	return m.Err()
}

// entryOverhead is what an entry counts for the pace beside its bytes.
const entryOverhead = 32

func (s *slice) dataset(ds event.DatasetID) {
	s.r.paceMu.Lock() // for Liveness
	defer s.r.paceMu.Unlock()
	s.keep.dataset(ds)
}

// version takes in the next version of a key.
func (s *slice) version(e *segment.Entry, source int) error {
	s.res.Read++
	newer := s.keep.newer
	if !s.keep.needs(e) {
		if at, seen := s.keep.least(e.LSN, newer); seen && s.keep.hidden(e, at) {
			s.res.Hidden++
		} else {
			s.res.Overridden++
			if source != s.source {
				s.res.Replaced++
			}
		}
		return nil
	}
	if isTombstone(e) && !s.below.has(e.Dataset, e.Key) {
		s.forget() // that one is not needed above another
		s.held, s.heldAt = append(s.held, clone(e)), s.keep.at
		return nil
	}
	if len(s.held) > 0 && s.keep.hidden(e, s.heldAt) {
		s.forget() // who reads the tombstone would not see this one either
	}
	if len(s.held) > 0 {
		if err := s.write(&s.held[0]); err != nil {
			return err
		}
		s.held = s.held[:0]
	}
	return s.write(e)
}

// forget drops the tombstone below which nothing was left.
func (s *slice) forget() {
	s.res.Tombstones += int64(len(s.held))
	s.held = s.held[:0]
}

func clone(e *segment.Entry) segment.Entry {
	c := *e
	c.Key, c.Value, c.Parts = bytes.Clone(e.Key), bytes.Clone(e.Value), bytes.Clone(e.Parts)
	return c
}

func (s *slice) write(e *segment.Entry) error {
	s.res.Written++
	if len(s.r.ranges.all) > 0 {
		s.r.ranges.keeps(e)
	}
	return s.out.add(e)
}

// pace counts work, and calls Pace for each step of it.
func (s *slice) pace(ctx context.Context, bytes int64) error {
	s.work += bytes
	for s.work >= StepBytes/2 {
		step := min(s.work, StepBytes)
		s.work -= step
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.r.o.Pace == nil {
			continue
		}
		s.r.paceMu.Lock()
		err := s.r.o.Pace(ctx, step)
		s.r.paceMu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}
