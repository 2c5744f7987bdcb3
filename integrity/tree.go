package integrity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// Dir is the folder of tree files in a store.
const Dir = "integrity"

const (
	treeMagic   = "DYNGOTRE"
	treeVersion = 1

	headerLen  = 64
	entryLen   = 44
	trailerLen = 36

	// DefaultHeight is the height of the subtree in one file: 65,536 frames.
	DefaultHeight = 16
	maxHeight     = 24

	flushBytes = 64 << 10 // entries are written in pieces of this size
)

// Options configure Open.
type Options struct {
	// LogID is that of the log; files of another are corruption.
	LogID [16]byte
	// ReadOnly opens what is there and changes nothing.
	ReadOnly bool
	// Height of the subtree in one file, for tests; default DefaultHeight. Files keep theirs.
	Height int
}

// Tree is the tree over the commit frames of a log, in files. One goroutine appends; everything else may be called at any
// time. What was appended is durable after Sync.
type Tree struct {
	fs   vfs.FS
	dir  string
	opts Options

	mu     sync.Mutex // guards the fields below; held during I/O
	height int
	roots  []Hash   // of the full files
	file   vfs.File // the last one; nil if all are full or there is none
	leaves []Hash   // in it
	last   event.LSN
	buf    []byte // entries that are not yet written
	at     int64  // where they go
	dirty  bool   // something is written and not synced
	torn   int64
	err    error // a failed sync: nothing can be appended any more
	cached struct {
		file   int64
		levels [][]Hash
	}
}

