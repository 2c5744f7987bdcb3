package wal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

const (
	// newFileName is what a file is called until its header and dictionary are durable.
	newFileName = "new.tmp"
	// reserveName is a file of zeros whose blocks are given back when the disk is full, so that what is in flight,
	// deletes and retention can go on.
	reserveName = "reserve"
	// reserveBytes is a little more than one commit frame of the usual size.
	reserveBytes = 4 << 20
	// preWriteWindow is how far ahead of the end the file is filled with zeros while only small commits are
	// written: overwriting blocks that exist is cheaper to sync than growing a file (no extent, no size to journal).
	preWriteWindow = 256 << 10
	// smallFrame is the largest frame that is worth pre-writing for: beyond it, writing each byte twice costs more
	// than the journal does.
	smallFrame = 64 << 10
)

// writerConfig is what a writer needs to know about the log it continues.
type writerConfig struct {
	fs           vfs.FS
	dir          string // of the log files
	fileBytes    int64  // rotate beyond
	logID        [16]byte
	timelineID   [16]byte
	tail         Tail // where the log ends; Tail.File == 0 starts a new log
	now          func() (logTime, wall int64)
	dictionary   func(next event.LSN) []byte // body of the dictionary frame of a file whose first LSN is next
	durable      func() event.LSN
	onRotate     func(file uint64) // may be nil
	onFull       func()            // the disk was found full
	stopped      <-chan struct{}   // ends waiting for space; nil = there is none, a full disk is an error
	clock        clock.Clock
	preWrite     bool
	reserveSpace bool
}

// errSync marks the errors of syncs: trying again would succeed without having made anything durable.
var errSync = errors.New("sync failed")

// A writer appends frames to the newest log file. Its methods may be called concurrently: frames are placed and handed
// to the file system in one order under mu, so that no frame ever lies behind a hole that is still being written.
//
// Errors: a full disk is waited out (the same bytes are tried again); any other failed write or sync is final, is
// returned by this and every later call, and leaves the file to recovery.
type writer struct {
	cfg writerConfig

	mu struct {
		sync.Mutex // guards the fields below; held while a frame is handed to the file system

		file   vfs.File
		head   Header
		name   string
		begin  int64     // end of the dictionary frame: a file that holds no more is never rotated
		end    int64     // where the next frame goes
		zeroed int64     // the file holds zeros in [end, zeroed); <= end if none
		chain  uint32    // original CRC of the last frame
		next   event.LSN // of the next commit frame
		bigEnd int64     // end of the last frame that was not small
		err    error
	}
	full      atomic.Bool
	reserved  atomic.Bool // the reserve file is there
	syncing   sync.Mutex  // held while a file is synced or sealed; taken under mu
	syncErr   error       // of the sync that failed; guarded by syncing
	reserveMu sync.Mutex  // held while the reserve file is made or removed; a leaf
	scratch   [FrameHeaderSize + 8]byte

	seq, fileEnd atomic.Int64 // of the newest file, for those who may not wait for mu
	bytesWritten atomic.Int64 // handed to the file system, zeros included
	syncs        atomic.Int64
	rotations    atomic.Int64
}

