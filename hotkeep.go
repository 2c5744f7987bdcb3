package dyngo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/index"
	"github.com/dyngodb/dyngo/internal/heat"
)

// HotDecision is one about a key range: to keep its records in key order, or not any more.
type HotDecision struct {
	Time     time.Time
	Dataset  string
	From, To []byte // [From, To); From is empty for the first key, To nil for the open end
	// Action is "promoted", "demoted" or "refused".
	Action string
	Reason string // for people
	// Benefit is what the range saves, Cost what writes to it cost, both in processor time: 0.01 = a hundredth of one processor. They
	// are of what was measured and counted lately.
	Benefit, Cost float64
	Bytes, Keys   int64 // of the range; of one that was refused, what it would have taken at least
}

const (
	hotTick = time.Second // between two looks

	// A range is promoted if it saves promoteRatio times what it costs, demoted if it saves less than what it costs for demoteTicks
	// looks; and it has to save leastBenefit of a processor at all, or be idle for idleTicks looks to go.
	promoteRatio = 2
	demoteTicks  = 2
	leastBenefit = 0.0001
	idleTicks    = 60

	// evictRatio is how much more a new range has to save for each byte than one that goes for it.
	evictRatio = 2

	// retryAfter is when a range that was refused is looked at again, if it is as hot as then.
	retryAfter = 30 * time.Second

	maxDecisions = 256
	maxHotRanges = 1024

	// What is assumed until it is measured: nanoseconds a pair from memory and segments, and from a hot range, and a write into one.
	assumedMerged, assumedHot, assumedApply = 150, 40, 1200
	// maxSpent is what one pair or write counts at most, so that a wait does not pass for work.
	maxSpent = time.Millisecond
	// missNanos is what a miss costs more that has to ask segments.
	missNanos = 1000
)

// hotKeeper promotes and demotes key ranges. It is one goroutine; see package index for what it keeps.
type hotKeeper struct {
	db     *DB
	memory *index.Memory // of all ranges

	// Costs, summed up by scans and writes until the keeper takes them.
	merged, hot, applied spent
	scans                atomic.Int64  // that merged and hot are of
	applies              atomic.Uint64 // writes into hot ranges, of which some are timed

	one sync.Mutex // one look at a time; guards the fields below

	nanosMerged, nanosHot, nanosApplied, pairsPerScan float64 // averages
	refused                                           []refusal

	mu        sync.Mutex // guards the fields below
	kept      []*keptRange
	decisions []HotDecision // the newest last
}

// spent is processor time and what it was spent on. Safe for concurrent use.
type spent struct {
	nanos, n atomic.Int64
	_        [112]byte
}

func (s *spent) add(d time.Duration, n int) {
	s.nanos.Add(int64(min(d, maxSpent)))
	s.n.Add(int64(n))
}

// take moves the average of what was spent since the last call into average.
func (s *spent) take(average *float64) (n int64) {
	n, nanos := s.n.Swap(0), s.nanos.Swap(0)
	if n > 0 {
		*average += (float64(nanos)/float64(n) - *average) * min(1, float64(n)/1000+0.1)
	}
	return n
}

// keptRange is a hot range with what the keeper thinks of it.
type keptRange struct {
	*index.Range
	ds            *Dataset
	pinned        bool
	weighed       int64 // Mono of the last look
	benefit, cost float64
	bytes, keys   int64
	bad, idle     int // looks at which it saved less than it cost, or nothing worth while
}

// refusal is a range that was not promoted.
type refusal struct {
	ds       event.DatasetID
	from, to []byte
	at       int64 // Mono
	benefit  float64
}

func newHotKeeper(db *DB) *hotKeeper {
	k := &hotKeeper{db: db, nanosMerged: assumedMerged, nanosHot: assumedHot, nanosApplied: assumedApply, pairsPerScan: 100}
	k.memory = index.NewMemory(k.budget())
	return k
}

// budget is what all ranges may take.
func (k *hotKeeper) budget() int64 {
	switch n := k.db.opts.HotRangeBytes; {
	case n < 0:
		return 0
	case n > 0:
		return n
	}
	return k.db.opts.MemoryBudget / 8
}

