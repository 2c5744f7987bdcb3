package wal

import (
	"context"
	"io"
	"time"

	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// FollowOptions configure Follow. Clock is required.
type FollowOptions struct {
	Clock clock.Clock
	// Poll is how long to wait at the end of the log before looking again; default 100 ms.
	Poll time.Duration
	// FromFile is the sequence of the first file to read, 0 = the log's first.
	FromFile uint64
}

// Follower reads a log that another process may be writing to, and waits at its end for more, also across files. Not safe
// for concurrent use.
type Follower struct {
	s    *Scanner
	opts FollowOptions
}

// Follow begins at the start of a file. It takes no lock. Close must be called.
func Follow(fsys vfs.FS, dir string, opts FollowOptions) (*Follower, error) {
	if opts.Poll <= 0 {
		opts.Poll = 100 * time.Millisecond
	}
	s, err := NewScanner(fsys, dir, ScanOptions{ReadOnly: true, FromFile: opts.FromFile})
	if err != nil {
		return nil, err
	}
	return &Follower{s: s, opts: opts}, nil
}

// Next returns the next frame, which is valid until the call after or Close. At the end of the log it waits for more until the
// context ends. A frame that it returns is sound but need not be durable: a crash of the machine may still take it back,
// see Frame.DurableLSN.
func (f *Follower) Next(ctx context.Context) (*Frame, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		frame, err := f.Try()
		if err != io.EOF {
			return frame, err
		}
		if err := f.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// Try is Next without the waiting: at the end of the log it returns io.EOF.
func (f *Follower) Try() (*Frame, error) {
	for {
		frame, err := f.s.Next()
		if err != io.EOF {
			return frame, err
		}
		if grown, err := f.s.resume(); err != nil {
			return nil, err
		} else if !grown {
			return nil, io.EOF
		}
	}
}

// wait waits for one poll interval or the end of the context.
func (f *Follower) wait(ctx context.Context) error {
	t := f.opts.Clock.NewTimer(f.opts.Poll)
	defer t.Stop()
	select {
	case <-t.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Tail returns where the frames returned so far end.
func (f *Follower) Tail() Tail { return f.s.Tail() }

// Ended says whether another file follows the one that the newest frame lies in, whose end is known then.
func (f *Follower) Ended() bool { return f.s.end >= 0 }

// Header returns the header of the file that the newest frame lies in.
func (f *Follower) Header() *Header { return f.s.Header() }

// Close gives the files back.
func (f *Follower) Close() error { return f.s.Close() }

// resume prepares a scanner that met the end of the log to look for what was written since. It reports whether there is
// reason to look at once: the file grew, or there is a next one.
func (s *Scanner) resume() (bool, error) {
	files, err := ListFiles(s.fs, s.dir)
	if err != nil {
		return false, err
	}
	s.clean, s.err = nil, nil
	s.tail.Clean, s.tail.Cut, s.tail.CutBytes, s.tail.Doubt = false, false, 0, ""
	if s.file == nil { // the log was empty
		s.files = files
		if len(files) == 0 {
			s.err = io.EOF
			return false, nil
		}
		return true, s.openFirst()
	}
	var later []FileInfo
	for _, f := range files {
		if f.Seq > s.head.Seq {
			later = append(later, f)
		}
	}
	s.files = append(s.files[:s.index+1:s.index+1], later...)
	s.end, s.next, s.nextErr = -1, nil, nil
	if len(later) > 0 {
		s.lookAhead(later[0])
	}
	size, err := s.file.Size()
	if err != nil {
		return false, err
	}
	old := s.ahead.size
	s.ahead.stop()
	s.ahead = newReadAhead(s.file, max(size, s.pos), s.pos)
	return size > old || len(later) > 0, nil
}
