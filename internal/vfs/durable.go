package vfs

import "maps"

// This file holds what a memFS knows about durability. None of it does anything unless track is set.

// unsynced is what a file would need to be written. Guarded by fileData.mu.
type unsynced struct {
	blocks map[int64]*unsyncedBlock
	size   int64   // durable size
	sizes  []int64 // some of the sizes the file had since, at most maxSizes
	writes uint64  // calls so far, to draw from
}

const maxSizes = 8

// unsyncedBlock is a block that differs, or may differ, from what is durable.
type unsyncedBlock struct {
	durable *block // what is on disk for sure; nil is zeros
	lost    bool   // a failed sync was to write it: later ones take it for written, until it changes again
	between *block // an earlier unsynced content that the system may have written by itself; nil if none
}

// setEntry gives a name in a directory to an inode, or removes it (nil).
type setEntry struct {
	dir  *inode
	name string
	ino  *inode
}

// dirOp is one change of directories, kept or lost as a whole by a power cut.
type dirOp struct {
	dir  *inode // the directory whose sync makes it durable: of a rename, the new one's
	id   uint64 // to draw from
	sets []setEntry
}

// entriesOf chooses between the present entries of a directory, the durable ones, and copies.
type entriesOf func(dir *inode) map[string]*inode

func presentEntries(dir *inode) map[string]*inode { return dir.entries }
func durableEntries(dir *inode) map[string]*inode { return dir.durableEntries }

func (op *dirOp) apply(to entriesOf) {
	for _, s := range op.sets {
		if s.ino == nil {
			delete(to(s.dir), s.name)
		} else {
			to(s.dir)[s.name] = s.ino
		}
	}
}

// changeDir applies a change to the tree. mu is held for writing.
func (m *memFS) changeDir(dir *inode, sets ...setEntry) {
	dir.changes++
	op := dirOp{dir, draw(dir.id, dir.changes), sets}
	op.apply(presentEntries)
	if m.track {
		m.mu.pending = append(m.mu.pending, op)
	}
}

// makeEntriesDurable makes the pending changes of a directory durable. mu is held for writing.
func (m *memFS) makeEntriesDurable(dir *inode) {
	var rest []dirOp
	for i, taken := range withEarlier(m.mu.pending, func(op *dirOp) bool { return op.dir == dir }) {
		if taken {
			m.mu.pending[i].apply(durableEntries)
		} else {
			rest = append(rest, m.mu.pending[i])
		}
	}
	m.mu.pending = rest
}

// withEarlier marks the changes that chosen picks and each earlier one of the same names: without it, the later change
// could leave what never was, such as a name that was given to a file, moved on and is still there.
func withEarlier(ops []dirOp, chosen func(*dirOp) bool) []bool {
	type place struct {
		dir  *inode
		name string
	}
	needed := map[place]bool{}
	taken := make([]bool, len(ops))
	for i := len(ops) - 1; i >= 0; i-- {
		take := chosen(&ops[i])
		for _, s := range ops[i].sets {
			take = take || needed[place{s.dir, s.name}]
		}
		if !take {
			continue
		}
		taken[i] = true
		for _, s := range ops[i].sets {
			needed[place{s.dir, s.name}] = true
		}
	}
	return taken
}

// beforeWrite notes the content of block i before it changes. The file's lock is held.
func (m *memFS) beforeWrite(n *inode, i int64) {
	if !m.track {
		return
	}
	d, u := &n.file, &n.file.unsynced
	u.writes++
	var cur *blockRef
	if i < int64(len(d.blocks)) && d.blocks[i].data != nil {
		cur = &d.blocks[i]
	}
	b, ok := u.blocks[i]
	if !ok {
		if u.blocks == nil {
			u.blocks = map[int64]*unsyncedBlock{}
		}
		b = &unsyncedBlock{}
		if cur != nil {
			b.durable = cur.data
			cur.gen = 0 // never changed in place from here on
		}
		u.blocks[i] = b
		return
	}
	b.lost = false
	if cur != nil && draw(m.seed, n.id, u.writes)%4 == 0 {
		b.between = cur.data
		cur.gen = 0
	}
}

// beforeResize notes the size of a file before it changes. The file's lock is held.
func (m *memFS) beforeResize(n *inode) {
	if !m.track {
		return
	}
	d, u := &n.file, &n.file.unsynced
	u.writes++
	if len(u.sizes) < maxSizes {
		u.sizes = append(u.sizes, d.size)
	} else {
		u.sizes[draw(m.seed, n.id, u.writes)%maxSizes] = d.size
	}
}

// makeFileDurable is Sync, or SyncData without attributes. Only the former makes a shrinking durable: what the file
// had behind its present size may come back otherwise.
func (m *memFS) makeFileDurable(n *inode, attributes bool) {
	if !m.track {
		return
	}
	d, u := &n.file, &n.file.unsynced
	d.mu.Lock()
	defer d.mu.Unlock()
	u.sizes = u.sizes[:0]
	all := attributes || d.size >= u.size
	if all {
		u.size = d.size
	}
	maps.DeleteFunc(u.blocks, func(i int64, b *unsyncedBlock) bool {
		return !b.lost && (all || i*blockSize < d.size)
	})
}

// syncFailed does what systems do when a sync fails: what it was to write stays readable, but is not written by a
// later sync that succeeds.
func (f *memFile) syncFailed() {
	if !f.fs.track {
		return
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	d := &f.ino.file
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.unsynced.blocks {
		b.lost = true
	}
}

// cutWrite says how many of n bytes a write that is interrupted leaves.
func (m *memFS) cutWrite(ino *inode, n int) int {
	d := draw(m.seed, ino.id, ino.file.unsynced.writes, uint64(n))
	switch d % 4 {
	case 0:
		return 0
	case 1:
		return n
	default:
		return int(d / 4 % uint64(n+1))
	}
}

// draw is a random number that depends on nothing but its arguments, so that what one file meets does not depend on
// what other goroutines do to other files.
func draw(seed uint64, parts ...uint64) uint64 {
	h := mix(seed + 0x9e3779b97f4a7c15)
	for _, p := range parts {
		h = mix(h ^ mix(p+0x9e3779b97f4a7c15))
	}
	return h
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
