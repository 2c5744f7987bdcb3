package dyngo

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
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
	// defect: SideDefects names what is unsound and the next owner builds anew, once the log is sound.
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
	err := v.run(&vo)
	if err == nil && v.level >= LevelReplay {
		err = v.replay()
	}
	return v.report, err
}

// verification is the work in progress.
type verification struct {
	ctx    context.Context
	fs     vfs.FS
	dir    string
	level  Level
	report VerifyReport

	mu       sync.Mutex // guards the fields below, and is held while progress is called
	progress func(done, total int64)
	amounts  [parts]amount
}

// amount is how many bytes of a part of the work are done.
type amount struct{ done, total int64 }

// The parts of the work.
const (
	partLog    = iota
	partFiles  // segments and value files
	partReplay // of the log
	parts
)

// maxVerifyTries bounds how often the manifest is read again because a file that it names is gone.
const maxVerifyTries = 10

// run checks the log, and beside it the files that are derived from it: so there is work for all processors until the end. What
// was found is told in one order, whichever was done first: the log, what segments promise of it, the files, the tree. If
// neither can be read, the error is the log's.
func (v *verification) run(o *VerifyOptions) error {
	before, err := v.version() // before the log: whatever segments hold must be in it
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(v.ctx)
	defer cancel()
	files := &fileCheck{verification: v, ctx: ctx, total: before.SizeBytes()}
	v.amounts[partFiles].total = files.total
	var beside sync.WaitGroup
	beside.Go(files.run)
	before, tree, err := v.log(before, o)
	if err != nil {
		cancel()
	}
	beside.Wait()
	if err == nil {
		err = files.err
	}
	if err != nil {
		return err
	}
	v.checkLSNs(before)
	f, r := &files.found, &v.report
	r.Segments, r.Bytes, r.Entries, r.Sides, r.SideDefects, r.Orphans = f.Segments, f.Bytes, f.Entries, f.Sides, f.SideDefects, f.Orphans
	r.NewestLSN = max(r.NewestLSN, f.NewestLSN)
	if f.Manifest.File != "" {
		r.Manifest = f.Manifest
	}
	for _, d := range f.Defects {
		r.addDefect(d)
	}
	v.suspectManifest()
	if tree != nil {
		r.Defects = append(r.Defects, tree.defects...)
	}
	return nil
}

// log checks the log, and the tree over it, after what the manifest said, which it returns. It begins again if an owner has dropped
// files that were to be read, and if the log tells of a redaction behind the value that went: then it is known the next time.
func (v *verification) log(m *manifest.Version, o *VerifyOptions) (*manifest.Version, *treeCheck, error) {
	var redacted func(LSN) (integrity.Hash, bool, error)
	for try := 0; ; try++ {
		v.report.OldestLog = m.OldestLog
		tree, err := v.logOnce(m, o, redacted)
		switch {
		case err != nil && !isMissing(err):
			return m, nil, err
		case err == nil && tree != nil && tree.early:
			redacted = redactedIn(v.report.Log.Redactions)
			continue
		case err == nil && len(v.report.Log.Defects) == 0 && (tree == nil || len(tree.defects) == 0), try >= maxVerifyTries:
			return m, tree, err
		}
		now, verr := v.version()
		if verr != nil || now.OldestLog == m.OldestLog {
			return m, tree, errors.Join(err, verr)
		}
		m = now
	}
}

// logOnce checks the log as deep as wanted, in one pass.
func (v *verification) logOnce(m *manifest.Version, o *VerifyOptions, redacted func(LSN) (integrity.Hash, bool, error)) (*treeCheck, error) {
	dir := path.Join(v.dir, "wal")
	var err error
	if v.level == LevelFiles {
		v.report.Log, err = wal.VerifyFiles(v.fs, dir, m.OldestLog)
		return nil, err
	}
	wo := wal.VerifyOptions{Oldest: m.OldestLog, FramesOnly: v.level < LevelDecode,
		Progress: func(done, total int64) { v.tell(partLog, done, total) }}
	if v.level < LevelTree {
		v.report.Log, err = wal.VerifyWith(v.ctx, v.fs, dir, wo)
		return nil, err
	}
	tree, err := v.newTreeCheck(m, o, redacted)
	if err != nil {
		return nil, err
	}
	defer tree.close()
	wo.Commit = tree.commit
	v.report.Log, err = wal.VerifyWith(v.ctx, v.fs, dir, wo)
	if before := tree.records.finish(); before != nil { // it lies before what ended the pass
		err = before
	}
	if err == nil {
		tree.finish(&v.report.Log)
	}
	return tree, err
}

// tell tells how much of a part is done, by any goroutine.
func (v *verification) tell(part int, done, total int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.amounts[part] = amount{done, total}
	if v.progress == nil {
		return
	}
	var all amount
	for _, a := range v.amounts {
		all.done, all.total = all.done+a.done, all.total+max(a.done, a.total)
	}
	v.progress(all.done, all.total)
}

// isDamage says that an error is of what was read, not of reading.
func isDamage(err error) bool {
	return errors.Is(err, corruption.ErrCorrupt) || errors.Is(err, event.ErrUnsupported)
}

// note takes up damage and what is unsupported, once, and returns any other error.
func (r *VerifyReport) note(err error) error {
	if !isDamage(err) {
		return err
	}
	r.addDefect(err)
	return nil
}

// addDefect adds a defect that is not yet there.
func (r *VerifyReport) addDefect(d error) {
	if !hasDefect(r.Defects, d) {
		r.Defects = append(r.Defects, d)
	}
}

func hasDefect(list []error, d error) bool {
	return slices.ContainsFunc(list, func(e error) bool { return e.Error() == d.Error() })
}

// openManifest reads the manifest for a report. Of a damaged one nothing is known, which is a defect; the set is nil then.
func (v *verification) openManifest(r *VerifyReport) (*manifest.Set, error) {
	set, err := manifest.Open(v.fs, path.Join(v.dir, "manifest"), manifest.Options{ReadOnly: true})
	if err != nil {
		return nil, r.note(err)
	}
	r.Manifest = set.Tail()
	r.NewestLSN = max(r.NewestLSN, set.Current().FlushedLSN)
	return set, nil
}

// version is what the manifest says before the log is read.
func (v *verification) version() (*manifest.Version, error) {
	set, err := v.openManifest(&v.report)
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