// run ends with db.ctx.
func (k *hotKeeper) run() {
	timer := k.db.opts.Clock.NewTimer(hotTick)
	defer timer.Stop()
	for {
		select {
		case <-timer.C():
		case <-k.db.ctx.Done():
			return
		}
		k.one.Lock()
		k.lookLocked(k.db.ctx)
		k.one.Unlock()
		timer.Reset(hotTick)
	}
}

// candidate is a key range that may be promoted.
type candidate struct {
	ds            *Dataset
	from, to      []byte
	benefit, cost float64
}

// lookLocked weighs what is kept and what could be.
func (k *hotKeeper) lookLocked(ctx context.Context) {
	merged, hot := k.merged.take(&k.nanosMerged), k.hot.take(&k.nanosHot)
	k.applied.take(&k.nanosApplied)
	if scans := k.scans.Swap(0); scans > 0 {
		k.pairsPerScan += (float64(merged+hot)/float64(scans) - k.pairsPerScan) * min(1, float64(scans)/100+0.1)
	}
	k.weigh()
	k.demote()
	for _, c := range k.candidates(k.db.heat.Recent()) {
		if ctx.Err() != nil || !k.promote(ctx, c) {
			return
		}
	}
}

// worth is what a range would save and cost, in processors.
func (k *hotKeeper) worth(ds *Dataset, r heat.Rates, pairs float64) (benefit, cost float64) {
	benefit = r.Scans * pairs * max(k.nanosMerged-k.nanosHot, 0)
	if !k.db.sorted.current.Load().empty() {
		benefit += r.Misses * missNanos
	}
	return benefit / 1e9, r.Writes * k.nanosApplied / 1e9
}

// weigh measures what is kept by what it was used for since the last look.
func (k *hotKeeper) weigh() {
	now := k.db.opts.Clock.Mono()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = slices.DeleteFunc(k.kept, func(r *keptRange) bool { // of what range deletes and drops have taken
		ok, _, _ := r.Ready()
		if !ok {
			reason := "a range delete touched it, or its dataset was dropped"
			if r.Outgrew() {
				reason = "there is no more memory for what is written to it; see HotRangeBytes"
			}
			k.decide(r.ds, r.From, r.To, "demoted", reason, r)
		}
		return !ok
	})
	for _, r := range k.kept {
		_, r.bytes, r.keys = r.Ready()
		seconds := time.Duration(now - r.weighed).Seconds()
		if seconds <= 0 {
			continue
		}
		u := r.TakeUse()
		benefit := float64(u.Pairs)*max(k.nanosMerged-k.nanosHot, 0) + float64(u.Gets)*missNanos
		cost := float64(u.Writes) * k.nanosApplied
		// Most of it at once, some of it later, so that a load that comes in bursts does not count as one that has gone.
		r.benefit += (benefit/1e9/seconds - r.benefit) * 3 / 4
		r.cost += (cost/1e9/seconds - r.cost) * 3 / 4
		r.weighed = now
	}
}

func overlap(aFrom, aTo, bFrom, bTo []byte) bool {
	return (bTo == nil || bytes.Compare(aFrom, bTo) < 0) && (aTo == nil || bytes.Compare(bFrom, aTo) < 0)
}

// within says whether a lies in b.
func within(aFrom, aTo, bFrom, bTo []byte) bool {
	return bytes.Compare(aFrom, bFrom) >= 0 && (bTo == nil || aTo != nil && bytes.Compare(aTo, bTo) <= 0)
}

// demote drops ranges that cost more than they save, or that nobody uses.
func (k *hotKeeper) demote() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = slices.DeleteFunc(k.kept, func(r *keptRange) bool {
		if r.pinned {
			return false
		}
		if r.bad++; r.benefit >= r.cost {
			r.bad = 0
		}
		if r.idle++; r.benefit >= leastBenefit/2 {
			r.idle = 0
		}
		reason := ""
		switch {
		case r.bad >= demoteTicks:
			reason = fmt.Sprintf("writes cost more than scans save for %d looks", demoteTicks)
		case r.idle >= idleTicks:
			reason = fmt.Sprintf("it saved less than %g of a processor for %d looks", leastBenefit/2, idleTicks)
		default:
			return false
		}
		k.drop(r, reason)
		return true
	})
}

