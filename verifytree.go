package dyngo

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"runtime"
	"slices"
	"strconv"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

// Anchor is a tree head with the place where it was kept.
type Anchor struct {
	integrity.Head
	Source string // for messages, like "heads.txt, head 3"
}

// AnchorResult says what became of the comparison with a head.
type AnchorResult struct {
	Anchor
	Inside bool  // the store has kept it itself: who can change the log can change it too
	Err    error // nil = the log up to it is the one that the head stands for
}

// TreeReport is what a verification found out about the tree over the log.
type TreeReport struct {
	Head     integrity.Head // of the log as it is now, computed from it, without a time; its size is 0 if it can't be
	Frames   int64          // whose hashes were computed from the log
	Kept     int64          // frames before them, in dropped log files: the tree files' hashes stand for them
	Gone     int64          // frames of the log that refer to what was dropped or redacted: the same
	Stored   int64          // frames in the tree files; fewer than in the log while the tree is behind
	Torn     int64          // bytes at the end of the last tree file that a crash has left
	Anchors  []AnchorResult // heads that the log was compared with
	Sealed   int            // segments and value files whose logged hashes are theirs
	Unsealed int            // those whose hash is in no log file that is left
	Defects  int            // of the report's, how many were found at this level
}

// Outside says how many heads from outside of the store agreed with the log.
func (r *TreeReport) Outside() (n int) {
	for _, a := range r.Anchors {
		if !a.Inside && a.Err == nil {
			n++
		}
	}
	return n
}

// treeCheck is the work at LevelTree: it adds up the frames as the log's check comes by them.
type treeCheck struct {
	*verification
	t       *integrity.Tree // nil = the store has none that can be read
	files   *wal.Files      // what events refer to
	src     *integrity.Source
	records *recorder
	r       *TreeReport
	defects []error
	root    integrity.Frontier
	n       int64             // frames in root
	bySize  map[int64][]int   // indexes of r.Anchors
	agreed  int64             // frames of the newest head that agreed
	last    LSN               // of the frames in root
	first   string            // where the first frame behind the newest head that agreed lies: file
	firstAt int64             // and offset
	file    int64             // whose entries are in entries
	entries []integrity.Entry // of one tree file
	sealed  map[string][32]byte
	logged  map[string][]byte
	begun   bool // a frame was added
	over    bool // no more frames are added
	lost    bool // the tree files and the log have no common frames any more
	early   bool // it is over at a value that was redacted: what stands for it comes later in the log
}

// newTreeCheck begins to compute the tree anew from the stored bytes, to compare it with the tree files and with heads, and the hashes
// of segments with those that were logged. redacted is as in integrity.Source, nil while it is not known.
func (v *verification) newTreeCheck(m *manifest.Version, o *VerifyOptions, redacted func(LSN) (integrity.Hash, bool, error)) (*treeCheck, error) {
	dir := path.Join(v.dir, "wal")
	c := &treeCheck{verification: v, r: &TreeReport{}, bySize: map[int64][]int{}, file: -1, logged: map[string][]byte{}}
	v.report.Tree, c.sealed = c.r, sealedFiles(m)
	c.files = wal.OpenFiles(v.fs, dir)
	c.files.Drop(m.OldestLog)
	c.files.Move(valueInfosIn(path.Join(v.dir, manifest.Dir), m.Values))
	c.src = leafSource(c.files, redacted)
	read := c.src.Piece
	c.src.Piece = func(p event.Piece) ([]byte, error) {
		if err := v.ctx.Err(); err != nil { // large values take long
			return nil, err
		}
		return read(p)
	}
	c.records = newRecorder(runtime.GOMAXPROCS(0), c.src, c.frame)
	if err := c.open(dir, o); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// open takes up the heads first, then the tree; the log is read then. Beside an owner each has at least what the one before promises.
func (c *treeCheck) open(dir string, o *VerifyOptions) error {
	id, err := wal.ReadLogID(c.fs, dir)
	if err != nil {
		c.over = true
		if errors.Is(err, io.ErrUnexpectedEOF) || isMissing(err) {
			return nil // there is no log, or its end is missing, which is told with it
		}
		return c.note(err)
	}
	c.r.Head.Origin = integrity.Origin(id)
	if err := c.anchors(o); err != nil {
		return err
	}
	t, err := integrity.Open(c.fs, path.Join(c.dir, integrity.Dir), integrity.Options{LogID: id, ReadOnly: true})
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return c.note(err)
	}
	c.t, c.r.Stored, c.r.Torn = t, t.Size(), t.Torn()
	defects, err := t.Check(func(int64, integrity.Entry) {})
	for _, d := range defects {
		if err := c.note(d); err != nil {
			return err
		}
	}
	return err
}

