package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// ScanOptions configure a Scanner. The zero value reads a whole log that nobody is writing to.
type ScanOptions struct {
	// ReadOnly is for a reader that holds no lock: a writer may be at work. What looks damaged is read again before it is
	// believed, and a log that only a newer version may write to is read.
	ReadOnly bool
	// FromFile is the sequence of the first file to read, 0 = the log's first. Without it, files that are missing at the
	// front are corruption.
	FromFile uint64
	// Only stops after the first file, where the next file's header says that it ends, if there is one.
	Only bool
}

// Tail says where a log ends. The zero Tail is that of an empty log.
type Tail struct {
	File       uint64    // sequence of the last file, 0 = there is none
	FirstLSN   event.LSN // of that file, part of its name
	End        int64     // offset in it behind the last frame
	Unsure     int64     // offset in it from which on the log does not tell that it was durable
	Chain      uint32    // original CRC of the last frame
	NextLSN    event.LSN // follows the last event
	LastTime   int64     // newest log time in the log, Unix nanoseconds
	DurableLSN event.LSN // known from the log itself to have been durable
	Clean      bool      // the log was closed
	Cut        bool      // a crash left bytes behind the end that are no part of the log
	CutBytes   int64     // from the end to the last byte that is not zero
	Doubt      string    // with Cut: what cannot be told apart; for people
}

// Scanner reads the frames of a log in order and judges how it ends. Every frame that it returns is sound: CRC, chain,
// LSN and position hold. What lies in the bodies is not decoded.
//
// It keeps no file open: it may read beside a redaction, which gives a file another content. Each read from the disk gets what the file
// has by then; what was read ahead before, 2 MiB or the longest frame, it still returns.
//
// Not safe for concurrent use. Close must be called; it may be called early.
type Scanner struct {
	fs   vfs.FS
	dir  string
	opts ScanOptions

	clean   *Clean
	files   []FileInfo
	index   int     // of the current file in files
	file    *byName // nil = none
	name    string  // of the current file, relative to the database directory
	head    Header
	end     int64 // of the current file, as the next one's header states it; -1 = not known
	nextErr error // why the next file's header does not state it
	next    *Header
	ahead   *readAhead

	adrift   bool // Verify passed over frames: which LSN is next is not known
	pos      int64
	frame    Frame
	commit   Position // of the last commit frame that is not spilled, for the time of its last event
	tail     Tail
	progress int64
	err      error // sticky; io.EOF at a proper end

	unsure []unsureFrame // of the current file, in their order
}

// unsureFrame is a frame of which the log does not tell yet that it was durable. It was if the event by was.
type unsureFrame struct {
	at int64
	by event.LSN
}

