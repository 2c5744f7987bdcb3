package dyngo_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo"
)

// soakLane makes one call after the other on keys that are its own. So what it reads is known, while other lanes are
// at work in the same datasets.
type soakLane struct {
	child   *soakChild
	id      int
	rng     *rand.Rand
	spaces  [soakKinds]*soakSpace
	puts    uint64
	flight  *soakWrite   // handed over, not answered
	pending []*soakWrite // answered, and not known to be durable
	durable dyngo.LSN    // everything up to it was told to be durable
	floor   *atomic.Uint64
	gone    []soakGone // that may be current at the floor
	prune   int        // how long gone is when it is looked through again
	view    *soakView

	calls                atomic.Int64
	writes, pairs, bytes int64 // bytes of keys and values written
}

// soakView is an open view and what it shows.
type soakView struct {
	id           int
	spaces       [soakKinds]*soakSpace
	began, ended int64 // its time lies between
	left         int   // how many reads until it is closed
}

func newSoakLane(id int, seed uint64, liveBytes int64) *soakLane {
	l := &soakLane{id: id, floor: new(atomic.Uint64), rng: rand.New(rand.NewPCG(seed, uint64(id+2)))}
	for kind := range soakKinds {
		l.spaces[kind] = newSoakSpace(kind, id, liveBytes, l.rng)
	}
	return l
}

// run makes calls until stop is closed, the process has gone (errSoakGone) or there is a difference.
func (l *soakLane) run(stop <-chan struct{}) error {
	l.view = nil // it went with the process before
	for {
		select {
		case <-stop:
			return l.unview()
		default:
		}
		var err error
		switch n := l.rng.IntN(100); {
		case n < 55:
			err = l.write()
		case n < 75:
			err = l.get()
		case n < 97:
			err = l.scan()
		case l.view == nil:
			err = l.openView()
		}
		if err == nil && l.view != nil && l.view.left <= 0 {
			err = l.unview()
		}
		if err != nil {
			return err
		}
		l.calls.Add(1)
	}
}

// pick chooses a space, the more often the more is written to it.
func (l *soakLane) pick() *soakSpace {
	n := l.rng.IntN(100)
	for kind := range soakKinds {
		if n -= soakShares[kind].writes; n < 0 {
			return l.spaces[kind]
		}
	}
	return l.spaces[uniform]
}

const soakBatchBytes = 1 << 20

// write makes one change, a batch of some of all kinds, or a large one in one space.
func (l *soakLane) write() error {
	now := time.Now().UnixNano()
	w := &soakWrite{began: now}
	n, of := 1, l.pick()
	switch p := l.rng.IntN(10); {
	case p >= 8:
		n = 50 + l.rng.IntN(400)
	case p >= 4:
		n, of = 2+l.rng.IntN(40), nil
	}
	for bytes := 0; len(w.changes) < n && bytes < soakBatchBytes; {
		s := of
		if s == nil {
			s = l.pick()
		}
		l.change(w, s, now)
		c := &w.changes[len(w.changes)-1]
		bytes += len(c.Key) + c.Size
		l.bytes += int64(len(c.Key) + c.Size)
	}
	call := soakCall{Do: "write", Changes: w.changes, Batch: n > 1 || l.rng.IntN(8) == 0}
	if l.rng.IntN(10) == 0 {
		call.Ack = dyngo.AckDurable
	}
	durable := call.Ack == dyngo.AckDurable
	for i := range w.changes {
		durable = durable || soakDatasets[w.changes[i].Dataset].Consistency == dyngo.Strong
	}
	l.flight = w
	r, err := l.child.call(&call)
	if err != nil {
		return err // whether it was done is to be found out
	}
	l.flight = nil
	w.answered(r.LSN, time.Now().UnixNano())
	if durable {
		l.durable = max(l.durable, r.LSN)
	}
	l.pending = append(l.pending, w)
	l.settled(r.Durable)
	l.writes += int64(len(w.changes))
	return nil
}

// settled forgets how to undo what is durable, and notes what it has replaced.
func (l *soakLane) settled(durable dyngo.LSN) {
	l.durable = max(l.durable, durable)
	for len(l.pending) > 0 && l.pending[0].lsn <= durable {
		l.gone = l.pending[0].replaced(l.gone)
		l.pending = l.pending[1:]
	}
	if len(l.gone) > l.prune {
		floor := dyngo.LSN(l.floor.Load())
		l.gone = slices.DeleteFunc(l.gone, func(g soakGone) bool { return g.to <= floor })
		l.prune = 2*len(l.gone) + 1000
	}
}

