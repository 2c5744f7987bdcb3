package dyngo

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// step counts what was copied.
func (r *restoring) step(b []byte) error {
	r.count(int64(len(b)))
	return r.ctx.Err()
}

// count tells that so many bytes more are there.
func (r *restoring) count(n int64) {
	r.counting.Lock()
	defer r.counting.Unlock()
	r.done += n
	if r.progress != nil {
		r.progress(r.done, r.plan.Bytes)
	}
}

// copy copies one file, unless it is there. A segment or value file must be the one that the manifest means.
func (r *restoring) copy(f RestoreFile) error {
	fsys, src, dst := r.opts.FS, path.Join(r.src, f.From, f.Name), path.Join(r.dst, f.Name)
	if info, err := fsys.Stat(dst); err == nil && info.Size == f.Bytes {
		r.count(f.Bytes)
		return nil
	}
	if r.link {
		err := fsys.Link(src, dst)
		if err == nil {
			r.count(f.Bytes)
			return r.ctx.Err()
		}
		if !vfs.IsNoLinks(err) {
			return err
		}
	}
	h, temp := sha256.New(), dst+".new"
	if err := fsys.Remove(temp); err != nil && !isMissing(err) {
		return err
	}
	want, covered := r.sum(f.Name, f.Bytes)
	_, err := vfs.CopyFile(r.from, src, fsys, temp, -1, func(b []byte) error {
		part := b[:min(int64(len(b)), max(covered, 0))]
		h.Write(part)
		covered -= int64(len(part))
		return r.step(b)
	})
	if err != nil {
		return err
	}
	if want != nil && !bytes.Equal(h.Sum(nil), want[:]) {
		_ = fsys.Remove(temp)
		return corruption.At(path.Join(f.From, f.Name), 0, "SHA-256 is %x, want %x", h.Sum(nil), want[:])
	}
	return fsys.Rename(temp, dst)
}

// sum is the SHA-256 that the manifest, or the backup, has of a file, nil if it has none, and of how many bytes.
func (r *restoring) sum(name string, size int64) (*[32]byte, int64) {
	if from, ok := r.from.(interface{ Sum(name string) *[32]byte }); ok { // a backup knows all
		return from.Sum(path.Join(r.src, name)), size
	}
	num, _, ok := manifest.ParseName(path.Base(name))
	if !ok {
		return nil, 0
	}
	for _, f := range r.version.Values {
		if f.Num == num {
			return &f.SHA256, size
		}
	}
	if s := r.version.Segment(num); s != nil {
		return &s.SHA256, size - segment.FooterBytes
	}
	for _, s := range r.version.History {
		if s.Num == num {
			return &s.SHA256, size - segment.FooterBytes
		}
	}
	return nil, 0
}

// cut copies the log file that the LSN lies in. An interrupted one has no name that counts.
func (r *restoring) cut(size int64) error {
	fsys, f := r.opts.FS, r.files[len(r.files)-1]
	dst := path.Join(r.dst, "wal", f.Name)
	if err := fsys.Remove(dst + ".new"); err != nil && !isMissing(err) {
		return err
	}
	if _, err := wal.CopyCut(r.from, path.Join(r.src, "wal"), f, r.plan.LSN, fsys, dst+".new", func([]byte) error { return r.ctx.Err() }); err != nil {
		return err
	}
	r.count(size)
	return fsys.Rename(dst+".new", dst)
}

// manifest makes the manifest of dst, with a base state if segments of src go beyond the LSN.
func (r *restoring) manifest() error {
	fsys, dir := r.opts.FS, path.Join(r.dst, "manifest")
	o := manifest.Options{Now: r.opts.Clock.Wall}
	switch {
	case !r.set.Found() || r.base && r.version.FloorLSN == 0:
		return nil // the log has everything
	case !r.base:
		return manifest.Create(fsys, dir, o, r.set.LogID(), r.set.HashSeed(), r.version.Whole())
	}
	v := r.version
	b := baseState{ctx: r.ctx, fs: fsys, dir: path.Join(r.dst, manifest.Dir), now: r.opts.Clock.Wall, floor: v.FloorLSN,
		seed: r.set.HashSeed(), next: v.NextFile}
	defer b.close()
	if _, err := b.readCatalog(r.from, path.Join(r.src, "wal"), r.files[0].Seq); err != nil {
		return err
	}
	for _, seg := range slices.AppendSeq([]*manifest.Segment{}, v.All()) {
		if err := r.openBase(&b, seg); err != nil {
			return err
		}
	}
	for _, seg := range v.History {
		if err := r.openBase(&b, seg); err != nil {
			return err
		}
	}
	if err := b.write(); err != nil {
		return err
	}
	for _, temp := range b.temps {
		if err := fsys.Rename(temp, strings.TrimSuffix(temp, ".new")); err != nil {
			return err
		}
	}
	if err := fsys.SyncDir(b.dir); err != nil {
		return err
	}
	return manifest.Create(fsys, dir, o, r.set.LogID(), b.seed, b.edit(v.OldestLog, v.Values))
}

// tree copies the tree over the log, if src has one. It is no reason to fail: what the log has, it tells again.
func (r *restoring) tree() error {
	dst := path.Join(r.dst, integrity.Dir)
	frames, err := copyTree(r.from, r.src, r.opts.FS, dst, integrity.CopyOptions{LogID: r.logID, LSN: r.plan.LSN, Link: r.link, Step: r.step})
	if errors.Is(err, ErrCorrupt) || errors.Is(err, event.ErrUnsupported) {
		r.plan.TreeErr = err
		if err = removeAll(r.opts.FS, dst); err == nil {
			err = r.opts.FS.MkdirAll(dst)
		}
	}
	r.plan.Tree = frames
	return err
}

// copyTree copies the tree of the store in a folder; none is no error.
func copyTree(from vfs.FS, dir string, to vfs.FS, dst string, o integrity.CopyOptions) (frames int64, err error) {
	there, err := vfs.Exists(from, path.Join(dir, integrity.Dir))
	if err != nil || !there {
		return 0, err
	}
	return integrity.Copy(from, path.Join(dir, integrity.Dir), to, dst, o)
}

func (r *restoring) openBase(b *baseState, seg *manifest.Segment) error {
	seed := r.set.HashSeed()
	reader, err := segment.Open(r.from, path.Join(r.src, segmentDisplayName(seg.Num)), segment.ReaderOptions{Num: uint64(seg.Num),
		HashSeed: binary.LittleEndian.Uint64(seed[:]), DisplayName: segmentDisplayName(seg.Num)})
	if err != nil {
		return err
	}
	b.readers = append(b.readers, reader)
	return nil
}
