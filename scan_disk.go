package dyngo

import (
	"bytes"
	"encoding/binary"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/segment"
)

// diskScan visits a dataset's keys in the segments of some sources, each once with its newest version ≤ max, deletes
// included.
type diskScan struct {
	src    *sources
	ds     event.DatasetID
	ranges *memtable.RangeDeletes
	r      Range
	max    LSN
	limit  int        // pairs that the scan will visit at most, 0 = no limit
	all    []runScan  // of all runs, newest first
	runs   []diskHead // in the order of the scan: the first is at the next key, or the newest run at it
	shared []byte     // what all keys begin with at which runs are
	err    error
}

// diskHead is where a run is.
type diskHead struct {
	prefix uint64 // 8 bytes of the key after shared, zeros where it has fewer; inverted in a reverse scan
	rs     *runScan
}

// runScan is where a diskScan is in one run.
type runScan struct {
	d      *diskScan
	run    *sourceRun
	age    int  // 0 = the newest run
	n      int  // segment
	in     bool // it reads segment n
	single bool // no key of that has a second version
	it     segment.Iter
	entry  *segment.Entry // of it: the newest version ≤ max of the run's next key
	key    []byte         // scratch
}

// begin places the scan at its first key. It passes over runs that have nothing up to left.
func (d *diskScan) begin(src *sources, left LSN, ds event.DatasetID, ranges *memtable.RangeDeletes, r Range, max LSN, limit int) {
	d.src, d.ds, d.ranges, d.r, d.max, d.limit, d.err = src, ds, ranges, r, max, limit, nil
	d.runs = d.runs[:0]
	if cap(d.all) < len(src.runs) {
		d.all = make([]runScan, len(src.runs))
	}
	d.all = d.all[:len(src.runs)]
	for age := range src.runs {
		rs := &d.all[age]
		if src.runs[age].oldest > left {
			continue
		}
		rs.d, rs.run, rs.age, rs.entry = d, &src.runs[age], age, nil
		if r.Reverse {
			rs.seekBefore(r.To)
		} else {
			rs.seekFrom(r.From)
		}
		if d.err != nil {
			break
		}
		if rs.entry != nil {
			d.runs = append(d.runs, diskHead{rs: rs})
		}
	}
	d.share()
	for i := len(d.runs) - 2; i >= 0; i-- {
		d.place(i)
	}
}

// share makes shared what the keys have in common now.
func (d *diskScan) share() {
	d.shared = d.shared[:0]
	for i := range d.runs {
		if key := d.runs[i].rs.entry.Key; i == 0 {
			d.shared = append(d.shared, key...)
		} else {
			d.shared = d.shared[:commonLen(d.shared, key)]
		}
	}
	for i := range d.runs {
		d.setPrefix(&d.runs[i])
	}
}

