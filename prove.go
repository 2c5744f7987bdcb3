package dyngo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// Prove returns the proof that the event with an LSN is in the log that a tree head stands for. Marshalled as JSON it is a bundle
// that others can check with the program in docs/verifier, without DynGO and without the store; with Options.SigningKey the
// head in it is signed. It holds the event's key, and its value unless that is a large one.
//
// It reads the log file that has the event and one file of the tree. For a read-only store that keeps no tree it is computed
// from the whole log, in memory. It fails with ErrNoTree for a store that is open for writing
// and keeps none, and with wal.ErrDropped if the event, or something in its group of commits, is gone from the log.
func (db *DB) Prove(ctx context.Context, lsn LSN) (*integrity.Inclusion, error) {
	if lsn == 0 || lsn > db.DurableLSN() {
		return nil, fmt.Errorf("dyngo: LSN %d can't be proved: the log has durable events from 1 to %d", lsn, db.DurableLSN())
	}
	if db.closed.Load() {
		return nil, ErrClosed
	}
	if !db.opts.ReadOnly {
		h, err := db.headNow(ctx, lsn)
		if err != nil {
			return nil, err
		}
		return db.prove(ctx, db.tree.tree, h, lsn)
	}
	t, h, err := db.readTree(ctx, lsn)
	if err != nil {
		return nil, err
	}
	defer t.Close() // only read from
	return db.prove(ctx, t, h, lsn)
}

// ProveConsistency returns the proof that the log that an older tree head stands for is a prefix of the present log: nothing in it
// was changed. old is the head as a note; it must have a frame. Marshalled as JSON it is a bundle like that of Prove, and it
// fails for the same stores.
func (db *DB) ProveConsistency(ctx context.Context, old string) (*integrity.Consistency, error) {
	from, err := (*integrity.Key)(nil).ParseNote(old)
	if err != nil {
		return nil, err
	}
	if db.closed.Load() {
		return nil, ErrClosed
	}
	if !db.opts.ReadOnly {
		h, err := db.headNow(ctx, 0)
		if err != nil {
			return nil, err
		}
		return db.tree.tree.ProveConsistency(&from, &h.Head, old, h.note)
	}
	t, h, err := db.readTree(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer t.Close() // only read from
	return t.ProveConsistency(&from, &h.Head, old, h.note)
}

func (db *DB) prove(ctx context.Context, t *integrity.Tree, h *treeHead, lsn LSN) (*integrity.Inclusion, error) {
	g := db.calls.Enter() // Close waits until the log was read
	defer g.Exit()
	if db.closed.Load() {
		return nil, ErrClosed
	}
	read := db.valueReads.Enter() // so does retention
	defer read.Exit()
	index, err := t.Find(lsn)
	if err != nil {
		return nil, err
	}
	var frame *wal.Frame
	err = db.eachFrame(ctx, lsn, func(f *wal.Frame) bool {
		if f.Kind == wal.KindCommit && lsn < f.BaseLSN+LSN(f.Count) {
			if f.BaseLSN <= lsn {
				own := *f
				own.Body = bytes.Clone(f.Body)
				frame = &own
			}
			return false
		}
		return true
	})
	switch {
	case err != nil:
		return nil, err
	case frame == nil || index < 0:
		return nil, fmt.Errorf("dyngo: LSN %d can't be proved: %w", lsn, wal.ErrDropped)
	}
	p, err := t.Prove(leafSource(db.files), frame, lsn, index, &h.Head, h.note)
	if err != nil {
		return nil, fmt.Errorf("dyngo: LSN %d can't be proved: %w", lsn, err)
	}
	return p, nil
}

// eachFrame visits the frames of the log from the file on that has an LSN, until visit returns false. A frame is valid during the
// call.
func (db *DB) eachFrame(ctx context.Context, lsn LSN, visit func(*wal.Frame) bool) error {
	log, err := followFrom(db.opts.FS, db.walDir(), db.sorted.set.Current().OldestLog, lsn, wal.FollowOptions{Clock: db.opts.Clock})
	if err != nil {
		return err
	}
	defer log.Close() // only read from
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		f, err := log.Try()
		if err == io.EOF {
			return nil
		}
		if err != nil || !visit(f) {
			return err
		}
	}
}

// readTree gives a read-only store the tree of its log with a head that has an LSN: the one that is kept or, if none is and the
// log is whole, one in memory.
func (db *DB) readTree(ctx context.Context, lsn LSN) (*integrity.Tree, *treeHead, error) {
	id, err := db.logID()
	if err != nil {
		return nil, nil, err
	}
	var key *integrity.Key
	if db.opts.SigningKey != "" {
		if key, err = integrity.ParseKey(db.opts.SigningKey); err != nil {
			return nil, nil, err
		}
	}
	t, err := integrity.Open(db.opts.FS, path.Join(db.dir, integrity.Dir), integrity.Options{LogID: id, ReadOnly: true})
	if err != nil && !isMissing(err) {
		return nil, nil, err
	}
	kept := err == nil
	if !kept && db.sorted.set.Current().OldestLog > 0 {
		return nil, nil, fmt.Errorf("%w, and its first log files were dropped", ErrNoTree)
	}
	if !kept {
		mem := vfs.NewMem()
		if t, err = integrity.Open(mem, integrity.Dir, integrity.Options{LogID: id}); err != nil {
			return nil, nil, err
		}
	}
	// Where the tree ends is found in the log; one in memory grows with it.
	src, last := leafSource(db.files), LSN(0)
	from := t.Last()
	var failed error
	err = db.eachFrame(ctx, from, func(f *wal.Frame) bool {
		if f.Kind != wal.KindCommit || f.BaseLSN < from {
			return true
		}
		if kept && f.BaseLSN > from {
			return false
		}
		if !kept {
			var h integrity.Hash
			if h, _, failed = leafOf(src, f); failed == nil {
				failed = t.Append(f.BaseLSN, h)
			}
		}
		last = f.BaseLSN + LSN(f.Count) - 1
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err == nil && last < lsn {
		err = fmt.Errorf("dyngo: LSN %d can't be proved: the tree over the log has events up to %d; it catches up while the store is open", lsn, last)
	}
	if err != nil {
		return nil, nil, errors.Join(err, t.Close())
	}
	h, err := headOf(t, id, last, db.opts.Clock.Wall())
	if err != nil {
		return nil, nil, err
	}
	note, err := key.Sign(&h)
	return t, &treeHead{h, note}, err
}
