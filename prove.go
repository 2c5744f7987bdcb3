package dyngo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// Prove returns the proof that the event with an LSN is in the log that a tree head stands for. Marshalled as JSON it is a bundle
// that others can check with the program in docs/verifier, without DynGO and without the store; with Options.SigningKey the
// head in it is signed. It holds the event's key, and its value unless that is a large one.
//
// It reads the log file that has the event and one file of the tree. For a read-only store, what the log has beyond the tree, all of
// it if none is kept, is computed in memory. It fails with ErrNoTree for a store that is open for writing
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
	p, err := t.Prove(leafSource(db.files, db.redactedHash), frame, lsn, index, &h.Head, h.note)
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

// readTree gives a read-only store the tree of its log with a head that has an LSN: the one that is kept and, in memory, what the log
// has beyond it; if none is kept and the log is whole, all of it.
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
	dir := path.Join(db.dir, integrity.Dir)
	above, err := newTreeAbove(db.opts.FS, dir)
	if err != nil {
		return nil, nil, err
	}
	t, err := integrity.Open(above, dir, integrity.Options{LogID: id})
	if err != nil {
		return nil, nil, err
	}
	if t.Size() == 0 && db.sorted.set.Current().OldestLog > 0 {
		return nil, nil, errors.Join(fmt.Errorf("%w, and its first log files were dropped", ErrNoTree), t.Close())
	}
	src, last := leafSource(db.files, db.redactedHash), LSN(0)
	from := t.Last()
	var failed error
	err = db.eachFrame(ctx, from, func(f *wal.Frame) bool {
		if f.Kind != wal.KindCommit || f.BaseLSN < from {
			return true
		}
		var h integrity.Hash
		var gone bool
		if h, gone, failed = leafOf(src, f); failed != nil {
			return false
		}
		if f.BaseLSN > from {
			failed = t.Append(f.BaseLSN, h)
		} else if e, err := t.At(t.Size() - 1); err != nil { // it goes on behind that one, which must be the same
			failed = err
		} else if e.Hash != h && !gone {
			failed = integrity.Mismatch(f, t.Size()-1)
		}
		last = f.BaseLSN + LSN(f.Count) - 1
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err == nil && last < lsn {
		err = fmt.Errorf("dyngo: LSN %d can't be proved: the log has events up to %d", lsn, last)
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

// treeAbove is a folder of tree files of which the last one, and those to come, are in memory: what is added to the tree changes
// nothing on disk.
type treeAbove struct {
	vfs.FS // in memory
	disk   vfs.FS
	names  []string // on disk, the last one left out
}

func newTreeAbove(disk vfs.FS, dir string) (*treeAbove, error) {
	a := &treeAbove{FS: vfs.NewMem(), disk: disk}
	names, err := disk.List(dir)
	if err != nil && !isMissing(err) {
		return nil, err
	}
	for _, name := range names {
		if _, ok := integrity.ParseName(name); ok {
			a.names = append(a.names, name)
		}
	}
	if len(a.names) == 0 {
		return a, nil
	}
	last := path.Join(dir, a.names[len(a.names)-1])
	a.names = a.names[:len(a.names)-1]
	if err := a.MkdirAll(dir); err != nil {
		return nil, err
	}
	_, err = vfs.CopyFile(disk, last, a.FS, last, -1, nil)
	return a, err
}

// Open opens a file, of the disk if it is not in memory.
func (a *treeAbove) Open(name string) (vfs.File, error) {
	f, err := a.FS.Open(name)
	if isMissing(err) {
		return a.disk.Open(name)
	}
	return f, err
}

// List lists both.
func (a *treeAbove) List(dir string) ([]string, error) {
	names, err := a.FS.List(dir)
	return slices.Concat(a.names, names), err
}
