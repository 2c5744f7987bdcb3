package dyngo

import (
	"crypto/rand"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// relisting makes a manifest anew for a store whose log has dropped files: its log, segments and value files are sound, and
// nothing else is known. The log holds every event above the floor, which is where it begins. So of the segments only the base
// state is needed: of each key the newest version at or below the floor, if that is a value. Which segments the lost manifest
// had, and in which runs, does not matter for that. The base state is written as one run; the next owner reads the log above
// it, and removes the segments that were there. Value files are listed as they are.
//
//  1. The base state is written and synced under names that count for nothing.
//  2. The files get their names, and the directory is synced. A crash here leaves versions twice, which says nothing new.
//  3. The manifest is made in one step. Until then the store is refused, from then on it opens.
type relisting struct {
	m     *mender
	first wal.FileInfo // the log begins with it
	floor LSN
	seed  [16]byte

	base   baseState
	nums   []manifest.FileNum // of all files
	values []*manifest.ValueFile
	logID  [16]byte
}

// relistable returns a relisting if only the manifest is damaged or missing, nil if something else is. The log must have been
// closed, so that no merge or drop was half done.
func (m *mender) relistable(found *VerifyReport) (*relisting, error) {
	files, err := wal.ListFiles(m.opts.FS, m.path("wal"))
	if err != nil || len(files) == 0 || files[0].FirstLSN <= 1 || len(found.Defects) == 0 {
		return nil, err
	}
	for _, d := range found.Defects {
		var damage *corruption.Error
		if !errors.As(d, &damage) || damage.File != "manifest" && !strings.HasPrefix(damage.File, "manifest/") {
			return nil, nil
		}
	}
	log, err := wal.VerifyWith(m.ctx, m.opts.FS, m.path("wal"), wal.VerifyOptions{Oldest: files[0].Seq})
	if err != nil || len(log.Defects) > 0 || !log.Tail.Clean {
		return nil, err
	}
	m.report.LastLSN = log.Tail.NextLSN - min(log.Tail.NextLSN, 1)
	return &relisting{m: m, first: files[0], floor: files[0].FirstLSN - 1}, nil
}

func (r *relisting) run() error {
	fsys, dir := r.m.opts.FS, r.m.path(manifest.Dir)
	defer r.base.close()
	if _, err := rand.Read(r.seed[:]); err != nil {
		return err
	}
	r.base.ctx, r.base.fs, r.base.dir, r.base.now = r.m.ctx, fsys, dir, r.m.opts.Clock.Wall
	r.base.floor, r.base.seed = r.floor, r.seed
	var err error
	r.logID, err = r.base.readCatalog(fsys, r.m.path("wal"), r.first.Seq)
	if err := errors.Join(err, r.open(dir)); err != nil {
		return err
	}
	r.base.next = slices.Max(append(r.nums, 0)) + 1
	// Step 1.
	if err := r.base.write(); err != nil {
		return err
	}
	// Step 2.
	for _, temp := range r.base.temps {
		if err := fsys.Rename(temp, strings.TrimSuffix(temp, ".new")); err != nil {
			return err
		}
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	// Step 3.
	edit := r.base.edit(r.first.Seq, r.values)
	edit.Reason = "repair"
	return manifest.Create(fsys, r.m.path("manifest"), manifest.Options{Now: r.m.opts.Clock.Wall}, r.logID, r.seed, edit)
}

// open opens the files in the directory of segments.
func (r *relisting) open(dir string) error {
	names, err := r.m.opts.FS.List(dir)
	if err != nil {
		return err
	}
	var history []*segment.Reader
	reached := LSN(0) // segments have all events up to here that still matter
	for _, name := range names {
		num, value, ok := manifest.ParseName(name)
		if !ok {
			continue
		}
		r.nums = append(r.nums, num)
		if value {
			if err := r.listValues(dir, num); err != nil {
				return err
			}
			continue
		}
		reader, err := segment.Open(r.m.opts.FS, path.Join(dir, name), segment.ReaderOptions{DisplayName: segmentDisplayName(num)})
		if err != nil {
			return err
		}
		p := reader.Properties()
		reached = max(reached, p.FlushedLSN, p.MaxLSN)
		if slices.ContainsFunc(p.Unknown, func(p segment.Property) bool { return p.Tag == historyProperty }) {
			history = append(history, reader)
		} else {
			r.base.readers = append(r.base.readers, reader)
		}
	}
	r.base.readers = append(r.base.readers, history...) // of the same version, that of a run comes first
	if reached < r.floor {
		return corruption.At(manifest.Dir, 0, "segments hold events up to LSN %d, the log begins with %d", reached, r.floor+1)
	}
	return nil
}

func (r *relisting) listValues(dir string, num manifest.FileNum) error {
	full := path.Join(dir, manifest.ValueName(num))
	file, err := wal.OpenValueFile(r.m.opts.FS, full, valueDisplayName(num))
	if err != nil {
		return err
	}
	v := &manifest.ValueFile{Num: num, From: file.From, To: file.To, SizeBytes: file.Size}
	if err := file.Close(); err != nil {
		return err
	}
	v.SHA256, err = hashFile(r.m.opts.FS, full, func(int64) error { return r.m.ctx.Err() })
	r.values = append(r.values, v)
	return err
}
