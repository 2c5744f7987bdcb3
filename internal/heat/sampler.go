package heat

import (
	"context"
	"math"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
)

const (
	// HalfLife is after how long an operation counts half.
	HalfLife = 10 * time.Second
	// StepTime is how long a step of the past is, of which Steps are kept, the present one included.
	StepTime = 5 * time.Second
	Steps    = 64
	// MaxKeyBytes is how much of a key is kept.
	MaxKeyBytes = 96
	// MaxBytes is what a Sampler takes at most.
	MaxBytes = 1 << 20

	samplesPerSecond = 1024 // about, at most
	minShift         = 3    // one operation in 8 is sampled at least,
	maxShift         = 20   // one in a million at most
	pollBusy         = 100 * time.Millisecond
	pollIdle         = time.Second
	arrangeEvery     = time.Second
)

// Kind says what an operation was.
type Kind uint8

// The kinds.
const (
	Read  Kind = iota // of one key, which was there
	Miss              // of one key, which was not there
	Scan              // of a range
	Write             // of one key: put or delete
	kinds
)

// Sampler notes what is read and written where. Make one with New. Due and Add never wait; all methods are safe for
// concurrent use.
type Sampler struct {
	clock clock.Clock
	rings []ring

	_     [128]byte // all operations load due: keep writes away from its line
	due   atomic.Uint32
	shift atomic.Uint32
	_     [128]byte

	mu      sync.Mutex // guards the fields below; held for less than a millisecond
	began   int64      // Mono of New
	now     int64      // Mono that counts are decayed to
	present int64      // number of the present step
	tuned   int64      // Mono of the last look at the interval
	tried   float64    // samples since then, lost ones included
	ordered int64      // Mono of the last arrange
	total   [kinds]float64
	cells   cells
	keys    topKeys
	took    [kinds]latencies
	recent  recentKeys
}

// New returns a Sampler that notes from now on.
func New(c clock.Clock) *Sampler {
	s := &Sampler{clock: c, rings: makeRings(runtime.GOMAXPROCS(0)), began: c.Mono()}
	s.now, s.tuned, s.ordered = s.began, s.began, s.began
	s.keys.init()
	s.setShift(minShift)
	return s
}

// Pause has no operation sampled until it is called with false: for measurements of what sampling costs.
func (s *Sampler) Pause(pause bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pause {
		s.due.Store(0)
	} else {
		s.setShift(s.shift.Load())
	}
}

func (s *Sampler) setShift(shift uint32) {
	s.shift.Store(shift)
	s.due.Store(1 << (32 - shift))
}

// golden is 2^32 divided by the golden ratio, made odd.
const golden = 0x9e3779b9

// Due says whether the operation of a tick is to be sampled.
func (s *Sampler) Due(tick uint32) bool { return tick*golden < s.due.Load() }

// Interval is how many operations one that is sampled stands for at present; 0 = nothing is sampled.
func (s *Sampler) Interval() int {
	if s.due.Load() == 0 {
		return 0
	}
	return 1 << s.shift.Load()
}

// FirstDue says which of the operations of a batch, counted from 0, are to be sampled: every so many from first on. Of batches
// of one operation those whose ticks are Due.
func (s *Sampler) FirstDue(tick uint32) (first, every int) {
	if s.due.Load() == 0 {
		return math.MaxInt, 1
	}
	shift := s.shift.Load()
	return int(tick * golden >> (32 - shift)), 1 << shift
}

// Add notes a sampled operation on a key; stripe is where (epoch.Guard.Stripe), hash that of dataset and key, took how long
// it took, 0 = unknown.
func (s *Sampler) Add(stripe int, kind Kind, ds event.DatasetID, hash uint64, key []byte, took time.Duration) {
	r := &s.rings[stripe&(len(s.rings)-1)]
	sl, at := r.claim()
	if sl == nil {
		return
	}
	sl.kind, sl.shift, sl.dataset, sl.hash = kind, uint8(s.shift.Load()), ds, hash
	sl.ns = uint32(min(max(took, 0), math.MaxUint32))
	sl.n, sl.cut = uint8(copy(sl.key[:], key)), len(key) > MaxKeyBytes
	sl.seq.Store(at + 1)
}

// Reach says how far a scan has come.
type Reach uint8

// The ways to say it.
const (
	Through Reach = iota // a key, which it has visited
	Before               // a key, which it has not visited
	ToEnd                // the end of the dataset
)

