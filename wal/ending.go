package wal

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// judge decides what it means that there is no sound frame at s.pos: see "How a log ends" in the package comment. It
// returns the frame if reading again finds one, io.EOF for a proper end, else the damage.
func (s *Scanner) judge(defect string) ([]byte, error) {
	if s.end >= 0 {
		return nil, corruption.At(s.name, s.pos, "%s; the file ends at %d", defect, s.end)
	}
	if s.nextErr != nil {
		return nil, s.nextErr
	}
	if s.opts.ReadOnly {
		if b, err := s.again(); b != nil || err != nil {
			return b, err
		}
	}
	if s.clean != nil {
		damage := s.judgeClean(defect)
		if damage == io.EOF {
			s.tail.Clean = true
			return nil, io.EOF
		}
		if !s.opts.ReadOnly {
			return nil, damage
		}
		// The next writer may have removed CLEAN just now and begun to append.
		if b, err := s.again(); b != nil || err != nil {
			return b, err
		}
		if s.clean != nil {
			return nil, damage
		}
	}
	if s.pos == HeaderSize {
		return nil, corruption.At(s.name, s.pos, "%s; the dictionary was durable before the file had its name", defect)
	}
	return s.judgeTorn(defect)
}

// again looks at the place with fresh eyes: CLEAN, size and bytes may have been changed by a writer since they were read.
// It returns the frame if there is one now.
func (s *Scanner) again() ([]byte, error) {
	if s.clean != nil {
		clean, err := ReadClean(s.fs, s.dir)
		if err != nil {
			return nil, err
		}
		if clean != nil && *clean == *s.clean {
			return nil, nil
		}
		s.clean = nil // a writer is at work; what a new CLEAN says came after what this scan is to see
	}
	size, err := s.file.Size()
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", s.name, err)
	}
	s.ahead.stop()
	s.files[s.index].Size = size
	s.ahead = newReadAhead(s.file, max(size, s.pos), s.pos)
	b, defect, err := s.read(s.pos, s.limit())
	if err != nil || defect != "" {
		return nil, err
	}
	return b, nil
}

// judgeClean returns io.EOF if the log ends exactly as CLEAN says.
func (s *Scanner) judgeClean(defect string) error {
	c, t, cleanName := s.clean, &s.tail, relName(s.dir, CleanName)
	switch {
	case c.Seq > s.head.Seq:
		return corruption.At(missingName(s.dir, c.Seq), 0, "the file is missing, but CLEAN names it as the last")
	case c.Seq < s.head.Seq:
		return corruption.At(cleanName, 16, "CLEAN ends the log in file %d, but %s exists", c.Seq, s.name)
	case int64(c.End) != s.pos:
		return corruption.At(s.name, s.pos, "%s; CLEAN says that the log ends at %d", defect, c.End)
	case c.Chain != t.Chain:
		return corruption.At(cleanName, 32, "CLEAN says that the last frame has crc %08x, it has %08x", c.Chain, t.Chain)
	case c.NextLSN != t.NextLSN && !s.adrift:
		return corruption.At(cleanName, 40, "CLEAN says that LSN %d is next, but it is %d", c.NextLSN, t.NextLSN)
	}
	at, err := s.firstNonZero(s.pos)
	if err != nil {
		return err
	}
	if at >= 0 {
		return corruption.At(s.name, at, "bytes behind the end that CLEAN states")
	}
	return io.EOF
}

// judgeTorn tells a torn tail from damage in a file that was not closed.
func (s *Scanner) judgeTorn(defect string) ([]byte, error) {
	first, err := s.firstNonZero(s.pos)
	if err != nil {
		return nil, err
	}
	if first < 0 {
		return nil, io.EOF
	}
	last, durable, err := s.searchEvidence()
	if err != nil {
		return nil, err
	}
	if durable > 0 {
		if s.opts.ReadOnly { // the writer may have completed the frame while later bytes were being read
			if b, err := s.again(); b != nil || err != nil {
				return b, err
			}
		}
		return nil, corruption.At(s.name, s.pos, "%s, but LSN %d was durable as a frame at %d says", defect, s.tail.NextLSN, durable)
	}
	t := &s.tail
	t.Cut, t.CutBytes = true, last+1-s.pos
	t.Doubt = fmt.Sprintf("LSN %d and before are known to have been durable. What followed may have been acknowledged "+
		"if these bytes decayed and were not torn by a crash.", t.DurableLSN)
	return nil, io.EOF
}

// searchStep is how many places are looked at with one part of the file in memory; the part is longer by the longest
// frame.
const searchStep = 16 << 20

// searchEvidence looks behind s.pos for a frame that proves that the next LSN was durable. It returns the offset of the
// last byte that is not zero, and of such a frame, 0 if there is none.
func (s *Scanner) searchEvidence() (last, found int64, err error) {
	return s.search(s.pos, s.ahead.size, s.tail.NextLSN)
}

// search looks for the first frame at from or later, and before limit, whose CRC holds and that says that an LSN from
// durable on was durable. It returns the offset of the last byte seen that is not zero, and of the frame, 0 if there is
// none.
func (s *Scanner) search(from, limit int64, durable event.LSN) (last, found int64, err error) {
	var buf []byte
	for ; from < limit; from += searchStep {
		n := min(searchStep+int64(FrameSize(MaxCommitBytes)), limit-from)
		if int64(cap(buf)) < n {
			buf = make([]byte, n)
		}
		got, err := s.file.ReadAt(buf[:n], from)
		if err != nil && err != io.EOF {
			return 0, 0, fmt.Errorf("read %s: %w", s.name, err)
		}
		buf = buf[:got]
		end := len(buf)
		for end > 0 && buf[end-1] == 0 {
			end--
		}
		if end > 0 {
			last = from + int64(end) - 1
		}
		if at := s.searchIn(buf, from, min(end, searchStep), durable); at != 0 {
			return last, at, nil
		}
	}
	return last, 0, nil
}

// searchIn looks at the places before limit in b, which lies at offset from.
//
// The bytes may be anything, also a value chosen so that many places look like the header of a long frame. So the CRC of
// a candidate is derived from running CRCs, in a time that hardly depends on its length.
func (s *Scanner) searchIn(b []byte, from int64, limit int, durable event.LSN) (found int64) {
	var running *runningCRC
	for i := 0; i < limit && i+FrameHeaderSize <= len(b); i += frameAlign {
		h := b[i : i+FrameHeaderSize]
		size, ok := bodyLength(h)
		if !ok || h[8] == 0 || h[10] != 0 || h[11] != 0 || FrameSize(size) > len(b)-i ||
			event.LSN(binary.LittleEndian.Uint64(h[56:])) < durable {
			continue
		}
		if running == nil {
			running = newRunningCRC(b)
		}
		body := running.of(i+FrameHeaderSize, i+FrameHeaderSize+size)
		if frameCRC(body, h, &s.head.Salt, s.head.Seq, from+int64(i)) == binary.LittleEndian.Uint32(h) {
			return from + int64(i)
		}
	}
	return 0
}