func (l *soakLane) change(w *soakWrite, s *soakSpace, now int64) {
	n, some := s.aim, l.rng.IntN(1000)
	put := func(i int, c soakChange) {
		l.puts++
		c.ID = uint64(l.id+1)<<56 | l.puts
		if c.Kind = "put"; c.Size == 0 {
			c.Size = s.min + l.rng.IntN(s.max-s.min)
		}
		w.put(s, i, c, now)
	}
	switch s.kind {
	case uniform, zipf:
		i := l.rng.IntN(n)
		if s.kind == zipf {
			i = int(mix(s.zipf.Uint64()) % uint64(n))
		}
		if some < 120 {
			w.del(s, i)
			return
		}
		put(i, soakChange{})
	case blobs:
		i := l.rng.IntN(n)
		if some < 120 {
			w.del(s, i)
			return
		}
		c := soakChange{}
		if some < 500 {
			c.Size = s.min + l.rng.IntN(60<<10)
		}
		put(i, c)
		if some%2 == 0 {
			w.changes[len(w.changes)-1].Kind = "reader"
		}
	case queue:
		there := s.end() - s.first
		switch {
		case some < 10 && there > 0:
			to := s.first + 1 + l.rng.IntN(min(there, 20))
			w.delRange(s, s.first, to)
			s.first = to
		case there > 0 && (some < 250 || some < 500 && there > n):
			w.del(s, s.first)
			s.first++
		default:
			put(s.grow(), soakChange{})
		}
	case expiring:
		i, c := l.rng.IntN(n), soakChange{}
		switch {
		case some < 50:
			w.del(s, i)
			return
		case some < 100:
			c.TTL = time.Hour
		case some < 400:
			c.TTL = time.Duration(1+l.rng.IntN(8000)) * time.Millisecond
		}
		put(i, c)
	case filled:
		if l.rng.IntN(n) < 2 {
			from := l.rng.IntN(n)
			w.delRange(s, from, min(n, from+1+l.rng.IntN(n/4)))
			return
		}
		put(s.next%n, soakChange{})
		s.next++
	}
}

// readable chooses what to read: the present, or what the view shows.
func (l *soakLane) readable() (s *soakSpace, view int) {
	kind := soakKind(l.rng.IntN(int(soakKinds)))
	if v := l.view; v != nil && l.rng.IntN(2) == 0 {
		v.left--
		return v.spaces[kind], v.id
	}
	return l.spaces[kind], 0
}

// between returns when a read that began then, and has ended now, looked at the clock.
func (l *soakLane) between(began int64, view int) (int64, int64) {
	if view != 0 {
		return l.view.began, l.view.ended
	}
	return began, time.Now().UnixNano()
}

func (l *soakLane) get() error {
	s, view := l.readable()
	if s.end() == 0 {
		return nil
	}
	call := soakCall{Do: "get", View: view, Dataset: s.dataset, Streamed: l.rng.IntN(4) == 0}
	var keys []int
	from := max(0, s.first-20)
	for range 1 + l.rng.IntN(20) {
		i := from + l.rng.IntN(s.end()-from)
		keys, call.Keys = append(keys, i), append(call.Keys, s.key(i))
	}
	began := time.Now().UnixNano()
	r, err := l.child.call(&call)
	if err != nil {
		return err
	}
	l.settled(r.Durable)
	l.pairs += int64(len(r.Pairs))
	began, ended := l.between(began, view)
	for j, i := range keys {
		if err := s.check(i, &r.Pairs[j], began, ended); err != nil {
			return fmt.Errorf("get, view %d: %w", view, err)
		}
	}
	return nil
}

func (l *soakLane) scan() error {
	s, view := l.readable()
	if s.end() == 0 {
		return nil
	}
	from := max(0, s.first-2000)
	from += l.rng.IntN(s.end() - from)
	to := min(s.end(), from+1+l.rng.IntN(2000))
	c := soakCall{Do: "scan", View: view, Dataset: s.dataset, Range: dyngo.Range{
		From: s.edge(from), To: s.edge(to),
		Limit: 1 + l.rng.IntN(300), Reverse: l.rng.IntN(2) == 0, KeysOnly: l.rng.IntN(3) == 0,
	}}
	if s.kind == blobs {
		c.Range.Limit = 1 + c.Range.Limit%20
	}
	began := time.Now().UnixNano()
	r, err := l.child.call(&c)
	if err != nil {
		return err
	}
	l.settled(r.Durable)
	l.pairs += r.Count
	began, ended := l.between(began, view)
	if err := s.checkScan(from, to, &c.Range, r.Pairs, began, ended); err != nil {
		return fmt.Errorf("scan of [%d, %d) %+v, view %d: %w", from, to, c.Range, view, err)
	}
	return nil
}

