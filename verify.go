package dyngo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dyngodb/dyngo/compaction"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// VerifyReport is what Verify found.
type VerifyReport struct {
	Log wal.VerifyReport
	// Manifest says how the manifest ends; a torn end is no damage unless the log was closed.
	Manifest manifest.Tail
	// OldestLog is the log file that the log begins with since retention dropped those before; 0 = none was.
	OldestLog uint64
	// Segments and their Bytes were read; Entries are in them.
	Segments int
	Bytes    int64
	Entries  int64
	// NewestLSN is the newest that manifest or segments promise: the log must reach that far.
	NewestLSN LSN
	// Sides are the side files that were read. They are not synced, so a crash may tear one; what is wrong with them is no
	// defect: SideDefects names what is unsound and will be built anew.
	Sides       int
	SideDefects []error
	// Level is how deep it was looked; Tree is there from LevelTree on.
	Level Level
	Tree  *TreeReport
	State *StateReport // from LevelReplay on, if the log is sound
	// Orphans are files that a crash left, without meaning; the next owner removes them. Relative to the store's
	// directory.
	Orphans []string
	// Defects of manifest and segments; those of the log are in Log. Each names file and offset.
	Defects []error
}

// All lists the defects of the log and of what is derived from it.
func (r *VerifyReport) All() []error { return slices.Concat(r.Log.Defects, r.Defects) }

// Count is how many defects there are, those that are not kept included.
func (r *VerifyReport) Count() int { return len(r.Log.Defects) + r.Log.MoreDefects + len(r.Defects) }

// Level says how deep a verification looks; each looks at what those before it look at.
type Level int

// The levels. LevelDefault is LevelTree for a store that keeps a tree over its log, else LevelDecode.
const (
	LevelDefault Level = iota
	LevelFiles         // that the files are there, are of this store, follow each other and have their sizes
	LevelCRC           // every byte of segments, value files and side files; checksums of all frames of the log
	LevelChain         // how frames follow each other: chain, LSN, place, end. The log's pass for LevelCRC finds this too
	LevelDecode        // every event and all that events refer to, dictionaries
	LevelTree          // the tree over the log, computed anew; tree heads; logged hashes of segments
	LevelReplay        // that the store opens, and each event is of a dataset and a session that exist by then
	LevelState         // that each key has the version and value which a replay of the log gives it
)

var levelNames = []string{"default", "files", "crc", "chain", "decode", "tree", "replay", "state"}

// String is the level's name.
func (l Level) String() string {
	if l < 0 || int(l) >= len(levelNames) {
		return fmt.Sprintf("Level(%d)", int(l))
	}
	return levelNames[l]
}

// ParseLevel is the reverse of String.
func ParseLevel(name string) (Level, error) {
	if i := slices.Index(levelNames, name); i > 0 {
		return Level(i), nil
	}
	return 0, fmt.Errorf("level %q, there are %s", name, strings.Join(levelNames[1:], ", "))
}

// VerifyOptions say how VerifyWith looks.
type VerifyOptions struct {
	Level Level
	// Heads are tree heads that were kept outside of the store, from LevelTree on.
	Heads []Anchor
	// Key checks the signatures of the heads that the store has kept itself; nil = they are compared all the same.
	Key *integrity.Key
	// Progress, if not nil, is called with the bytes done and in all, by one goroutine at a time.
	Progress func(done, total int64)
}

// Verify reads every byte of the store in dir and checks all that can be checked: the log as wal.Verify does, the
// manifest, that each file which it names is there and is the one that it means, every block, index and filter of each
// segment, every value file, and that nothing in them is newer than the log. progress, if not nil, is called with the bytes done and in
// all.
//
// It takes no lock, changes nothing and works beside a process that has the store open. The error is of the file system
// or the context, or ErrUnfinished for what an interrupted restore or recovery has left; damage is in the report. Of the options only FS is used.
func Verify(ctx context.Context, dir string, o *Options, progress func(done, total int64)) (VerifyReport, error) {
	return VerifyWith(ctx, dir, o, VerifyOptions{Level: LevelDecode, Progress: progress})
}

