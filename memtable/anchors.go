package memtable

import (
	"sync/atomic"

	"github.com/dyngodb/dyngo/internal/tail"
)

// moveAnchors has entries of sorted runs that point into the generation point to another version of their key instead:
// the copy of the record, or the newest.
func (ev *eviction) moveAnchors() {
	sets := ev.t.order.all()
	if len(sets) == 0 {
		return
	}
	// Entries are also made from fresh keys: put those into runs first, which marks their records.
	for _, od := range sets {
		od.freeze()
		defer od.thaw()
	}
	for ds, pairs := range ev.moved {
		sets[ds].moveToCopies(pairs, ev.chunks)
		pairs.free()
	}
	var anchors byDataset // those that are not the newest of their key, or became one meanwhile
	for p, r := range ev.g.Records() {
		if r.Links()&(tail.LinkAnchor|tail.LinkMoved) == tail.LinkAnchor {
			anchors.add(r.Dataset(), p)
		}
	}
	for ds, ps := range anchors {
		if od := sets[ds]; od != nil {
			od.moveAnchors(ps, ev.chunks)
		}
		ps.free()
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

// moveToCopies changes the entries of records that were moved: pairs holds the places of a record and its copy, by key.
func (od *ordered) moveToCopies(pairs *posList, from tail.ChunkSet) {
	t := od.t
	for _, r := range od.runs.Load().runs {
		skip := len(r.common)
		i := 0
		for k := 0; k < pairs.n && i < len(r.es); k += 2 {
			was, is := tail.Pos(pairs.at(k)), tail.Pos(pairs.at(k+1))
			rec := t.arena.Record(is)
			key := rec.Key()
			if len(key) < skip || string(key[:skip]) != r.common {
				continue
			}
			i = r.seekPrefix(prefixAt(key, skip), i)
			if i == len(r.es) {
				break
			}
			e := &r.es[i]
			if e.load() != was { // an older record of the key, or another key with the same prefix
				j := r.seekFrom(t.arena, key, i)
				if j == len(r.es) {
					continue
				}
				e = &r.es[j]
			}
			if p := e.load(); p == was || from.Has(p) && string(t.arena.Record(p).Key()) == string(key) {
				rec.AddLinks(tail.LinkAnchor)
				atomic.CompareAndSwapUint64(&e.pos, uint64(p), uint64(is))
			}
		}
	}
}

// moveAnchors looks up the keys of the records at ps in all runs.
func (od *ordered) moveAnchors(ps *posList, from tail.ChunkSet) {
	t := od.t
	sorted := t.sortedRun(ps, "", 0)
	defer sorted.free()
	for _, r := range od.runs.Load().runs {
		i := 0
		for k := range sorted.es {
			key := sorted.key(t.arena, k)
			i = r.seekFrom(t.arena, key, i)
			if i == len(r.es) {
				break
			}
			e := &r.es[i]
			if p := e.load(); from.Has(p) {
				od.reanchor(e, p)
			}
		}
	}
}

// reanchor has e, which points to p, point to the newest version of its key. A scan that does the same at the
// same time stores the same or something newer.
func (od *ordered) reanchor(e *entry, p tail.Pos) {
	t := od.t
	key := t.arena.Record(p).Key()
	h := t.Hash(od.ds, key)
	guard := t.domain.Enter()
	defer guard.Exit()
	head, newest, ok := t.Head(h, od.ds, key)
	if !ok {
		panic("dyngo: bug: memtable: a run holds a key that the index has not")
	}
	newest.AddLinks(tail.LinkAnchor)
	atomic.CompareAndSwapUint64(&e.pos, uint64(p), uint64(head))
}
