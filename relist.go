package dyngo

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/dyngodb/dyngo/compaction"
	"github.com/dyngodb/dyngo/event"
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

	nums    []manifest.FileNum // of all files
	readers []*segment.Reader  // of runs, then of history
	values  []*manifest.ValueFile
	logID   [16]byte
	known   map[event.DatasetID]bool // datasets that were there at the floor

	temps []string
	w     *segment.Writer
	edit  manifest.Edit
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
	log, err := wal.VerifyFrom(m.ctx, m.opts.FS, m.path("wal"), files[0].Seq, nil)
	if err != nil || len(log.Defects) > 0 || !log.Tail.Clean {
		return nil, err
	}
	m.report.LastLSN = log.Tail.NextLSN - min(log.Tail.NextLSN, 1)
	return &relisting{m: m, first: files[0], floor: files[0].FirstLSN - 1}, nil
}

func (r *relisting) run() error {
	fsys, dir := r.m.opts.FS, r.m.path(manifest.Dir)
	defer func() {
		for _, reader := range r.readers {
			reader.Close() // only read from
		}
		if r.w != nil {
			r.w.Abort()
		}
	}()
	if _, err := rand.Read(r.seed[:]); err != nil {
		return err
	}
	if err := errors.Join(r.readCatalog(), r.open(dir)); err != nil {
		return err
	}
	// Step 1.
	if err := r.write(dir); err != nil {
		return err
	}
	// Step 2.
	for _, temp := range r.temps {
		if err := fsys.Rename(temp, strings.TrimSuffix(temp, ".new")); err != nil {
			return err
		}
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	// Step 3.
	r.edit.AddValues, r.edit.FlushedLSN, r.edit.FloorLSN, r.edit.OldestLog = r.values, &r.floor, &r.floor, r.first.Seq
	r.edit.NextFile, r.edit.NextRun, r.edit.Reason = r.next(), 2, "repair"
	return manifest.Create(fsys, r.m.path("manifest"), manifest.Options{Now: r.m.opts.Clock.Wall}, r.logID, r.seed, &r.edit)
}

// readCatalog learns from the oldest log file which datasets there were at the floor.
func (r *relisting) readCatalog() error {
	s, err := wal.NewScanner(r.m.opts.FS, r.m.path("wal"), wal.ScanOptions{ReadOnly: true, FromFile: r.first.Seq, Only: true})
	if err != nil {
		return err
	}
	defer s.Close() // only read from
	r.logID = s.LogID()
	f, err := s.Next()
	if err != nil {
		return err
	}
	d, err := event.ParseDictionary(f.Body)
	if err != nil {
		return corruption.Locate(err, f.Name, f.Offset)
	}
	r.known = map[event.DatasetID]bool{}
	for _, ds := range d.Datasets {
		r.known[ds.ID] = true
	}
	return nil
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
			r.readers = append(r.readers, reader)
		}
	}
	r.readers = append(r.readers, history...) // of the same version, that of a run comes first
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

// next is the first number that no file has.
func (r *relisting) next() manifest.FileNum { return slices.Max(append(r.nums, 0)) + 1 }

// relistedBytes is about how large the segments of the base state are.
const relistedBytes = 64 << 20

// write writes the base state.
func (r *relisting) write(dir string) error {
	var its []*segment.Iter
	var ranges []segment.RangeDelete
	for _, reader := range r.readers {
		for _, d := range reader.RangeDeletes() {
			if d.LSN <= r.floor {
				ranges = append(ranges, d)
			}
		}
		it := reader.NewIter(segment.IterOptions{NoFill: true})
		defer it.Close()
		its = append(its, it)
	}
	covers := covering(ranges)
	var last segment.Key
	done := false // with the key
	err := mergeEntries(its, func(_ int, e *segment.Entry) error {
		if e.Dataset != last.Dataset || !bytes.Equal(e.Key, last.Key) {
			last.Dataset, last.Key, done = e.Dataset, append(last.Key[:0], e.Key...), false
		}
		if done || e.LSN > r.floor {
			return r.m.ctx.Err()
		}
		done = true
		c := covers(e.Dataset)
		if e.Op != event.OpPut && e.Op != event.OpMerge || !r.known[e.Dataset] || c != nil && c.Covers(e.Key, e.LSN, r.floor) {
			return nil
		}
		if r.w != nil && r.w.SizeEstimate() > relistedBytes {
			if err := r.seal(); err != nil {
				return err
			}
		}
		if r.w == nil {
			if err := r.begin(dir); err != nil {
				return err
			}
		}
		return r.w.Add(e)
	})
	if err == nil && r.w != nil {
		err = r.seal()
	}
	return err
}

func (r *relisting) begin(dir string) (err error) {
	num := r.next()
	temp := path.Join(dir, manifest.SegmentName(num)+".new")
	if err := r.m.opts.FS.Remove(temp); err != nil && !isMissing(err) {
		return err
	}
	r.nums, r.temps = append(r.nums, num), append(r.temps, temp)
	r.w, err = segment.Create(r.m.opts.FS, temp, segment.WriterOptions{Num: uint64(num), Run: 1, CreatedAt: r.m.opts.Clock.Wall(),
		FlushedLSN: r.floor, HashSeed: binary.LittleEndian.Uint64(r.seed[:])})
	return err
}

func (r *relisting) seal() error {
	p, err := r.w.Finish()
	if err != nil {
		return fmt.Errorf("write the base state: %w", err)
	}
	r.w = nil
	r.edit.Add = append(r.edit.Add, compaction.SegmentOf(p))
	return nil
}