func commonLen(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// setPrefix sets what is compared first.
func (d *diskScan) setPrefix(h *diskHead) {
	rest := h.rs.entry.Key[len(d.shared):]
	if len(rest) >= 8 {
		h.prefix = binary.BigEndian.Uint64(rest)
	} else {
		var b [8]byte
		copy(b[:], rest)
		h.prefix = binary.BigEndian.Uint64(b[:])
	}
	if d.r.Reverse {
		h.prefix = ^h.prefix
	}
}

func (d *diskScan) close() {
	for i := range d.all {
		d.all[i].leave()
	}
	d.runs = d.runs[:0]
}

// maxKeptRuns is how many iterators are kept for the next scan.
const maxKeptRuns = 64

// clear keeps only memory for the next scan. The scan is closed.
func (d *diskScan) clear() {
	if cap(d.all) > maxKeptRuns {
		*d = diskScan{}
		return
	}
	clear(d.runs[:cap(d.runs)])
	all := d.all[:cap(d.all)]
	for i := range all {
		all[i].it.Forget()
		all[i] = runScan{it: all[i].it, key: all[i].key[:0]}
	}
	*d = diskScan{all: all[:0], runs: d.runs[:0], shared: d.shared[:0]}
}

// valid says whether there is another key.
func (d *diskScan) valid() (bool, error) { return len(d.runs) > 0, d.err }

// key is where the scan is.
func (d *diskScan) key() []byte { return d.runs[0].rs.entry.Key }

// entry is the version there; it is valid until the next step.
func (d *diskScan) entry() *segment.Entry { return d.runs[0].rs.entry }

// next goes on to the next key; older runs pass over the present one too.
func (d *diskScan) next() {
	for len(d.runs) > 1 && d.runs[1].prefix == d.runs[0].prefix && bytes.Equal(d.runs[1].rs.entry.Key, d.runs[0].rs.entry.Key) {
		d.advance(1) // the others first: they compare with the first one's key
	}
	if len(d.runs) > 0 {
		d.advance(0)
	}
}

// advance moves run i to its next key and to its place among the others.
func (d *diskScan) advance(i int) {
	h := &d.runs[i]
	rs := h.rs
	if rs.advance(); rs.entry == nil {
		rs.leave()
		d.runs = append(d.runs[:i], d.runs[i+1:]...)
		return
	}
	if len(d.runs) == 1 {
		return
	}
	if key, n := rs.entry.Key, len(d.shared); len(key) < n || string(key[:n]) != string(d.shared) {
		d.share() // less than before: that changes no order
	} else {
		d.setPrefix(h)
	}
	d.place(i)
}

// place moves head i, which all before it precede, behind those that it follows. These are in order.
func (d *diskScan) place(i int) {
	h := d.runs[i]
	for ; i+1 < len(d.runs) && d.before(&d.runs[i+1], &h); i++ {
		d.runs[i] = d.runs[i+1]
	}
	d.runs[i] = h
}

func (d *diskScan) before(a, b *diskHead) bool {
	if a.prefix != b.prefix {
		return a.prefix < b.prefix
	}
	c := bytes.Compare(a.rs.entry.Key, b.rs.entry.Key)
	if d.r.Reverse {
		c = -c
	}
	return c < 0 || c == 0 && a.rs.age < b.rs.age
}

// fail ends the scan with the iterator's error. It reports whether there is one.
func (rs *runScan) fail() bool {
	if err := rs.it.Err(); err != nil {
		rs.entry = nil
		if rs.d.err == nil {
			rs.d.err = err
		}
		return true
	}
	return false
}

func (rs *runScan) leave() {
	if rs.in {
		rs.it.Close()
		rs.in = false
	}
}

// enter opens segment n, which ends the one before. It reports whether there is one.
func (rs *runScan) enter(n int) bool {
	rs.leave()
	rs.entry = nil
	if rs.n = n; n < 0 || n >= len(rs.run.Segments) || rs.run.Segments[n].Entries == 0 {
		return false
	}
	s := rs.run.Segments[n]
	rs.run.heat[n].scans.Add(1)
	rs.it.Reset(rs.run.readers[n], segment.IterOptions{KeysOnly: rs.d.r.KeysOnly, Ahead: rs.ahead(s)})
	rs.in, rs.single = true, s.Entries == s.Keys
	return true
}

// ahead is about how many bytes of a segment a scan with a limit visits: the run's share of the pairs, and what it passes
// over in its first block.
func (rs *runScan) ahead(s *manifest.Segment) int {
	if rs.d.limit == 0 {
		return 0
	}
	pairs := float64(rs.d.limit) * float64(rs.run.entries) / float64(rs.d.src.entries)
	return int(pairs*float64(s.SizeBytes)/float64(s.Entries)) + 4<<10
}

// seekFrom places the run at the first key ≥ from that it has a version ≤ max of.
func (rs *runScan) seekFrom(from []byte) {
	n := rs.run.firstFrom(rs.d.ds, from)
	if rs.n != n || !rs.in {
		if !rs.enter(n) {
			return
		}
	}
	rs.it.SeekGE(rs.d.ds, from)
	rs.settle()
}

// seekBefore places the run at the last key < to, nil = the end, that it has a version ≤ max of.
func (rs *runScan) seekBefore(to []byte) {
	ds := rs.d.ds
	if to == nil {
		ds++ // before the first key of the next dataset
	}
	n := rs.run.lastBefore(ds, to)
	if rs.n != n || !rs.in {
		if !rs.enter(n) {
			return
		}
	}
	rs.it.SeekLT(ds, to)
	rs.settleBack()
}

// advance moves to the next key in the direction of the scan.
func (rs *runScan) advance() {
	if rs.single {
		rs.move()
	} else {
		rs.key = append(rs.key[:0], rs.entry.Key...)
		for rs.move(); rs.in && rs.it.Valid() && bytes.Equal(rs.it.Entry().Key, rs.key); {
			rs.move()
		}
	}
	if rs.d.r.Reverse {
		rs.settleBack()
	} else {
		rs.settle()
	}
}

// move is one step of the segment's iterator.
func (rs *runScan) move() {
	if rs.d.r.Reverse {
		rs.it.Prev()
	} else {
		rs.it.Next()
	}
}

// inRange says whether an entry is one of the scan's.
func (rs *runScan) inRange(e *segment.Entry) bool {
	if e.Dataset != rs.d.ds {
		return false
	}
	if rs.d.r.Reverse {
		return bytes.Compare(e.Key, rs.d.r.From) >= 0
	}
	return rs.d.r.To == nil || bytes.Compare(e.Key, rs.d.r.To) < 0
}

// settle goes forward to the newest version ≤ max of a key, passing over what a range delete hides as a whole.
func (rs *runScan) settle() {
	for {
		for !rs.it.Valid() {
			if rs.fail() || !rs.enter(rs.n+1) {
				rs.entry = nil
				return
			}
			rs.it.First()
		}
		e := rs.it.Entry()
		if !rs.inRange(e) {
			rs.entry = nil
			return
		}
		if e.LSN > rs.d.max {
			rs.it.Next()
			continue
		}
		if ranges := rs.d.ranges; ranges.Any() {
			if _, to, ok := ranges.Covering(e.Key, rs.run.Segments[rs.n].MaxLSN, rs.d.max); ok {
				if !rs.passTo(to) {
					return
				}
				continue
			}
		}
		rs.entry = e
		return
	}
}

// passTo goes to the first key ≥ to in the segment, nil = the end, or else to the next segment: that may hold what is newer than what
// hides the rest of this one. It reports whether there is one.
func (rs *runScan) passTo(to []byte) bool {
	if to != nil && rs.run.Segments[rs.n].Largest.Compare(manifest.Key{Dataset: rs.d.ds, Key: to}) >= 0 {
		rs.it.SeekGE(rs.d.ds, to)
		return true
	}
	if !rs.enter(rs.n + 1) {
		return false
	}
	rs.it.First()
	return true
}

// passBefore goes to the last key < from in the segment, or else to the segment before, as passTo does.
func (rs *runScan) passBefore(from []byte) bool {
	if rs.run.Segments[rs.n].Smallest.Compare(manifest.Key{Dataset: rs.d.ds, Key: from}) < 0 {
		rs.it.SeekLT(rs.d.ds, from)
		return true
	}
	if !rs.enter(rs.n - 1) {
		return false
	}
	rs.it.Last()
	return true
}

// settleBack goes backward to the newest version ≤ max of a key. Going back, the versions of a key come oldest first.
func (rs *runScan) settleBack() {
	for {
		for !rs.it.Valid() {
			if rs.fail() || !rs.enter(rs.n-1) {
				rs.entry = nil
				return
			}
			rs.it.Last()
		}
		e := rs.it.Entry()
		if !rs.inRange(e) {
			rs.entry = nil
			return
		}
		if e.LSN > rs.d.max {
			rs.it.Prev()
			continue
		}
		if ranges := rs.d.ranges; ranges.Any() {
			if from, _, ok := ranges.Covering(e.Key, rs.run.Segments[rs.n].MaxLSN, rs.d.max); ok {
				if !rs.passBefore(from) {
					return
				}
				continue
			}
		}
		if !rs.single {
			rs.newestBack(e)
			if rs.fail() {
				return
			}
			e = rs.it.Entry()
		}
		rs.entry = e
		return
	}
}

// newestBack goes on to the newest version ≤ max of the key of e.
func (rs *runScan) newestBack(e *segment.Entry) {
	rs.key = append(rs.key[:0], e.Key...)
	for {
		if rs.it.Prev(); !rs.it.Valid() {
			if rs.it.Err() == nil {
				rs.it.First() // the key is the segment's first: its newest version is the first entry
				for rs.it.Valid() && rs.it.Entry().LSN > rs.d.max {
					rs.it.Next()
				}
			}
			return
		}
		if n := rs.it.Entry(); n.Dataset != rs.d.ds || n.LSN > rs.d.max || !bytes.Equal(n.Key, rs.key) {
			rs.it.Next()
			return
		}
	}
}