func (l *soakLane) openView() error {
	v := &soakView{began: time.Now().UnixNano(), left: 1 + l.rng.IntN(300)}
	for kind, s := range l.spaces {
		v.spaces[kind] = s.frozen()
	}
	r, err := l.child.call(&soakCall{Do: "view"})
	if err != nil {
		return err
	}
	v.id, v.ended = r.View, time.Now().UnixNano()
	l.view = v
	return nil
}

func (l *soakLane) unview() error {
	if l.view == nil {
		return nil
	}
	c := soakCall{Do: "unview", View: l.view.id}
	l.view = nil
	_, err := l.child.call(&c)
	return err
}

// recovered settles what a crash has left of the lane's writes, now that the store ends at last. What was durable must
// be there; what was acknowledged early may be lost as a suffix, if it is no older than the window; what was in flight
// may be there, as a whole.
func (l *soakLane) recovered(last dyngo.LSN, killed int64) error {
	if last < l.durable {
		return fmt.Errorf("lane %d: the store ends at LSN %d, LSN %d was durable", l.id, last, l.durable)
	}
	w := l.flight
	l.flight = nil
	var pairs []soakPair
	began := time.Now().UnixNano()
	if w != nil {
		w.answered(0, began)
		var err error
		if pairs, err = l.read(w); err != nil {
			return err
		}
	}
	ended := time.Now().UnixNano()
	lost := 0
	for i, p := range l.pending {
		if p.lsn > last {
			lost = len(l.pending) - i
			if p.ended < killed-int64(soakWindow) {
				return fmt.Errorf("lane %d: LSN %d is lost, it was acknowledged %v before the kill",
					l.id, p.lsn, time.Duration(killed-p.ended))
			}
			break
		}
	}
	var after error
	if w != nil {
		if after = w.compare(pairs, began, ended); lost > 0 && after == nil {
			after = errors.New("a write before it is lost")
		}
		if after != nil {
			w.undo()
		}
	}
	for range lost {
		l.pending[len(l.pending)-1].undo()
		l.pending = l.pending[:len(l.pending)-1]
	}
	for _, p := range l.pending {
		l.gone = p.replaced(l.gone)
	}
	l.pending = nil
	if w != nil && after == nil {
		w.learn(pairs)
		l.gone = w.replaced(l.gone)
	}
	if after != nil {
		if err := w.compare(pairs, began, ended); err != nil {
			return fmt.Errorf("lane %d: a write of %d changes is neither there (%w) nor absent (%w)",
				l.id, len(w.changes), after, err)
		}
	}
	return nil
}

// soakWindow is what may be lost of writes that were acknowledged early: that of Eventual, and what the machine may be
// late.
const soakWindow = 3 * time.Second

// read gets what the store has of the keys that a write changes.
func (l *soakLane) read(w *soakWrite) (pairs []soakPair, err error) {
	for effects := w.effects; len(effects) > 0; {
		c := soakCall{Do: "get", Dataset: effects[0].space.dataset}
		for len(effects) > 0 && len(c.Keys) < 500 && effects[0].space.dataset == c.Dataset {
			c.Keys = append(c.Keys, effects[0].space.key(effects[0].index))
			effects = effects[1:]
		}
		r, err := l.child.call(&c)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, r.Pairs...)
	}
	return pairs, nil
}

// compare holds what was read against the cells.
func (w *soakWrite) compare(pairs []soakPair, began, ended int64) error {
	for i := range w.effects {
		e := &w.effects[i]
		if err := e.space.check(e.index, &pairs[i], began, ended); err != nil {
			return err
		}
	}
	return nil
}

// compare holds a whole space against the store, page by page, by scan and perhaps by get.
func (l *soakLane) compare(s *soakSpace, gets bool) error {
	const page = 500
	for from := s.base; from < s.end(); from += page {
		to := min(from+page, s.end())
		c := soakCall{Do: "scan", Dataset: s.dataset, Range: dyngo.Range{From: s.edge(from), To: s.edge(to), Limit: 2 * page}}
		began := time.Now().UnixNano()
		r, err := l.child.call(&c)
		if err != nil {
			return err
		}
		if err := s.checkScan(from, to, &c.Range, r.Pairs, began, time.Now().UnixNano()); err != nil {
			return err
		}
		if !gets {
			continue
		}
		g := soakCall{Do: "get", Dataset: s.dataset}
		for i := from; i < to; i++ {
			g.Keys = append(g.Keys, s.key(i))
		}
		began = time.Now().UnixNano()
		if r, err = l.child.call(&g); err != nil {
			return err
		}
		ended := time.Now().UnixNano()
		for i := from; i < to; i++ {
			if err := s.check(i, &r.Pairs[i-from], began, ended); err != nil {
				return err
			}
		}
	}
	return nil
}