// ParseName takes the name of a tree file apart.
func ParseName(name string) (num int64, ok bool) {
	digits, ok := strings.CutSuffix(name, ".tree")
	if !ok || len(digits) != 10 {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, err == nil && n >= 0 && digits[0] != '+'
}

func treeName(num int64) string { return fmt.Sprintf("%010d.tree", num) }

func (t *Tree) path(num int64) string { return path.Join(t.dir, treeName(num)) }

// DisplayName of a tree file, relative to the store's directory.
func DisplayName(num int64) string { return Dir + "/" + treeName(num) }

// Open opens the tree in dir, creating the folder unless it is read-only. Damage is corruption that names file and offset. An
// unsound end of the last file, as a crash leaves it, is left out: see Torn.
func Open(fsys vfs.FS, dir string, o Options) (*Tree, error) {
	if o.Height == 0 {
		o.Height = DefaultHeight
	}
	t := &Tree{fs: fsys, dir: dir, opts: o, height: o.Height}
	t.cached.file = -1
	if !o.ReadOnly {
		if err := fsys.MkdirAll(dir); err != nil {
			return nil, err
		}
		if err := fsys.SyncDir(path.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
	}
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	var nums []int64
	for _, name := range names {
		if n, ok := ParseName(name); ok {
			nums = append(nums, n)
		}
	}
	for i, n := range nums {
		if n != int64(i) {
			return nil, corruption.At(DisplayName(int64(i)), 0, "the file is missing before %s", treeName(n))
		}
		if err := t.open(n, i+1 == len(nums)); err != nil {
			t.Close()
			return nil, err
		}
	}
	return t, nil
}

func (t *Tree) perFile() int64 { return 1 << t.height }

// open takes up one file.
func (t *Tree) open(num int64, last bool) error {
	openFile := t.fs.OpenRW
	if t.opts.ReadOnly || !last {
		openFile = t.fs.Open
	}
	f, err := openFile(t.path(num))
	if err != nil {
		return err
	}
	if err = t.checkHeader(f, num); err != nil {
		f.Close()
		return err
	}
	if !last {
		root, err := t.trailer(f, num)
		t.roots = append(t.roots, root)
		return errors.Join(err, f.Close())
	}
	t.file = f
	size, err := f.Size()
	if err != nil {
		return err
	}
	leaves, lsn, bad, err := t.read(f, num, t.perFile())
	if err != nil {
		return err
	}
	t.leaves, t.last = leaves, lsn
	t.at = headerLen + int64(len(leaves))*entryLen
	if bad != nil || len(leaves) < int(t.perFile()) {
		t.torn = size - t.at
	}
	if !t.opts.ReadOnly {
		// A process that was killed may not have synced it, nor its name, or have failed to: then no later sync writes what is there.
		t.dirty = true
		if err := errors.Join(vfs.WriteAgain(f, headerLen, t.at), t.fs.SyncDir(t.dir)); err != nil {
			return err
		}
	}
	if len(leaves) == 0 && num > 0 {
		prev, err := t.fs.Open(t.path(num - 1))
		if err != nil {
			return err
		}
		defer prev.Close() // only read from
		e, err := t.entry(prev, num-1, t.perFile()-1)
		if err != nil {
			return err
		}
		t.last = e.LSN
	}
	if len(leaves) == int(t.perFile()) {
		if _, err := t.trailer(f, num); err != nil {
			if !errors.Is(err, corruption.ErrCorrupt) {
				return err
			}
			t.torn = max(1, size-t.trailerAt()) // a crash came before it was whole
		}
		return t.fill()
	}
	if !t.opts.ReadOnly && t.torn > 0 {
		return f.Truncate(t.at)
	}
	return nil
}

func (t *Tree) header(num int64) []byte {
	b := make([]byte, headerLen)
	le := binary.LittleEndian
	copy(b, treeMagic)
	le.PutUint32(b[12:], treeVersion)
	copy(b[16:], t.opts.LogID[:])
	le.PutUint64(b[32:], uint64(num))
	b[40] = byte(t.height)
	le.PutUint32(b[8:], coding.CRC(b[12:]))
	return b
}

func (t *Tree) checkHeader(f vfs.File, num int64) error {
	name := DisplayName(num)
	b := make([]byte, headerLen)
	if err := readAt(f, b, 0, name); err != nil {
		return err
	}
	le := binary.LittleEndian
	switch {
	case string(b[:8]) != treeMagic:
		return corruption.At(name, 0, "tree file: magic %q", b[:8])
	case coding.CRC(b[12:]) != le.Uint32(b[8:]):
		return corruption.At(name, 8, "tree file header: crc %08x, want %08x", coding.CRC(b[12:]), le.Uint32(b[8:]))
	case le.Uint32(b[12:]) != treeVersion:
		return event.Unsupported("tree file version %d", le.Uint32(b[12:]))
	case [16]byte(b[16:32]) != t.opts.LogID:
		return corruption.At(name, 16, "tree file of log %x, not of %x", b[16:32], t.opts.LogID)
	case le.Uint64(b[32:]) != uint64(num):
		return corruption.At(name, 32, "tree file: the header is that of file %d", le.Uint64(b[32:]))
	case b[40] == 0 || b[40] > maxHeight || num > 0 && int(b[40]) != t.height:
		return corruption.At(name, 40, "tree file: height %d", b[40])
	case !coding.AllZero(b[41:]):
		return corruption.At(name, 41, "tree file header: reserved bytes are not zero")
	}
	t.height = int(b[40])
	return nil
}

func readAt(f vfs.File, b []byte, at int64, name string) error {
	n, err := f.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return corruption.At(name, at+int64(n), "tree file: it ends after %d bytes", at+int64(n))
	}
	return fmt.Errorf("read %s: %w", name, err)
}

// Entry is a leaf of the tree: the first LSN of a frame and its hash.
type Entry struct {
	LSN  event.LSN
	Hash Hash
}

// entryCRC covers the frame's index too, so that an entry is sound at its own place only.
func entryCRC(index int64, b []byte) uint32 {
	var i [8]byte
	binary.LittleEndian.PutUint64(i[:], uint64(index))
	return coding.UpdateCRC(coding.CRC(i[:]), b[:entryLen-4])
}

func parseEntry(b []byte, index int64) (Entry, bool) {
	e := Entry{LSN: event.LSN(binary.LittleEndian.Uint64(b)), Hash: Hash(b[8:40])}
	return e, binary.LittleEndian.Uint32(b[40:]) == entryCRC(index, b)
}

// read returns the hashes of the first n entries of a file, and the last one's LSN. It ends at the first that is unsound, which
// bad names.
func (t *Tree) read(f vfs.File, num, n int64) (leaves []Hash, last event.LSN, bad, err error) {
	size, err := f.Size()
	if err != nil {
		return nil, 0, nil, err
	}
	n = min(n, max(0, size-headerLen)/entryLen)
	b := make([]byte, min(n, 1024)*entryLen)
	for i := int64(0); i < n; {
		part := b[:min(int64(len(b)), (n-i)*entryLen)]
		if err := readAt(f, part, headerLen+i*entryLen, DisplayName(num)); err != nil {
			return nil, 0, nil, err
		}
		for ; len(part) > 0; part = part[entryLen:] {
			e, ok := parseEntry(part, num<<t.height+i)
			if !ok || e.LSN <= last {
				return leaves, last, corruption.At(DisplayName(num), headerLen+i*entryLen, "tree file: entry of frame %d is damaged",
					num<<t.height+i), nil
			}
			leaves, last = append(leaves, e.Hash), e.LSN
			i++
		}
	}
	return leaves, last, nil, nil
}

func (t *Tree) entry(f vfs.File, num, i int64) (Entry, error) {
	b := make([]byte, entryLen)
	at := headerLen + i*entryLen
	if err := readAt(f, b, at, DisplayName(num)); err != nil {
		return Entry{}, err
	}
	e, ok := parseEntry(b, num<<t.height+i)
	if !ok {
		return e, corruption.At(DisplayName(num), at, "tree file: entry of frame %d is damaged", num<<t.height+i)
	}
	return e, nil
}

func (t *Tree) trailerAt() int64 { return headerLen + t.perFile()*entryLen }

func trailerBytes(num int64, root Hash) []byte {
	b := append(make([]byte, 0, trailerLen), root[:]...)
	return binary.LittleEndian.AppendUint32(b, coding.CRC(append(b, treeName(num)...)))
}

func (t *Tree) trailer(f vfs.File, num int64) (Hash, error) {
	name := DisplayName(num)
	b := make([]byte, trailerLen)
	if err := readAt(f, b, t.trailerAt(), name); err != nil {
		return Hash{}, err
	}
	root := Hash(b[:32])
	if !slices.Equal(b, trailerBytes(num, root)) {
		return Hash{}, corruption.At(name, t.trailerAt(), "tree file: the trailer is damaged")
	}
	return root, nil
}

// Size is how many frames the tree has.
func (t *Tree) Size() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.size()
}