// commit takes a frame of the log, in order.
func (c *treeCheck) commit(f *wal.Frame) error {
	if c.over {
		return nil
	}
	return c.records.add(f)
}

// close ends what works for it.
func (c *treeCheck) close() {
	c.records.close()
	c.files.Close() // only read from
	if c.t != nil {
		c.t.Close() // only read from
	}
}

// note takes up damage, and returns any other error.
func (c *treeCheck) note(err error) error {
	if !isDamage(err) {
		return err
	}
	c.defects = append(c.defects, err)
	return nil
}

// finish compares what goes on behind the end of the log, after all frames. What the log's own check has told is not told again.
func (c *treeCheck) finish(log *wal.VerifyReport) {
	if c.r.Head.Origin != "" {
		c.lost = c.lost || log.Broken // what lies behind damage is not known
		c.unmet(log.Tail)
		if c.lost || c.report.OldestLog > 0 && c.r.Stored == 0 {
			c.n = 0 // a head of what is left would not be one of the log
		}
		c.r.Head.Size, c.r.Head.Root, c.r.Head.LSN = c.n, c.root.Root(), c.last
		c.hashes()
	}
	c.defects = slices.DeleteFunc(c.defects, func(d error) bool { return hasDefect(log.Defects, d) })
	c.r.Defects = len(c.defects)
}

// anchors takes up the heads to compare with.
func (c *treeCheck) anchors(o *VerifyOptions) error {
	add := func(a AnchorResult) {
		if a.Origin != c.r.Head.Origin {
			a.Err = corruption.At(a.Source, 0, "%s is of another log: %s, not %s", a.String(), a.Origin, c.r.Head.Origin)
			c.defects = append(c.defects, a.Err)
		} else if a.Size > 0 {
			c.bySize[a.Size] = append(c.bySize[a.Size], len(c.r.Anchors))
		}
		c.r.Anchors = append(c.r.Anchors, a)
	}
	for _, a := range o.Heads {
		add(AnchorResult{Anchor: a})
	}
	name := path.Join(integrity.Dir, integrity.HeadsName)
	data, err := c.fs.ReadFile(headsName(c.dir), integrity.MaxHeadsBytes)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	heads, torn, err := o.Key.ParseHeads(data)
	if err == nil && torn {
		err = errors.New("the last head is not whole")
	}
	if err != nil {
		c.defects = append(c.defects, &corruption.Error{File: name, What: "kept tree heads", Err: err})
	}
	for i, h := range heads {
		add(AnchorResult{Anchor: Anchor{h, name + ", head " + strconv.Itoa(i+1)}, Inside: true})
	}
	return nil
}

// begin finds the log's first frame in the tree files, whose hashes stand for those before.
func (c *treeCheck) begin(f *wal.Frame) {
	if c.t == nil || c.t.Size() == 0 {
		return
	}
	i, err := c.t.Find(f.BaseLSN)
	var e integrity.Entry
	if err == nil && i >= 0 {
		e, err = c.t.At(i)
	}
	if err != nil {
		c.lost = true // the damaged entry was told
		return
	}
	if i < 0 || e.LSN != f.BaseLSN && i+1 < c.t.Size() {
		c.lost = true
		c.defects = append(c.defects, corruption.At(f.Name, f.Offset,
			"the log begins with the frame of LSN %d, which the tree files do not have", f.BaseLSN))
		return
	}
	if e.LSN != f.BaseLSN {
		i++
	}
	for c.r.Kept = i; c.n < i; {
		e := c.entry(c.n)
		next := f.BaseLSN
		if c.n+1 < c.t.Size() {
			next = c.entry(c.n + 1).LSN
		}
		c.add(e.Hash, next-1)
	}
}

// entry is that of a frame in the tree files, zero if it is damaged or missing.
func (c *treeCheck) entry(i int64) integrity.Entry {
	if c.t == nil || i >= c.t.Size() {
		return integrity.Entry{}
	}
	num, n := c.t.FileOf(i)
	if num != c.file {
		var err error
		if c.entries, err = c.t.Entries(num); err != nil {
			c.entries = nil // told by Check
		}
		c.file = num
	}
	if n >= int64(len(c.entries)) {
		return integrity.Entry{}
	}
	return c.entries[n]
}

