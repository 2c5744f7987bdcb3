package vfs

import (
	"fmt"
	"maps"
	"slices"
)

// Crash is a file system in memory that can tell what a crash at this moment would leave. It models a disk that does
// no more than it must:
//
//   - Of each 4 KiB block written since the last Sync or SyncData of its file, a power cut leaves the newest content, an
//     earlier one, or what was durable before, independently of the other blocks, so that a later write may be there
//     without an earlier one. Some blocks are torn: each 512-byte sector goes its own way.
//   - The size of a file is the durable one, the newest, or one in between, independently of the blocks. Where there is
//     size without content there are zeros.
//   - A change of a directory (Create, Link, Rename, Remove, a new directory) not followed by SyncDir is kept or lost,
//     independently of other names and of what the file holds. It is never split: a rename has happened or has not. A
//     change that is kept takes along earlier changes of the same names.
//   - A rename between directories is made durable by SyncDir of the new one.
//   - SyncData does not make a shrinking Truncate durable: the old size may come back, with zeros or old bytes behind.
//
// Everything drawn depends on seeds and on what was done to the file or directory in question, not on time and not on
// what goes on elsewhere: a test that makes the same calls in the same order gets the same result.
//
// One Crash can be crashed any number of times while it goes on being used, even by many goroutines: each crash returns
// a file system of its own that shares nothing with this one.
type Crash struct{ *memFS }

var _ FS = (*Crash)(nil)

// NewCrash returns an empty crash file system. Its root directory is durable.
func NewCrash(seed uint64) *Crash {
	m := newMem()
	m.track = true
	m.seed = seed
	m.gate.done = make(chan struct{})
	return &Crash{m}
}

// Keep says what a power cut leaves of what was not synced.
type Keep uint8

const (
	KeepSome Keep = iota // drawn from the seed
	KeepNone             // only what was synced
	KeepAll              // everything, as after an orderly end
)

// CrashOptions chooses one of the many things that a power cut can leave.
type CrashOptions struct {
	Seed    uint64 // the same seed at the same moment gives the same outcome
	Keep    Keep
	Garbage bool // a block that was never durable may hold anything instead of zeros
}

// PowerLoss returns what a power cut at this moment leaves. All of it is durable, and no lock is held.
func (c *Crash) PowerLoss(o CrashOptions) *Crash {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := newPowerCut(draw(c.seed, o.Seed), o)
	next := NewCrash(p.seed)
	durable := overlay{}
	for i, taken := range withEarlier(c.mu.pending, p.keepsEntry) {
		if taken {
			c.mu.pending[i].apply(durable.of)
		}
	}
	k := copier{made: map[*inode]*inode{}, cut: p, durable: durable.read}
	next.mu.root = k.inode(c.mu.root)
	next.mu.nextID = c.mu.nextID
	return next
}

// KillProcess returns what a killed process leaves: every byte it has written and every name, with what is not durable
// still at the mercy of a later PowerLoss. No lock is held.
func (c *Crash) KillProcess() *Crash {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := NewCrash(draw(c.seed, 'k'))
	k := copier{made: map[*inode]*inode{}}
	next.mu.root = k.inode(c.mu.root)
	next.mu.nextID = c.mu.nextID
	for _, op := range c.mu.pending {
		sets := make([]setEntry, len(op.sets))
		for i, s := range op.sets {
			sets[i] = setEntry{k.inode(s.dir), s.name, k.inode(s.ino)}
		}
		next.mu.pending = append(next.mu.pending, dirOp{k.inode(op.dir), op.id, sets})
	}
	return next
}

// Freeze makes every later call fail with ErrCrashed but for PowerLoss and KillProcess, as if the machine had stopped:
// goroutines still at work can change nothing any more.
func (c *Crash) Freeze() { c.gate.freeze() }

