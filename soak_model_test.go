package dyngo_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo"
)

// soakCell is a key as the model sees it. Its value follows from id and size.
type soakCell struct {
	id     uint64    // 0 = absent
	lsn    dyngo.LSN // 0 = not known
	size   int32
	lo, hi int64 // its time to live ends between these, Unix ns; 0 = never
}

// soakSlack is how far a store's log time may be from the clock of who looks at it.
const soakSlack = int64(200 * time.Millisecond)

type presence int

const (
	absent presence = iota
	perhaps
	present
)

// seen is whether a read that began and ended at these times finds the cell.
func (c *soakCell) seen(began, ended int64) presence {
	switch {
	case c.id == 0 || c.hi != 0 && began > c.hi+soakSlack:
		return absent
	case c.lo != 0 && ended >= c.lo-soakSlack:
		return perhaps
	}
	return present
}

// soakSpace is a range of keys that one lane alone writes: key i is the i-th of its prefix in key order.
type soakSpace struct {
	kind     soakKind
	dataset  int
	prefix   string
	min, max int        // sizes of values
	cells    []soakCell // of keys from base on; those before are absent
	base     int
	first    int // queue: the oldest key that may be there
	next     int // queue and filled: what is put next
	aim      int // how many keys are meant to be there
	zipf     *rand.Zipf
	bytes    *atomic.Int64 // of values that are there, those that have expired among them; for progress
}

type soakKind int

const (
	uniform soakKind = iota // each key as often as the others
	zipf                    // few keys most of the time
	blobs                   // large values
	queue                   // put at one end, deleted at the other
	expiring
	filled // filled in order, emptied by range deletes
	soakKinds
)

// soakShares says for each kind what share of the live bytes it is meant to take and how often it is written to, in
// percent.
var soakShares = [soakKinds]struct {
	dataset, live, writes int
	prefix                string
	min, max              int
}{
	uniform:  {0, 35, 34, "u", 16, 1500},
	zipf:     {1, 15, 25, "z", 16, 5000},
	blobs:    {3, 25, 3, "b", 4 << 10, 250 << 10},
	queue:    {2, 5, 18, "q", 50, 3000},
	expiring: {4, 5, 10, "s", 50, 1000},
	filled:   {0, 15, 10, "w", 16, 1000},
}

func newSoakSpace(kind soakKind, lane int, liveBytes int64, rng *rand.Rand) *soakSpace {
	sh := &soakShares[kind]
	s := &soakSpace{kind: kind, dataset: sh.dataset, prefix: fmt.Sprintf("%s%02d/", sh.prefix, lane),
		min: sh.min, max: sh.max, bytes: new(atomic.Int64)}
	n := max(8, int(liveBytes)*sh.live/100/((s.min+s.max)/2+40))
	switch kind {
	case zipf:
		s.zipf = rand.NewZipf(rng, 1.1, 4, uint64(n-1))
	case uniform, blobs, filled:
		n += n / 8 // some are deleted
	}
	if s.aim = n; kind != queue {
		s.cells = make([]soakCell, n)
	}
	return s
}

// end is behind the last key.
func (s *soakSpace) end() int { return s.base + len(s.cells) }

func (s *soakSpace) at(i int) *soakCell {
	if i < s.base {
		return &soakCell{}
	}
	return &s.cells[i-s.base]
}

func (s *soakSpace) put(i int, c soakCell) {
	at := s.at(i)
	s.bytes.Add(int64(c.size - at.size))
	*at = c
}

// grow makes place for one more key at the end of a queue and forgets those long gone at the other.
func (s *soakSpace) grow() int {
	if gone := s.first - s.base; gone > 1<<16 {
		s.cells = append([]soakCell(nil), s.cells[gone/2:]...)
		s.base += gone / 2
	}
	s.cells = append(s.cells, soakCell{})
	return s.end() - 1
}

// frozen is a copy that stays as the space is now.
func (s *soakSpace) frozen() *soakSpace {
	c := *s
	c.cells, c.base = slices.Clone(s.cells[max(s.first-s.base, 0):]), max(s.first, s.base)
	return &c
}