// frame adds a frame's record, and holds it against that in the tree files.
func (c *treeCheck) frame(f *recorded) error {
	if c.over {
		return nil
	}
	if errors.Is(f.err, integrity.ErrRedacted) && c.src.Redacted == nil {
		c.early, c.over = true, true
		return nil
	}
	if !c.begun {
		c.begun = true
		c.begin(&f.Frame)
	}
	r, err := f.record, f.err
	for _, s := range f.sealed {
		if c.sealed[s.name] != [32]byte{} {
			c.logged[s.name] = s.hash
		}
	}
	gone := errors.Is(err, wal.ErrDropped) || errors.Is(err, integrity.ErrRedacted)
	if err != nil && !gone {
		c.lost, c.over = true, true // what lies behind damage is not known
		return c.note(err)
	}
	if c.first == "" {
		c.first, c.firstAt = f.Name, f.Offset
	}
	h, e := r.Hash(), c.entry(c.n)
	switch {
	case e.LSN == 0: // not in the tree files, or damaged, which was told
	case e.LSN != f.BaseLSN && !c.lost:
		c.lost = true
		c.defects = append(c.defects, integrity.Mismatch(&f.Frame, c.n))
	case gone:
		h = e.Hash
		c.r.Gone++
	case e.Hash != h && !c.lost:
		c.defects = append(c.defects, integrity.Mismatch(&f.Frame, c.n))
	}
	c.r.Frames++
	c.add(h, f.BaseLSN+LSN(f.Count)-1)
	return nil
}

// add takes the next frame into the root, and compares it with the heads of its size.
func (c *treeCheck) add(h integrity.Hash, last LSN) {
	c.root.Add(h)
	c.n++
	c.last = last
	ok := true
	for _, i := range c.bySize[c.n] {
		a := &c.r.Anchors[i]
		switch {
		case a.Root != c.root.Root():
			ok = false
			a.Err = corruption.At(c.place(), c.firstAt, "the log differs from the %s (%s), between the frames %d and %d, LSN %d at the latest",
				a.String(), a.Source, c.agreed+1, c.n, last)
		case a.LSN != last:
			a.Err = corruption.At(a.Source, 0, "%s says LSN %d for the frame that ends with LSN %d", a.String(), a.LSN, last)
		default:
			continue
		}
		c.defects = append(c.defects, a.Err)
	}
	if len(c.bySize[c.n]) > 0 && ok {
		c.agreed, c.first = c.n, ""
	}
}

// place is the file where the first frame behind the newest head that agreed lies.
func (c *treeCheck) place() string {
	if c.first != "" {
		return c.first
	}
	return integrity.DisplayName(0)
}

// unmet says of heads and tree files that go on behind the end of the log that it was cut.
func (c *treeCheck) unmet(end wal.Tail) {
	name := "wal/" + wal.FileName(end.File, end.FirstLSN)
	for i := range c.r.Anchors {
		a := &c.r.Anchors[i]
		if a.Err != nil || a.Size <= c.n {
			continue
		}
		if c.lost {
			a.Err = fmt.Errorf("%s (%s) was not compared: the damage lies before it", a.String(), a.Source)
			continue
		}
		a.Err = corruption.At(name, end.End, "the log ends here with %d frames and LSN %d; the %s (%s) has more: events are missing",
			c.n, c.last, a.String(), a.Source)
		c.defects = append(c.defects, a.Err)
	}
	switch {
	case c.t == nil || c.lost:
	case c.t.Size() > c.n:
		c.defects = append(c.defects, corruption.At(name, end.End,
			"the log ends here with %d frames and LSN %d; the tree files have %d frames: events are missing", c.n, c.last, c.t.Size()))
	}
	// A tree file that ends before a kept head was cut: what the head has was durable.
	kept := int64(0)
	for _, a := range c.r.Anchors {
		if a.Inside {
			kept = max(kept, a.Size)
		}
	}
	if kept > c.r.Stored {
		num, at := int64(0), int64(0)
		if c.t != nil {
			num, _ = c.t.FileOf(c.t.Size())
			at = c.t.End()
		}
		c.defects = append(c.defects, corruption.At(integrity.DisplayName(num), at,
			"the tree files have %d frames, the newest kept head %d: they were cut or are missing", c.r.Stored, kept))
	}
}

// hashes compares the hashes of segments and value files with those that were logged.
func (c *treeCheck) hashes() {
	for _, name := range slices.Sorted(maps.Keys(c.sealed)) {
		hash := c.sealed[name]
		logged, ok := c.logged[name]
		switch {
		case !ok:
			c.r.Unsealed++
		case string(logged) != string(hash[:]):
			c.defects = append(c.defects, corruption.At(name, 0, "its hash is %x, the log says %x", hash[:8], logged))
		default:
			c.r.Sealed++
		}
	}
}