// NewScanner lists the log in dir and opens its first file. The error is of the file system, corruption or
// event.ErrUnsupported.
func NewScanner(fsys vfs.FS, dir string, opts ScanOptions) (*Scanner, error) {
	s := &Scanner{fs: fsys, dir: dir, opts: opts, index: -1}
	// CLEAN before the list: a writer removes it before it makes a new file.
	var err error
	if s.clean, err = ReadClean(fsys, dir); err != nil {
		return nil, err
	}
	if s.files, err = ListFiles(fsys, dir); err != nil {
		return nil, err
	}
	if opts.FromFile != 0 {
		for len(s.files) > 0 && s.files[0].Seq < opts.FromFile {
			s.files = s.files[1:]
		}
		if len(s.files) == 0 || s.files[0].Seq != opts.FromFile {
			return nil, Missing(dir, opts.FromFile)
		}
	}
	if len(s.files) == 0 {
		if s.clean != nil {
			return nil, corruption.At(missingName(dir, s.clean.Seq), 0, "the file is missing, but CLEAN names it as the last")
		}
		s.err = io.EOF
		return s, nil
	}
	if err := s.openFirst(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func missingName(dir string, seq uint64) string { return relName(dir, fmt.Sprintf("%010d-*.log", seq)) }

func (s *Scanner) openFirst() error {
	file, head, err := openHeader(s.fs, s.dir, s.files[0])
	if err != nil {
		return err
	}
	if s.opts.FromFile == 0 && head.PrevSeq != 0 {
		file.Close()
		return corruption.At(missingName(s.dir, head.PrevSeq), 0, "the file is missing before %s", s.files[0].Name)
	}
	s.tail = Tail{Chain: head.PrevChain, NextLSN: head.FirstLSN, LastTime: head.FirstTime}
	return s.enter(0, file, head)
}

// ReadLogID returns the id of the log in dir, which has a file.
func ReadLogID(fsys vfs.FS, dir string) ([16]byte, error) {
	files, err := ListFiles(fsys, dir)
	if err != nil {
		return [16]byte{}, err
	}
	if len(files) == 0 {
		return [16]byte{}, fmt.Errorf("read the log's id: %w", io.ErrUnexpectedEOF)
	}
	file, head, err := openHeader(fsys, dir, files[len(files)-1])
	if err != nil {
		return [16]byte{}, err
	}
	return head.LogID, file.Close()
}

// openHeader opens a log file and reads its header, whose sequence and first LSN must be those of its name.
func openHeader(fsys vfs.FS, dir string, info FileInfo) (vfs.File, Header, error) {
	file, err := fsys.Open(path.Join(dir, info.Name))
	if err != nil {
		return nil, Header{}, fmt.Errorf("open log file: %w", err)
	}
	name := relName(dir, info.Name)
	var b [HeaderSize]byte
	n, err := file.ReadAt(b[:], 0)
	if err == io.EOF || n == len(b) {
		err = nil
	}
	var head Header
	if err == nil {
		head, err = ParseHeader(b[:n])
		err = locate(err, name, 0)
	}
	if err == nil && (head.Seq != info.Seq || head.FirstLSN != info.FirstLSN) {
		err = corruption.At(name, 48, "the header is that of %s", FileName(head.Seq, head.FirstLSN))
	}
	if err != nil {
		file.Close()
		return nil, Header{}, err
	}
	return file, head, nil
}

// enter makes file the current one, learns from the next file's header where it ends, and starts reading.
func (s *Scanner) enter(index int, file vfs.File, head Header) error {
	if err := file.Close(); err != nil { // what is read is looked for by its name
		return err
	}
	s.index, s.file, s.head = index, &byName{s.fs, s.dir, s.files[index], head}, head
	s.name = relName(s.dir, s.files[index].Name)
	if !s.opts.ReadOnly {
		if err := head.CheckWritable(); err != nil {
			return locate(err, s.name, 0)
		}
	}
	s.end, s.nextErr, s.next = -1, nil, nil
	if index+1 < len(s.files) {
		s.lookAhead(s.files[index+1])
	}
	size, err := s.file.Size()
	if err != nil {
		return fmt.Errorf("size of %s: %w", s.name, err)
	}
	s.files[index].Size = size
	s.pos = HeaderSize
	s.tail.File, s.tail.FirstLSN, s.tail.End, s.tail.Unsure = head.Seq, head.FirstLSN, HeaderSize, HeaderSize
	s.unsure = s.unsure[:0] // the file before was durable before this one had its name
	s.ahead = newReadAhead(s.file, size, HeaderSize)
	return nil
}

// lookAhead reads the header of the file after the current one. If it does not fit, the current file is still read as
// far as it goes, and then the error is returned.
func (s *Scanner) lookAhead(info FileInfo) {
	name := relName(s.dir, info.Name)
	file, next, err := openHeader(s.fs, s.dir, info)
	if err == nil {
		err = file.Close()
	}
	switch {
	case err != nil:
	case next.PrevSeq != s.head.Seq && next.PrevSeq != 0:
		err = corruption.At(missingName(s.dir, next.PrevSeq), 0, "the file is missing between %s and %s",
			s.files[s.index].Name, info.Name)
	case next.PrevSeq != s.head.Seq || next.LogID != s.head.LogID:
		err = corruption.At(name, 16, "the file belongs to another log than %s", s.files[s.index].Name)
	case next.TimelineID != s.head.TimelineID && next.PrevEnding != EndingCut:
		err = corruption.At(name, 32, "the timeline changes without a cut")
	}
	if err != nil {
		s.nextErr = err
		return
	}
	s.next, s.end = &next, int64(next.PrevEnd)
}

// Next returns the next frame, which is valid until the call after or Close. It returns io.EOF at a proper end of the log, which
// may be a torn tail: see Tail. Any other error ends the scan for good.
func (s *Scanner) Next() (*Frame, error) {
	if s.err != nil {
		return nil, s.err
	}
	f, err := s.step()
	if err != nil {
		if err == io.EOF {
			err = s.finish()
		}
		s.err = err
		return nil, err
	}
	return f, nil
}

func (s *Scanner) step() (*Frame, error) {
	for s.pos == s.end {
		if err := s.nextFile(); err != nil {
			return nil, err
		}
	}
	limit := s.limit()
	b, defect, err := s.read(s.pos, limit)
	if err != nil {
		return nil, err
	}
	if defect != "" {
		if b, err = s.judge(defect); err != nil {
			return nil, err
		}
	}
	return s.accept(b)
}

// limit is where the current file's frames end at the latest.
func (s *Scanner) limit() int64 {
	size := s.ahead.size
	if s.end >= 0 {
		return min(s.end, size)
	}
	if s.last() && s.clean != nil && s.clean.Seq == s.head.Seq {
		return min(int64(s.clean.End), size)
	}
	return size
}

func (s *Scanner) last() bool { return s.index+1 == len(s.files) }

// read reads the frame at off, padding included. defect says why there is none.
func (s *Scanner) read(off, limit int64) (b []byte, defect string, err error) {
	h, err := s.ahead.at(off, min(FrameHeaderSize, limit-off))
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", s.name, err)
	}
	if len(h) < FrameHeaderSize {
		return nil, fmt.Sprintf("frame header cut off after %d bytes", len(h)), nil
	}
	n, ok := bodyLength(h)
	if !ok {
		return nil, fmt.Sprintf("frame of %d bytes", n), nil
	}
	size := int64(FrameSize(n))
	if size > limit-off {
		return nil, fmt.Sprintf("frame of %d bytes, but %d remain", size, limit-off), nil
	}
	if b, err = s.ahead.at(off, size); err != nil {
		return nil, "", fmt.Errorf("%s: %w", s.name, err)
	}
	if int64(len(b)) < size {
		return nil, fmt.Sprintf("frame of %d bytes, but the file was cut to %d", size, s.ahead.size), nil
	}
	if !crcMatches(b[:FrameHeaderSize+n], &s.head.Salt, s.head.Seq, off) {
		return nil, "frame: crc does not match", nil
	}
	return b, "", nil
}

// accept checks a frame whose CRC holds against what came before it. There is no excuse for these: such a frame was
// written whole.
func (s *Scanner) accept(b []byte) (*Frame, error) {
	n, _ := bodyLength(b)
	f := &s.frame
	f.File, f.Offset, f.Name = s.head.Seq, s.pos, s.name
	if err := f.decode(b[:FrameHeaderSize+n]); err != nil {
		return nil, locate(err, s.name, s.pos)
	}
	if !coding.AllZero(b[FrameHeaderSize+n:]) {
		return nil, corruption.At(s.name, s.pos+FrameHeaderSize+int64(n), "padding of the frame is not zero")
	}
	t := &s.tail
	first := s.pos == HeaderSize
	if s.adrift && f.Kind == KindCommit {
		t.NextLSN, s.adrift = f.BaseLSN, false
	}
	switch {
	case f.Chain != t.Chain:
		return nil, corruption.At(s.name, s.pos, "frame: follows one of crc %08x, but %08x is before it", f.Chain, t.Chain)
	case first != (f.Kind == KindDictionary):
		return nil, corruption.At(s.name, s.pos, "%s frame: a file has one dictionary, first", f.Kind)
	case (f.Kind == KindCommit || first) && f.BaseLSN != t.NextLSN:
		return nil, corruption.At(s.name, s.pos, "%s frame: LSN %d, want %d", f.Kind, f.BaseLSN, t.NextLSN)
	}
	if f.Kind == KindCommit {
		t.NextLSN += event.LSN(f.Count)
		s.commit = Position{}
		if f.Flags&FrameSpilled == 0 {
			s.commit = f.Position()
		}
	}
	t.Chain = f.OriginalCRC()
	t.LastTime = max(t.LastTime, f.BaseTime)
	t.DurableLSN = max(t.DurableLSN, f.DurableLSN)
	switch {
	case f.Kind == KindCommit:
		s.unsure = append(s.unsure, unsureFrame{s.pos, t.NextLSN - 1})
	case !first: // of those without events what comes behind them tells
		s.unsure = append(s.unsure, unsureFrame{s.pos, t.NextLSN})
	}
	for len(s.unsure) > 0 && s.unsure[0].by <= t.DurableLSN {
		s.unsure = s.unsure[1:]
	}
	s.pos += int64(len(b))
	s.progress += int64(len(b))
	if t.End, t.Unsure = s.pos, s.pos; len(s.unsure) > 0 {
		t.Unsure = s.unsure[0].at
	}
	return f, nil
}

// nextFile goes on to the file whose header states the end that was reached; io.EOF if only one file is wanted.
func (s *Scanner) nextFile() error {
	next := s.next
	if next.PrevChain != s.tail.Chain {
		return corruption.At(relName(s.dir, s.files[s.index+1].Name), 72, "the file follows a frame of crc %08x, but %s ends with %08x",
			next.PrevChain, s.files[s.index].Name, s.tail.Chain)
	}
	if s.adrift {
		s.tail.NextLSN, s.adrift = next.FirstLSN, false
	}
	if next.FirstLSN != s.tail.NextLSN {
		return corruption.At(relName(s.dir, s.files[s.index+1].Name), 144, "the file begins with LSN %d, want %d", next.FirstLSN,
			s.tail.NextLSN)
	}
	if next.PrevEnding == EndingSealed {
		if at, err := s.firstNonZero(s.pos); err != nil {
			return err
		} else if at >= 0 {
			return corruption.At(s.name, at, "bytes behind the end of a sealed file")
		}
	}
	if s.opts.Only {
		return io.EOF
	}
	index := s.index + 1
	s.leave()
	file, head, err := openHeader(s.fs, s.dir, s.files[index])
	if err != nil {
		return err
	}
	return s.enter(index, file, head)
}

func (s *Scanner) leave() {
	if s.ahead != nil {
		s.ahead.stop()
	}
	s.file = nil
}

// firstNonZero returns the offset of the first byte that is not zero from off to the end of the file, -1 if there is none.
func (s *Scanner) firstNonZero(off int64) (int64, error) {
	for off < s.ahead.size {
		b, err := s.ahead.at(off, readAheadBytes/4)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", s.name, err)
		}
		if !coding.AllZero(b) {
			for i, c := range b {
				if c != 0 {
					return off + int64(i), nil
				}
			}
		}
		off += int64(len(b))
	}
	return -1, nil
}

