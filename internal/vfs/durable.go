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
	sets []setEntry
}

// changeDir applies a change to the tree. mu is held for writing.
func (m *memFS) changeDir(dir *inode, sets ...setEntry) {
	for _, s := range sets {
		s.apply(func(n *inode) map[string]*inode { return n.entries })
	}
	if m.track {
		m.mu.pending = append(m.mu.pending, dirOp{dir, sets})
	}
}

func (s setEntry) apply(entries func(*inode) map[string]*inode) {
	if s.ino == nil {
		delete(entries(s.dir), s.name)
	} else {
		entries(s.dir)[s.name] = s.ino
	}
}

// makeEntriesDurable makes the pending changes durable that chosen picks, and each earlier one about the same names:
// without it, a later change could bring back what the earlier one had replaced. mu is held for writing.
func (m *memFS) makeEntriesDurable(chosen func(*dirOp) bool) {
	type place struct {
		dir  *inode
		name string
	}
	needed := map[place]bool{}
	taken := make([]bool, len(m.mu.pending))
	for i := len(m.mu.pending) - 1; i >= 0; i-- {
		op := &m.mu.pending[i]
		take := chosen(op)
		for _, s := range op.sets {
			take = take || needed[place{s.dir, s.name}]
		}
		if !take {
			continue
		}
		taken[i] = true
		for _, s := range op.sets {
			needed[place{s.dir, s.name}] = true
		}
	}
	var rest []dirOp
	for i, op := range m.mu.pending {
		if !taken[i] {
			rest = append(rest, op)
			continue
		}
		for _, s := range op.sets {
			s.apply(func(n *inode) map[string]*inode { return n.durableEntries })
		}
	}
	m.mu.pending = rest
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
	d.freeze()
	u.sizes = u.sizes[:0]
	if attributes || d.size >= u.size {
		clear(u.blocks)
		u.size = d.size
		return
	}
	maps.DeleteFunc(u.blocks, func(i int64, _ *unsyncedBlock) bool { return i*blockSize < d.size })
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
