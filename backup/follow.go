package backup

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

const (
	// maxPiece bounds a part of a log file, and so the memory of who puts or reads one.
	maxPiece = 4 << 20
	// maxSmall is how many small parts follow each other before they are put together.
	maxSmall = 128

	followPoll  = 100 * time.Millisecond
	followEvery = 500 * time.Millisecond // at most so long something durable waits for more
	firstRetry  = time.Second
	lastRetry   = time.Minute

	// maxFollowTries bounds how often a file of the log is looked for again that isn't there: a store that is being set back has none
	// for a moment.
	maxFollowTries = 50
)

// FollowOptions configure Follow. Clock is required.
type FollowOptions struct {
	Clock clock.Clock
	// Done, if not nil, is told what was archived, first by earlier calls. It and Failed are called by one goroutine at a time.
	Done func(Followed)
	// Failed, if not nil, is told why the place of objects refuses, and when it is tried again.
	Failed func(err error, again time.Duration)
}

// Followed says what was archived.
type Followed struct {
	LSN    event.LSN // up to here, durable in the place of objects; of a sealed file, its last
	Time   time.Time // its log time
	File   string    // log file that it lies in
	Sealed bool      // that file is an object of its own now
	Bytes  int64     // that were put since Follow began
}

// NoBaseError tells that the log can't be followed from a backup that is there: a new one is needed first.
type NoBaseError struct {
	// Why is what has become of the log, for people.
	Why string
	// From and To are the events that no backup has and the log has no more; 0 = none.
	From, To event.LSN
}

func (e *NoBaseError) Error() string {
	s := "the log can't be followed without a new backup: " + e.Why
	if e.To > 0 {
		s += fmt.Sprintf("; LSN %d to %d are in no backup", e.From, e.To)
	}
	return s
}

// anotherCopy says that the log is not the one that was archived, though it has its id and timeline.
func anotherCopy(format string, args ...any) error {
	return &NoBaseError{Why: fmt.Sprintf(format, args...) + ": " + ErrAnotherCopy.Error()}
}

// Follow archives the log of the store in dir behind its newest backup, until the context ends: first what is there, then each event
// within a second after it is durable. It takes no lock, so the store may be in use, or not, or be opened by one process after the
// other. It goes on where an earlier call has ended. A part that is put is whole and durable; memory is bounded by some parts.
//
// The error is that of the context, a *NoBaseError, corruption in the log, or what the file system of the store says. What the place
// of objects refuses once all began is tried again until it takes it.
func Follow(ctx context.Context, to Objects, fsys vfs.FS, dir string, o FollowOptions) error {
	f := follower{ctx: ctx, to: to, fs: fsys, dir: path.Join(dir, "wal"), o: o}
	for try := 0; ; try++ {
		before := f.count(0)
		err := f.begin()
		if err == nil {
			err = f.run()
			f.end()
		}
		if f.count(0) > before {
			try = 0
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// The log may be another one meanwhile, or have dropped what was to be read.
		if berr := f.look(); berr != nil && !errors.Is(berr, fs.ErrNotExist) {
			return berr
		}
		if !errors.Is(err, fs.ErrNotExist) || try == maxFollowTries {
			return err
		}
		if err := f.wait(followPoll); err != nil {
			return err
		}
	}
}

// follower is what Follow works with.
type follower struct {
	ctx context.Context
	to  Objects
	fs  vfs.FS
	dir string // of the log files
	o   FollowOptions

	base *Backup
	log  *wal.Follower

	file    vfs.File // the log file that is read
	head    wal.Header
	whole   bool        // it was archived whole
	last    piece       // that was put of it; to is 0 if none was
	resumed bool        // last was put by an earlier call, and is to be held against the file
	small   []piece     // small ones at the end
	wait4   []commitEnd // commits that are not known to be durable, in order
	ready   commitEnd   // the newest that is
	upTo    event.LSN   // what the log says is durable
	put     int64       // when the last part was put, monotonic

	seals  chan sealing
	sealer sync.WaitGroup
	failed chan error // of sealer

	telling sync.Mutex // guards bytes; held while somebody is told
	bytes   int64
}

// sealing is a log file that has ended, of which all parts are there: what is left to do goes on beside the next file.
type sealing struct {
	piece   // of the record to come
	content io.ReaderAt
	file    io.Closer
}

// commitEnd is where a commit frame ends.
type commitEnd struct {
	at, end int64
	lsn     event.LSN
	chain   uint32
}

// line finds the id and the timeline of the log, as text, from its newest file.
func (f *follower) line() (log, timeline string, files []wal.FileInfo, err error) {
	files, err = wal.ListFiles(f.fs, f.dir)
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%w: no log file in %s", fs.ErrNotExist, f.dir)
	}
	if err != nil {
		return "", "", nil, err
	}
	head, err := wal.ReadHeader(f.fs, f.dir, files[len(files)-1])
	return hex.EncodeToString(head.LogID[:]), hex.EncodeToString(head.TimelineID[:]), files, err
}