func (t *Tree) size() int64 { return int64(len(t.roots))<<t.height + int64(len(t.leaves)) }

// Last is the first LSN of the last frame, 0 if there is none.
func (t *Tree) Last() event.LSN {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// Torn is how many bytes at the end of the last file were unsound when it was opened; a crash leaves that.
func (t *Tree) Torn() int64 { return t.torn }

// Append adds the next frame. After an error, of a full disk for one, what was appended before is still there and Append
// may be called again.
func (t *Tree) Append(first event.LSN, leaf Hash) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	if first <= t.last {
		panic(fmt.Sprintf("dyngo: bug: frame of LSN %d after %d in the tree", first, t.last))
	}
	if t.file == nil {
		if err := t.create(); err != nil {
			return err
		}
	}
	if len(t.buf) >= flushBytes {
		if err := t.flush(); err != nil {
			return err
		}
	}
	if int64(len(t.leaves)) == t.perFile() { // it could not be filled up before
		if err := t.fill(); err != nil {
			return err
		}
		if err := t.create(); err != nil {
			return err
		}
	}
	at := len(t.buf)
	t.buf = append(binary.LittleEndian.AppendUint64(t.buf, uint64(first)), leaf[:]...)
	t.buf = binary.LittleEndian.AppendUint32(t.buf, entryCRC(t.size(), t.buf[at:at+entryLen-4:cap(t.buf)]))
	t.leaves, t.last = append(t.leaves, leaf), first
	if int64(len(t.leaves)) == t.perFile() {
		_ = t.fill() // the next Append or Sync tries again and tells
	}
	return nil
}

