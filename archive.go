package dyngo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// archive copies the log files that go to Options.Archive, durably. Each is read back before it counts as archived. On an error
// d.without tells how many are. r.one is held.
func (r *retention) archive(ctx context.Context, d *dropping) error {
	dir, fsys := r.db.opts.Archive, r.db.opts.FS
	if dir == "" {
		return nil
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("create the archive: %w", err)
	}
	work := r.db.pacer.Begin(pacer.Verify)
	defer work.End()
	pace := func(bytes int64) error { return work.Wait(ctx, bytes) }
	for i, f := range d.files[:d.n] {
		if err := r.archiveOne(ctx, f, pace); err != nil {
			d.without = i
			return fmt.Errorf("archive %s in %s: %w", f.Name, dir, err)
		}
	}
	return syncAncestors(fsys, dir)
}

// archiveTemp ends the name of a copy on its way in.
const archiveTemp = ".tmp"

// archiveOne archives one file, unless it is.
//
// The copy gets its name when it is durable and was read back. So one that has the name is whole; it is read back again, since
// the log file goes next.
func (r *retention) archiveOne(ctx context.Context, f wal.FileInfo, pace func(int64) error) error {
	fsys, src := r.db.opts.FS, path.Join(r.db.walDir(), f.Name)
	name := path.Join(r.db.opts.Archive, wal.ArchivedName(f.Name))
	there, err := r.archived(ctx, src, name, pace)
	if there || err != nil {
		return err
	}
	temp := name + archiveTemp
	if err := fsys.Remove(temp); err != nil && !isMissing(err) {
		return err
	}
	if err := wal.WriteArchived(fsys, src, temp, pace); err != nil {
		return err
	}
	if there, err = r.archived(ctx, src, temp, pace); err == nil && !there {
		err = errors.New("what was written reads as damaged")
	}
	if err != nil {
		_ = fsys.Remove(temp) // the next pass replaces it
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		return err
	}
	r.db.count.filesArchived.Add(1)
	return nil
}

// archived says whether a file of the archive is there, sound and the copy of a log file. A sound one of another store, or of
// another log file of the name, is an error: whoever has it needs it.
func (r *retention) archived(ctx context.Context, src, name string, pace func(int64) error) (bool, error) {
	a, err := wal.OpenArchived(r.db.opts.FS, name, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrCorrupt) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer a.Close() // only read from
	if a.Header.LogID != r.db.id {
		return false, fmt.Errorf("%s is of another store, with log %x; set Options.Archive to another folder", name, a.Header.LogID)
	}
	if err := a.Verify(ctx, pace); err != nil {
		if errors.Is(err, ErrCorrupt) {
			return false, nil
		}
		return false, err
	}
	sum, err := hashFile(r.db.opts.FS, src, pace)
	if err == nil && sum != a.SHA256 {
		err = fmt.Errorf("%s is not the copy of %s: it is of another timeline, as of a store that was restored from the same log; "+
			"set Options.Archive to another folder", name, src)
	}
	return err == nil, err
}

// hashFile is the SHA-256 of a file.
func hashFile(fsys vfs.FS, name string, pace func(int64) error) (sum [32]byte, err error) {
	file, err := fsys.Open(name)
	if err != nil {
		return sum, err
	}
	defer file.Close() // only read from
	size, err := file.Size()
	if err != nil {
		return sum, err
	}
	h, buf := sha256.New(), make([]byte, min(size, 256<<10))
	for at := int64(0); at < size; at += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), size-at)]
		if n, err := file.ReadAt(part, at); n < len(part) {
			return sum, fmt.Errorf("read %s: %w", name, err)
		}
		h.Write(part)
		if err := pace(int64(len(part))); err != nil {
			return sum, err
		}
	}
	return [32]byte(h.Sum(nil)), nil
}
