package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// VerifyReport is what Verify found.
type VerifyReport struct {
	Files        int
	Bytes        int64 // read
	Frames       int64
	Events       int64
	DataFrames   int64
	Unreferenced int64           // data frames that no event refers to: what a crash or an aborted batch left, no defect
	FirstLSN     event.LSN       // of the first event that the files hold, or of the next one if they hold none
	Tail         Tail            // where the log ends; a torn tail is no defect
	Redactions   []RedactedValue // by the LSN of the value, if events were decoded
	Broken       bool            // by damage: the frames do not all follow each other, or not from the log's beginning
	Defects      []error         // each names file and offset; at most maxDefects
	MoreDefects  int             // beyond those
}

// maxDefects bounds the defects that are kept.
const maxDefects = 1000

// VerifyOptions say how VerifyWith looks at a log. The zero value looks at all of it.
type VerifyOptions struct {
	// Oldest is the file that the log begins with since those before it were dropped on purpose; 0 = none was. What is left of those is
	// passed over, and so is what refers to them.
	Oldest uint64
	// FramesOnly leaves out what lies in the frames: events are not decoded, and what they refer to is not looked for.
	FramesOnly bool
	// Commit, if not nil, is called with each commit frame, in the log's order, until the log is Broken. The frame is valid during the
	// call. An error ends the verification, which returns it.
	Commit func(f *Frame) error
	// Progress, if not nil, is called with the bytes done and in all.
	Progress func(done, total int64)
}

// Verify is VerifyWith of a whole log.
func Verify(ctx context.Context, fsys vfs.FS, dir string, progress func(done, total int64)) (VerifyReport, error) {
	return VerifyWith(ctx, fsys, dir, VerifyOptions{Progress: progress})
}

// VerifyWith reads every byte of the log in dir and checks all that can be checked: file headers and how they follow each
// other, CRC, chain, LSN and log time of each frame, the encoding of each event, that the pieces of large values and
// batches lie before what refers to them and are what it expects, the dictionaries, CLEAN, and that nothing lies behind
// the end. It goes on after a defect with the next sound frame, so that a report is complete; what a frame between two
// defects refers to may then be missing from it.
//
// It takes no lock and works beside a writer: then it ends where the log ended while it was read. The error is of the file
// system, the context or Commit; damage is in the report.
func VerifyWith(ctx context.Context, fsys vfs.FS, dir string, o VerifyOptions) (VerifyReport, error) {
	v := &verifier{ctx: ctx, opts: o, data: map[Position]*dataFrame{}, files: OpenFiles(fsys, dir)}
	defer v.files.Close() // only read from: nothing can be lost
	s := &Scanner{fs: fsys, dir: dir, opts: ScanOptions{ReadOnly: true, FromFile: o.Oldest}, index: -1}
	v.s = s
	defer s.Close()
	if err := v.open(); err != nil {
		return v.report, err
	}
	v.report.Broken = len(v.report.Defects) > 0
	err := v.run()
	v.report.Tail = s.Tail()
	v.report.Files, v.report.Bytes = s.Files(), v.done
	v.report.Unreferenced = max(0, v.unreferenced)
	v.report.Redactions = v.redactions.Values()
	return v.report, err
}

// VerifyFiles looks at the headers of the log files only: that they are sound, none is missing, and each follows the one before
// it, which is long enough. Of the report, files, first LSN and defects are filled in.
func VerifyFiles(fsys vfs.FS, dir string, oldest uint64) (r VerifyReport, err error) {
	note := func(err error) error {
		if errors.Is(err, corruption.ErrCorrupt) || errors.Is(err, event.ErrUnsupported) {
			r.Defects = append(r.Defects, err)
			return nil
		}
		return err
	}
	files, err := ListFiles(fsys, dir)
	if err != nil {
		return r, note(err)
	}
	for len(files) > 0 && files[0].Seq < oldest {
		files = files[1:]
	}
	clean, err := ReadClean(fsys, dir)
	if err != nil {
		if err := note(err); err != nil {
			return r, err
		}
	}
	if clean != nil && (len(files) == 0 || files[len(files)-1].Seq != clean.Seq) {
		_ = note(corruption.At(missingName(dir, clean.Seq), 0, "the file is missing, but CLEAN names it as the last"))
	}
	if oldest > 0 && (len(files) == 0 || files[0].Seq != oldest) {
		_ = note(Missing(dir, oldest))
	}
	var prev *Header
	r.Files = len(files)
	for i, f := range files {
		head, err := ReadHeader(fsys, dir, f)
		if err != nil {
			if err := note(err); err != nil {
				return r, err
			}
			prev = nil
			continue
		}
		name := relName(dir, f.Name)
		switch {
		case i == 0:
			if r.FirstLSN = head.FirstLSN; oldest == 0 && head.PrevSeq != 0 {
				_ = note(corruption.At(missingName(dir, head.PrevSeq), 0, "the file is missing before %s", f.Name))
			}
		case prev == nil: // its damage was told
		case head.LogID != prev.LogID:
			_ = note(corruption.At(name, 16, "the file belongs to another log than %s", files[i-1].Name))
		case head.PrevSeq != prev.Seq:
			_ = note(corruption.At(missingName(dir, head.PrevSeq), 0, "the file is missing between %s and %s", files[i-1].Name, f.Name))
		case int64(head.PrevEnd) > files[i-1].Size:
			_ = note(corruption.At(relName(dir, files[i-1].Name), files[i-1].Size, "the file was cut: it ends at %d, %s says %d",
				files[i-1].Size, f.Name, head.PrevEnd))
		}
		prev = &head
	}
	return r, nil
}

