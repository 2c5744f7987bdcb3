package memtable

import (
	"bytes"
	"cmp"
	"iter"
	"maps"
	"runtime"
	"slices"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/tail"
)

// SortedOptions says which versions are still needed.
type SortedOptions struct {
	// Pins lists LSNs that are read at, ascending. The newest version ≤ each of them is kept.
	Pins []event.LSN

	// Durable is an LSN that all other reads have reached, those in progress included. Versions above it are kept.
	Durable event.LSN
}

// Sorted is what a flush writes: the needed records of sealed generations, by dataset, key ascending, LSN descending. It
// holds 16 bytes a record outside Go's heap until Free. It may be used while writers and readers go on, by one goroutine
// at a time but for Parts; the generations must stay until Free.
type Sorted struct {
	t       *Table
	needed  []event.LSN // Pins and Durable, ascending
	durable event.LSN

	sets    []*run // of one dataset each, entries with marks above the Pos
	unkeyed posList
	count   int
	bytes   int64
	dropped int

	asked      [touchAhead]*entry // entries whose successor lies outside, to be looked for
	askedCount int
	sink       byte
}

// markSuperseded is put above the Pos of an entry whose record had a successor when the generation was read.
const markSuperseded = 1 << 48

// Sorted puts the records of sealed generations in order that were applied and are needed: of each key the newest in the
// generations, the newest ≤ each pin, those above o.Durable, but none whose successor serves the same reads. A successor
// outside the generations is looked for in the index; if its chain is long the version is kept. The generations come
// oldest first. All their records must have been inserted (or never will be). The caller holds no guard and no lock.
func (t *Table) Sorted(gens []tail.Generation, o SortedOptions) *Sorted {
	if !slices.IsSorted(o.Pins) {
		panic("dyngo: bug: memtable: pinned LSNs are not ascending")
	}
	s := &Sorted{t: t, durable: o.Durable, needed: append(slices.Clone(o.Pins), o.Durable)}
	slices.Sort(s.needed)
	t.drainAllPending()
	applied := s.read(gens)
	for _, ds := range slices.Sorted(maps.Keys(applied)) {
		ps := applied[ds]
		r := t.unsortedRun(ps, "")
		ps.free()
		tmp := newRun(len(r.es))
		if sortPrefixes(r.es, tmp.es) {
			s.sortTies(r.es)
		}
		tmp.free()
		r.es = s.reduce(r.es)
		s.count += len(r.es)
		s.sets = append(s.sets, r)
	}
	return s
}

// read goes through the generations in the order of arrival.
func (s *Sorted) read(gens []tail.Generation) (applied byDataset) {
	for _, g := range gens {
		for p, r := range g.Records() {
			switch op, _, _, links := r.State(); {
			case links&tail.LinkIndexed != 0:
				if links&tail.LinkSuperseded != 0 {
					p |= markSuperseded
				}
				applied.add(r.Dataset(), p)
				s.bytes += int64(r.Size())
			case op == event.OpDeleteRange || op.System():
				s.unkeyed.add(uint64(p))
			}
		}
	}
	return applied
}

func (s *Sorted) record(e entry) tail.Record { return s.t.arena.Record(tail.Pos(e.pos & posMask)) }

// sortTies sorts entries of equal prefix by key ascending, LSN descending.
func (s *Sorted) sortTies(es []entry) {
	for i := 0; i < len(es); {
		j := i + 1
		for j < len(es) && es[j].prefix == es[i].prefix {
			j++
		}
		if tie := es[i:j]; len(tie) > 1 {
			if s.oneKey(tie) { // the most frequent case by far, and in order of arrival if it is long
				slices.Reverse(tie)
			} else {
				slices.SortFunc(tie, s.compare)
			}
		}
		i = j
	}
}

// oneKey reports whether all entries are of one key with ascending LSNs.
func (s *Sorted) oneKey(es []entry) bool {
	first := s.record(es[0])
	key, last := first.Key(), first.LSN()
	for _, e := range es[1:] {
		r := s.record(e)
		if r.LSN() <= last || string(r.Key()) != string(key) {
			return false
		}
		last = r.LSN()
	}
	return true
}

func (s *Sorted) compare(x, y entry) int {
	a, b := s.record(x), s.record(y)
	if c := bytes.Compare(a.Key(), b.Key()); c != 0 {
		return c
	}
	return cmp.Compare(b.LSN(), a.LSN())
}

// reduce drops what nobody needs and returns what is left of es.
func (s *Sorted) reduce(es []entry) []entry {
	for i := 0; i < len(es); {
		j := i + 1
		for j < len(es) && es[j].prefix == es[i].prefix {
			j++
		}
		s.reduceTie(es[i:j])
		i = j
	}
	s.askIndex()
	return slices.DeleteFunc(es, func(e entry) bool { return e.pos == 0 })
}

// reduceTie sets the pos of entries that nobody needs to 0. The newest version of a key can only be told by the index:
// it waits in s.asked.
func (s *Sorted) reduceTie(tie []entry) {
	var newer tail.Record
	for i := range tie {
		e := &tie[i]
		if len(tie) == 1 && e.pos&markSuperseded == 0 {
			return // the record need not be looked at
		}
		r := s.record(*e)
		switch {
		case len(tie) == 1 || newer.IsZero() || string(newer.Key()) != string(r.Key()):
			if e.pos&markSuperseded != 0 {
				s.asked[s.askedCount] = e
				if s.askedCount++; s.askedCount == len(s.asked) {
					s.askIndex()
				}
			}
		case !s.needs(r.LSN(), newer.LSN()):
			s.drop(e, r)
		}
		newer = r
	}
}