// AddScan notes a sampled scan that has visited what there is from a key on, as far as reach says of the key last. Scans in
// reverse order are noted as if they had gone forward.
func (s *Sampler) AddScan(stripe int, ds event.DatasetID, from, last []byte, reach Reach) {
	r := &s.rings[stripe&(len(s.rings)-1)]
	sl, at := r.claim()
	if sl == nil {
		return
	}
	sl.kind, sl.shift, sl.dataset, sl.hash, sl.ns, sl.reach = Scan, uint8(s.shift.Load()), ds, 0, 0, reach
	sl.n, sl.cut = uint8(copy(sl.key[:maxScanKey], from)), len(from) > maxScanKey
	sl.last, sl.lastCut = uint8(copy(sl.key[maxScanKey:], last)), len(last) > maxScanKey
	if sl.lastCut && reach == Before {
		sl.reach = Through // it has visited keys that begin with what is kept
	}
	sl.seq.Store(at + 1)
}

// Run empties the rings until the context ends.
func (s *Sampler) Run(ctx context.Context) {
	timer := s.clock.NewTimer(pollIdle)
	defer timer.Stop()
	for {
		select {
		case <-timer.C():
		case <-ctx.Done():
			return
		}
		if s.collect(time.Second) { // decay touches everything: not each time
			timer.Reset(pollBusy)
		} else {
			timer.Reset(pollIdle)
		}
	}
}

// collect takes in what was sampled, and says whether there was something. Counts are decayed to a time that is not longer ago than
// late.
func (s *Sampler) collect(late time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.collectLocked(late)
}

func (s *Sampler) collectLocked(late time.Duration) bool {
	now := s.clock.Mono()
	if now-s.now > int64(late) {
		s.advance(now)
	}
	if n := s.step(now); n > s.present {
		s.cells.begin(s.present, n)
		s.present = n
	}
	got := 0.0
	for i := range s.rings {
		got += s.drain(&s.rings[i])
	}
	s.tried += got
	if dt := now - s.tuned; dt >= int64(pollBusy) {
		s.tune(s.tried / (float64(dt) / 1e9))
		s.tuned, s.tried = now, 0
	}
	if now-s.ordered >= int64(arrangeEvery) {
		s.cells.arrange(&s.recent)
		s.ordered = now
	}
	return got > 0
}

// advance lets counts decay up to now.
func (s *Sampler) advance(now int64) {
	if now <= s.now {
		return
	}
	keep := math.Exp2(-float64(now-s.now) / float64(HalfLife))
	s.cells.decay(keep)
	s.keys.decay(keep)
	for k := range s.took {
		s.took[k].decay(keep)
	}
	s.now = now
}

// step is the number of the step that a time is in.
func (s *Sampler) step(mono int64) int64 { return (mono - s.began) / int64(StepTime) }

// drain takes in the samples of a ring and returns how many there were, lost ones included.
func (s *Sampler) drain(r *ring) float64 {
	there, lost := r.head.Load()-r.tail, r.lost.Swap(0)
	r.owed += float64(lost)
	left := float64(there)
	for sl := r.next(); sl != nil; sl = r.next() {
		extra := r.owed / max(left, 1) // what got in stands for what did not; if a writer holds the rest up, that does so next time
		s.take(sl, (1+extra)*float64(int64(1)<<sl.shift))
		r.owed, left = r.owed-extra, left-1
		r.free(sl)
	}
	return float64(there + lost)
}

// take counts a sample that stands for so many operations.
func (s *Sampler) take(sl *slot, weight float64) {
	s.total[sl.kind] += weight
	key, step := sl.key[:sl.n], s.present
	if sl.kind == Scan {
		last := sl.key[maxScanKey:][:sl.last]
		s.cells.addScan(sl.dataset, key, last, sl.reach, step, weight)
		s.recent.add(sl.dataset, key, sl.cut)
		if sl.reach != ToEnd {
			s.recent.add(sl.dataset, last, sl.lastCut)
		}
		return
	}
	s.cells.add(sl.dataset, key, sl.kind, step, weight)
	s.keys.add(sl, weight)
	s.recent.add(sl.dataset, key, sl.cut)
	if sl.ns > 0 {
		s.took[sl.kind].add(sl.ns, weight)
	}
}

// tune chooses the interval: longer at once when there are too many samples, shorter step by step.
func (s *Sampler) tune(perSecond float64) {
	shift := s.shift.Load()
	switch {
	case s.due.Load() == 0:
	case perSecond > samplesPerSecond:
		more := uint32(bits.Len64(uint64(perSecond / samplesPerSecond)))
		s.setShift(min(shift+more, maxShift))
	case perSecond < samplesPerSecond/4 && shift > minShift:
		s.setShift(shift - 1)
	}
}