// verifier is the work in progress.
type verifier struct {
	ctx   context.Context
	opts  VerifyOptions
	s     *Scanner
	files *Files

	report VerifyReport
	done   int64
	total  int64
	told   int64 // done when progress was last called

	lastTime int64
	data     map[Position]*dataFrame // the newest data frames
	order    []Position              // of data, oldest first from index oldest on, a ring
	oldest   int

	unreferenced int64

	redactions Redactions
}

// dataFrame is what is remembered of a data frame until it is referred to.
type dataFrame struct {
	n        int
	crc      uint32
	used     bool
	redacted bool // its value is gone on purpose: length and place remain
}

// rememberedDataFrames bounds the data frames that are remembered; older ones are read again when they are referred to.
const rememberedDataFrames = 1 << 17

// defect notes damage and what is unsupported, and returns any other error.
func (v *verifier) defect(err error) error {
	if !errors.Is(err, corruption.ErrCorrupt) && !errors.Is(err, event.ErrUnsupported) {
		return err
	}
	for i := len(v.report.Defects) - 1; i >= max(0, len(v.report.Defects)-8); i-- {
		if v.report.Defects[i].Error() == err.Error() {
			return nil // met a second time on the way on
		}
	}
	if len(v.report.Defects) == maxDefects {
		v.report.MoreDefects++
		return nil
	}
	v.report.Defects = append(v.report.Defects, err)
	return nil
}

// open does what NewScanner does, but notes defects and goes on.
func (v *verifier) open() error {
	s := v.s
	var err error
	if s.clean, err = ReadClean(s.fs, s.dir); err != nil {
		if err := v.defect(err); err != nil {
			return err
		}
	}
	if s.files, err = ListFiles(s.fs, s.dir); err != nil {
		s.err = io.EOF
		return v.defect(err)
	}
	for len(s.files) > 0 && s.files[0].Seq < v.opts.Oldest {
		s.files = s.files[1:]
	}
	for _, f := range s.files {
		v.total += f.Size
	}
	if v.opts.Oldest > 0 && (len(s.files) == 0 || s.files[0].Seq != v.opts.Oldest) {
		if err := v.defect(Missing(s.dir, v.opts.Oldest)); err != nil {
			return err
		}
	}
	if len(s.files) == 0 {
		s.err = io.EOF
		if s.clean != nil {
			return v.defect(corruption.At(missingName(s.dir, s.clean.Seq), 0, "the file is missing, but CLEAN names it as the last"))
		}
		return nil
	}
	if err := s.openFirst(); err != nil {
		if err := v.defect(err); err != nil {
			return err
		}
		return v.skipFile(0)
	}
	v.report.FirstLSN = s.tail.NextLSN
	return nil
}

