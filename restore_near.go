package dyngo

import (
	"errors"
	"io/fs"
	"path"
	"slices"

	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/snapshot"
	"github.com/dyngodb/dyngo/wal"
)

// nearest has a state that lies below what the segments of src hold begin at a snapshot of src: the one whose segments hold the most
// without going beyond the state. The log of src is applied to it, which is less than from the floor on. Log files that src has dropped
// since are taken from the snapshot, as its floor may be older.
//
// A snapshot that is damaged, of another line, or dropped meanwhile is none: without it more is replayed. Of its files that is found when
// they are copied: see again.
func (r *restoring) nearest(w *window, lsn LSN) error {
	names, _, err := snapshot.List(r.from, path.Join(r.src, snapshot.Dir))
	if err != nil {
		return err
	}
	_, line, err := readLineage(r.from, path.Join(r.src, "wal"), r.version)
	if err != nil {
		return err
	}
	for _, name := range names {
		folder := path.Join(snapshot.Dir, name)
		info, ok, err := snapshot.Read(r.from, path.Join(r.src, folder), folder)
		if err == nil && ok && info.LogID == r.logID && line.check(Token{info.LogID, info.Timeline, info.LSN}) == nil {
			err = r.beginAt(w, folder, lsn)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// beginAt takes a snapshot if it is better than what there is.
func (r *restoring) beginAt(w *window, folder string, lsn LSN) error {
	set, err := manifest.Open(r.from, path.Join(r.src, folder, "manifest"), manifest.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	v := set.Current()
	have := r.version.FlushedLSN
	if r.base {
		have = r.version.FloorLSN
	}
	logs, err := wal.ListFiles(r.from, path.Join(r.src, folder, "wal"))
	// Its newest log file is the beginning of one that src must have: from there on, all are those of src.
	if err != nil || v.FlushedLSN <= have || v.FlushedLSN > lsn || len(logs) == 0 || logs[len(logs)-1].Seq < w.files[0].Seq {
		return errors.Join(err, set.Close())
	}
	old := r.set
	r.set, r.version, r.folder, r.base = set, v, folder, false
	r.older = slices.DeleteFunc(logs, func(f wal.FileInfo) bool { return f.Seq < v.OldestLog || f.Seq >= w.files[0].Seq })
	return old.Close()
}