// CrashAt freezes the file system at the k-th mutating call from now, counting from 1. That call fails with ErrCrashed
// too: a write may have taken effect in part, a sync has not, other calls have. The channel is closed at that moment.
// Call it before the calls to be counted; a second CrashAt replaces the first, and k < 1 takes it back.
func (c *Crash) CrashAt(k int64) <-chan struct{} {
	if k < 1 {
		c.gate.at.Store(0)
	} else {
		c.gate.at.Store(c.gate.calls.Load() + k)
	}
	return c.gate.done
}

// Frozen returns a channel that is closed once the file system is frozen.
func (c *Crash) Frozen() <-chan struct{} { return c.gate.done }

// Mutations returns the number of calls so far that change files or directories or sync them.
func (c *Crash) Mutations() int64 { return c.gate.calls.Load() }

// Unsynced returns the names of all that a power cut at this moment could take back, sorted: files with content that
// is not durable, and directory entries that are not (the name followed by " (entry)").
func (c *Crash) Unsynced() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	dirs := map[*inode]string{}
	var names []string
	var walk func(prefix string, n *inode)
	walk = func(prefix string, n *inode) {
		dirs[n] = prefix
		for name, e := range n.entries {
			switch {
			case e.isDir():
				walk(prefix+name+"/", e)
			case e.file.isUnsynced():
				names = append(names, prefix+name)
			}
		}
	}
	walk("", c.mu.root)
	for _, op := range c.mu.pending {
		for _, s := range op.sets {
			if prefix, ok := dirs[s.dir]; ok { // else the directory itself is gone
				names = append(names, fmt.Sprintf("%s%s (entry)", prefix, s.name))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (d *fileData) isUnsynced() bool {
	return len(d.unsynced.blocks) > 0 || d.unsynced.size != d.size
}

// overlay is the durable entries of directories as they would be after some more changes.
type overlay map[*inode]map[string]*inode

func (o overlay) of(n *inode) map[string]*inode {
	if _, ok := o[n]; !ok {
		o[n] = maps.Clone(n.durableEntries)
	}
	return o[n]
}

func (o overlay) read(n *inode) map[string]*inode {
	if e, ok := o[n]; ok {
		return e
	}
	return n.durableEntries
}

// copier makes inodes anew for another file system, each once however many names it has.
type copier struct {
	made    map[*inode]*inode
	cut     *powerCut // nil copies everything as it is
	durable func(*inode) map[string]*inode
}

func (k *copier) inode(n *inode) *inode {
	if n == nil {
		return nil
	}
	if c, ok := k.made[n]; ok {
		return c
	}
	c := &inode{id: n.id, changes: n.changes}
	k.made[n] = c
	switch {
	case !n.isDir() && k.cut != nil:
		k.cut.copyFile(c, n)
	case !n.isDir():
		c.file.copyAll(&n.file)
	case k.cut != nil:
		c.entries = k.entries(k.durable(n))
		c.durableEntries = maps.Clone(c.entries)
	default:
		c.entries = k.entries(n.entries)
		c.durableEntries = k.entries(n.durableEntries)
	}
	return c
}

func (k *copier) entries(from map[string]*inode) map[string]*inode {
	to := make(map[string]*inode, len(from))
	for name, n := range from {
		to[name] = k.inode(n)
	}
	return to
}

// copyAll copies content and what is known of its durability. Nobody else uses either file: memFS.mu is held.
func (d *fileData) copyAll(from *fileData) {
	from.freeze()
	d.size, d.gen = from.size, from.gen
	d.blocks = slices.Clone(from.blocks)
	u := &from.unsynced
	d.unsynced = unsynced{size: u.size, sizes: slices.Clone(u.sizes), writes: u.writes}
	if len(u.blocks) > 0 {
		d.unsynced.blocks = make(map[int64]*unsyncedBlock, len(u.blocks))
		for i, b := range u.blocks {
			c := *b
			d.unsynced.blocks[i] = &c
		}
	}
}
