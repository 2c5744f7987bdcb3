package heat

import "github.com/dyngodb/dyngo/event"

// maxKeys is how many keys are watched: one with a larger share of all operations than 1/maxKeys is among them (Metwally,
// Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data Streams, 2005).
const maxKeys = 1024

// topKeys are the hottest keys, by Space-Saving: a key that is not watched takes the place of the coldest one, with its count
// as the most that it may have had before. That count only decides who stays; own is what was seen since.
type topKeys struct {
	index map[keyID]int16 // of watched
	list  []watched
	heap  []int16 // of watched, the coldest first
}

type keyID struct {
	dataset event.DatasetID
	hash    uint64
}

type watched struct {
	id    keyID
	place int16 // in the heap
	n     uint8
	cut   bool // the key is longer
	total float64
	own   counts
	key   [MaxKeyBytes]byte
}

func (t *topKeys) init() {
	t.index, t.list, t.heap = make(map[keyID]int16, maxKeys), make([]watched, 0, maxKeys), make([]int16, 0, maxKeys)
}

func (t *topKeys) add(sl *slot, weight float64) {
	id := keyID{sl.dataset, sl.hash}
	i, ok := t.index[id]
	switch {
	case ok:
	case len(t.list) < maxKeys:
		i = int16(len(t.list))
		t.list = append(t.list, watched{place: i})
		t.heap = append(t.heap, i)
		t.up(len(t.heap) - 1)
		t.watch(i, id, sl)
	default:
		i = t.heap[0]
		delete(t.index, t.list[i].id)
		t.watch(i, id, sl)
	}
	w := &t.list[i]
	w.total += weight
	w.own[sl.kind] += weight
	t.down(int(w.place))
}

// watch gives a place to another key.
func (t *topKeys) watch(i int16, id keyID, sl *slot) {
	w := &t.list[i]
	w.id, w.own, w.cut, w.n = id, counts{}, sl.cut, uint8(copy(w.key[:], sl.key[:sl.n]))
	t.index[id] = i
}

func (t *topKeys) total(place int) float64 { return t.list[t.heap[place]].total }

func (t *topKeys) swap(a, b int) {
	t.heap[a], t.heap[b] = t.heap[b], t.heap[a]
	t.list[t.heap[a]].place, t.list[t.heap[b]].place = int16(a), int16(b)
}

func (t *topKeys) up(i int) {
	for ; i > 0 && t.total(i) < t.total((i-1)/2); i = (i - 1) / 2 {
		t.swap(i, (i-1)/2)
	}
}

func (t *topKeys) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(t.heap); c++ {
			if t.total(c) < t.total(least) {
				least = c
			}
		}
		if least == i {
			return
		}
		t.swap(i, least)
		i = least
	}
}

// decay changes no order.
func (t *topKeys) decay(keep float64) {
	for i := range t.list {
		w := &t.list[i]
		w.total *= keep
		for k := range w.own {
			w.own[k] *= keep
		}
	}
}
