package dyngo

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/snapshot"
	"github.com/dyngodb/dyngo/wal"
)

// occupied returns an error if dst holds something that no restore has left.
func (r *restoring) occupied() error {
	names, err := r.opts.FS.List(r.dst)
	if errors.Is(err, fs.ErrNotExist) || slices.Contains(names, snapshot.PendingName) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		replaced := slices.Contains(storeParts, name) || name == recoveredFile || name == liveName
		if name == snapshot.Dir {
			list, err := r.opts.FS.List(path.Join(r.dst, name))
			if err != nil {
				return err
			}
			replaced = len(list) == 0
		}
		if name != "LOCK" && name != snapshot.PendingName+".tmp" && !(r.delta && replaced) {
			return fmt.Errorf("%w: %s holds %s", ErrNotEmpty, r.dst, name)
		}
	}
	return nil
}

// earlierDir is where Delta puts the files of the store that was in dst until it is known which of them stay.
const earlierDir = "earlier"

// aside moves the files of the store that was in dst aside, or what a restore to another state has left. RESTORE is there, and says
// that dst has nothing of the state that it is to have.
func (r *restoring) aside() error {
	fsys, earlier := r.opts.FS, path.Join(r.dst, earlierDir)
	if err := fsys.MkdirAll(earlier); err != nil {
		return err
	}
	for _, part := range storeParts {
		from, to := path.Join(r.dst, part), path.Join(earlier, part)
		there, err := vfs.Exists(fsys, from)
		if err != nil || !there {
			if err != nil {
				return err
			}
			continue
		}
		taken, err := vfs.Exists(fsys, to)
		switch {
		case err != nil:
			return err
		case taken || part != "wal" && part != manifest.Dir:
			err = removeAll(fsys, from)
		default:
			err = fsys.Rename(from, to)
		}
		if err != nil {
			return err
		}
	}
	if err := fsys.Remove(path.Join(r.dst, recoveredFile)); err != nil && !isMissing(err) {
		return err
	}
	return fsys.SyncDir(earlier)
}

// reuse takes back what aside has moved and the state has too. The rest goes, so that there is room.
func (r *restoring) reuse() error {
	fsys, earlier := r.opts.FS, path.Join(r.dst, earlierDir)
	there, err := vfs.Exists(fsys, earlier)
	if err != nil || !there {
		return err
	}
	pace := func(int64) error { return r.ctx.Err() }
	for _, f := range r.plan.Files {
		name := path.Join(earlier, f.Name)
		info, err := fsys.Stat(name)
		if f.Use != "copy" || isMissing(err) || err == nil && info.Size != f.Bytes {
			continue
		}
		var have [32]byte
		if err == nil {
			have, err = hashFile(fsys, name, pace)
		}
		if err != nil {
			return err
		}
		var want [32]byte
		if from, ok := r.from.(interface{ Sum(name string) *[32]byte }); ok {
			if sum := from.Sum(path.Join(r.src, f.Name)); sum != nil {
				want = *sum
			}
		} else if want, err = hashFile(r.from, path.Join(r.src, f.From, f.Name), pace); err != nil {
			return err
		}
		if have != want {
			continue
		}
		if err := fsys.Rename(name, path.Join(r.dst, f.Name)); err != nil {
			return err
		}
		r.plan.Reused += f.Bytes
	}
	return removeAll(fsys, earlier)
}

