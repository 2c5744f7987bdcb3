package memtable

import (
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
)

// limits say when keys are collected and runs merged. Tests make them small.
type limits struct {
	freshBatch  int // keys not yet in a run at which the background collects them
	tinyRun     int // entries up to which the youngest runs are merged by whoever adds to them
	inlineMerge int // entries that a scan merges itself; more is left to the background
	firstPage   int // slots of the table from which on a first scan with a limit does not wait until all keys are sorted
}

var defaultLimits = limits{freshBatch: 8 << 10, tinyRun: 512, inlineMerge: 8 << 10, firstPage: 64 << 10}

// tierRatio says when runs are of similar size: a run is merged with the younger ones unless it is this many times
// larger than all of them together.
const tierRatio = 4

// order knows the datasets that are kept in key order.
type order struct {
	t *Table
	limits
	sets atomic.Pointer[map[event.DatasetID]*ordered] // nil while there is none; the map is immutable
	mu   sync.Mutex                                   // guards stores of sets
	work chan *ordered                                // datasets with something to collect or to merge
	stop chan struct{}                                // closed by close
	done sync.WaitGroup
}

// ordered is one dataset in key order. Lock order: mergeMu, collectMu, freshMu; none is held together with a shard's
// lock but freshMu, which comes after it.
type ordered struct {
	t  *Table
	ds event.DatasetID

	built chan struct{}          // closed when the runs hold all keys
	runs  atomic.Pointer[runSet] // stored under publishMu

	uncollected atomic.Int64 // keys inserted that no published run holds; raised before Insert returns
	asked       atomic.Bool  // it is in order.work

	freshMu sync.Mutex // guards fresh
	fresh   posList    // places of keys that no run holds and nobody collects

	collectMu sync.Mutex // held while keys move from fresh into a published run; guards frozen and run.merging
	frozen    bool       // runs must not be merged, since entries are being changed
	mergeMu   sync.Mutex // held while the first run is built, large runs are merged, or entries leave a generation

	publishMu sync.Mutex // guards stores of runs
}

func (o *order) start(t *Table) {
	o.t = t
	o.limits = defaultLimits
	o.work = make(chan *ordered, 256)
	o.stop = make(chan struct{})
	o.done.Go(func() {
		for {
			select {
			case od := <-o.work:
				od.asked.Store(false)
				od.collect()
				od.mergeLarge()
			case <-o.stop:
				return
			}
		}
	})
}

func (o *order) close() {
	close(o.stop)
	o.done.Wait()
	for _, od := range o.all() {
		od.fresh.free()
		for _, r := range od.runs.Swap(&runSet{}).runs {
			o.t.domain.Retire(r.free)
		}
	}
}

func (o *order) all() map[event.DatasetID]*ordered {
	if m := o.sets.Load(); m != nil {
		return *m
	}
	return nil
}

// add is told of each new key, under its shard's lock. Datasets without order cost one load.
func (o *order) add(ds event.DatasetID, p tail.Pos) {
	m := o.sets.Load()
	if m == nil {
		return
	}
	od := (*m)[ds]
	if od == nil {
		return
	}
	od.freshMu.Lock()
	od.fresh.add(uint64(p))
	n := od.fresh.n
	od.uncollected.Add(1)
	od.freshMu.Unlock()
	if n%od.t.order.freshBatch == 0 {
		od.ask()
	}
}

// ask has the background look after the dataset. If its queue is full it is asked again by a later key or scan.
func (od *ordered) ask() {
	if od.asked.Swap(true) {
		return
	}
	select {
	case od.t.order.work <- od:
	default:
		od.asked.Store(false)
	}
}

// Ordered reports whether a dataset is kept in key order.
func (t *Table) Ordered(ds event.DatasetID) bool {
	od := t.order.all()[ds]
	return od != nil && od.isBuilt()
}

// EnableOrder keeps a dataset in key order from now on. The first call sorts what is there, with all processors, and
// returns when that is done; inserts and reads go on meanwhile. The caller holds no guard and no lock.
func (t *Table) EnableOrder(ds event.DatasetID) { t.order.enable(ds) }

func (o *order) enable(ds event.DatasetID) *ordered {
	od, mine := o.begin(ds)
	if mine {
		od.finish()
	}
	<-od.built
	return od
}

