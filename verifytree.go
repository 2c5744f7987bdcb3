package dyngo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
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

// treeCheck is the work at LevelTree.
type treeCheck struct {
	*verification
	t       *integrity.Tree // nil = the store has none that can be read
	r       *TreeReport
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
	lost    bool // the tree files and the log have no common frames any more
}

// tree computes the tree anew from the stored bytes and compares it with the tree files, with heads, and the hashes of segments
// with those that were logged. It does so again if an owner has dropped log files meanwhile.
func (v *verification) tree(o *VerifyOptions) error {
	for try := 0; ; try++ {
		m, err := v.version()
		if err != nil {
			return err
		}
		told := len(v.report.Defects)
		if err := v.treeOnce(o, m); err != nil {
			return err
		}
		v.report.Tree.Defects = len(v.report.Defects) - told
		if v.report.Tree.Defects == 0 || try == maxVerifyTries {
			return nil
		}
		now, err := v.version()
		if err != nil || now.OldestLog == m.OldestLog {
			return err
		}
		v.report.Defects = v.report.Defects[:told]
	}
}

func (v *verification) treeOnce(o *VerifyOptions, m *manifest.Version) error {
	c := &treeCheck{verification: v, r: &TreeReport{}, bySize: map[int64][]int{}, file: -1, logged: map[string][]byte{}}
	v.report.Tree = c.r
	c.sealed = sealedFiles(m)
	id, err := wal.ReadLogID(v.fs, path.Join(v.dir, "wal"))
	if err != nil {
		if err == io.ErrUnexpectedEOF || errors.Is(err, io.ErrUnexpectedEOF) || isMissing(err) {
			return nil // there is no log, or its end is missing, which was told
		}
		return v.defect(err)
	}
	c.r.Head.Origin = integrity.Origin(id)
	// The heads first, then the tree, then the log: beside an owner each has at least what the one before promises.
	if err := c.anchors(o); err != nil {
		return err
	}
	if err := c.open(id); err != nil {
		return err
	}
	if c.t != nil {
		defer c.t.Close() // only read from
	}
	files := wal.OpenFiles(v.fs, path.Join(v.dir, "wal"))
	defer files.Close() // only read from
	files.Drop(m.OldestLog)
	files.Move(valueInfosIn(path.Join(v.dir, manifest.Dir), m.Values))
	end, err := c.scan(m.OldestLog, leafSource(files, redactedIn(v.report.Log.Redactions)))
	if err != nil {
		return err
	}
	c.unmet(end)
	if c.lost || m.OldestLog > 0 && c.r.Stored == 0 {
		c.n = 0 // a head of what is left would not be one of the log
	}
	c.r.Head.Size, c.r.Head.Root, c.r.Head.LSN = c.n, c.root.Root(), c.last
	c.hashes()
	return nil
}

// open opens the tree files and checks each entry.
func (c *treeCheck) open(id [16]byte) error {
	t, err := integrity.Open(c.fs, path.Join(c.dir, integrity.Dir), integrity.Options{LogID: id, ReadOnly: true})
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return c.defect(err)
	}
	c.t, c.r.Stored, c.r.Torn = t, t.Size(), t.Torn()
	defects, err := t.Check(func(int64, integrity.Entry) {})
	for _, d := range defects {
		if err := c.defect(d); err != nil {
			return err
		}
	}
	return err
}