// look checks that the log is still the one of the base, and has what comes next.
func (f *follower) look() error {
	if f.base == nil {
		return nil
	}
	log, timeline, files, err := f.line()
	if err != nil {
		return err
	}
	next := f.next()
	switch {
	case log != f.base.Log:
		return &NoBaseError{Why: fmt.Sprintf("the store has another log, %s, than the backups, %s", log, f.base.Log)}
	case timeline != f.base.Timeline:
		return &NoBaseError{Why: fmt.Sprintf("the store was set back or restored, and goes on in timeline %s; timeline %s was archived up to LSN %d",
			timeline, f.base.Timeline, next-1)}
	case files[0].FirstLSN > next:
		return &NoBaseError{Why: fmt.Sprintf("retention has dropped log files; it was archived up to LSN %d", next-1), From: next, To: files[0].FirstLSN - 1}
	}
	return nil
}

// next is the first LSN that was not archived.
func (f *follower) next() event.LSN {
	if f.last.file != "" {
		return f.last.lsn + 1
	}
	reach, _ := f.base.Reach()
	return reach + 1
}

// begin finds where to go on.
func (f *follower) begin() error {
	log, timeline, files, err := f.line()
	if err != nil {
		return err
	}
	var list []Backup
	get := func() error {
		list, _, err = List(f.ctx, f.to)
		return err
	}
	if f.base == nil {
		err = get()
	} else {
		err = f.try(get)
	}
	if err != nil {
		return err
	}
	f.base, f.last = nil, piece{}
	for i := range list {
		if b := &list[i]; b.Log == log && b.Timeline == timeline && (f.base == nil || b.LSN >= f.base.LSN) {
			f.base = b
		}
	}
	if f.base == nil {
		return &NoBaseError{Why: fmt.Sprintf("there is none of log %s, timeline %s", log, timeline)}
	}
	if err := f.look(); err != nil {
		return err
	}
	seq, name := uint64(0), ""
	if n := len(f.base.chain); n > 0 {
		c := &f.base.chain[n-1]
		seq, name = c.seq, c.file
		if c.whole && files[0].Seq > seq { // it was archived and dropped
			head, err := wal.ReadHeader(f.fs, f.dir, files[0])
			if err != nil {
				return err
			}
			if head.PrevSeq == seq {
				seq, name = head.Seq, wal.FileName(head.Seq, c.lsn+1)
			}
		}
	} else if n := f.base.newestLog(); n >= 0 {
		name = path.Base(f.base.Files[n].Name)
		seq, _, _ = wal.ParseFileName(name)
	}
	i := slices.IndexFunc(files, func(i wal.FileInfo) bool { return i.Seq == seq })
	if i < 0 {
		return &NoBaseError{Why: fmt.Sprintf("log file %d of the store is gone, which backup %s goes on in", seq, f.base.ID)}
	}
	if files[i].Name != name {
		return anotherCopy("wal/%s of the store is %s of what was archived", files[i].Name, name)
	}
	if f.log, err = wal.Follow(f.fs, f.dir, wal.FollowOptions{Clock: f.o.Clock, FromFile: seq}); err != nil {
		return err
	}
	var left []sealing // by an earlier call
	for i := range f.base.chain {
		if c := &f.base.chain[i]; c.whole && c.sealed == "" {
			parts := newPartsFile(f.ctx, f.to, c)
			left = append(left, sealing{c.piece, parts, parts})
		}
	}
	f.seals, f.failed = make(chan sealing, 1), make(chan error, 1)
	f.sealer.Go(func() { f.sealAll(left) })
	return nil
}

// end gives back what begin and run have opened.
func (f *follower) end() {
	close(f.seals)
	f.sealer.Wait()
	f.leave()
	f.log.Close() // only read from
}

