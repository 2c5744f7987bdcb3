package compaction

import (
	"context"
	"slices"
	"sync"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
)

// OpenFunc returns a Reader of a segment, and what gives it back. It is called by several goroutines.
type OpenFunc func(*manifest.Segment) (r *segment.Reader, done func(), err error)

// RunOptions are what Run works with.
type RunOptions struct {
	Options Options           // those of Pick
	Version *manifest.Version // that the job was picked on; the caller holds it

	FS      vfs.FS
	Dir     string // of segments
	Open    OpenFunc
	NewFile func() manifest.FileNum // for several goroutines

	HashSeed   uint64 // see segment.WriterOptions
	CreatedAt  int64  // of the outputs: wall time, Unix nanoseconds
	FlushedLSN event.LSN

	Live Liveness

	// Pace is called before each step of at most StepBytes, and may wait. An error ends the job. nil: no waiting. It is
	// called by one goroutine at a time.
	Pace func(ctx context.Context, bytes int64) error

	// Parallel is by how many goroutines, each with a slice of the keys, a job is done at most. Default 1.
	Parallel int
}

// StepBytes is the most that Run reads, merges and writes between two calls of Pace.
const StepBytes = 256 << 10

// Result is what became of a job.
type Result struct {
	Add    []*manifest.Segment // durable, directory entries included; a Move's are the inputs in another run
	Remove []manifest.FileNum

	ReadBytes, WriteBytes int64 // of files

	Read       int64 // versions
	Newer      int64 // those of Read that were not in the oldest run
	Written    int64
	Overridden int64 // dropped because a newer version is all that reads can see
	Replaced   int64 // those of Overridden whose newer version came from a newer run
	Hidden     int64 // dropped because of a range delete or the drop of their dataset
	Tombstones int64 // dropped because nothing older is left
}

// Edit is what to tell the manifest.
func (r *Result) Edit(reason string) *manifest.Edit {
	return &manifest.Edit{Add: r.Add, Remove: r.Remove, Reason: reason}
}

// Run does a job. It reads the inputs and writes new files; the manifest is the caller's to change, after which the
// inputs may go. What an error leaves is removed; what a crash leaves is in no manifest.
//
// The error is that of the context or of Pace, of writing (see vfs.IsNoSpace: it may be tried again), or *InputError,
// which names the input that cannot be read. Concurrent use on different jobs is fine.
func Run(ctx context.Context, j *Job, o RunOptions) (*Result, error) {
	o.Options = o.Options.withDefaults()
	res := &Result{}
	for _, s := range j.Inputs {
		res.Remove = append(res.Remove, s.Num)
	}
	if j.Kind == Move {
		res.Add = j.moved()
		return res, nil
	}
	r := &job{Job: j, o: &o, res: res}
	if err := r.ranges.collect(j, &o); err != nil {
		return nil, err
	}
	if err := r.run(ctx); err != nil {
		for _, m := range r.slices {
			m.out.abort()
		}
		return nil, err
	}
	for _, m := range r.slices {
		res.add(&m.res)
		res.Add = append(res.Add, m.out.done...)
	}
	for _, s := range res.Add {
		res.WriteBytes += s.SizeBytes
	}
	return res, nil
}

func (r *Result) add(o *Result) {
	r.Read += o.Read
	r.Newer += o.Newer
	r.Written += o.Written
	r.Overridden += o.Overridden
	r.Replaced += o.Replaced
	r.Hidden += o.Hidden
	r.Tombstones += o.Tombstones
}

// job is a job that is being done.
type job struct {
	*Job
	o      *RunOptions
	res    *Result
	ranges rangeDeletes
	slices []*slice
	paceMu sync.Mutex // held while Pace is called
}

// run does the work in these steps; an error leaves files for the caller to remove:
//
//  1. every slice is merged, but its last file is not ended,
//  2. the range deletes that stay are known now, and go into the last of these, or one of their own,
//  3. all are ended, and the directory is synced.
func (r *job) run(ctx context.Context) error {
	bounds := [][2]*manifest.Key{{nil, nil}}
	if r.Kind == Merge {
		for _, s := range r.Inputs {
			r.res.ReadBytes += s.SizeBytes
		}
		bounds = r.bounds()
	}
	for _, b := range bounds {
		r.slices = append(r.slices, r.newSlice(b[0], b[1]))
	}
	if r.Kind == Merge {
		if err := r.merge(ctx); err != nil {
			return err
		}
	}
	if err := r.writeRanges(); err != nil {
		return err
	}
	added := false
	for _, s := range r.slices {
		if err := s.out.finish(); err != nil {
			return err
		}
		added = added || len(s.out.done) > 0
	}
	if !added {
		return nil
	}
	return r.o.FS.SyncDir(r.o.Dir)
}

func (r *job) writeRanges() error {
	kept := r.ranges.kept()
	if len(kept) == 0 {
		return nil
	}
	out := &r.slices[0].out
	for _, s := range r.slices {
		if s.out.w != nil {
			out = &s.out
		}
	}
	if err := out.begin(); err != nil {
		return err
	}
	for _, d := range kept {
		out.w.AddRangeDelete(d)
	}
	return nil
}

// merge merges all slices, beside each other.
func (r *job) merge(ctx context.Context) error {
	if len(r.slices) == 1 {
		return r.slices[0].merge(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var first sync.Once
	var err error
	for _, s := range r.slices {
		wg.Go(func() {
			if e := s.merge(ctx); e != nil {
				first.Do(func() { err = e })
				cancel()
			}
		})
	}
	wg.Wait()
	return err
}

// bounds divides the keys of the job among goroutines at keys where its inputs begin, so that each gets about as many
// bytes. The first slice has no lower bound, the last none above.
func (r *job) bounds() [][2]*manifest.Key {
	segs := slices.Clone(r.Inputs)
	segs = slices.DeleteFunc(segs, func(s *manifest.Segment) bool { return s.Entries == 0 })
	slices.SortFunc(segs, func(a, b *manifest.Segment) int { return a.Smallest.Compare(b.Smallest) })
	n := int64(max(r.o.Parallel, 1))
	var bytes int64
	at := []*manifest.Key{nil}
	for i, s := range segs {
		enough := bytes >= r.res.ReadBytes*int64(len(at))/n
		if enough && int64(len(at)) < n && i > 0 && s.Smallest.Compare(segs[i-1].Smallest) > 0 {
			at = append(at, &s.Smallest)
		}
		bytes += s.SizeBytes
	}
	bounds := make([][2]*manifest.Key, len(at))
	for i := range at {
		bounds[i][0] = at[i]
		if i+1 < len(at) {
			bounds[i][1] = at[i+1]
		}
	}
	return bounds
}