// anchors takes up the heads to compare with.
func (c *treeCheck) anchors(o *VerifyOptions) error {
	add := func(a AnchorResult) {
		if a.Origin != c.r.Head.Origin {
			a.Err = corruption.At(a.Source, 0, "%s is of another log: %s, not %s", a.String(), a.Origin, c.r.Head.Origin)
			c.report.Defects = append(c.report.Defects, a.Err)
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
		c.report.Defects = append(c.report.Defects, &corruption.Error{File: name, What: "kept tree heads", Err: err})
	}
	for i, h := range heads {
		add(AnchorResult{Anchor: Anchor{h, name + ", head " + strconv.Itoa(i+1)}, Inside: true})
	}
	return nil
}

// scan adds up the frames of the log, and says where it ends. Their records are computed by as many goroutines as there are
// processors, some frames ahead of where they are added up.
func (c *treeCheck) scan(oldest uint64, src *integrity.Source) (wal.Tail, error) {
	s, err := wal.NewScanner(c.fs, path.Join(c.dir, "wal"), wal.ScanOptions{ReadOnly: true, FromFile: oldest})
	if err != nil {
		c.lost = true
		return wal.Tail{}, c.defect(err)
	}
	defer s.Close() // only read from
	workers := runtime.GOMAXPROCS(0)
	work := make(chan *recording, 2*workers)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for r := range work {
				r.compute(src)
			}
		})
	}
	defer group.Wait()
	defer close(work)
	var ahead []*recording // handed out, the oldest first
	next := newRecording()
	// add takes up what is ahead but for some, and then what next has.
	add := func(but int) error {
		for len(ahead) > but {
			r := ahead[0]
			ahead = ahead[1:]
			<-r.done
			for i := range r.frames {
				if err := c.frame(&r.frames[i]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	hand := func() {
		ahead = append(ahead, next)
		work <- next
		next = newRecording()
	}
	for {
		if err := c.ctx.Err(); err != nil {
			return wal.Tail{}, err
		}
		f, err := s.Next()
		if err != nil { // the end, or damage, behind what was read
			hand()
			if before := add(0); before != nil {
				err = before
			} else if err == io.EOF {
				return s.Tail(), nil
			}
		} else if f.Kind == wal.KindCommit && next.add(f) {
			hand()
			err = add(2*workers - 1)
		}
		if err != nil {
			c.lost = true // what lies behind damage is not known
			return s.Tail(), c.defect(err)
		}
		c.tell(c.done+s.Bytes(), c.done+c.report.Log.Bytes)
	}
}

// recording is frames whose records are computed.
type recording struct {
	frames []recorded
	bodies []byte
	done   chan struct{}
}

// recorded is a frame with its record and the hashes of segments that its events tell.
type recorded struct {
	wal.Frame
	from, to int // of its body in bodies
	record   integrity.Record
	sealed   []sealedHash
	err      error
}

type sealedHash struct {
	name string
	hash []byte
}

// recordingBytes is how many bytes of frames are handed out at once, so that handing out costs little beside hashing.
const recordingBytes = 128 << 10

func newRecording() *recording { return &recording{done: make(chan struct{})} }

// add copies a frame, and says whether it is time to hand out.
func (r *recording) add(f *wal.Frame) bool {
	from := len(r.bodies)
	r.bodies = append(r.bodies, f.Body...)
	r.frames = append(r.frames, recorded{Frame: *f, from: from, to: len(r.bodies)})
	return len(r.bodies)+len(r.frames)*256 >= recordingBytes
}

func (r *recording) compute(src *integrity.Source) {
	defer close(r.done)
	for i := range r.frames {
		f := &r.frames[i]
		f.Body = r.bodies[f.from:f.to:f.to]
		f.record, f.err = src.RecordOf(&f.Frame, func(e *event.Event) {
			if e.Op == event.OpSegmentSealed {
				f.sealed = append(f.sealed, sealedHash{string(e.Key), bytes.Clone(e.Value)})
			}
		})
	}
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
		c.report.Defects = append(c.report.Defects, corruption.At(f.Name, f.Offset,
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
		return err
	}
	if c.first == "" {
		c.first, c.firstAt = f.Name, f.Offset
	}
	h, e := r.Hash(), c.entry(c.n)
	switch {
	case e.LSN == 0: // not in the tree files, or damaged, which was told
	case e.LSN != f.BaseLSN && !c.lost:
		c.lost = true
		c.report.Defects = append(c.report.Defects, integrity.Mismatch(&f.Frame, c.n))
	case gone:
		h = e.Hash
		c.r.Gone++
	case e.Hash != h && !c.lost:
		c.report.Defects = append(c.report.Defects, integrity.Mismatch(&f.Frame, c.n))
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
		c.report.Defects = append(c.report.Defects, a.Err)
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
		c.report.Defects = append(c.report.Defects, a.Err)
	}
	switch {
	case c.t == nil || c.lost:
	case c.t.Size() > c.n:
		c.report.Defects = append(c.report.Defects, corruption.At(name, end.End,
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
		c.report.Defects = append(c.report.Defects, corruption.At(integrity.DisplayName(num), at,
			"the tree files have %d frames, the newest kept head %d: they were cut or are missing", c.r.Stored, kept))
	}
}

// hashes compares the hashes of segments and value files with those that were logged.
func (c *treeCheck) hashes() {
	for name, hash := range c.sealed {
		logged, ok := c.logged[name]
		switch {
		case !ok:
			c.r.Unsealed++
		case string(logged) != string(hash[:]):
			c.report.Defects = append(c.report.Defects, corruption.At(name, 0, "its hash is %x, the log says %x", hash[:8], logged))
		default:
			c.r.Sealed++
		}
	}
}

// sides reads the side files, which are derived: what is wrong with one is told, and it is built anew.
func (v *verification) sides() error {
	names, err := v.fs.List(path.Join(v.dir, "side"))
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	files, err := wal.ListFiles(v.fs, path.Join(v.dir, "wal"))
	if err != nil {
		return v.defect(err)
	}
	for _, name := range names {
		seq, err := strconv.ParseUint(strings.TrimSuffix(name, ".side"), 10, 64)
		if err != nil || fmt.Sprintf("%010d.side", seq) != name {
			continue // on its way, or what a crash left
		}
		switch err := v.side(path.Join("side", name), seq, files); {
		case err == nil:
			v.report.Sides++
		case isMissing(err): // an owner has removed it
		case errors.Is(err, corruption.ErrCorrupt), errors.Is(err, event.ErrUnsupported), errors.Is(err, errSideProps):
			v.report.SideDefects = append(v.report.SideDefects, err)
		default:
			return err
		}
	}
	return nil
}

func (v *verification) side(name string, seq uint64, files []wal.FileInfo) error {
	r, err := segment.Open(v.fs, path.Join(v.dir, name), segment.ReaderOptions{DisplayName: name})
	if err != nil {
		return err
	}
	defer r.Close() // only read from
	if err := r.Verify(v.ctx, nil); err != nil {
		return err
	}
	props, err := parseSideProps(r.Properties().Unknown)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for i := 1; i < len(files); i++ {
		if files[i-1].Seq != seq {
			continue
		}
		head, err := wal.ReadHeader(v.fs, path.Join(v.dir, "wal"), files[i])
		if err != nil {
			return nil // told with the log
		}
		if want := (origin{logID: head.LogID, seq: head.PrevSeq, end: head.PrevEnd, chain: head.PrevChain}); props.origin != want {
			return corruption.At(name, 0, "the side file is not of log file %s", files[i-1].Name)
		}
		return nil
	}
	return nil // its log file is gone, so will it be
}