func (f *follower) leave() {
	if f.file != nil {
		f.file.Close() // only read from
	}
	f.file, f.small, f.wait4, f.ready = nil, nil, nil, commitEnd{}
}

func (f *follower) wait(d time.Duration) error {
	t := f.o.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return nil
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
}

// run archives until something fails.
func (f *follower) run() error {
	for {
		select {
		case <-f.ctx.Done():
			return f.ctx.Err()
		case err := <-f.failed:
			return err
		default:
		}
		frame, err := f.log.Try()
		if err == io.EOF {
			if err = f.maybePut(); err == nil {
				err = f.look()
			}
			if err == nil {
				err = f.wait(followPoll)
			}
		} else if err == nil {
			err = f.take(frame)
		}
		if err != nil {
			return err
		}
	}
}

// take looks at a frame of the log.
func (f *follower) take(frame *wal.Frame) error {
	if f.file == nil || frame.File != f.head.Seq {
		if err := f.enter(); err != nil {
			return err
		}
	}
	f.upTo = max(f.upTo, frame.DurableLSN)
	end := frame.Offset + frame.Size()
	if f.resumed && frame.Offset < f.last.to && end >= f.last.to {
		f.resumed = false
		if end != f.last.to || f.last.chain != frame.OriginalCRC() {
			return anotherCopy("%s at %d is not what was archived of it", frame.Name, frame.Offset)
		}
	}
	if frame.Kind == wal.KindCommit {
		f.wait4 = append(f.wait4, commitEnd{frame.Offset, end, frame.BaseLSN + event.LSN(frame.Count) - 1, frame.OriginalCRC()})
	}
	for len(f.wait4) > 0 && f.wait4[0].lsn <= f.upTo {
		if f.wait4[0].end-f.last.to > maxPiece && f.ready.end > f.last.to && !f.whole && !f.log.Ended() { // a part ends with a commit
			if err := f.putPart(); err != nil {
				return err
			}
		}
		f.ready, f.wait4 = f.wait4[0], f.wait4[1:]
	}
	return f.maybePut()
}

// enter goes on to the log file that the newest frame lies in: the one before is at its end.
func (f *follower) enter() error {
	head := *f.log.Header()
	if f.file != nil {
		if err := f.finish(&head); err != nil {
			return err
		}
		f.leave()
	}
	file, err := f.fs.Open(path.Join(f.dir, wal.FileName(head.Seq, head.FirstLSN)))
	if err != nil {
		return err
	}
	f.file, f.head, f.whole, f.resumed, f.put = file, head, false, false, f.o.Clock.Mono()
	f.last = piece{log: f.base.Log, timeline: f.base.Timeline, file: wal.FileName(head.Seq, head.FirstLSN), seq: head.Seq, first: head.FirstLSN,
		lsn: head.FirstLSN - 1, time: time.Unix(0, head.FirstTime).UTC()}
	n := len(f.base.chain)
	if n == 0 || f.base.chain[n-1].file != f.last.file {
		return nil
	}
	c := &f.base.chain[n-1]
	f.last, f.whole, f.resumed = c.piece, c.whole, c.chain != 0
	for _, p := range c.parts {
		f.noteSmall(p)
	}
	f.tell(&f.last)
	return nil
}

// maybePut puts what is durable if it is much, or has waited long enough.
func (f *follower) maybePut() error {
	if f.file == nil || f.whole || f.log.Ended() { // seal is about to archive it whole
		return nil
	}
	for f.ready.end-f.last.to >= maxPiece {
		if err := f.putPart(); err != nil {
			return err
		}
	}
	if f.ready.end <= f.last.to || clock.Elapsed(f.o.Clock, f.put) < followEvery {
		return nil
	}
	return f.putPart()
}

