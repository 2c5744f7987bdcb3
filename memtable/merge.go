package memtable

import (
	"bytes"

	"github.com/dyngodb/dyngo/internal/tail"
)

// cursor is a place in a run, moving up or down.
type cursor struct {
	r      *run
	i      int    // index of the entry
	end    int    // first index that is not visited any more
	prefix uint64 // of the entry, after the common prefix of the whole set
	high   uint64 // what to put before the run's prefixes, and how far to shift them, see run.widen
	shift  uint

	touched int // entries before it were touched, see Iterator.touch
}

func (c *cursor) load() { c.prefix = c.high | c.r.es[c.i].prefix>>c.shift }

// merger visits the keys of several runs in order. A key that several runs hold comes several times, one after the
// other.
type merger struct {
	a    *tail.Arena
	step int      // 1: ascending, -1: descending
	cur  []cursor // in order of their keys; empty at the end
}

// add includes the entries of r from index lo up to but not including hi. The set's common prefix has skip bytes.
func (m *merger) add(r *run, skip, lo, hi int) {
	if lo >= hi {
		return
	}
	c := cursor{r: r, i: lo, end: hi}
	if m.step < 0 {
		c.i, c.end = hi-1, lo-1
	}
	c.touched = c.i
	c.high, c.shift = r.widen(skip)
	c.load()
	m.cur = append(m.cur, c)
	for i := len(m.cur) - 1; i > 0 && m.before(&m.cur[i], &m.cur[i-1]); i-- {
		m.cur[i], m.cur[i-1] = m.cur[i-1], m.cur[i]
	}
}

// next moves on from the first cursor's entry. Most of the time the same run goes on, since runs differ much in size:
// that costs one comparison.
func (m *merger) next() {
	c := &m.cur[0]
	c.i += m.step
	if c.i == c.end {
		m.cur = append(m.cur[:0], m.cur[1:]...)
		return
	}
	c.load()
	for i := 1; i < len(m.cur) && m.before(&m.cur[i], &m.cur[i-1]); i++ {
		m.cur[i], m.cur[i-1] = m.cur[i-1], m.cur[i]
	}
}

func (m *merger) before(x, y *cursor) bool {
	if x.prefix != y.prefix {
		return (x.prefix < y.prefix) == (m.step > 0)
	}
	d := bytes.Compare(x.r.key(m.a, x.i), y.r.key(m.a, y.i))
	return d*m.step < 0
}

// mergeRuns returns one run with the keys of all rs, each once.
func mergeRuns(a *tail.Arena, rs []*run) *run {
	set := newRunSet(rs)
	m := merger{a: a, step: 1, cur: make([]cursor, 0, len(rs))}
	for _, r := range rs {
		m.add(r, set.skip, 0, len(r.es))
	}
	out := newRun(set.entries())
	out.common = rs[0].common[:set.skip]
	n := 0
	for ; len(m.cur) > 0; m.next() {
		c := &m.cur[0]
		e := entry{prefix: c.prefix, pos: uint64(c.r.es[c.i].load())}
		if n > 0 && out.es[n-1].prefix == e.prefix && (out.es[n-1].pos == e.pos ||
			string(out.key(a, n-1)) == string(a.Record(tail.Pos(e.pos)).Key())) {
			continue
		}
		out.es[n] = e
		n++
	}
	out.es = out.es[:n]
	return out
}
