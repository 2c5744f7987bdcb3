package dyngo

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

// Token is an LSN with the log and the timeline that it belongs to. Restore and Options.RecoverTo begin new timelines, in which
// LSNs above the fork mean something else; a token tells.
type Token struct {
	Log, Timeline [16]byte
	LSN           LSN
}

// String is the token as text: 32 hexadecimal digits, 32 more, and the LSN, with dots between. ParseToken reads it.
func (t Token) String() string { return fmt.Sprintf("%x.%x.%d", t.Log, t.Timeline, t.LSN) }

// ParseToken is the reverse of Token.String. An error matches ErrLimit.
func ParseToken(s string) (t Token, err error) {
	parts := strings.Split(s, ".")
	if len(parts) == 3 {
		var n uint64
		if n, err = strconv.ParseUint(parts[2], 10, 63); err == nil {
			t.LSN = LSN(n)
			for i, id := range []*[16]byte{&t.Log, &t.Timeline} {
				b, herr := hex.DecodeString(parts[i])
				if err = errors.Join(err, herr); len(b) == len(id) {
					copy(id[:], b)
				}
			}
		}
	}
	if err != nil || t.String() != s {
		return Token{}, limitError("token %q: want 32 hexadecimal digits, 32 more and an LSN, with dots between", s)
	}
	return t, nil
}

// Token is an LSN in the timeline that the store is in.
func (db *DB) Token(lsn LSN) (Token, error) {
	if db.closed.Load() {
		return Token{}, ErrClosed
	}
	log, line, err := db.lineage()
	return Token{log, line.current, lsn}, err
}

// CheckToken returns nil if a token's LSN means in this store what it meant where the token is from. One of a timeline that this
// store has left before the LSN is a *TimelineError, which says where; so is one of a timeline or log that it doesn't know.
func (db *DB) CheckToken(t Token) error {
	if db.closed.Load() {
		return ErrClosed
	}
	log, line, err := db.lineage()
	if err != nil {
		return err
	}
	if log != t.Log {
		return &TimelineError{Token: t, Known: false}
	}
	return line.check(t)
}

// TimelineError tells that the LSN of a token means something else in this store. It matches ErrTimeline.
type TimelineError struct {
	Token Token
	// Known says that the store comes from the token's timeline. It has left it at Fork: up to there both are the same.
	Known bool
	Fork  LSN
}

func (e *TimelineError) Error() string {
	if !e.Known {
		return fmt.Sprintf("%v: LSN %d of timeline %x, log %x, which this store does not come from", ErrTimeline, e.Token.LSN, e.Token.Timeline, e.Token.Log)
	}
	return fmt.Sprintf("%v: LSN %d of timeline %x, which this store has left at LSN %d", ErrTimeline, e.Token.LSN, e.Token.Timeline, e.Fork)
}

// Is makes the error match ErrTimeline.
func (e *TimelineError) Is(target error) bool { return target == ErrTimeline }

// lineage is the timeline that a store is in, and those that it comes from, as far as its log goes back.
type lineage struct {
	current [16]byte
	forks   map[[16]byte]LSN // by the timeline that was left: the last LSN of it
	gap     error            // why a fork may be unknown: a log file is missing; nil = none is
}

func (l *lineage) check(t Token) error {
	if t.Timeline == l.current {
		return nil
	}
	if l.gap != nil {
		return l.gap
	}
	fork, known := l.forks[t.Timeline]
	if known && t.LSN <= fork {
		return nil
	}
	return &TimelineError{Token: t, Known: known, Fork: fork}
}

func (db *DB) lineage() (log [16]byte, l lineage, err error) {
	for try := 0; try == 0 || l.gap != nil && try < maxOpenTries; try++ { // retention may have removed files while they were listed
		log, l, err = readLineage(db.opts.FS, db.walDir(), db.sorted.set.Current())
	}
	if db.log != nil { // of a log that has no file yet, too
		log, l.current = db.id, db.timeline
	}
	return log, l, err
}

// readLineage reads the headers of log files, and the fork events at the beginning of timelines.
func readLineage(fsys vfs.FS, walDir string, v *manifest.Version) (log [16]byte, l lineage, err error) {
	l.forks = map[[16]byte]LSN{}
	files, err := wal.ListFiles(fsys, walDir)
	if err != nil {
		return log, l, err
	}
	for i, f := range files {
		if f.Seq < v.OldestLog {
			continue
		}
		if i > 0 && files[i-1].Seq >= v.OldestLog && l.gap == nil {
			if gap := wal.Gap(walDir, files[i-1], f); gap != nil {
				l.gap = gap
			}
		}
		head, err := wal.ReadHeader(fsys, walDir, f)
		if errors.Is(err, fs.ErrNotExist) { // retention drops it
			continue
		}
		if err != nil {
			return log, l, err
		}
		if log = head.LogID; i > 0 && head.TimelineID == l.current {
			continue
		}
		before := l.current
		l.current = head.TimelineID
		parent, lsn, ok, err := readFork(fsys, walDir, f)
		if err != nil {
			return log, l, err
		}
		if ok {
			l.forks[parent] = lsn
			if before != [16]byte{} {
				l.forks[before] = min(lsn, head.FirstLSN-1)
			}
		}
	}
	return log, l, nil
}

// readFork reads the fork event that a log file begins with; ok is false if it begins with something else.
func readFork(fsys vfs.FS, walDir string, file wal.FileInfo) (parent [16]byte, lsn LSN, ok bool, err error) {
	s, err := wal.NewScanner(fsys, walDir, wal.ScanOptions{ReadOnly: true, FromFile: file.Seq, Only: true})
	if err != nil {
		return parent, 0, false, err
	}
	defer s.Close() // only read from
	for {
		f, err := s.Next()
		if err == io.EOF {
			return parent, 0, false, nil
		}
		if err != nil {
			return parent, 0, false, err
		}
		if f.Kind != wal.KindCommit {
			continue
		}
		if f.Flags&wal.FrameSpilled != 0 {
			return parent, 0, false, nil
		}
		for e, err := range f.Events() {
			if err != nil || e.Op != event.OpFork {
				return parent, 0, false, err
			}
			n, m := coding.Uvarint(e.Value)
			if len(e.Key) != len(parent) || m != len(e.Value) {
				return parent, 0, false, corruption.At(f.Name, f.Offset, "fork event: key of %d bytes, value %x", len(e.Key), e.Value)
			}
			return [16]byte(e.Key), LSN(n), true, nil
		}
	}
}