// VerifyWith is Verify to a level, which may compare the log with tree heads that were taken before.
func VerifyWith(ctx context.Context, dir string, o *Options, vo VerifyOptions) (VerifyReport, error) {
	v := verification{ctx: ctx, fs: o.withDefaults().FS, dir: dir, progress: vo.Progress, level: vo.Level}
	if err := unfinished(v.fs, dir); err != nil {
		return v.report, err
	}
	if v.level == LevelDefault {
		v.level = LevelDecode
		if has, err := vfs.Exists(v.fs, path.Join(dir, integrity.Dir)); err != nil {
			return v.report, err
		} else if has {
			v.level = LevelTree
		}
	}
	v.report.Level = v.level
	err := v.run()
	if err == nil && v.level >= LevelTree {
		err = v.tree(&vo)
	}
	if err == nil && v.level >= LevelReplay {
		err = v.replay()
	}
	return v.report, err
}

// verification is the work in progress.
type verification struct {
	ctx      context.Context
	fs       vfs.FS
	dir      string
	progress func(done, total int64)
	level    Level
	report   VerifyReport

	sorted int64 // bytes of segments and value files in all

	mu   sync.Mutex // guards done and, while files are checked, report
	done int64      // bytes verified
}

// run looks at the manifest before the log, so that whatever segments hold must be in the log, and again after it,
// since an owner may have flushed and merged meanwhile.
func (v *verification) run() error {
	before, err := v.version()
	if err != nil {
		return err
	}
	tell := func(done, total int64) { v.tell(done, total+v.sorted) }
	for try := 0; ; try++ {
		v.sorted, v.report.OldestLog = before.SizeBytes(), before.OldestLog
		v.report.Log, err = v.log(before.OldestLog, tell)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && len(v.report.Log.Defects) == 0 || try == maxVerifyTries {
			break
		}
		now, verr := v.version()
		if verr != nil {
			return verr
		}
		if now.OldestLog == before.OldestLog {
			break
		}
		before = now // an owner has dropped files that were to be read
	}
	if err != nil {
		return err
	}
	v.done = v.report.Log.Bytes
	v.checkLSNs(before)
	if err := v.segments(); err != nil {
		return err
	}
	v.suspectManifest()
	if v.level == LevelFiles {
		return nil
	}
	return v.sides()
}

// log checks the log as deep as wanted.
func (v *verification) log(oldest uint64, tell func(done, total int64)) (wal.VerifyReport, error) {
	dir := path.Join(v.dir, "wal")
	switch {
	case v.level == LevelFiles:
		return wal.VerifyFiles(v.fs, dir, oldest)
	case v.level < LevelDecode:
		return wal.VerifyFrames(v.ctx, v.fs, dir, oldest, tell)
	}
	return wal.VerifyFrom(v.ctx, v.fs, dir, oldest, tell)
}

func (v *verification) tell(done, total int64) {
	if v.progress != nil {
		v.progress(done, max(total, done))
	}
}

// counted returns what is told how many bytes of a file were checked, by any goroutine.
func (v *verification) counted() func(done int64) {
	last := int64(0)
	return func(done int64) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.done, last = v.done+done-last, done
		v.tell(v.done, v.report.Log.Bytes+v.sorted)
	}
}

// isDamage says that an error is of what was read, not of reading.
func isDamage(err error) bool {
	return errors.Is(err, corruption.ErrCorrupt) || errors.Is(err, event.ErrUnsupported)
}

// defect notes damage and what is unsupported, once, and returns any other error.
func (v *verification) defect(err error) error {
	if !isDamage(err) {
		return err
	}
	if !slices.ContainsFunc(v.report.Defects, func(d error) bool { return d.Error() == err.Error() }) {
		v.report.Defects = append(v.report.Defects, err)
	}
	return nil
}

// open reads the manifest. Of a damaged one nothing is known, which is a defect; the set is nil then.
func (v *verification) open() (*manifest.Set, error) {
	set, err := manifest.Open(v.fs, path.Join(v.dir, "manifest"), manifest.Options{ReadOnly: true})
	if err != nil {
		return nil, v.defect(err)
	}
	v.report.Manifest = set.Tail()
	v.report.NewestLSN = max(v.report.NewestLSN, set.Current().FlushedLSN)
	return set, nil
}