// create begins the next file. Its header is durable before an entry, so that an unsound one is damage.
func (t *Tree) create() error {
	num := int64(len(t.roots))
	tmp := t.path(num) + ".tmp"
	if err := t.fs.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := t.fs.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(t.header(num), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = t.fs.Rename(tmp, t.path(num))
	}
	if err == nil {
		err = t.fs.SyncDir(t.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	t.file, t.at = f, headerLen
	return nil
}

func (t *Tree) flush() error {
	if len(t.buf) == 0 {
		return nil
	}
	if _, err := t.file.WriteAt(t.buf, t.at); err != nil {
		return err
	}
	t.at += int64(len(t.buf))
	t.buf, t.dirty = t.buf[:0], true
	return nil
}

// fill ends a full file: its root goes behind the entries, durably, before the next file begins.
func (t *Tree) fill() error {
	num := int64(len(t.roots))
	root := levelsOf(t.leaves)[t.height][0]
	if !t.opts.ReadOnly {
		if err := t.flush(); err != nil {
			return err
		}
		if _, err := t.file.WriteAt(trailerBytes(num, root), t.trailerAt()); err != nil {
			return err
		}
		if err := t.sync(); err != nil {
			return err
		}
	}
	err := t.file.Close()
	t.roots, t.file, t.leaves, t.at = append(t.roots, root), nil, nil, 0
	return err
}

func (t *Tree) sync() error {
	if err := t.file.Sync(); err != nil {
		t.err = fmt.Errorf("sync %s: %w", DisplayName(int64(len(t.roots))), err)
		return t.err
	}
	t.dirty = false
	return nil
}

// Sync makes everything that was appended durable.
func (t *Tree) Sync() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil || t.file == nil {
		return t.err
	}
	if err := t.flush(); err != nil {
		return err
	}
	if int64(len(t.leaves)) == t.perFile() {
		return t.fill()
	}
	if !t.dirty {
		return nil
	}
	return t.sync()
}

// Close gives the files back; what was not synced may be lost with a power loss.
func (t *Tree) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return nil
	}
	var err error
	if t.err == nil && !t.opts.ReadOnly {
		err = t.flush()
	}
	err = errors.Join(err, t.file.Close())
	t.file = nil
	t.err = errors.New("integrity: the tree is closed")
	return err
}

// At returns an entry; i is below Size.
func (t *Tree) At(i int64) (Entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entryAt(i)
}

func (t *Tree) entryAt(i int64) (Entry, error) {
	num := i >> t.height
	if num == int64(len(t.roots)) && t.file != nil {
		if !t.opts.ReadOnly {
			if err := t.flush(); err != nil {
				return Entry{}, err
			}
		}
		return t.entry(t.file, num, i&(t.perFile()-1))
	}
	f, err := t.fs.Open(t.path(num))
	if err != nil {
		return Entry{}, err
	}
	defer f.Close() // only read from
	return t.entry(f, num, i&(t.perFile()-1))
}

// Find returns the index of the frame that holds an LSN, or the last one if the LSN is above it; -1 if all frames are above.
func (t *Tree) Find(lsn event.LSN) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lo, hi := int64(0), t.size()
	for lo < hi {
		mid := lo + (hi-lo)/2
		e, err := t.entryAt(mid)
		if err != nil {
			return 0, err
		}
		if e.LSN <= lsn {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1, nil
}

// Entries returns the entries of one file; those that are damaged are zero. It is for a reader of all.
func (t *Tree) Entries(num int64) ([]Entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, f := t.perFile(), t.file
	if num == int64(len(t.roots)) {
		n = int64(len(t.leaves))
	} else {
		var err error
		if f, err = t.fs.Open(t.path(num)); err != nil {
			return nil, err
		}
		defer f.Close() // only read from
	}
	b := make([]byte, n*entryLen) // some MiB at most
	if err := readAt(f, b, headerLen, DisplayName(num)); err != nil {
		return nil, err
	}
	entries := make([]Entry, n)
	for i := range entries {
		if e, ok := parseEntry(b[i*entryLen:], num<<t.height+int64(i)); ok {
			entries[i] = e
		}
	}
	return entries, nil
}

// End is where the entries of the last file end.
func (t *Tree) End() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return headerLen + int64(len(t.leaves))*entryLen
}

// FileOf is the file that a frame's entry is in, and its number there.
func (t *Tree) FileOf(i int64) (num, n int64) { return i >> t.height, i & (t.perFile() - 1) }

