package dyngo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/wal"
)

// Target names a state of the past: all that the store held once. AtLSN, AtTime, AtSnapshot, BeforeTx, AfterTx and AtEnd make
// one; the zero Target names none.
type Target struct {
	kind targetKind
	lsn  LSN
	time int64
	name string // of a snapshot
}

type targetKind uint8

const (
	targetNone targetKind = iota // of the zero Target
	targetLSN
	targetTime
	targetBefore
	targetAfter
	targetSnapshot
	targetEnd
)

// AtLSN is the state right after the event of that LSN, be it in the middle of a batch. 0 is the empty store.
func AtLSN(lsn LSN) Target { return Target{kind: targetLSN, lsn: lsn} }

// AtTime is the state after the last event whose log time is not after t.
func AtTime(t time.Time) Target {
	ns := t.UnixNano()
	switch y := t.Year(); { // beyond what nanoseconds reach
	case y > 2261:
		ns = math.MaxInt64
	case y < 1679:
		ns = math.MinInt64
	}
	return Target{kind: targetTime, time: ns}
}

// BeforeTx is the state before a batch, which is named by the LSN of its first event. A single write is a batch of one event.
func BeforeTx(first LSN) Target { return Target{kind: targetBefore, lsn: first} }

// AfterTx is the state after a batch, which is named by the LSN of its first event.
func AfterTx(first LSN) Target { return Target{kind: targetAfter, lsn: first} }

// AtSnapshot is the state that a snapshot was made of; see DB.Snapshot.
func AtSnapshot(name string) Target { return Target{kind: targetSnapshot, name: name} }

// AtEnd is the newest durable state.
func AtEnd() Target { return Target{kind: targetEnd} }

func (t Target) String() string {
	switch t.kind {
	case targetNone:
		return "no state"
	case targetEnd:
		return "the end of the log"
	case targetSnapshot:
		return fmt.Sprintf("snapshot %q", t.name)
	case targetTime:
		return "time " + formatTime(t.time)
	case targetBefore:
		return fmt.Sprintf("before the batch that begins with LSN %d", t.lsn)
	case targetAfter:
		return fmt.Sprintf("after the batch that begins with LSN %d", t.lsn)
	}
	if t.name != "" {
		return fmt.Sprintf("LSN %d of snapshot %q", t.lsn, t.name)
	}
	return fmt.Sprintf("LSN %d", t.lsn)
}

