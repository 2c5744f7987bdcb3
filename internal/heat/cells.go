package heat

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/dyngodb/dyngo/event"
)

// counts are numbers of operations by kind.
type counts [kinds]float64

func (c *counts) sum() (n float64) {
	for _, x := range c {
		n += x
	}
	return n
}

// cell is a key range of a dataset: from its own key to that of the next cell of the dataset.
type cell struct {
	dataset event.DatasetID
	from    []byte  // at most MaxKeyBytes+1; empty = from the first key on
	now     counts  // decayed
	begun   float64 // the same of scans that have begun here
	past    [Steps][kinds]float32
}

// compare is the order of cells.
func (c *cell) compare(ds event.DatasetID, key []byte) int {
	return cmp.Or(cmp.Compare(c.dataset, ds), bytes.Compare(c.from, key))
}

const (
	maxCells = 256
	// wantCells is how many cells would share the heat evenly: a cell with more than twice such a share is split, two
	// neighbours with less than one together are joined.
	wantCells = 128
	// maxPieces is into how many cells one is split at a time, minRecent how many recent keys each piece needs.
	maxPieces = 8
	minRecent = 4
)

// cells cover each dataset of which something is known, without gaps.
type cells struct {
	list  []*cell // in order
	spare []*cell // of cells that were joined
}

// find returns the index of the cell that has a key, or -1 if the dataset has none.
func (c *cells) find(ds event.DatasetID, key []byte) int {
	i, found := slices.BinarySearchFunc(c.list, key, func(x *cell, key []byte) int { return x.compare(ds, key) })
	if !found {
		i--
	}
	if i < 0 || c.list[i].dataset != ds {
		return -1
	}
	return i
}

// at is find that begins a dataset which has no cell.
func (c *cells) at(ds event.DatasetID, key []byte) int {
	if i := c.find(ds, key); i >= 0 {
		return i
	}
	if len(c.list) == maxCells {
		c.makeRoom()
	}
	i, _ := slices.BinarySearchFunc(c.list, ds, func(x *cell, ds event.DatasetID) int { return x.compare(ds, nil) })
	x := c.newCell()
	x.dataset = ds
	c.list = slices.Insert(c.list, i, x)
	return i
}

func (c *cells) newCell() *cell {
	if n := len(c.spare); n > 0 {
		x := c.spare[n-1]
		c.spare = c.spare[:n-1]
		*x = cell{from: x.from[:0]}
		return x
	}
	return &cell{}
}

// makeRoom gives up one cell: the coldest two neighbours become one, or, if all datasets have but one, the coldest goes.
func (c *cells) makeRoom() {
	pair, single := -1, 0
	for i := range c.list {
		if c.together(i) && (pair < 0 || c.both(i) < c.both(pair)) {
			pair = i
		}
		if c.list[i].now.sum() < c.list[single].now.sum() {
			single = i
		}
	}
	if pair >= 0 {
		c.join(pair)
	} else {
		c.remove(single)
	}
}

// together says whether cell i and the next one are neighbours.
func (c *cells) together(i int) bool {
	return i+1 < len(c.list) && c.list[i].dataset == c.list[i+1].dataset
}

// bounds are copies of where cell i begins and ends, nil = the open end.
func (c *cells) bounds(i int) (from, to []byte) {
	if c.together(i) {
		to = bytes.Clone(c.list[i+1].from)
	}
	return append([]byte{}, c.list[i].from...), to
}

// both is the heat of cell i and the next one.
func (c *cells) both(i int) float64 { return c.list[i].now.sum() + c.list[i+1].now.sum() }

// join makes one cell of cell i and the next one.
func (c *cells) join(i int) {
	x, y := c.list[i], c.list[i+1]
	x.begun += y.begun
	for k := range kinds {
		x.now[k] += y.now[k]
		for t := range Steps {
			x.past[t][k] += y.past[t][k]
		}
	}
	c.remove(i + 1)
}

func (c *cells) remove(i int) {
	c.spare = append(c.spare, c.list[i])
	c.list = slices.Delete(c.list, i, i+1)
}

// add counts operations on a key in a step.
func (c *cells) add(ds event.DatasetID, key []byte, k Kind, step int64, weight float64) {
	c.list[c.at(ds, key)].add(k, step, weight)
}

func (x *cell) add(k Kind, step int64, weight float64) {
	x.now[k] += weight
	x.past[step%Steps][k] += float32(weight)
}

// addScan counts scans in each cell from that of the first key on, as far as they have come.
func (c *cells) addScan(ds event.DatasetID, from, last []byte, reach Reach, step int64, weight float64) {
	i := c.at(ds, from)
	c.list[i].add(Scan, step, weight)
	c.list[i].begun += weight
	for ; c.together(i); i++ {
		if end := bytes.Compare(c.list[i+1].from, last); reach != ToEnd && (end > 0 || end == 0 && reach == Before) {
			return
		}
		c.list[i+1].add(Scan, step, weight)
	}
}