// sameLog returns an error if dst is not a store of the log that src is of, or is src itself, under another path perhaps.
func (r *restoring) sameLog() error {
	fsys := r.opts.FS
	if err := unfinished(fsys, r.dst); err != nil {
		return err
	}
	probe := snapshot.PendingName + ".tmp" // which occupied passes over
	if err := fsys.Remove(path.Join(r.dst, probe)); err != nil && !isMissing(err) {
		return err
	}
	f, err := fsys.Create(path.Join(r.dst, probe))
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	before, err := vfs.Exists(r.from, path.Join(r.src, probe))
	if rerr := fsys.Remove(path.Join(r.dst, probe)); err == nil {
		err = rerr
	}
	if err != nil {
		return err
	}
	if before {
		after, err := vfs.Exists(r.from, path.Join(r.src, probe))
		if err == nil && !after {
			err = fmt.Errorf("%w: %s is the store that is to be restored", ErrNotEmpty, r.dst)
		}
		if err != nil {
			return err
		}
	}
	id, err := wal.ReadLogID(fsys, path.Join(r.dst, "wal"))
	if isMissing(err) { // it has no store
		return nil
	}
	if err == nil && id != r.logID {
		err = fmt.Errorf("%w: %s is a store of another log, %x, than %s, %x", ErrNotEmpty, r.dst, id, r.src, r.logID)
	}
	return err
}

// prepare sees to it that dst holds nothing but files of the state that is to be restored.
func (r *restoring) prepare() error {
	fsys := r.opts.FS
	info := snapshot.Info{LogID: r.logID, Timeline: r.parent, LSN: r.plan.LSN, Time: r.plan.Time.UnixNano(), Files: int64(len(r.plan.Files)), Bytes: r.plan.Bytes}
	if err := r.occupied(); err != nil {
		return err
	}
	have, pending, err := snapshot.ReadPending(fsys, r.dst)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	if r.delta && !pending && err == nil {
		if err := r.sameLog(); err != nil {
			return err
		}
		none := (&snapshot.Info{}).Encode()
		if err := vfs.WriteFileSync(fsys, path.Join(r.dst, snapshot.PendingName), none[:]); err != nil {
			return err
		}
		pending = true
	}
	if (pending || err != nil) && (err != nil || have.LogID != info.LogID || have.Timeline != info.Timeline || have.LSN != info.LSN) {
		if r.delta {
			err = r.aside()
		} else {
			for _, name := range append([]string{earlierDir}, storeParts...) {
				if err := removeAll(fsys, path.Join(r.dst, name)); err != nil {
					return err
				}
			}
			err = nil
		}
		if err != nil {
			return err
		}
		if err := fsys.SyncDir(r.dst); err != nil { // before RESTORE says that what is there is of another state
			return err
		}
	}
	// Step 2.
	b := info.Encode()
	if err := vfs.WriteFileSync(fsys, path.Join(r.dst, snapshot.PendingName), b[:]); err != nil {
		return err
	}
	for _, dir := range []string{"wal", manifest.Dir} {
		if err := fsys.MkdirAll(path.Join(r.dst, dir)); err != nil {
			return err
		}
	}
	return r.removeTail()
}

// removeTail removes what an interrupted restore has written beyond copies: the log from the file with the LSN on, the manifest, the
// tree, and segments that are not those of src.
func (r *restoring) removeTail() error {
	fsys := r.opts.FS
	for _, dir := range []string{"manifest", sideDir, integrity.Dir} {
		if err := removeAll(fsys, path.Join(r.dst, dir)); err != nil {
			return err
		}
	}
	keep := map[string]bool{}
	for _, f := range r.plan.Files {
		if f.Use == "copy" {
			keep[f.Name] = true
		}
	}
	for _, dir := range []string{"wal", manifest.Dir} {
		names, err := fsys.List(path.Join(r.dst, dir))
		if err != nil {
			return err
		}
		for _, name := range names {
			if name = path.Join(dir, name); !keep[name] {
				if err := fsys.Remove(path.Join(r.dst, name)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// room returns an error if the disk has too little for what is to be copied.
func (r *restoring) room() error {
	if r.link {
		return nil
	}
	need := r.plan.Bytes
	for _, f := range r.plan.Files {
		if info, err := r.opts.FS.Stat(path.Join(r.dst, f.Name)); err == nil && f.Use == "copy" && info.Size == f.Bytes {
			need -= info.Size
		}
	}
	if free, _, err := r.opts.FS.Free(r.dst); err == nil && free < need {
		return fmt.Errorf("%d bytes are to be copied to %s, %d are free: %w", need, r.dst, free, vfs.ErrNoSpace)
	}
	return nil
}
