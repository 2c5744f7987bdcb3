package snapshot

import (
	"context"
	"fmt"
	"path"

	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

// Source is what a snapshot is made of.
type Source struct {
	FS  vfs.FS
	Dir string // of the store

	// Version is referenced until Make returns, and no log file that it needs goes.
	Version               *manifest.Version
	LogID, Timeline, Seed [16]byte
	// End states the newest log file: with nothing but its dictionary in it, which follows the LSN of the snapshot. Log files
	// before it are sealed and durable.
	End wal.Clean
	Now int64 // wall time
}

// Make makes a snapshot in a folder that is not there, durably but for the folder's own name: see the steps 1 and 2 in the
// package comment. After an error the folder is the caller's to remove.
func Make(ctx context.Context, src Source, folder string) (Info, error) {
	m := maker{ctx: ctx, src: src, fs: src.FS, folder: folder, info: Info{
		LogID: src.LogID, Timeline: src.Timeline, LSN: src.End.NextLSN - 1, Time: src.End.LastTime, Created: src.Now,
	}}
	err := m.run()
	return m.info, err
}

// maker is a snapshot in the making.
type maker struct {
	ctx    context.Context
	src    Source
	fs     vfs.FS
	folder string
	info   Info
	copies bool // the file system has no hard links
}

// file is one that the snapshot has in common with the store, by its path in both.
type file struct {
	name  string
	bytes int64
}

func (m *maker) run() error {
	// Step 1.
	for _, dir := range []string{"wal", manifest.Dir} {
		if err := m.fs.MkdirAll(path.Join(m.folder, dir)); err != nil {
			return err
		}
	}
	files, newest, err := m.list()
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		if err := m.take(f, files); err != nil {
			return fmt.Errorf("snapshot of %s: %w", f.name, err)
		}
	}
	if err := m.copy(newest, int64(m.src.End.End)); err != nil {
		return fmt.Errorf("snapshot of %s: %w", newest, err)
	}
	m.info.Files, m.info.Bytes = m.info.Files+1, m.info.Bytes+int64(m.src.End.End)
	// Step 2.
	if err := m.fs.SyncDir(path.Join(m.folder, manifest.Dir)); err != nil {
		return err
	}
	if err := wal.WriteClean(m.fs, path.Join(m.folder, "wal"), m.src.End); err != nil {
		return err
	}
	now := func() int64 { return m.src.Now }
	err = manifest.Create(m.fs, path.Join(m.folder, "manifest"), manifest.Options{Now: now}, m.src.LogID, m.src.Seed, m.src.Version.Whole())
	if err != nil {
		return err
	}
	b := m.info.Encode()
	return vfs.WriteFileSync(m.fs, path.Join(m.folder, FileName), b[:])
}

// list returns the files to share, and the newest log file.
func (m *maker) list() (files []file, newest string, err error) {
	logs, err := wal.ListFiles(m.fs, path.Join(m.src.Dir, "wal"))
	if err != nil {
		return nil, "", err
	}
	for _, f := range logs {
		name := path.Join("wal", f.Name)
		switch {
		case f.Seq < m.src.Version.OldestLog:
		case f.Seq < m.src.End.Seq:
			files = append(files, file{name, f.Size})
		case f.Seq == m.src.End.Seq:
			newest = name
		}
	}
	segment := func(s *manifest.Segment) {
		files = append(files, file{path.Join(manifest.Dir, manifest.SegmentName(s.Num)), s.SizeBytes})
	}
	v := m.src.Version
	for s := range v.All() {
		segment(s)
	}
	for _, s := range v.History {
		segment(s)
	}
	for _, d := range v.Damaged {
		segment(d.Segment)
	}
	for _, f := range v.Values {
		files = append(files, file{path.Join(manifest.Dir, manifest.ValueName(f.Num)), f.SizeBytes})
	}
	for _, f := range files {
		m.info.Bytes += f.bytes
	}
	m.info.Files = int64(len(files))
	return files, newest, nil
}

// take gives the snapshot one of its files.
func (m *maker) take(f file, all []file) error {
	if !m.copies {
		err := m.fs.Link(path.Join(m.src.Dir, f.name), path.Join(m.folder, f.name))
		if !vfs.IsNoLinks(err) {
			return err
		}
		if err := m.room(all); err != nil {
			return err
		}
		m.copies = true
	}
	return m.copy(f.name, -1)
}

// spareBytes is what copies leave free, for the store to go on.
const spareBytes = 16 << 20

// room returns an error if copies of the files would fill the disk.
func (m *maker) room(files []file) error {
	need := int64(spareBytes)
	for _, f := range files {
		need += f.bytes
	}
	if free, _, err := m.fs.Free(m.folder); err == nil && free < need {
		return fmt.Errorf("the file system has no hard links, so %d bytes are needed, %d are free: %w", need, free, vfs.ErrNoSpace)
	}
	return nil
}

func (m *maker) copy(name string, n int64) error {
	step := func([]byte) error { return m.ctx.Err() }
	_, err := vfs.CopyFile(m.fs, path.Join(m.src.Dir, name), m.fs, path.Join(m.folder, name), n, step)
	return err
}