// begin has new keys of a dataset noted. If it was the first to do so, the caller has to call finish.
func (o *order) begin(ds event.DatasetID) (od *ordered, mine bool) {
	if od := o.all()[ds]; od != nil {
		return od, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	od = o.all()[ds]
	mine = od == nil
	if mine {
		od = &ordered{t: o.t, ds: ds, built: make(chan struct{})}
		od.runs.Store(&runSet{})
		od.mergeMu.Lock()
		m := maps.Clone(o.all())
		if m == nil {
			m = make(map[event.DatasetID]*ordered)
		}
		m[ds] = od
		// From here on new keys go to od.fresh. Keys from before are found by build, which looks at each shard after
		// this store; one that is inserted in between may come from both sides, and merging drops one.
		o.sets.Store(&m)
	}
	return od, mine
}

// finish sorts the keys that were there before begin.
func (od *ordered) finish() {
	if r := od.build(); len(r.es) > 0 {
		od.publish(nil, r)
	} else {
		r.free()
	}
	od.mergeMu.Unlock()
	close(od.built)
}

// isBuilt says that the runs hold all keys.
func (od *ordered) isBuilt() bool {
	select {
	case <-od.built:
		return true
	default:
		return false
	}
}

// publish replaces the runs of old, which may be none, by r.
func (od *ordered) publish(old []*run, r *run) {
	od.publishMu.Lock()
	runs := make([]*run, 0, len(od.runs.Load().runs)+1)
	for _, x := range od.runs.Load().runs {
		switch {
		case len(old) > 0 && x == old[0]:
			runs = append(runs, r)
		case !slices.Contains(old, x):
			runs = append(runs, x)
		}
	}
	if len(old) == 0 {
		runs = append(runs, r)
	}
	od.runs.Store(newRunSet(runs))
	od.publishMu.Unlock()
	for _, x := range old {
		od.t.domain.Retire(x.free)
	}
}

// collect puts the keys that no run holds yet into one. When it returns, the runs hold all keys whose Insert returned
// before the call.
func (od *ordered) collect() {
	od.t.drainAllPending()
	if od.uncollected.Load() == 0 {
		return
	}
	od.collectMu.Lock()
	defer od.collectMu.Unlock()
	od.freshMu.Lock()
	fresh := od.fresh
	od.fresh = posList{}
	od.freshMu.Unlock()
	if fresh.n == 0 {
		return // somebody else was collecting them
	}
	hint := ""
	if set := od.runs.Load(); len(set.runs) > 0 {
		hint = set.runs[0].common
	}
	r := od.t.sortedRun(&fresh, hint)
	od.publish(nil, r)
	// After the store of the runs: who reads zero here finds all in them.
	od.uncollected.Add(-int64(fresh.n))
	fresh.free()

	for !od.frozen {
		young := od.mergeable(od.t.order.inlineMerge)
		if young == nil {
			break
		}
		od.publish(young, mergeRuns(od.t.arena, young))
	}
	if od.mergeable(math.MaxInt) != nil {
		od.ask()
	}
}

// mergeable returns the youngest runs that should be merged into one, of at most limit entries in all; nil if none
// should. Runs that are being merged, and those before them, don't count. The caller holds collectMu.
func (od *ordered) mergeable(limit int) []*run {
	runs := od.runs.Load().runs
	from, sum := len(runs), 0
	for i := len(runs) - 1; i >= 0 && !runs[i].merging && sum+len(runs[i].es) <= limit; i-- {
		n := len(runs[i].es)
		if i < len(runs)-1 && (n < tierRatio*sum || n+sum <= od.t.order.tinyRun) {
			from = i
		}
		sum += n
	}
	if from == len(runs) {
		return nil
	}
	return slices.Clone(runs[from:])
}

// mergeLarge merges the youngest runs until that brings nothing more. Scans that collect meanwhile merge what they add
// among itself.
func (od *ordered) mergeLarge() {
	od.mergeMu.Lock()
	defer od.mergeMu.Unlock()
	for {
		od.collectMu.Lock()
		runs := od.mergeable(math.MaxInt)
		for _, r := range runs {
			r.merging = true
		}
		od.collectMu.Unlock()
		if runs == nil {
			return
		}
		od.publish(runs, mergeRuns(od.t.arena, runs))
	}
}

// freeze keeps the dataset's runs from being merged, after putting all keys into runs. Scans go on and may add runs,
// whose entries are younger than the call.
func (od *ordered) freeze() {
	od.mergeMu.Lock()
	od.collect()
	od.collectMu.Lock()
	od.frozen = true
	od.collectMu.Unlock()
}

func (od *ordered) thaw() {
	od.collectMu.Lock()
	od.frozen = false
	od.collectMu.Unlock()
	od.mergeMu.Unlock()
}

// drainAllPending inserts what recovery has left, for all shards.
func (t *Table) drainAllPending() {
	if t.pendingCount.Load() == 0 {
		return
	}
	for i := range t.shards {
		t.lockShard(i)
		t.shards[i].mu.Unlock()
	}
}

// sortedRun makes a run of the keys of the records at ps. It begins with the assumption that all keys begin with hint,
// and takes what they share of it.
func (t *Table) sortedRun(ps *posList, hint string) *run {
	r := t.unsortedRun(ps, hint)
	tmp := newRun(ps.n)
	defer tmp.free()
	r.es = sortEntries(t.arena, r.es, tmp.es)
	return r
}

// unsortedRun is sortedRun before sorting: it has an entry for each word of ps. Bits above the Pos go with it.
func (t *Table) unsortedRun(ps *posList, hint string) *run {
	r := newRun(ps.n)
	if ps.n > 0 && hint == "" {
		hint = t.sharedPrefix(ps)
	}
	r.common = hint
	for i := 0; i < ps.n; i++ {
		w := ps.at(i)
		rec := t.arena.Record(tail.Pos(w & posMask))
		key := rec.Key()
		if n := commonLen(key, r.common); n < len(r.common) {
			r.common = r.common[:n]
			i = -1 // rare: begin again with less in common
			continue
		}
		r.es[i] = entry{prefixAt(key, len(r.common)), w}
	}
	return r
}

// sharedPrefix guesses what the keys of the records have in common, from some of them.
func (t *Table) sharedPrefix(ps *posList) string {
	common := t.arena.Record(tail.Pos(ps.at(0) & posMask)).Key()
	for i := 1; i < ps.n; i += 1 + ps.n/64 {
		common = common[:commonLen(common, t.arena.Record(tail.Pos(ps.at(i)&posMask)).Key())]
	}
	return string(common)
}

// build makes a run of all keys that the index has.
func (od *ordered) build() *run {
	workers := min(runtime.GOMAXPROCS(0), shardCount)
	var next atomic.Int64
	var wg sync.WaitGroup
	runs := make([]*run, workers)
	for w := range workers {
		wg.Go(func() {
			var ps posList
			for i := next.Add(1) - 1; i < shardCount; i = next.Add(1) - 1 {
				od.gather(int(i), func(p tail.Pos, _ tail.Record) { ps.add(uint64(p)) })
			}
			runs[w] = od.t.sortedRun(&ps, "")
			ps.free()
		})
	}
	wg.Wait()
	for len(runs) > 1 { // merge by pairs, in parallel
		half := (len(runs) + 1) / 2
		for i := range len(runs) - half {
			wg.Go(func() {
				x, y := runs[i], runs[half+i]
				runs[i] = mergePair(od.t.arena, x, y)
			})
		}
		wg.Wait()
		runs = runs[:half]
	}
	return runs[0]
}

func mergePair(a *tail.Arena, x, y *run) *run {
	if len(x.es) == 0 {
		x.free()
		return y
	}
	if len(y.es) == 0 {
		y.free()
		return x
	}
	r := mergeRuns(a, []*run{x, y})
	x.free()
	y.free()
	return r
}

// gather visits the dataset's keys in one shard, each by some version, under a guard. A key that is just moving between two tables comes
// twice. What it returns only keeps the touching loads alive.
func (od *ordered) gather(shard int, visit func(tail.Pos, tail.Record)) (sink uint64) {
	t := od.t
	t.lockShard(shard) // an Insert that began before od was published has ended after this
	t.shards[shard].mu.Unlock()
	g := t.domain.Enter()
	defer g.Exit()
	st := t.states[shard].Load()
	for _, s := range [2]slots{st.cur, st.old} {
		if s.mask == 0 {
			continue
		}
		for i := range s.mask + 1 {
			if i%touchAhead == 0 { // so that the misses overlap
				for j := i; j < min(i+touchAhead, s.mask+1); j++ {
					if r, ok := t.arena.Lookup(tail.Pos(atomic.LoadUint64(s.at(j)) & posMask)); ok {
						sink += uint64(r.Touch(64))
					}
				}
			}
			p := tail.Pos(atomic.LoadUint64(s.at(i)) & posMask)
			if r, ok := t.arena.Lookup(p); ok && r.Dataset() == od.ds {
				visit(p, r)
			}
		}
	}
	return sink
}