func formatTime(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

// WindowError tells which states can be read: those from the end of what retention has dropped to what is durable. It matches
// ErrOutsideWindow.
type WindowError struct {
	Target   Target
	From, To LSN
	// FromTime is the log time of From, or later by the time in which nothing was written; ToTime is that of To or later. Both
	// are zero in an empty store.
	FromTime, ToTime time.Time
}

func (e *WindowError) Error() string {
	window := fmt.Sprintf("LSN %d to %d", e.From, e.To)
	if !e.FromTime.IsZero() {
		window += fmt.Sprintf(", %s to %s", formatTime(e.FromTime.UnixNano()), formatTime(e.ToTime.UnixNano()))
	}
	return fmt.Sprintf("%v: %v; the window is %s", ErrOutsideWindow, e.Target, window)
}

// Is makes the error match ErrOutsideWindow.
func (e *WindowError) Is(target error) bool { return target == ErrOutsideWindow }

// window is the log files that are there, with what they tell.
type window struct {
	db      *DB
	files   []wal.FileInfo // oldest first; empty when nothing was ever written
	durable LSN
}

// floor is the oldest state that can be read.
func (w *window) floor() LSN {
	if len(w.files) == 0 {
		return 0
	}
	return w.files[0].FirstLSN - 1
}

// outside is the error for a target that is not in the window.
func (w *window) outside(t Target) error {
	e := &WindowError{Target: t, From: w.floor(), To: w.durable}
	if len(w.files) > 0 {
		head, err := wal.ReadHeader(w.db.opts.FS, w.db.walDir(), w.files[0])
		if err != nil {
			return err
		}
		e.FromTime, e.ToTime = unixTime(head.FirstTime), unixTime(max(w.db.now(), head.FirstTime))
	}
	return e
}

// resolve finds the LSN of a target and its time.
func (w *window) resolve(ctx context.Context, t Target) (lsn LSN, at int64, err error) {
	switch t.kind {
	case targetTime:
		lsn, err = w.atTime(ctx, t)
		return lsn, t.time, err
	case targetNone:
		return 0, 0, limitError("the zero Target names no state")
	case targetEnd:
		lsn = w.durable
	case targetLSN:
		lsn = t.lsn
		if lsn < w.floor() || lsn > w.durable {
			return 0, 0, w.outside(t)
		}
	default:
		if t.lsn <= w.floor() || t.lsn > w.durable {
			return 0, 0, w.outside(t)
		}
		in, err := w.locate(ctx, t.lsn)
		if err != nil {
			return 0, 0, err
		}
		if in.first != t.lsn {
			return 0, 0, fmt.Errorf("%w: LSN %d lies in the batch of LSN %d to %d, which is named by its first",
				ErrNoBatch, t.lsn, in.first, in.last)
		}
		if lsn = in.last; t.kind == targetBefore {
			lsn = t.lsn - 1
		}
	}
	if len(w.files) == 0 {
		return lsn, 0, nil
	}
	in, err := w.locate(ctx, lsn)
	return lsn, in.time, err
}

// logged finds the LSN of a snapshot in the events of the log, newest first: it may have been dropped since, or be elsewhere.
func (w *window) logged(ctx context.Context, t Target) (Target, error) {
	for i := len(w.files) - 1; i >= 0; i-- {
		found := false
		err := w.db.eachCommit(ctx, w.files[i].Seq, w.durable, func(f *wal.Frame) (bool, error) {
			if f.Flags&wal.FrameSpilled != 0 {
				return false, nil
			}
			for e, err := range f.Events() {
				if err != nil {
					return false, err
				}
				if e.Op != event.OpSnapshot || string(e.Key) != t.name {
					continue
				}
				if n, m := coding.Uvarint(e.Value); m == len(e.Value) {
					t.kind, t.lsn, found = targetLSN, LSN(n), true
				}
			}
			return false, nil
		})
		if err != nil || found {
			return t, err
		}
	}
	return t, fmt.Errorf("%w: %q, also in the log", ErrNoSnapshot, t.name)
}

// fileOf is the index of the log file that an LSN lies in.
func (w *window) fileOf(lsn LSN) int {
	i := sort.Search(len(w.files), func(i int) bool { return w.files[i].FirstLSN > lsn })
	return max(i-1, 0)
}

// located says when an event was and which batch it belongs to.
type located struct {
	time        int64
	first, last LSN
}

// locate finds an event that is durable. The floor's is gone: its time is when the oldest file began.
func (w *window) locate(ctx context.Context, lsn LSN) (in located, err error) {
	file := w.files[w.fileOf(lsn)]
	if lsn < file.FirstLSN {
		head, err := wal.ReadHeader(w.db.opts.FS, w.db.walDir(), file)
		return located{time: head.FirstTime, first: lsn, last: lsn}, err
	}
	err = w.db.eachCommit(ctx, file.Seq, w.durable, func(f *wal.Frame) (bool, error) {
		last := f.BaseLSN + LSN(f.Count) - 1
		if lsn > last {
			return false, nil
		}
		in = located{time: f.BaseTime, first: f.BaseLSN, last: last}
		if f.Flags&wal.FrameSpilled != 0 { // one batch, at one time
			return true, nil
		}
		in.last = 0
		for e, err := range f.Events() {
			if err != nil {
				return false, err
			}
			if e.LSN == lsn {
				in.time = e.Time
			}
			if e.Flags&event.FlagMore != 0 {
				continue
			}
			if e.LSN >= lsn {
				in.last = e.LSN
				break
			}
			in.first = e.LSN + 1
		}
		return true, nil
	})
	if err == nil && in.last == 0 {
		err = fmt.Errorf("dyngo: log file %s ends before LSN %d, which is durable", file.Name, lsn)
	}
	return in, err
}

// atTime finds the last durable LSN whose log time is not after that of the target.
func (w *window) atTime(ctx context.Context, t Target) (lsn LSN, err error) {
	if len(w.files) == 0 || t.time > w.db.now() {
		return 0, w.outside(t)
	}
	i := sort.Search(len(w.files), func(i int) bool {
		if err != nil {
			return false
		}
		var head wal.Header
		head, err = wal.ReadHeader(w.db.opts.FS, w.db.walDir(), w.files[i])
		return head.FirstTime > t.time
	})
	if err != nil {
		return 0, err
	}
	if i == 0 {
		return 0, w.outside(t)
	}
	file := w.files[i-1]
	lsn = file.FirstLSN - 1
	err = w.db.eachCommit(ctx, file.Seq, w.durable, func(f *wal.Frame) (bool, error) {
		if f.BaseTime > t.time {
			return true, nil
		}
		if f.Flags&wal.FrameSpilled != 0 {
			lsn = f.BaseLSN + LSN(f.Count) - 1
			return false, nil
		}
		for e, err := range f.Events() {
			if err != nil {
				return false, err
			}
			if e.Time > t.time {
				return true, nil
			}
			lsn = e.LSN
		}
		return false, nil
	})
	return min(lsn, w.durable), err
}

// eachCommit visits the commit frames of a log file up to the one with the LSN end, until visit says that it is done.
func (db *DB) eachCommit(ctx context.Context, file uint64, end LSN, visit func(f *wal.Frame) (done bool, err error)) error {
	s, err := wal.NewScanner(db.opts.FS, db.walDir(), wal.ScanOptions{ReadOnly: true, FromFile: file, Only: true})
	if err != nil {
		return err
	}
	defer s.Close()               // only read from
	for s.Tail().NextLSN <= end { // what lies behind may be on its way
		f, err := s.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if f.Kind != wal.KindCommit {
			continue
		}
		if done, err := visit(f); done || err != nil {
			return err
		}
	}
	return nil
}

// holdWindow keeps the log files that are there, and what stands in for older ones, until release of the hold.
//
// Retention tells the holds which files go before it looks a last time at who holds them. So a hold that begins before that is
// seen, and one that begins later is refused; then the pass is waited for.
func (db *DB) holdWindow(lsn LSN) (w window, h *hold, err error) {
	h = &hold{set: &db.holds, name: "view", lsn: lsn, reason: "it reads the past", since: db.opts.Clock.Wall()}
	if w, err = db.listWindow(); err != nil {
		return w, nil, err
	}
	if len(w.files) == 0 || h.begin(w.files[0].Seq) {
		return w, h, nil
	}
	db.retention.hurry(1)
	db.retention.one.Lock() // no pass goes on
	db.retention.hurry(-1)
	defer db.retention.one.Unlock()
	if w, err = db.listWindow(); err != nil {
		return w, nil, err
	}
	h.set.mu.Lock()
	defer h.set.mu.Unlock()
	h.file = w.files[0].Seq
	h.set.ahead[h] = true
	return w, h, nil
}

func (db *DB) listWindow() (window, error) {
	w := window{db: db, durable: db.DurableLSN()}
	v := db.sorted.set.Current()
	var err error
	w.files, err = wal.ListFiles(db.opts.FS, db.walDir())
	w.files = slices.DeleteFunc(w.files, func(f wal.FileInfo) bool { return f.Seq < v.OldestLog }) // what is left of them goes
	if err == nil && db.opts.ReadOnly && len(w.files) > 0 && w.floor() != v.FloorLSN {
		err = w.errOvertaken()
	}
	return w, err
}

// waitFor waits until what a target names is durable. What was not yet assigned is outside of the window.
func (db *DB) waitFor(ctx context.Context, t Target) error {
	lsn := t.lsn
	if t.kind == targetTime {
		lsn = db.LSN()
	}
	if lsn <= db.DurableLSN() || lsn > db.LSN() {
		return nil
	}
	err := db.WaitDurable(ctx, lsn)
	if errors.Is(err, ErrLimit) {
		return nil // window says it
	}
	return err
}