// finish completes the tail at a proper end.
func (s *Scanner) finish() error {
	t := &s.tail
	if s.commit.File != 0 {
		last, err := s.lastTime()
		if err != nil {
			return err
		}
		t.LastTime = max(t.LastTime, last)
	}
	if t.Clean {
		t.LastTime = max(t.LastTime, s.clean.LastTime)
		t.DurableLSN, t.Unsure = t.NextLSN-1, t.End
	}
	return io.EOF
}

// lastTime returns the log time of the last event of the last commit frame, which may lie in a file before the current.
func (s *Scanner) lastTime() (int64, error) {
	for i := s.index; i >= 0; i-- {
		if s.files[i].Seq != s.commit.File {
			continue
		}
		file, head, err := openHeader(s.fs, s.dir, s.files[i])
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return 0, err
		}
		defer file.Close()
		f, err := ReadFrameAt(file, &head, relName(s.dir, s.files[i].Name), s.commit.Offset)
		if err != nil {
			return 0, err
		}
		var last int64
		for e, err := range f.Events() {
			if err != nil {
				return 0, err
			}
			last = e.Time
		}
		return last, nil
	}
	return 0, nil
}

// Tail returns where the log ends, once Next has returned io.EOF; before, and after an error, where the frames returned
// so far end.
func (s *Scanner) Tail() Tail { return s.tail }

// LogID returns the log's id, zero for an empty log.
func (s *Scanner) LogID() [16]byte { return s.head.LogID }

// TimelineID returns the id of the timeline of the newest file read, zero for an empty log.
func (s *Scanner) TimelineID() [16]byte { return s.head.TimelineID }

// Header returns the header of the file that the newest frame lies in.
func (s *Scanner) Header() *Header { return &s.head }

// Files returns how many files there were when the scan began.
func (s *Scanner) Files() int { return len(s.files) }

// Bytes returns how many bytes of frames were read.
func (s *Scanner) Bytes() int64 { return s.progress }

// Close gives back what the scan holds, always nil. It is safe to call twice.
func (s *Scanner) Close() error {
	if s.err == nil {
		s.err = ErrClosed
	}
	s.leave()
	return nil
}