// version is what the manifest says before the log is read.
func (v *verification) version() (*manifest.Version, error) {
	set, err := v.open()
	if set == nil {
		return &manifest.Version{}, err
	}
	defer set.Close() // only read from
	return set.Current(), nil
}

// checkLSNs holds what segments promise against the log, which was read after the manifest.
func (v *verification) checkLSNs(m *manifest.Version) {
	if t := &v.report.Manifest; t.CutBytes > 0 && v.report.Log.Tail.Clean {
		v.report.Defects = append(v.report.Defects, corruption.At(t.File, t.End,
			"%d bytes that are no record, though the store was closed. %s", t.CutBytes, t.Doubt))
	}
	if len(v.report.Log.Defects) > 0 || v.level == LevelFiles {
		return // where a damaged log ends is not known
	}
	last := v.report.Log.Tail.NextLSN - min(v.report.Log.Tail.NextLSN, 1)
	if m.FlushedLSN > last {
		v.report.Defects = append(v.report.Defects, corruption.At(v.report.Manifest.File, 0,
			"segments hold events up to LSN %d, the log ends with %d", m.FlushedLSN, last))
	}
}

// suspectManifest names the manifest beside what is wrong with other files if it may have lost edits: a cut between two of them
// shows nowhere else.
func (v *verification) suspectManifest() {
	t := &v.report.Manifest
	if v.report.Count() > 0 && v.report.Log.Tail.Clean && t.File != "" && t.CutBytes == 0 && !t.Marked {
		v.report.Defects = append(v.report.Defects, corruption.At(t.File, t.End,
			"the manifest ends here without a mark, though the store was closed: it may have been cut, and name other files than it did"))
	}
}

// maxVerifyTries bounds how often the manifest is read again because a file that it names is gone.
const maxVerifyTries = 10