// density is what a range saves for each byte.
func (r *keptRange) density() float64 {
	if r.pinned {
		return math.Inf(1)
	}
	return (r.benefit - r.cost) / float64(max(r.bytes, 1))
}

// drop ends a range. k.mu is held; the caller takes it off k.kept.
func (k *hotKeeper) drop(r *keptRange, reason string) {
	r.ds.hot.remove(func(x *index.Range) bool { return x == r.Range })
	k.decide(r.ds, r.From, r.To, "demoted", reason, r)
}

// candidates are ranges that are worth it, those that save most first.
func (k *hotKeeper) candidates(recent []heat.Recent) (list []candidate) {
	if k.budget() == 0 {
		return nil
	}
	now := k.db.opts.Clock.Mono()
	k.refused = slices.DeleteFunc(k.refused, func(r refusal) bool { return now-r.at > int64(retryAfter) })
	for i := range recent {
		d := &recent[i]
		ds := k.db.catalog.byID(d.Dataset)
		if ds == nil {
			continue
		}
		pairs := k.pairsPerScan / max(d.RangesPerScan, 1) // that a scan takes from each range
		for j := range d.Ranges {
			h := &d.Ranges[j]
			c := candidate{ds: ds, from: h.From, to: h.To}
			if c.benefit, c.cost = k.worth(ds, h.Rates, pairs); c.benefit < leastBenefit || c.benefit < promoteRatio*c.cost {
				continue
			}
			if slices.ContainsFunc(k.refused, func(r refusal) bool {
				return r.ds == ds.id && overlap(r.from, r.to, c.from, c.to) && c.benefit < 2*r.benefit
			}) {
				continue
			}
			for _, gap := range ds.hot.gaps(c.from, c.to) {
				part := candidate{ds: ds, from: gap[0], to: gap[1], benefit: c.benefit, cost: c.cost}
				if !within(c.from, c.to, part.from, part.to) { // how much of it is not known
					part.benefit, part.cost = c.benefit/2, c.cost/2
				}
				if n := len(list); n > 0 && list[n-1].ds == ds && list[n-1].to != nil && bytes.Equal(list[n-1].to, part.from) {
					last := &list[n-1] // neighbours are one range: scans go through it without a stop
					last.to, last.benefit, last.cost = part.to, last.benefit+part.benefit, last.cost+part.cost
					continue
				}
				list = append(list, part)
			}
		}
	}
	slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(b.benefit-b.cost, a.benefit-a.cost) })
	return list
}

// gaps are the parts of [from, to) that no hot range has.
func (h *hotRanges) gaps(from, to []byte) (gaps [][2][]byte) {
	list := h.list.Load()
	if list == nil {
		return [][2][]byte{{from, to}}
	}
	for _, r := range *list {
		if !overlap(from, to, r.From, r.To) {
			continue
		}
		if bytes.Compare(from, r.From) < 0 {
			gaps = append(gaps, [2][]byte{from, r.From})
		}
		if r.To == nil {
			return gaps
		}
		from = r.To
		if to != nil && bytes.Compare(from, to) >= 0 {
			return gaps
		}
	}
	return append(gaps, [2][]byte{from, to})
}

// promote builds a range, and says whether to go on with others.
func (k *hotKeeper) promote(ctx context.Context, c candidate) bool {
	if !k.makeRoom(c) {
		return false
	}
	_, err := k.keep(ctx, c, false)
	if err != nil && ctx.Err() == nil {
		k.refused = append(k.refused, refusal{ds: c.ds.id, from: c.from, to: c.to, at: k.db.opts.Clock.Mono(), benefit: c.benefit})
		k.mu.Lock()
		k.decide(c.ds, c.from, c.to, "refused", err.Error(), &keptRange{benefit: c.benefit, cost: c.cost})
		k.mu.Unlock()
	}
	return true
}