// needs reports whether a version with LSN at is needed that the next one, with LSN next, or an older one, replaced.
func (s *Sorted) needs(at, next event.LSN) bool {
	i, _ := slices.BinarySearch(s.needed, at)
	return at > s.durable || i < len(s.needed) && s.needed[i] < next
}

func (s *Sorted) drop(e *entry, r tail.Record) {
	s.dropped++
	s.bytes -= int64(r.Size())
	e.pos = 0
}

// maxAskSteps is how far a chain is followed for a successor.
const maxAskSteps = 8

// askIndex drops those of the asked entries that have a successor which serves the same reads. Everything is touched
// first, so that cache misses overlap.
func (s *Sorted) askIndex() {
	t := s.t
	guard := t.domain.Enter()
	defer guard.Exit()
	var rs [touchAhead]tail.Record
	var hs [touchAhead]uint64
	n := s.askedCount
	s.askedCount = 0
	for i, e := range s.asked[:n] {
		rs[i] = s.record(*e)
		s.sink += byte(rs[i].Links())
	}
	for i, r := range rs[:n] {
		hs[i] = t.Hash(r.Dataset(), r.Key())
		s.sink += byte(t.homeSlot(hs[i]))
	}
	for i := range rs[:n] {
		if w := t.homeSlot(hs[i]); (w^tagOf(hs[i]))>>48 == 0 {
			if r, ok := t.arena.Lookup(tail.Pos(w & posMask)); ok {
				s.sink += byte(r.LSN())
			}
		}
	}
	for i, r := range rs[:n] {
		_, newer, ok := t.Head(hs[i], r.Dataset(), r.Key())
		for range maxAskSteps {
			if !ok || newer.LSN() <= r.LSN() {
				break
			}
			if !s.needs(r.LSN(), newer.LSN()) {
				s.drop(s.asked[i], r)
				break
			}
			newer, ok = t.arena.Lookup(newer.Prev())
		}
	}
}

// Len returns the number of records.
func (s *Sorted) Len() int { return s.count }

// Bytes returns the size of the records in memory, headers included.
func (s *Sorted) Bytes() int64 { return s.bytes }

// Dropped returns how many versions were left out because nobody needs them.
func (s *Sorted) Dropped() int { return s.dropped }

// Records yields the records. A record is valid as long as its generation.
func (s *Sorted) Records() iter.Seq[tail.Record] { return s.between(0, s.count) }

// Parts yields the records in at most n parts, one behind the other, of about as many records. All versions of a key are in one part.
// Each part may be read by a goroutine of its own. There is at least one.
func (s *Sorted) Parts(n int) (parts []iter.Seq[tail.Record]) {
	from := 0
	for i := range n {
		to := s.keyFrom(int(int64(s.count) * int64(i+1) / int64(n)))
		if to > from || i == n-1 && parts == nil {
			parts = append(parts, s.between(from, to))
		}
		from = to
	}
	return parts
}

// keyFrom is the first index from i on where a key begins.
func (s *Sorted) keyFrom(i int) int {
	at := i
	for _, set := range s.sets {
		if at >= len(set.es) {
			at -= len(set.es)
			continue
		}
		for ; at > 0 && at < len(set.es); at, i = at+1, i+1 {
			if x, y := set.es[at-1], set.es[at]; x.prefix != y.prefix || string(s.record(x).Key()) != string(s.record(y).Key()) {
				break
			}
		}
		break
	}
	return i
}

// between yields the records with the indices [from, to).
func (s *Sorted) between(from, to int) iter.Seq[tail.Record] {
	return func(yield func(tail.Record) bool) {
		var ahead [touchAhead]tail.Record
		sink := byte(0)
		first := 0 // index of the set's first record
		for _, set := range s.sets {
			es := set.es[min(max(from-first, 0), len(set.es)):min(max(to-first, 0), len(set.es))]
			for first += len(set.es); len(es) > 0; {
				n := min(len(es), len(ahead))
				for i, e := range es[:n] {
					ahead[i] = s.record(e)
					sink += byte(ahead[i].Links())
				}
				for _, r := range ahead[:n] {
					sink += r.Touch(touchBytes)
				}
				for _, r := range ahead[:n] {
					if !yield(r) {
						return
					}
				}
				es = es[n:]
			}
		}
		runtime.KeepAlive(sink) // and with it the touching loads
	}
}

// Unkeyed yields the range deletes and system events of the generations in the order of their LSNs.
func (s *Sorted) Unkeyed() iter.Seq[tail.Record] {
	return func(yield func(tail.Record) bool) {
		for i := range s.unkeyed.n {
			if !yield(s.t.arena.Record(tail.Pos(s.unkeyed.at(i)))) {
				return
			}
		}
	}
}

// Free gives the memory back, once.
func (s *Sorted) Free() {
	for _, r := range s.sets {
		r.free()
	}
	s.sets = nil
	s.unkeyed.free()
}