// key has digits that give the order, and a tail so that keys differ in length.
func (s *soakSpace) key(i int) []byte {
	return fmt.Appendf(nil, "%s%08d%s", s.prefix, i, strings.Repeat("k", int(mix(uint64(i))%30)))
}

// edge lies before key i and behind key i-1.
func (s *soakSpace) edge(i int) []byte { return fmt.Appendf(nil, "%s%08d", s.prefix, i) }

// live is the bytes of keys and values that are surely there, and how many pairs that are.
func (s *soakSpace) live(now int64) (bytes, pairs int64) {
	for i := range s.cells {
		if c := &s.cells[i]; c.seen(now, now) == present {
			bytes += int64(len(s.key(s.base+i))) + int64(c.size)
			pairs++
		}
	}
	return bytes, pairs
}

// large is the bytes of large values that are surely there and whose events lie above an LSN.
func (s *soakSpace) large(lsn dyngo.LSN, now int64) (bytes int64) {
	least := int32(soakDatasets[s.dataset].LargeValue)
	for i := range s.cells {
		if c := &s.cells[i]; least > 0 && c.size >= least && c.lsn > lsn && c.seen(now, now) == present {
			bytes += int64(c.size)
		}
	}
	return bytes
}

// count is how many pairs a scan finds at least and at most.
func (s *soakSpace) count(began, ended int64) (least, most int64) {
	for i := range s.cells {
		switch s.cells[i].seen(began, ended) {
		case present:
			least++
			most++
		case perhaps:
			most++
		}
	}
	return least, most
}

// effect is what a change does to a cell.
type effect struct {
	space  *soakSpace
	index  int
	change int
	before soakCell
}

// soakWrite is a write that was handed to the store; the cells have it already.
type soakWrite struct {
	changes []soakChange
	effects []effect
	lsn     dyngo.LSN // of the last change, 0 = there was no answer
	began   int64
	ended   int64 // when the answer came
}

// put plans a put of key i.
func (w *soakWrite) put(s *soakSpace, i int, c soakChange, now int64) {
	c.Dataset, c.Key = s.dataset, s.key(i)
	cell := soakCell{id: c.ID, size: int32(c.Size)}
	ttl := c.TTL
	if ttl == 0 {
		ttl = soakDatasets[s.dataset].TTL
	}
	if ttl != 0 {
		cell.lo, cell.hi = now+int64(ttl), now+int64(ttl)
	}
	w.set(s, i, cell)
	w.changes = append(w.changes, c)
}

func (w *soakWrite) del(s *soakSpace, i int) {
	w.set(s, i, soakCell{})
	w.changes = append(w.changes, soakChange{Kind: "del", Dataset: s.dataset, Key: s.key(i)})
}

// delRange plans to delete the keys [from, to).
func (w *soakWrite) delRange(s *soakSpace, from, to int) {
	for i := from; i < to; i++ {
		if s.at(i).id != 0 {
			w.set(s, i, soakCell{})
		}
	}
	w.changes = append(w.changes, soakChange{Kind: "range", Dataset: s.dataset, Key: s.edge(from), To: s.edge(to)})
}

func (w *soakWrite) set(s *soakSpace, i int, c soakCell) {
	w.effects = append(w.effects, effect{s, i, len(w.changes), *s.at(i)})
	s.put(i, c)
}

// answered notes what is known with the answer: LSNs, and until when values may live.
func (w *soakWrite) answered(lsn dyngo.LSN, ended int64) {
	w.lsn, w.ended = lsn, ended
	for _, e := range w.effects {
		c := e.space.at(e.index)
		if c.id == 0 || c.id != w.changes[e.change].ID {
			continue
		}
		if lsn != 0 {
			c.lsn = lsn - dyngo.LSN(len(w.changes)-1-e.change)
		}
		if c.hi != 0 {
			c.hi += ended - w.began
		}
	}
}