// makeRoom says whether there is memory for a range. What is worth much less for each byte makes way.
func (k *hotKeeper) makeRoom(c candidate) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) >= maxHotRanges {
		return false
	}
	if k.memory.Room() > k.budget()/64 { // else it was built for nothing
		return true
	}
	if len(k.kept) == 0 {
		return false
	}
	worst := slices.MinFunc(k.kept, func(a, b *keptRange) int { return cmp.Compare(a.density(), b.density()) })
	if worst.pinned || c.benefit/float64(max(worst.bytes, 1)) < evictRatio*worst.density() {
		return false
	}
	k.kept = slices.DeleteFunc(k.kept, func(r *keptRange) bool { return r == worst })
	k.drop(worst, "a range that saves more for each byte takes its place")
	return true
}

// keep builds a range and notes it.
func (k *hotKeeper) keep(ctx context.Context, c candidate, pinned bool) (*keptRange, error) {
	r, err := c.ds.buildHot(ctx, c.from, c.to, pinned)
	if err != nil {
		return nil, err
	}
	kept := &keptRange{Range: r, ds: c.ds, pinned: pinned, weighed: k.db.opts.Clock.Mono(), benefit: c.benefit, cost: c.cost}
	_, kept.bytes, kept.keys = r.Ready()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, kept)
	reason := fmt.Sprintf("scans save %.1f times what writes cost", c.benefit/max(c.cost, 1e-9))
	switch {
	case pinned:
		reason = "it was asked for"
	case c.cost == 0:
		reason = "it is scanned, and not written"
	}
	k.decide(c.ds, r.From, r.To, "promoted", reason, kept)
	return kept, nil
}

// decide notes a decision. k.mu is held.
func (k *hotKeeper) decide(ds *Dataset, from, to []byte, action, reason string, r *keptRange) {
	d := HotDecision{Time: unixTime(k.db.opts.Clock.Now()), Dataset: ds.name, From: bytes.Clone(from), To: bytes.Clone(to), Action: action, Reason: reason,
		Benefit: r.benefit, Cost: r.cost, Bytes: r.bytes, Keys: r.keys}
	if len(k.decisions) == maxDecisions {
		k.decisions = append(k.decisions[:0], k.decisions[1:]...)
	}
	k.decisions = append(k.decisions, d)
	if l := k.db.opts.Listener.HotRange; l != nil {
		k.db.tell(func() { l(d) })
	}
}

// measure is how many ranges are kept, and what they take.
func (k *hotKeeper) measure() (n int, bytes int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.kept), k.memory.Used()
}

// HotDecisions tells which key ranges were promoted to be kept in key order and which were demoted or refused, and why: the last
// 256, oldest first.
func (db *DB) HotDecisions() []HotDecision {
	db.keeper.mu.Lock()
	defer db.keeper.mu.Unlock()
	return slices.Clone(db.keeper.decisions)
}

// KeepHot has the live records of [from, to), nil = open, kept in key order in memory from now on, whatever their heat, until DropHot, a
// range delete that touches them, or Close, or until there is no more memory for what is written to them. Scans in it, and gets of keys that have left memory, are then answered from there. It
// reads the range once. The memory counts among Options.HotRangeBytes; errors: ErrLimit if there is not enough, or another hot range
// has some of the keys.
func (ds *Dataset) KeepHot(ctx context.Context, from, to []byte) error {
	db := ds.db
	g, err := db.enterCall()
	if err != nil {
		return err
	}
	defer g.Exit()
	_, err = db.keeper.keep(ctx, candidate{ds: ds, from: bytes.Clone(from), to: bytes.Clone(to)}, true)
	if errors.Is(err, errHotBudget) || errors.Is(err, index.ErrTooManyWrites) {
		return limitError("%s: %v; see Options.HotRangeBytes", ds.name, err)
	}
	return openError(db.dir, err)
}

// DropHot ends what KeepHot or the store itself has kept of the range that begins with from. It says whether there was one.
func (ds *Dataset) DropHot(from []byte) bool {
	g := ds.db.calls.Enter()
	defer g.Exit()
	if ds.db.closed.Load() {
		return false
	}
	k := ds.db.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	n := len(k.kept)
	k.kept = slices.DeleteFunc(k.kept, func(r *keptRange) bool {
		gone := r.ds == ds && bytes.Equal(r.From, from)
		if gone {
			k.drop(r, "it was asked for")
		}
		return gone
	})
	return len(k.kept) < n
}