// run reads to the end of the log.
func (v *verifier) run() error {
	for {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		f, err := v.s.Next()
		if err == nil {
			v.report.Frames++
			err = v.frame(f)
			v.advance(f)
			if err != nil {
				err = v.defect(err)
			}
			if err == nil && v.opts.Commit != nil && f.Kind == KindCommit && !v.report.Broken {
				err = v.opts.Commit(f)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err == io.EOF {
			break
		}
		if err := v.defect(err); err != nil {
			return err
		}
		v.report.Broken = true
		if err := v.recover(); err != nil {
			return err
		}
	}
	if v.opts.Progress != nil {
		v.opts.Progress(v.total, v.total)
	}
	return nil
}

func (v *verifier) advance(f *Frame) {
	v.done += f.Size()
	if f.Kind == KindDictionary {
		v.done += HeaderSize
	}
	if v.opts.Progress != nil && v.done-v.told >= readAheadBytes {
		v.told = v.done
		v.opts.Progress(min(v.done, v.total), v.total)
	}
}

// recover sets the scanner on the next sound frame after a defect: in the same file, else at the start of a later one.
func (v *verifier) recover() error {
	s := v.s
	if s.file == nil {
		return v.skipFile(s.index + 1)
	}
	s.err = nil
	limit := s.limit()
	for at := s.pos; ; {
		_, found, err := s.search(min(at+frameAlign, limit), limit, 0)
		if err != nil {
			return err
		}
		if found == 0 {
			return v.skipFile(s.index + 1)
		}
		at = found
		f, err := ReadFrameAt(s.file, &s.head, s.name, at)
		if err == nil {
			v.continueAt(f)
			return nil
		}
		if err := v.defect(err); err != nil {
			return err
		}
	}
}

// continueAt makes f the next frame and believes what it says of those before it.
func (v *verifier) continueAt(f *Frame) {
	s := v.s
	v.done += f.Offset - s.pos
	s.ahead.stop()
	s.ahead = newReadAhead(s.file, s.ahead.size, f.Offset)
	s.pos, s.tail.Chain, s.adrift = f.Offset, f.Chain, true
}

// skipFile goes on with the first file from index on that has a sound header; io.EOF behind the last.
func (v *verifier) skipFile(index int) error {
	s := v.s
	s.leave()
	for ; index < len(s.files); index++ {
		file, head, err := openHeader(s.fs, s.dir, s.files[index])
		if err != nil {
			if err := v.defect(err); err != nil {
				return err
			}
			continue
		}
		s.tail.Chain, s.tail.NextLSN, s.err, s.adrift = head.PrevChain, head.FirstLSN, nil, false
		return s.enter(index, file, head)
	}
	s.index, s.err = len(s.files), io.EOF
	return nil
}

// frame checks what a sound frame holds.
func (v *verifier) frame(f *Frame) error {
	if v.opts.FramesOnly {
		if f.Kind == KindData {
			v.report.DataFrames++
		}
		v.report.Events += int64(f.Count)
		return nil
	}
	switch f.Kind {
	case KindData:
		v.report.DataFrames++
		v.remember(f)
	case KindDictionary:
		d, err := event.ParseDictionary(f.Body)
		if err == nil {
			v.redactions.Dictionary(d)
		}
		return locate(err, f.Name, f.Offset+FrameHeaderSize)
	case KindCommit:
		return v.events(f)
	}
	return nil
}

func (v *verifier) events(f *Frame) error {
	var events iter.Seq2[*event.Event, error]
	if f.Flags&FrameSpilled != 0 {
		s, err := ParseSpill(f.Body, f.Count)
		if err != nil {
			return locate(err, f.Name, f.Offset+FrameHeaderSize)
		}
		if s.from() < v.opts.Oldest {
			v.report.Events += int64(f.Count)
			return nil
		}
		events = f.SpilledEvents(v.piece)
	} else {
		events = f.Events()
	}
	for e, err := range events {
		if err == nil {
			err = v.event(f, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// event checks an event against what came before it.
func (v *verifier) event(f *Frame, e *event.Event) error {
	v.report.Events++
	if e.Time < v.lastTime {
		return corruption.At(f.Name, f.Offset, "event of LSN %d: log time %d after %d", e.LSN, e.Time, v.lastTime)
	}
	v.lastTime = e.Time
	v.redactions.Event(e)
	if e.Flags&event.FlagValueRef == 0 {
		return nil
	}
	ref, err := event.ParseValueRef(e.Value)
	if err != nil {
		return locate(err, f.Name, f.Offset)
	}
	for _, p := range ref.Pieces {
		if err := f.CheckPiece(p); err != nil {
			return err
		}
		if err := v.refer(p); err != nil {
			return fmt.Errorf("LSN %d: %w", e.LSN, err)
		}
	}
	return nil
}

// remember notes a data frame that has just been read.
func (v *verifier) remember(f *Frame) {
	v.unreferenced++
	pos := f.Position()
	v.data[pos] = &dataFrame{n: len(f.Body), crc: BodyCRC(f.Body), redacted: f.Flags&FrameRedacted != 0}
	if len(v.order) < rememberedDataFrames {
		v.order = append(v.order, pos)
		return
	}
	delete(v.data, v.order[v.oldest])
	v.order[v.oldest] = pos
	v.oldest = (v.oldest + 1) % len(v.order)
}

// refer checks a data frame that an event refers to: it was read before, as it lies before.
func (v *verifier) refer(p event.Piece) error {
	if p.File < v.opts.Oldest {
		return nil
	}
	d := v.data[Position{File: p.File, Offset: int64(p.Offset)}]
	if d == nil {
		_, err := v.files.readPiece(p)
		if err == nil {
			v.unreferenced--
		}
		return err
	}
	if !d.used {
		d.used = true
		v.unreferenced--
	}
	if d.n != int(p.StoredLen) || d.crc != p.CRC && !d.redacted {
		return corruption.At(v.name(p.File), int64(p.Offset), "piece of %d bytes, crc %08x, want %d bytes, crc %08x",
			d.n, d.crc, p.StoredLen, p.CRC)
	}
	return nil
}

// name is the name of a file, relative to the database directory.
func (v *verifier) name(seq uint64) string {
	for _, f := range v.s.files {
		if f.Seq == seq {
			return relName(v.s.dir, f.Name)
		}
	}
	return missingName(v.s.dir, seq)
}

// piece reads a piece of a spilled batch.
func (v *verifier) piece(p event.Piece) ([]byte, error) {
	if err := v.refer(p); err != nil {
		return nil, err
	}
	return v.files.readPiece(p)
}