func (c *cells) decay(keep float64) {
	for _, x := range c.list {
		x.begun *= keep
		for k := range x.now {
			if x.now[k] *= keep; x.now[k] < 1e-6 {
				x.now[k] = 0
			}
		}
	}
}

// begin makes the steps after one up to another empty.
func (c *cells) begin(after, to int64) {
	for n := max(after+1, to-Steps+1); n <= to; n++ {
		for _, x := range c.list {
			x.past[n%Steps] = [kinds]float32{}
		}
	}
}

// arrange moves the boundaries to where the heat is.
func (c *cells) arrange(recent *recentKeys) {
	total := 0.0
	for _, x := range c.list {
		total += x.now.sum()
	}
	share := total / wantCells
	for limit := share; limit <= 8*share && total > 0; limit *= 2 {
		for i := len(c.list) - 2; i >= 0; i-- {
			if c.together(i) && c.both(i) < limit {
				c.join(i)
			}
		}
		if len(c.list) <= maxCells-2*maxPieces {
			break
		}
	}
	keys := recent.sorted()
	for i := len(c.list) - 1; i >= 0; i-- { // from behind, so that new cells are not looked at
		if heat := c.list[i].now.sum(); heat > 2*share {
			c.split(i, keys, int(heat/share))
		}
	}
}

// split cuts cell i into some pieces of about equal heat, where recent keys tell. A key that takes more than one piece gets a
// cell of its own.
func (c *cells) split(i int, keys []*recentKey, pieces int) {
	x, next := c.list[i], []byte(nil)
	keys = keys[firstRecent(keys, x.dataset, x.from):]
	if c.together(i) {
		next = c.list[i+1].from
		keys = keys[:firstRecent(keys, x.dataset, next)]
	} else {
		keys = keys[:firstRecent(keys, x.dataset+1, nil)]
	}
	pieces = min(pieces, maxPieces, len(keys)/minRecent)
	var bounds [][]byte
	last := x.from
	for p := 1; p < pieces; p++ {
		k := keys[p*len(keys)/pieces]
		bound := k.bytes()
		if bytes.Compare(bound, last) <= 0 {
			bound = k.after()
		}
		if bytes.Compare(bound, last) > 0 && (next == nil || bytes.Compare(bound, next) < 0) {
			bounds, last = append(bounds, bound), bound
		}
	}
	for _, bound := range slices.Backward(bounds) {
		if len(c.list) == maxCells {
			return
		}
		at := firstRecent(keys, x.dataset, bound)
		c.cut(i, bound, float64(len(keys)-at)/float64(max(len(keys), 1)))
		keys = keys[:at]
	}
}

// cut makes a cell of its own of what cell i has from a key on: that share of its counts.
func (c *cells) cut(i int, from []byte, share float64) {
	x, y := c.list[i], c.newCell()
	y.dataset, y.from = x.dataset, append(y.from, from...)
	y.begun = x.begun * share
	x.begun -= y.begun
	for k := range kinds {
		y.now[k] = x.now[k] * share
		x.now[k] -= y.now[k]
		for t := range Steps {
			y.past[t][k] = x.past[t][k] * float32(share)
			x.past[t][k] -= y.past[t][k]
		}
	}
	c.list = slices.Insert(c.list, i+1, y)
}

// recentKeys are the keys sampled last.
type recentKeys struct {
	ring  [1024]recentKey
	n     int // added so far
	order []*recentKey
}

type recentKey struct {
	dataset event.DatasetID
	n       uint8
	cut     bool // the key was longer
	key     [MaxKeyBytes]byte
}

func (k *recentKey) bytes() []byte { return k.key[:k.n] }

// after is the smallest key behind all that the recent key stands for, nil if there is none.
func (k *recentKey) after() []byte {
	if !k.cut {
		return append(bytes.Clone(k.bytes()), 0)
	}
	for i := int(k.n) - 1; i >= 0; i-- {
		if k.key[i] != 0xff {
			b := bytes.Clone(k.key[:i+1])
			b[i]++
			return b
		}
	}
	return nil
}

func (r *recentKeys) add(ds event.DatasetID, key []byte, cut bool) {
	k := &r.ring[r.n%len(r.ring)]
	k.dataset, k.cut, k.n = ds, cut, uint8(copy(k.key[:], key))
	r.n++
}

// sorted lists the keys in order. The slice is used again.
func (r *recentKeys) sorted() []*recentKey {
	r.order = r.order[:0]
	for i := range min(r.n, len(r.ring)) {
		r.order = append(r.order, &r.ring[i])
	}
	slices.SortFunc(r.order, func(a, b *recentKey) int {
		return cmp.Or(cmp.Compare(a.dataset, b.dataset), bytes.Compare(a.bytes(), b.bytes()))
	})
	return r.order
}

// firstRecent is the index of the first key from one of a dataset on.
func firstRecent(keys []*recentKey, ds event.DatasetID, key []byte) int {
	i, _ := slices.BinarySearchFunc(keys, key, func(k *recentKey, key []byte) int {
		return cmp.Or(cmp.Compare(k.dataset, ds), bytes.Compare(k.bytes(), key))
	})
	return i
}
