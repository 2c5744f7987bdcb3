package memtable

import (
	"bytes"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dyngodb/dyngo/internal/tail"
)

// page has the first keys of a scan that came before its dataset was sorted: copies, so that keys may leave meanwhile.
type page struct {
	keys  [][]byte // in the order of the scan
	whole bool     // the scan has no others
	waits bool     // all keys were visited, and the others are not sorted yet
}

// maxPage is the highest limit of a scan that gets a page.
const maxPage = 1 << 10

// firstPage finds the first keys of a scan by one look at each record in memory, in the order in which they lie there, with all
// processors. The index would lead to each key, but to one cache miss for each. It misses none: a record whose Insert had returned before
// lies where the pieces have been reserved, and is filled; one that departs meanwhile is in a segment that the scan finds.
func (od *ordered) firstPage(o ScanOptions) page {
	n := o.Limit + o.Limit/2 + 16 // some may be deleted
	pieces := od.t.arena.Pieces()
	if o.Reverse { // keys that rise come from their end then, and most are too late
		slices.Reverse(pieces)
	}
	found := make([]selection, min(runtime.GOMAXPROCS(0), max(len(pieces), 1)))
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range found {
		wg.Go(func() {
			s := &found[w]
			*s = selection{ScanOptions: o, n: n}
			for i := next.Add(1) - 1; i < int64(len(pieces)); i = next.Add(1) - 1 {
				g := od.t.domain.Enter() // for each anew, so that memory that has left is not kept long
				for r := range pieces[i].Filled(o.Max) {
					if r.Dataset() == od.ds {
						s.visit(r.Key())
					}
				}
				g.Exit()
			}
		})
	}
	wg.Wait()
	all := &found[0]
	for i := range found[1:] {
		for _, key := range found[1+i].keys {
			all.visit(key)
		}
		all.more = all.more || found[1+i].more
	}
	return page{keys: all.keys, whole: !all.more}
}

// selection keeps the n keys of a scan that come first among those visited.
type selection struct {
	ScanOptions
	n    int
	keys [][]byte // copies, in the order of the scan
	more bool     // there were others
}

// compare orders keys as the scan visits them.
func (s *selection) compare(a, b []byte) int {
	if s.Reverse {
		a, b = b, a
	}
	return bytes.Compare(a, b)
}

func (s *selection) visit(key []byte) {
	full := len(s.keys) == s.n
	late := full && s.compare(key, s.keys[s.n-1]) > 0
	if late && s.more || bytes.Compare(key, s.From) < 0 || s.To != nil && bytes.Compare(key, s.To) >= 0 {
		return
	}
	if late {
		s.more = true
		return
	}
	i, found := slices.BinarySearchFunc(s.keys, key, s.compare)
	if found {
		return
	}
	var room []byte
	if full {
		s.more = true
		room, s.keys = s.keys[s.n-1], s.keys[:s.n-1]
	}
	s.keys = slices.Insert(s.keys, i, append(room[:0], key...))
}

// nextOfPage is Next while the scan has a page.
func (it *Iterator) nextOfPage(dst []tail.Record) (n int) {
	t, p := it.od.t, &it.page
	for n < len(dst) && len(p.keys) > 0 {
		key := p.keys[0]
		p.keys = p.keys[1:]
		it.last = append(it.last[:0], key...)
		if _, newest, ok := t.Head(t.Hash(it.od.ds, key), it.od.ds, key); ok {
			if v, ok := t.visible(newest, it.opts.Max); ok {
				dst[n] = v
				n++
			}
		}
	}
	it.started = true
	p.waits = n == 0 && !p.whole
	return n
}

// Waits says that Next has returned 0 only because more is not sorted yet: Await comes before the next call.
func (it *Iterator) Waits() bool { return it.page.waits }

// Await waits until Next can go on. The caller holds no guard and no lock.
func (it *Iterator) Await() {
	if it.page.waits {
		<-it.od.built
		it.page = page{}
	}
}

// atLeast says whether the table has so many slots, and records from recovery that wait for one.
func (t *Table) atLeast(n int) bool {
	have := int(t.pendingCount.Load())
	for i := range t.states {
		if have >= n {
			return true
		}
		have += int(t.states[i].Load().cur.mask)
	}
	return have >= n
}