// learn notes LSNs of a write that is there and was not answered, if one of its values tells them.
func (w *soakWrite) learn(pairs []soakPair) {
	for i, e := range w.effects {
		if p := &pairs[i]; p.LSN != 0 && p.ID == w.changes[e.change].ID {
			w.answered(p.LSN+dyngo.LSN(len(w.changes)-1-e.change), w.began) // which lets nothing live longer
			return
		}
	}
}

// soakGone is a version that was current from an LSN to the one before another.
type soakGone struct {
	from, to dyngo.LSN
	bytes    int64 // of key and value
}

// replaced adds the versions that a write has replaced. Those with a time to live are left out: whether they had expired at
// an LSN is not known.
func (w *soakWrite) replaced(gone []soakGone) []soakGone {
	for _, e := range w.effects {
		if b := &e.before; w.lsn != 0 && b.id != 0 && b.lsn != 0 && b.hi == 0 {
			gone = append(gone, soakGone{b.lsn, w.lsn - dyngo.LSN(len(w.changes)-1-e.change),
				int64(len(e.space.key(e.index))) + int64(b.size)})
		}
	}
	return gone
}

// undo takes the write back.
func (w *soakWrite) undo() {
	for _, e := range slices.Backward(w.effects) {
		e.space.put(e.index, e.before)
		e.space.first = min(e.space.first, e.index)
	}
}

// matches says whether what a read found is the cell.
func (c *soakCell) matches(p *soakPair, began, ended int64) error {
	seen := c.seen(began, ended)
	switch {
	case p.ID == 0 && seen == present:
		return errors.New("is absent")
	case p.ID == 0:
		return nil
	case seen == absent:
		return fmt.Errorf("is there, value %x of LSN %d", p.ID, p.LSN)
	case p.ID != c.id || p.Size != int(c.size):
		return fmt.Errorf("has value %x of %d bytes, LSN %d", p.ID, p.Size, p.LSN)
	case p.LSN != 0 && c.lsn != 0 && p.LSN != c.lsn:
		return fmt.Errorf("has LSN %d", p.LSN)
	}
	return nil
}

// check holds what a get found against the model.
func (s *soakSpace) check(i int, p *soakPair, began, ended int64) error {
	c := s.at(i)
	if err := c.matches(p, began, ended); err != nil {
		return fmt.Errorf("%s/%q %w, want %s", soakDatasets[s.dataset].name, s.key(i), err, c)
	}
	return nil
}

func (c *soakCell) String() string {
	if c.id == 0 {
		return "it absent"
	}
	return fmt.Sprintf("value %x of %d bytes, LSN %d, which ends between %d and %d", c.id, c.size, c.lsn, c.lo, c.hi)
}

// checkScan holds the pairs of a scan of the keys [from, to) against the model.
func (s *soakSpace) checkScan(from, to int, r *dyngo.Range, pairs []soakPair, began, ended int64) error {
	i, step := from, 1
	if r.Reverse {
		i, step = to-1, -1
	}
	left := pairs
	for ; i >= from && i < to && (len(left) > 0 || len(pairs) < r.Limit); i += step {
		c := s.at(i)
		seen := c.seen(began, ended)
		if seen == absent {
			continue
		}
		key := s.key(i)
		switch {
		case len(left) > 0 && string(left[0].Key) == string(key):
			p := left[0]
			if r.KeysOnly {
				p.ID, p.Size = c.id, int(c.size)
			}
			if err := s.check(i, &p, began, ended); err != nil {
				return err
			}
			left = left[1:]
		case seen == present && len(left) == 0:
			return fmt.Errorf("%s/%q is not given, nor is anything behind it, want %s", soakDatasets[s.dataset].name, key, c)
		case seen == present:
			return fmt.Errorf("%s/%q is not given, want %s; next is %q, LSN %d",
				soakDatasets[s.dataset].name, key, c, left[0].Key, left[0].LSN)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("%s/%q is given, LSN %d, and is not there", soakDatasets[s.dataset].name, left[0].Key, left[0].LSN)
	}
	return nil
}