// based sees that the base is still there. Without it a part is of no use: the folder may be that in which another disk was mounted.
func (f *follower) based() error {
	o, err := f.to.Get(f.ctx, f.base.name)
	if err == nil {
		return o.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, _, err := List(f.ctx, f.to)
	if err != nil {
		return err
	}
	for i := range list {
		if b := &list[i]; b.line() == f.base.line() { // it has expired, and another one was made
			f.base.name = b.name
			return nil
		}
	}
	return fmt.Errorf("%w: %s, behind which the log is archived, is gone, and so are all of its timeline: is their disk there?", ErrNoBackup, f.base.ID)
}

// putPart puts the next part. The last one of a long commit says that its events are there.
func (f *follower) putPart() error {
	if err := f.try(f.based); err != nil {
		return err
	}
	p := f.last
	p.from, p.to = f.last.to, f.ready.end
	if p.to-p.from > maxPiece {
		p.to, p.chain = p.from+maxPiece, 0 // it ends anywhere
	} else {
		frame, err := wal.ReadFrameAt(f.file, &f.head, path.Join("wal", p.file), f.ready.at)
		if err != nil {
			return err
		}
		last, err := frame.LastTime()
		if err != nil {
			return err
		}
		p.lsn, p.time, p.chain = f.ready.lsn, time.Unix(0, last).UTC(), f.ready.chain
	}
	if err := f.putPiece(&p); err != nil {
		return err
	}
	f.put = f.o.Clock.Mono()
	f.last = p
	f.tell(&p)
	f.noteSmall(p)
	return f.join()
}

// putPiece reads a part from the log file and puts it.
func (f *follower) putPiece(p *piece) error {
	b := make([]byte, p.to-p.from)
	if n, err := f.file.ReadAt(b, p.from); n < len(b) {
		return corruption.At(path.Join("wal", p.file), p.from+int64(n), "the file ends here, but %d bytes of it were read before: %v", p.to, err)
	}
	p.name = p.prefix() + p.sum(b)
	return f.putObject(p.name, bytes.NewReader(b), int64(len(b)), p.check)
}

// putObject puts an object until it is there.
func (f *follower) putObject(name string, content io.ReaderAt, size int64, check checker) error {
	return f.try(func() error {
		put, err := putChecked(f.ctx, f.to, name, content, size, check)
		if put {
			f.count(size)
		}
		return err
	})
}

// putRecord puts an object without content.
func (f *follower) putRecord(p *piece) error {
	p.name = p.prefix() + p.sum(nil)
	return f.putObject(p.name, bytes.NewReader(nil), 0, p.check)
}

// count adds to the bytes that were put.
func (f *follower) count(n int64) int64 {
	f.telling.Lock()
	defer f.telling.Unlock()
	f.bytes += n
	return f.bytes
}

// noteSmall takes a part that was put to those that join puts together.
func (f *follower) noteSmall(p piece) {
	if n := len(f.small); n > 0 && f.small[n-1].to != p.from || p.to-p.from > maxPiece/2 {
		f.small = f.small[:0]
	}
	if p.to-p.from <= maxPiece/2 {
		f.small = append(f.small, p)
	}
}

// join puts small parts together, so that there are few however slowly the log grows: the same bytes become one part, then the small
// ones go.
func (f *follower) join() error {
	n := len(f.small)
	if n < maxSmall && (n < 2 || f.small[n-1].to-f.small[0].from <= maxPiece/2) {
		return nil
	}
	p := f.small[n-1]
	p.from = f.small[0].from
	if p.to-p.from > maxPiece { // the last one is too large for the others
		p = f.small[n-2]
		p.from = f.small[0].from
		n--
	}
	old := f.small[:n]
	rest := slices.Clone(f.small[n:])
	if len(old) > 1 {
		if err := f.putPiece(&p); err != nil {
			return err
		}
		for _, o := range old {
			if err := f.try(func() error { return f.to.Delete(f.ctx, o.name) }); err != nil {
				return err
			}
		}
	}
	f.small = rest
	return nil
}

// finish archives the rest of a log file, which ends as the header of the one after it says. If it is little, it is put in parts, with a
// record that they are all, so that the next file's parts count; sealAll makes the file whole beside them. Else it is made whole now.
func (f *follower) finish(next *wal.Header) error {
	if f.whole {
		if next.FirstLSN != f.last.lsn+1 || f.last.chain != 0 && next.PrevChain != f.last.chain {
			return anotherCopy("wal/%s ends with LSN %d, and was archived up to %d", f.last.file, next.FirstLSN-1, f.last.lsn)
		}
		return nil
	}
	end, err := f.endOf(next)
	if err != nil {
		return err
	}
	if err := f.try(f.based); err != nil {
		return err
	}
	if end.to-f.last.to > 4*maxPiece {
		return f.seal(sealing{end, f.file, nil})
	}
	for f.last.to < end.to {
		p := f.last
		p.from, p.to, p.chain = f.last.to, min(f.last.to+maxPiece, end.to), 0
		if p.to == end.to {
			p.lsn, p.time, p.chain = end.lsn, end.time, end.chain
		}
		if err := f.putPiece(&p); err != nil {
			return err
		}
		f.last = p
	}
	record := end
	record.ended = true
	if err := f.putRecord(&record); err != nil {
		return err
	}
	f.tell(&record)
	select {
	case f.seals <- sealing{end, f.file, f.file}:
		f.file = nil // which sealAll closes
		return nil
	case err := <-f.failed:
		return err
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
}

// endOf is where the file ends that the next one follows on.
func (f *follower) endOf(next *wal.Header) (piece, error) {
	p := f.last
	if p.to > int64(next.PrevEnd) {
		return p, corruption.At(path.Join("wal", p.file), int64(next.PrevEnd), "the file ends here, as the next one says, but LSN %d was durable behind it", p.lsn)
	}
	newest := next.FirstLSN - 1
	p.from, p.to = 0, int64(next.PrevEnd)
	if newest != p.lsn {
		end := f.ready
		for _, w := range f.wait4 {
			if w.end <= p.to {
				end = w
			}
		}
		frame, err := wal.ReadFrameAt(f.file, &f.head, path.Join("wal", p.file), end.at)
		if err != nil {
			return p, err
		}
		last, err := frame.LastTime()
		if err != nil {
			return p, err
		}
		p.lsn, p.time = newest, time.Unix(0, last).UTC()
	}
	p.chain = next.PrevChain
	return p, nil
}

// sealAll makes files whole, first those that an earlier call has left, until seals is closed.
func (f *follower) sealAll(left []sealing) {
	failed := false
	one := func(s sealing) {
		if !failed {
			if err := f.seal(s); err != nil {
				failed = true
				f.failed <- err
			}
		}
		s.file.Close() // only read from
	}
	for _, s := range left {
		one(s)
	}
	for s := range f.seals {
		one(s)
	}
}

// seal makes a log file an object of its own, and says so with a record. Then its parts go. The object is what the store has by now: if
// a value was redacted since parts of the file were put, it goes with them.
func (f *follower) seal(s sealing) error {
	p := s.piece
	p.ended = false
	now, err := f.openNow(&s)
	if err != nil {
		return err
	}
	if now != nil {
		defer now.Close() // only read from
		s.content = now
	}
	sum, err := hashOf(f.ctx, s.content, p.to)
	if err != nil {
		return err
	}
	p.sealed = hex.EncodeToString(sum[:])
	of := p.of()
	if err := f.putObject(of.object(), s.content, of.Bytes, of.check); err != nil {
		return err
	}
	if err := f.putRecord(&p); err != nil {
		return err
	}
	f.tell(&p)
	return f.try(func() error {
		entries, err := f.to.List(f.ctx, p.folder())
		for _, e := range entries {
			if err == nil && e.Name != p.name {
				err = f.to.Delete(f.ctx, e.Name)
			}
		}
		return err
	})
}

// openNow opens the log file as the store has it, nil if it is gone, or another one than what was read.
func (f *follower) openNow(s *sealing) (vfs.File, error) {
	file, err := f.fs.Open(path.Join(f.dir, s.piece.file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var heads [2]wal.Header
	for i, from := range []io.ReaderAt{file, s.content} {
		var b [wal.HeaderSize]byte
		_, err := from.ReadAt(b[:], 0)
		if err == nil || err == io.EOF {
			heads[i], err = wal.ParseHeader(b[:])
		}
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("read the header of wal/%s: %w", s.piece.file, err)
		}
	}
	if !heads[0].SameFile(&heads[1]) {
		file.Close()
		return nil, nil
	}
	return file, nil
}

func (f *follower) tell(p *piece) {
	f.telling.Lock()
	defer f.telling.Unlock()
	if f.o.Done != nil {
		f.o.Done(Followed{LSN: p.lsn, Time: p.time, File: p.file, Sealed: p.sealed != "", Bytes: f.bytes})
	}
}

// try does something with the objects until it succeeds, or the context ends.
func (f *follower) try(do func() error) error {
	for again := firstRetry; ; again = min(2*again, lastRetry) {
		err := do()
		if err == nil || f.ctx.Err() != nil {
			return err
		}
		f.telling.Lock()
		if f.o.Failed != nil {
			f.o.Failed(err, again)
		}
		f.telling.Unlock()
		if err := f.wait(again); err != nil {
			return err
		}
	}
}