// openWriter starts a file behind cfg.tail. After a clean end it goes on in the file that CLEAN names; after a crash the
// old file stays as it is. What the tail vouches for is durable, see SyncTail.
func openWriter(cfg writerConfig) (*writer, error) {
	w := &writer{cfg: cfg}
	w.mu.chain = cfg.tail.Chain
	w.mu.next = cfg.tail.NextLSN
	if err := cfg.fs.Remove(path.Join(cfg.dir, newFileName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the unfinished log file: %w", err)
	}
	if info, err := cfg.fs.Stat(path.Join(cfg.dir, "..", reserveName)); err == nil && info.Size >= reserveBytes {
		w.reserved.Store(true) // a crash left it
	}
	switch {
	case cfg.tail.File == 0:
		if err := w.startFile(1, 0, 0, EndingNone); err != nil {
			return nil, err
		}
	case cfg.tail.Clean:
		if err := w.continueFile(); err != nil {
			return nil, err
		}
	default:
		if err := w.startFile(cfg.tail.File+1, cfg.tail.File, cfg.tail.End, EndingCut); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// SyncTail makes what a scan has found durable: after a kill it may be only in the page cache, and from now on it is served
// and vouched for. It changes no byte, but unless readOnly, writes again what may never have reached the disk, see vfs.WriteAgain. With
// t.End 0 all of the file is meant.
func SyncTail(fsys vfs.FS, dir string, t Tail, readOnly bool) error {
	if t.File == 0 || t.Clean {
		return nil
	}
	name := path.Join(dir, FileName(t.File, t.FirstLSN))
	open := fsys.OpenRW
	if readOnly {
		open = fsys.Open
	}
	f, err := open(name)
	if err != nil {
		return fmt.Errorf("open %s to make it durable: %w", name, err)
	}
	if !readOnly {
		err = vfs.WriteAgain(f, t.Unsure, t.End)
	}
	if err == nil {
		err = f.SyncData()
	}
	if err == nil && !readOnly && t.Unsure < t.End {
		err = t.confirm(f, relName(dir, path.Base(name)))
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("make %s durable: %w", name, err)
	}
	return nil
}

// confirm says whether a file has, from t.Unsure on, what the scan has read: where a sync failed, the system may have dropped since what
// it showed then, and show what is on disk.
func (t *Tail) confirm(f vfs.File, name string) error {
	var b [HeaderSize]byte
	if _, err := readFull(f, b[:], 0); err != nil {
		return err
	}
	head, err := ParseHeader(b[:])
	if err != nil {
		return err
	}
	chain, at := t.Chain, t.Unsure
	for at < t.End {
		fr, err := ReadFrameAt(f, &head, name, at)
		if err != nil {
			return fmt.Errorf("it is not what was read: %w", err)
		}
		chain, at = fr.OriginalCRC(), at+fr.Size()
	}
	if at != t.End || chain != t.Chain {
		return corruption.At(name, t.End, "it is not what was read")
	}
	return nil
}

// continueFile removes CLEAN and appends to the file that it named. The removal is durable before the first frame, else
// a crash would leave a CLEAN that calls good frames garbage.
func (w *writer) continueFile() error {
	t := w.cfg.tail
	// It may be gone already: an earlier try may have failed behind this line.
	if err := w.cfg.fs.Remove(path.Join(w.cfg.dir, CleanName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", CleanName, err)
	}
	if err := w.cfg.fs.SyncDir(w.cfg.dir); err != nil {
		return fmt.Errorf("%w: make the removal of %s durable: %w", errSync, CleanName, err)
	}
	w.mu.name = FileName(t.File, t.FirstLSN)
	f, err := w.cfg.fs.OpenRW(path.Join(w.cfg.dir, w.mu.name))
	if err != nil {
		return fmt.Errorf("open %s to append: %w", w.mu.name, err)
	}
	var b [HeaderSize]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		f.Close()
		return fmt.Errorf("read the header of %s: %w", w.mu.name, err)
	}
	if w.mu.head, err = ParseHeader(b[:]); err != nil {
		f.Close()
		return err
	}
	w.mu.file, w.mu.begin, w.mu.end, w.mu.zeroed = f, HeaderSize, t.End, t.End
	w.seq.Store(int64(t.File))
	w.fileEnd.Store(t.End)
	return nil
}

// startFile makes the next file: header and dictionary are durable under a temporary name, then it is renamed, then the
// directory is synced; only then can a frame in it be acknowledged. w.mu is held, or w is not yet shared.
func (w *writer) startFile(seq, prev uint64, prevEnd int64, ending Ending) error {
	next := w.mu.next
	logTime, wall := w.cfg.now()
	h := Header{
		LogID: w.cfg.logID, TimelineID: w.cfg.timelineID, Seq: seq, PrevSeq: prev, PrevEnd: uint64(prevEnd),
		PrevChain: w.mu.chain, PrevEnding: ending, HashID: HashSHA256, FirstLSN: next, FirstTime: logTime, Created: wall,
	}
	if prev == 0 {
		h.PrevChain = 0
	}
	if _, err := rand.Read(h.Salt[:]); err != nil {
		return fmt.Errorf("read random bytes for the salt: %w", err)
	}
	body := w.cfg.dictionary(next)
	if len(body) > MaxCommitBytes {
		return fmt.Errorf("dictionary of %d bytes, at most %d fit into a file", len(body), MaxCommitBytes)
	}
	fr := Frame{Kind: KindDictionary, BaseLSN: next, BaseTime: logTime, WallTime: wall, Chain: h.PrevChain}
	size := FrameSize(len(body))
	buf := make([]byte, HeaderSize+size)
	head := h.Encode()
	copy(buf, head[:])
	copy(buf[HeaderSize+FrameHeaderSize:], body)
	crc := SealFrame(buf[HeaderSize:], &fr, len(body), BodyCRC(body), &h.Salt, seq, HeaderSize)

	tmp, name := path.Join(w.cfg.dir, newFileName), FileName(seq, next)
	f, err := w.createDurable(tmp, buf)
	if err != nil {
		return fmt.Errorf("start log file %s: %w", name, err)
	}
	// A longer name may need a new block of the directory.
	if err := w.untilSpace(func() error { return w.cfg.fs.Rename(tmp, path.Join(w.cfg.dir, name)) }); err != nil {
		f.Close()
		return fmt.Errorf("start log file %s: %w", name, err)
	}
	if err := w.cfg.fs.SyncDir(w.cfg.dir); err != nil {
		f.Close()
		return fmt.Errorf("%w: start log file %s: %w", errSync, name, err)
	}
	w.mu.file, w.mu.head, w.mu.name = f, h, name
	w.mu.begin, w.mu.end, w.mu.chain = int64(len(buf)), int64(len(buf)), crc
	w.mu.zeroed, w.mu.bigEnd = w.mu.end, 0
	w.seq.Store(int64(seq))
	w.fileEnd.Store(w.mu.end)
	return nil
}

// createDurable writes a whole new file and syncs it, waiting out a full disk.
func (w *writer) createDurable(name string, b []byte) (vfs.File, error) {
	var f vfs.File
	err := w.untilSpace(func() (err error) {
		f, err = w.cfg.fs.Create(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := w.writeAt(f, b, 0); err != nil {
		f.Close()
		return nil, err
	}
	w.syncs.Add(1)
	if err := f.Sync(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %w", errSync, err)
	}
	return f, nil
}

// appendFrame places a frame at the end of the log and hands it to the file system; it is durable after the next sync.
// buf is FrameHeaderSize bytes of room, then the body, with spare capacity for padding. Returns where the frame lies.
func (w *writer) appendFrame(fr *Frame, buf []byte) (Position, error) {
	bodyCRC := BodyCRC(buf[FrameHeaderSize:])
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.appendLocked(fr, buf, bodyCRC)
}

func (w *writer) appendLocked(fr *Frame, buf []byte, bodyCRC uint32) (Position, error) {
	if w.mu.err != nil {
		return Position{}, w.mu.err
	}
	body := len(buf) - FrameHeaderSize
	size := FrameSize(body)
	if err := w.makeRoom(size); err != nil {
		return Position{}, err
	}
	for len(buf) < size {
		buf = append(buf, 0)
	}
	fr.Chain = w.mu.chain
	if fr.Kind != KindCommit {
		fr.BaseLSN = w.mu.next
	}
	crc := SealFrame(buf, fr, body, bodyCRC, &w.mu.head.Salt, w.mu.head.Seq, w.mu.end)
	if err := w.writeAt(w.mu.file, buf, w.mu.end); err != nil {
		return Position{}, w.fail(err)
	}
	pos := Position{File: w.mu.head.Seq, Offset: w.mu.end}
	w.mu.end += int64(size)
	w.fileEnd.Store(w.mu.end)
	w.mu.chain = crc
	w.mu.next += event.LSN(fr.Count)
	if size > smallFrame {
		w.mu.bigEnd = w.mu.end
	}
	return pos, nil
}

// appendData writes one piece of a large value or batch, ahead of the commit frame that will refer to it.
func (w *writer) appendData(body []byte) (Position, uint32, error) {
	crc := BodyCRC(body)
	fr := Frame{Kind: KindData}
	fr.BaseTime, fr.WallTime = w.cfg.now()
	size := FrameSize(len(body))
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.err != nil {
		return Position{}, 0, w.mu.err
	}
	if err := w.makeRoom(size); err != nil {
		return Position{}, 0, err
	}
	// The body goes to the file from where it lies; only the header and the padding are copied. The header is written
	// last: a crash between the two leaves zeros where the frame would begin.
	fr.Chain, fr.BaseLSN, fr.DurableLSN = w.mu.chain, w.mu.next, w.cfg.durable()
	head := w.scratch[:FrameHeaderSize]
	sealed := SealFrame(head, &fr, len(body), crc, &w.mu.head.Salt, w.mu.head.Seq, w.mu.end)
	if err := w.writeAt(w.mu.file, body, w.mu.end+FrameHeaderSize); err != nil {
		return Position{}, 0, w.fail(err)
	}
	if pad := size - FrameHeaderSize - len(body); pad > 0 {
		var zero [8]byte
		if err := w.writeAt(w.mu.file, zero[:pad], w.mu.end+int64(size-pad)); err != nil {
			return Position{}, 0, w.fail(err)
		}
	}
	if err := w.writeAt(w.mu.file, head, w.mu.end); err != nil {
		return Position{}, 0, w.fail(err)
	}
	pos := Position{File: w.mu.head.Seq, Offset: w.mu.end}
	w.mu.end += int64(size)
	w.fileEnd.Store(w.mu.end)
	w.mu.chain = sealed
	w.mu.bigEnd = w.mu.end
	return pos, crc, nil
}

// sync makes every frame appended so far durable.
func (w *writer) sync() error {
	w.mu.Lock()
	f, name, err := w.mu.file, w.mu.name, w.mu.err
	if err != nil {
		w.mu.Unlock()
		return err
	}
	w.syncing.Lock() // so that no rotation syncs the same file meanwhile: each error is told once, to one of them
	w.mu.Unlock()
	w.syncs.Add(1)
	if err = f.SyncData(); err != nil {
		w.syncErr = fmt.Errorf("sync %s: %w", name, err)
		err = w.syncErr
	}
	w.syncing.Unlock()
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.fail(err)
	}
	return nil
}

// makeRoom rotates when a frame of size bytes would make the file too long. w.mu is held.
func (w *writer) makeRoom(size int) error {
	if w.mu.end+int64(size) <= w.cfg.fileBytes || w.mu.end == w.mu.begin {
		return nil
	}
	if err := w.rotate(); err != nil {
		return w.fail(err)
	}
	return nil
}

// rotate seals the current file, starts the next and tells of it. w.mu is held.
func (w *writer) rotate() error {
	if err := w.seal(); err != nil {
		return err
	}
	if w.cfg.onRotate != nil {
		w.cfg.onRotate(w.mu.head.Seq)
	}
	return nil
}

// seal is the work of rotate. Everything in the old file is durable before the new file's header states where the old one ends.
func (w *writer) seal() error {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	if w.syncErr != nil {
		return w.syncErr
	}
	old, end, seq := w.mu.file, w.mu.end, w.mu.head.Seq
	if w.mu.zeroed > end {
		if err := old.Truncate(end); err != nil {
			return fmt.Errorf("seal %s: %w", w.mu.name, err)
		}
	}
	w.syncs.Add(1)
	if err := old.Sync(); err != nil {
		return fmt.Errorf("%w: seal %s: %w", errSync, w.mu.name, err)
	}
	if err := w.startFile(seq+1, seq, end, EndingSealed); err != nil {
		return err
	}
	w.rotations.Add(1)
	return old.Close()
}

// rotateNow rotates though the file is not full, and states where the new one ends.
func (w *writer) rotateNow() (Clean, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.err != nil {
		return Clean{}, w.mu.err
	}
	if err := w.rotate(); err != nil {
		return Clean{}, w.fail(err)
	}
	return Clean{Seq: w.mu.head.Seq, End: uint64(w.mu.end), Chain: w.mu.chain, NextLSN: w.mu.next, LastTime: w.mu.head.FirstTime}, nil
}

// extendWindow pre-writes zeros when the last frames were small and the end comes near the zeros' end. The caller is the
// only one who syncs, so the zeros become durable with the next commit and never between two halves of one.
func (w *writer) extendWindow() error {
	if !w.cfg.preWrite {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.mu.err != nil:
		return w.mu.err
	case w.full.Load() || w.mu.zeroed-w.mu.end > preWriteWindow/8:
		return nil
	case w.mu.bigEnd > 0 && w.mu.end-w.mu.bigEnd < preWriteWindow:
		return nil
	case w.mu.end+preWriteWindow > w.cfg.fileBytes:
		return nil
	}
	from := max(w.mu.end, w.mu.zeroed)
	to := w.mu.end + preWriteWindow
	if _, err := w.mu.file.WriteAt(zeros[:to-from], from); err != nil {
		if vfs.IsNoSpace(err) {
			return nil // nothing depends on these zeros; the commit that needs the space will find out
		}
		return w.fail(fmt.Errorf("pre-write %s: %w", w.mu.name, err))
	}
	w.bytesWritten.Add(to - from)
	w.mu.zeroed = to
	return nil
}

var zeros [preWriteWindow]byte

// writeAt writes all of b, waiting out a full disk: the same bytes go to the same place again, so a partial write is
// only completed, never doubled.
func (w *writer) writeAt(f io.WriterAt, b []byte, off int64) error {
	for {
		_, err := f.WriteAt(b, off)
		if err == nil {
			w.bytesWritten.Add(int64(len(b)))
			return nil
		}
		if !vfs.IsNoSpace(err) {
			return fmt.Errorf("write %d bytes at %d of %s: %w", len(b), off, w.mu.name, err)
		}
		if err := w.waitForSpace(err); err != nil {
			return err
		}
	}
}

// untilSpace calls f until it fails for another reason than a full disk, or not at all.
func (w *writer) untilSpace(f func() error) error {
	for {
		err := f()
		if !vfs.IsNoSpace(err) {
			return err
		}
		if err := w.waitForSpace(err); err != nil {
			return err
		}
	}
}

// waitForSpace gives the reserve back on the first call, then waits a little. It returns an error only when the log is
// being closed.
func (w *writer) waitForSpace(cause error) error {
	if w.cfg.stopped == nil {
		return cause
	}
	spent := w.spendReserve() // before full is told: with the reserve in place the disk does not count as full
	if w.full.CompareAndSwap(false, true) {
		w.cfg.onFull()
	}
	if spent {
		return nil
	}
	t := w.cfg.clock.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-w.cfg.stopped:
		return fmt.Errorf("closed while waiting for disk space: %w", cause)
	case <-t.C():
		return nil
	}
}

// spendReserve gives the reserve's space back and reports whether there was any.
func (w *writer) spendReserve() bool {
	w.reserveMu.Lock()
	defer w.reserveMu.Unlock()
	return w.reserved.CompareAndSwap(true, false) && w.cfg.fs.Remove(path.Join(w.cfg.dir, "..", reserveName)) == nil
}

// makeReserve writes the reserve file; with the disk full it fails and is tried again later. It reports whether the
// reserve is in place. The disk no more counts as full then.
func (w *writer) makeReserve() bool {
	w.reserveMu.Lock()
	defer w.reserveMu.Unlock()
	if w.reserved.Load() || !w.cfg.reserveSpace {
		w.full.Store(false)
		return true
	}
	// Without a look first, each try would take the last bytes from those who wait for them.
	if free, _, err := w.cfg.fs.Free(w.cfg.dir); err == nil && free < reserveBytes+reserveBytes/4 {
		return false
	}
	name := path.Join(w.cfg.dir, "..", reserveName)
	f, err := w.cfg.fs.Create(name)
	if errors.Is(err, fs.ErrExist) {
		f, err = w.cfg.fs.OpenRW(name)
	}
	if err != nil {
		return false
	}
	for off := int64(0); off < reserveBytes && err == nil; off += int64(len(zeros)) {
		_, err = f.WriteAt(zeros[:], off)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		w.cfg.fs.Remove(name) // best effort: what it holds is needed elsewhere
		return false
	}
	w.reserved.Store(true)
	w.full.Store(false)
	return true
}

// fail records the first error that makes the log unwritable. w.mu is held.
func (w *writer) fail(err error) error {
	if w.mu.err == nil {
		w.mu.err = err
	}
	return w.mu.err
}

// closedFileBytes is how long the newest file of a closed log may be. The next open reads that file, even if segments have all of it: for
// the sessions and datasets, which else the dictionary at the beginning of a file tells.
const closedFileBytes = 8 << 20

// close seals the log: zeros behind the end are cut off, everything is made durable and CLEAN is written. After a failed
// write nothing more is written: the next open treats the file as after a crash.
func (w *writer) close(next event.LSN, lastTime int64, clean bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.file == nil {
		return nil
	}
	if w.mu.err == nil && clean && w.mu.end > closedFileBytes && !w.full.Load() {
		switch err := w.rotate(); {
		case vfs.IsNoSpace(err) && !errors.Is(err, errSync): // no other was started, and this one is as it was
			_ = w.cfg.fs.Remove(path.Join(w.cfg.dir, newFileName)) // CLEAN may need its space
		case err != nil:
			w.fail(err)
		}
	}
	f := w.mu.file
	w.mu.file = nil
	if w.mu.err != nil || !clean {
		return errors.Join(w.mu.err, f.Close())
	}
	err := func() error {
		if w.mu.zeroed > w.mu.end {
			if err := f.Truncate(w.mu.end); err != nil {
				return err
			}
		}
		w.spendReserve() // CLEAN may need its space
		// All frames are durable: the watermark that ends the log was synced. The cut need not be: should it be undone,
		// the zeros are back, which CLEAN allows.
		c := Clean{Seq: w.mu.head.Seq, End: uint64(w.mu.end), Chain: w.mu.chain, NextLSN: next, LastTime: lastTime}
		return WriteClean(w.cfg.fs, w.cfg.dir, c)
	}()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	w.mu.err = ErrClosed
	if err != nil {
		return fmt.Errorf("close the log: %w", err)
	}
	return nil
}