// segments checks the files that the manifest names.
func (v *verification) segments() error {
	checked := map[string]bool{}
	edits := uint64(0) // of the manifest that was read before
	for try := 0; ; try++ {
		set, err := v.open()
		if err != nil {
			return err
		}
		names, err := v.fs.List(path.Join(v.dir, manifest.Dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("list the segments: %w", err)
		}
		if set == nil {
			return v.unnamed(names)
		}
		missing, err := v.named(set.Current(), checked)
		if err != nil {
			return errors.Join(err, set.Close())
		}
		again := len(missing) > 0 && try < maxVerifyTries && (try == 0 || set.Current().Edits != edits)
		edits = set.Current().Edits
		if again { // an owner may have merged it away
			set.Close() // only read from
			continue
		}
		if !set.Found() {
			if err := set.Check(names); err != nil { // files without a manifest
				missing = append(missing, err)
			}
			err = v.unnamed(names)
		}
		v.report.Defects = append(v.report.Defects, missing...)
		v.orphans(set, names)
		return errors.Join(err, set.Close())
	}
}

// namedFile is one that a version names.
type namedFile struct {
	name  string
	size  int64
	check func(name string) error
	err   error
}

// named checks the files of a version that were not checked before, as many at a time as there are processors, and returns those that
// are missing as defects.
func (v *verification) named(m *manifest.Version, checked map[string]bool) (missing []error, err error) {
	var files []*namedFile
	for _, s := range slices.AppendSeq(slices.Clone(m.History), m.All()) {
		files = append(files, &namedFile{name: segmentDisplayName(s.Num), size: s.SizeBytes, check: func(name string) error { return v.segment(name, s) }})
	}
	for _, f := range m.Values {
		files = append(files, &namedFile{name: valueDisplayName(f.Num), size: f.SizeBytes, check: func(name string) error { return v.valueFile(name, f) }})
	}
	files = slices.DeleteFunc(files, func(f *namedFile) bool { return checked[f.name] })
	var group sync.WaitGroup
	next := atomic.Int64{}
	for range min(runtime.GOMAXPROCS(0), len(files)) {
		group.Go(func() {
			for i := next.Add(1); i <= int64(len(files)) && v.ctx.Err() == nil; i = next.Add(1) {
				f := files[i-1]
				if f.err = f.check(f.name); f.err != nil && !isDamage(f.err) && !errors.Is(f.err, fs.ErrNotExist) {
					next.Store(int64(len(files))) // of the file system: it ends here
				}
			}
		})
	}
	group.Wait()
	if err := v.ctx.Err(); err != nil {
		return nil, err
	}
	for _, f := range files {
		if errors.Is(f.err, fs.ErrNotExist) {
			missing = append(missing, corruption.At(f.name, 0, "the file is missing, the manifest names it"))
			continue
		}
		checked[f.name] = true
		v.report.Bytes += f.size
		if f.err != nil {
			if err := v.defect(f.err); err != nil {
				return nil, err
			}
		}
	}
	for _, d := range m.Damaged {
		if name := segmentDisplayName(d.Segment.Num); !checked[name] {
			checked[name] = true
			v.report.Defects = append(v.report.Defects, corruption.At(name, 0, "set aside: %s", d.Reason))
		}
	}
	return missing, nil
}

// segment checks one file; s is what the manifest says of it, nil if that is not known.
func (v *verification) segment(name string, s *manifest.Segment) error {
	r, err := segment.Open(v.fs, path.Join(v.dir, name), segment.ReaderOptions{DisplayName: name})
	if err != nil {
		return err
	}
	defer r.Close() // only read from
	counted := v.counted()
	if v.level == LevelFiles {
		size := r.Properties().SizeBytes
		if s != nil && size != s.SizeBytes {
			return corruption.At(name, size, "the file has %d bytes, the manifest says %d", size, s.SizeBytes)
		}
		counted(size)
	} else if err := r.Verify(v.ctx, func(done, _ int64) { counted(done) }); err != nil {
		return err
	}
	p := r.Properties()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Segments++
	v.report.Entries += p.Entries
	v.report.NewestLSN = max(v.report.NewestLSN, p.MaxLSN)
	if s == nil {
		return nil
	}
	is := compaction.SegmentOf(p)
	if is.Run = s.Run; p.SHA256 != s.SHA256 || is.String() != s.String() { // it may have been moved to another run
		return corruption.At(name, 0, "another file than the manifest names: it is %s", is)
	}
	return nil
}

// valueFile checks one file; f is what the manifest says of it, nil if that is not known.
func (v *verification) valueFile(name string, f *manifest.ValueFile) error {
	full := path.Join(v.dir, name)
	file, err := wal.OpenValueFile(v.fs, full, name)
	if err != nil {
		return err
	}
	defer file.Close() // only read from
	if v.level == LevelFiles {
		if f != nil && file.Size != f.SizeBytes {
			return corruption.At(name, file.Size, "the file has %d bytes, the manifest says %d", file.Size, f.SizeBytes)
		}
		v.counted()(file.Size)
		return nil
	}
	if err := file.Verify(v.ctx, v.counted()); err != nil || f == nil {
		return err
	}
	raw, err := v.fs.Open(full)
	if err != nil {
		return err
	}
	defer raw.Close() // only read from
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(raw, 0, file.Size)); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if file.Size != f.SizeBytes || [32]byte(hash.Sum(nil)) != f.SHA256 {
		return corruption.At(name, 0, "another file than the manifest names: size or hash differ")
	}
	return nil
}

// unnamed checks the segments and value files that are there when no manifest tells which ones count.
func (v *verification) unnamed(names []string) error {
	for _, name := range names {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		num, value, ok := manifest.ParseName(name)
		if !ok {
			continue
		}
		var err error
		if value {
			err = v.valueFile(valueDisplayName(num), nil)
		} else {
			err = v.segment(segmentDisplayName(num), nil)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			if err := v.defect(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// orphans notes files that no version has.
func (v *verification) orphans(set *manifest.Set, names []string) {
	known := map[manifest.FileNum]bool{}
	m := set.Current()
	for s := range m.All() {
		known[s.Num] = true
	}
	for _, s := range m.History {
		known[s.Num] = true
	}
	for _, f := range m.Values {
		known[f.Num] = true
	}
	for _, d := range m.Damaged {
		known[d.Segment.Num] = true
	}
	for _, name := range names {
		if num, _, ok := manifest.ParseName(name); ok && set.Found() && !known[num] {
			v.report.Orphans = append(v.report.Orphans, path.Join(manifest.Dir, name))
		}
	}
}
