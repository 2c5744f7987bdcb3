package vfs

// sectorSize is what a disk writes whole or not at all.
const sectorSize = 512

// powerCut decides what is left of each thing that was not durable.
type powerCut struct {
	seed    uint64
	keep    Keep
	garbage bool

	// Chances in 256, drawn once for each power cut, so that among many there are some that leave nearly everything and
	// some that leave nearly nothing.
	entries, blocks, torn uint64
}

func newPowerCut(seed uint64, o CrashOptions) *powerCut {
	chances := [...]uint64{0, 16, 128, 128, 240, 256}
	pick := func(n uint64) uint64 { return chances[draw(seed, 'p', n)%uint64(len(chances))] }
	return &powerCut{
		seed: seed, keep: o.Keep, garbage: o.Garbage,
		entries: pick(1), blocks: pick(2), torn: draw(seed, 'p', 3) % 64,
	}
}

// chance draws once for the thing that parts name.
func (p *powerCut) chance(of256 uint64, parts ...uint64) bool {
	switch p.keep {
	case KeepNone:
		return false
	case KeepAll:
		return true
	}
	return draw(p.seed, parts...)%256 < of256
}

// keepsEntry says whether a change of a directory is left.
func (p *powerCut) keepsEntry(op *dirOp) bool {
	return p.chance(p.entries, 'e', op.id)
}

// copyFile gives c what a power cut leaves of n. Nobody else uses either: memFS.mu is held.
func (p *powerCut) copyFile(c, n *inode) {
	from, to := &n.file, &c.file
	from.freeze()
	to.gen = from.gen
	to.size = p.size(n)
	to.unsynced.size = to.size
	to.blocks = make([]blockRef, (to.size+blockSize-1)/blockSize)
	copy(to.blocks, from.blocks)
	for i, b := range from.unsynced.blocks {
		if i < int64(len(to.blocks)) {
			to.blocks[i] = blockRef{data: p.block(n.id, i, b, from.at(i))}
		}
	}
	if within := to.size % blockSize; within != 0 {
		if last := to.size / blockSize; to.blocks[last].data != nil {
			clear(to.mutable(last)[within:])
		}
	}
}

// size chooses among the durable size, the newest, those in between, and whole blocks in between.
func (p *powerCut) size(n *inode) int64 {
	d, u := &n.file, &n.file.unsynced
	if d.size == u.size && len(u.sizes) == 0 {
		return d.size
	}
	switch p.keep {
	case KeepNone:
		return u.size
	case KeepAll:
		return d.size
	}
	small, large := min(d.size, u.size), max(d.size, u.size)
	candidates := []int64{u.size, d.size, d.size}
	if blocks := (large - small) / blockSize; blocks > 0 {
		any := small/blockSize + 1 + int64(draw(p.seed, 's', n.id)%uint64(blocks))
		candidates = append(candidates, min(any*blockSize, large))
	}
	candidates = append(candidates, u.sizes...)
	return candidates[draw(p.seed, 'z', n.id)%uint64(len(candidates))]
}

// block chooses what is left of block i of a file.
func (p *powerCut) block(file uint64, i int64, b *unsyncedBlock, newest *block) *block {
	at := uint64(i)
	old := b.durable
	switch {
	case p.keep != KeepSome: // as it is
	case b.between != nil && draw(p.seed, 'b', file, at)%2 == 0:
		old = b.between
	case old == nil && p.garbage && draw(p.seed, 'g', file, at)%2 == 0:
		old = p.garbageBlock(file, at)
	}
	if p.keep == KeepSome && p.chance(p.torn, 't', file, at) {
		return p.tear(file, at, old, newest)
	}
	if p.chance(p.blocks, 'n', file, at) {
		return newest
	}
	return old
}

func (p *powerCut) garbageBlock(file, at uint64) *block {
	var g block
	for i := range g {
		g[i] = byte(draw(p.seed, 'G', file, at, uint64(i)))
	}
	return &g
}

// tear mixes two contents by sectors: the first few from one and the rest from the other, or each at random.
func (p *powerCut) tear(file, at uint64, old, newest *block) *block {
	t := *newest
	if old == nil {
		old = &zeroBlock
	}
	d := draw(p.seed, 'T', file, at)
	sectors := d >> 8
	if first := 1 + d%(blockSize/sectorSize-1); d>>7%2 == 0 {
		sectors = 1<<first - 1 // the write was under way in order
	}
	for s := range blockSize / sectorSize {
		if sectors>>s&1 == 0 {
			copy(t[s*sectorSize:(s+1)*sectorSize], old[s*sectorSize:])
		}
	}
	return &t
}