// Check reads every entry of every file and returns what is damaged; report is called for each entry that is sound, in order.
// The error is of the file system.
func (t *Tree) Check(report func(i int64, e Entry)) (defects []error, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := event.LSN(0)
	for num := int64(0); num <= int64(len(t.roots)); num++ {
		n, f := t.perFile(), t.file
		if num == int64(len(t.roots)) {
			if n = int64(len(t.leaves)); t.file == nil {
				break
			}
		} else if f, err = t.fs.Open(t.path(num)); err != nil {
			return defects, err
		}
		var sub Frontier
		for i := range n {
			e, err := t.entry(f, num, i)
			if err == nil && e.LSN <= last {
				err = corruption.At(DisplayName(num), headerLen+i*entryLen, "tree file: LSN %d after %d", e.LSN, last)
			}
			if err != nil {
				defects = append(defects, err)
				continue
			}
			last = e.LSN
			sub.Add(e.Hash)
			report(num<<t.height+i, e)
		}
		if f == t.file {
			continue
		}
		root, err := t.trailer(f, num)
		if err == nil && sub.n == uint64(n) && sub.Root() != root {
			err = corruption.At(DisplayName(num), t.trailerAt(), "tree file: the trailer is not the root of the entries")
		}
		if err != nil && (t.torn == 0 || num+1 < int64(len(t.roots))) { // a torn end is told by Torn
			defects = append(defects, err)
		}
		if size, err := f.Size(); err == nil && size != t.trailerAt()+trailerLen {
			defects = append(defects, corruption.At(DisplayName(num), t.trailerAt()+trailerLen, "tree file: bytes behind the end"))
		}
		if err := f.Close(); err != nil {
			return defects, err
		}
	}
	return defects, nil
}

// levelsOf returns the full nodes above some leaves, level by level.
func levelsOf(leaves []Hash) [][]Hash {
	levels := [][]Hash{leaves}
	for len(leaves) > 1 {
		up := make([]Hash, len(leaves)/2)
		for i := range up {
			up[i] = tlog.NodeHash(leaves[2*i], leaves[2*i+1])
		}
		levels, leaves = append(levels, up), up
	}
	return levels
}

// ReadHashes makes the tree a tlog.HashReader.
func (t *Tree) ReadHashes(indexes []int64) ([]Hash, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	hashes := make([]Hash, len(indexes))
	for i, index := range indexes {
		var err error
		if hashes[i], err = t.node(tlog.SplitStoredHashIndex(index)); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}

// node is the n-th full node of a level.
func (t *Tree) node(level int, n int64) (Hash, error) {
	if level >= t.height {
		roots := t.roots
		if int64(len(t.leaves)) == t.perFile() { // not yet filled up
			roots = append(slices.Clip(roots), levelsOf(t.leaves)[t.height][0])
		}
		from, to := n<<(level-t.height), (n+1)<<(level-t.height)
		if to > int64(len(roots)) {
			return Hash{}, fmt.Errorf("integrity: node %d of level %d is beyond the tree's %d frames", n, level, t.size())
		}
		var f Frontier
		for _, root := range roots[from:to] {
			f.Add(root)
		}
		return f.Root(), nil
	}
	num := n << level >> t.height
	leaves := t.leaves
	if num < int64(len(t.roots)) {
		if t.cached.file != num {
			if err := t.load(num); err != nil {
				return Hash{}, err
			}
		}
		return t.cached.levels[level][n-num<<(t.height-level)], nil
	}
	from := (n - num<<(t.height-level)) << level
	if from+1<<level > int64(len(leaves)) {
		return Hash{}, fmt.Errorf("integrity: node %d of level %d is beyond the tree's %d frames", n, level, t.size())
	}
	return levelsOf(leaves[from : from+1<<level])[level][0], nil
}

// load keeps the nodes of a full file.
func (t *Tree) load(num int64) error {
	f, err := t.fs.Open(t.path(num))
	if err != nil {
		return err
	}
	defer f.Close() // only read from
	leaves, _, bad, err := t.read(f, num, t.perFile())
	if err == nil {
		err = bad
	}
	if err == nil && int64(len(leaves)) < t.perFile() {
		err = corruption.At(DisplayName(num), headerLen+int64(len(leaves))*entryLen, "tree file: entries are missing")
	}
	if err != nil {
		return err
	}
	t.cached.file, t.cached.levels = num, levelsOf(leaves)
	return nil
}

// Root is the root of the tree of the first n frames.
func (t *Tree) Root(n int64) (Hash, error) { return tlog.TreeHash(n, t) }
