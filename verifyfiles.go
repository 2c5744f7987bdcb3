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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dyngodb/dyngo/compaction"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// fileCheck is the work on what is derived from the log: segments, value files and side files. It goes on beside the log's, and shares
// nothing with it but the progress.
type fileCheck struct {
	*verification
	ctx context.Context // ends with the verification's, or when the log can't be read

	total int64 // bytes of segments and value files
	err   error // why run ended before the last file

	mu    sync.Mutex   // guards the fields below while files are checked
	found VerifyReport // of these files, and of the manifest that names them
	done  int64        // bytes checked
}

// run checks the files.
func (c *fileCheck) run() {
	if c.err = c.segments(); c.err == nil && c.level > LevelFiles {
		c.err = c.sides()
	}
}

// counted returns what is told how many bytes of a file were checked.
func (c *fileCheck) counted() func(done int64) {
	last := int64(0)
	return func(done int64) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.done, last = c.done+done-last, done
		c.tell(partFiles, c.done, c.total)
	}
}

// segments checks the files that the manifest names.
func (c *fileCheck) segments() error {
	checked := map[string]bool{}
	edits := uint64(0) // of the manifest that was read before
	for try := 0; ; try++ {
		set, err := c.openManifest(&c.found)
		if err != nil {
			return err
		}
		names, err := c.fs.List(path.Join(c.dir, manifest.Dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("list the segments: %w", err)
		}
		if set == nil {
			return c.unnamed(names)
		}
		missing, err := c.named(set.Current(), checked)
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
			err = c.unnamed(names)
		}
		c.found.Defects = append(c.found.Defects, missing...)
		c.orphans(set, names)
		return errors.Join(err, set.Close())
	}
}

// namedFile is one to check.
type namedFile struct {
	name  string
	size  int64 // as the manifest says
	check func(name string) error
	err   error // what check returned
}

// check checks files, as many at a time as there are processors. An error that is neither damage nor a file that is missing ends it:
// files behind that one were not all checked. The error returned is the context's.
func (c *fileCheck) check(files []*namedFile) error {
	var group sync.WaitGroup
	next := atomic.Int64{}
	for range min(runtime.GOMAXPROCS(0), len(files)) {
		group.Go(func() {
			for i := next.Add(1); i <= int64(len(files)) && c.ctx.Err() == nil; i = next.Add(1) {
				f := files[i-1]
				if f.err = f.check(f.name); f.err != nil && !isDamage(f.err) && !isMissing(f.err) {
					next.Store(int64(len(files))) // of the file system: it ends here
				}
			}
		})
	}
	group.Wait()
	return c.ctx.Err()
}

// named checks the files of a version that were not checked before, and returns those that are missing as defects.
func (c *fileCheck) named(m *manifest.Version, checked map[string]bool) (missing []error, err error) {
	var files []*namedFile
	for _, s := range slices.AppendSeq(slices.Clone(m.History), m.All()) {
		files = append(files, &namedFile{name: segmentDisplayName(s.Num), size: s.SizeBytes, check: func(name string) error { return c.segment(name, s) }})
	}
	for _, f := range m.Values {
		files = append(files, &namedFile{name: valueDisplayName(f.Num), size: f.SizeBytes, check: func(name string) error { return c.valueFile(name, f) }})
	}
	files = slices.DeleteFunc(files, func(f *namedFile) bool { return checked[f.name] })
	if err := c.check(files); err != nil {
		return nil, err
	}
	for _, f := range files {
		if errors.Is(f.err, fs.ErrNotExist) {
			missing = append(missing, corruption.At(f.name, 0, "the file is missing, the manifest names it"))
			continue
		}
		checked[f.name] = true
		c.found.Bytes += f.size
		if f.err != nil {
			if err := c.found.note(f.err); err != nil {
				return nil, err
			}
		}
	}
	for _, d := range m.Damaged {
		if name := segmentDisplayName(d.Segment.Num); !checked[name] {
			checked[name] = true
			c.found.Defects = append(c.found.Defects, corruption.At(name, 0, "set aside: %s", d.Reason))
		}
	}
	return missing, nil
}

// segment checks one file; s is what the manifest says of it, nil if that is not known.
func (c *fileCheck) segment(name string, s *manifest.Segment) error {
	r, err := segment.Open(c.fs, path.Join(c.dir, name), segment.ReaderOptions{DisplayName: name})
	if err != nil {
		return err
	}
	defer r.Close() // only read from
	counted := c.counted()
	if c.level == LevelFiles {
		size := r.Properties().SizeBytes
		if s != nil && size != s.SizeBytes {
			return corruption.At(name, size, "the file has %d bytes, the manifest says %d", size, s.SizeBytes)
		}
		counted(size)
	} else if err := r.Verify(c.ctx, func(done, _ int64) { counted(done) }); err != nil {
		return err
	}
	p := r.Properties()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found.Segments++
	c.found.Entries += p.Entries
	c.found.NewestLSN = max(c.found.NewestLSN, p.MaxLSN)
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
func (c *fileCheck) valueFile(name string, f *manifest.ValueFile) error {
	full := path.Join(c.dir, name)
	file, err := wal.OpenValueFile(c.fs, full, name)
	if err != nil {
		return err
	}
	defer file.Close() // only read from
	if c.level == LevelFiles {
		if f != nil && file.Size != f.SizeBytes {
			return corruption.At(name, file.Size, "the file has %d bytes, the manifest says %d", file.Size, f.SizeBytes)
		}
		c.counted()(file.Size)
		return nil
	}
	if err := file.Verify(c.ctx, c.counted()); err != nil || f == nil {
		return err
	}
	raw, err := c.fs.Open(full)
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
func (c *fileCheck) unnamed(names []string) error {
	for _, name := range names {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		num, value, ok := manifest.ParseName(name)
		if !ok {
			continue
		}
		var err error
		if value {
			err = c.valueFile(valueDisplayName(num), nil)
		} else {
			err = c.segment(segmentDisplayName(num), nil)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			if err := c.found.note(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// orphans notes files that no version has.
func (c *fileCheck) orphans(set *manifest.Set, names []string) {
	known := map[manifest.FileNum]bool{}
	set.Current().AddNums(known)
	for _, name := range names {
		if num, _, ok := manifest.ParseName(name); ok && set.Found() && !known[num] {
			c.found.Orphans = append(c.found.Orphans, path.Join(manifest.Dir, name))
		}
	}
}

// sides reads the side files, which are derived: what is wrong with one is told, and the next owner builds it anew.
func (c *fileCheck) sides() error {
	names, err := c.fs.List(path.Join(c.dir, "side"))
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	files, err := wal.ListFiles(c.fs, path.Join(c.dir, "wal"))
	if err != nil {
		return c.found.note(err)
	}
	var sides []*namedFile
	for _, name := range names {
		seq, err := strconv.ParseUint(strings.TrimSuffix(name, ".side"), 10, 64)
		if err != nil || fmt.Sprintf("%010d.side", seq) != name {
			continue // on its way, or what a crash left
		}
		sides = append(sides, &namedFile{name: path.Join("side", name), check: func(name string) error { return c.side(name, seq, files) }})
	}
	if err := c.check(sides); err != nil {
		return err
	}
	for _, f := range sides {
		switch {
		case f.err == nil:
			c.found.Sides++
		case isMissing(f.err): // an owner has removed it
		case isDamage(f.err):
			c.found.SideDefects = append(c.found.SideDefects, f.err)
		default:
			return f.err
		}
	}
	return nil
}

func (c *fileCheck) side(name string, seq uint64, files []wal.FileInfo) error {
	r, err := segment.Open(c.fs, path.Join(c.dir, name), segment.ReaderOptions{DisplayName: name})
	if err != nil {
		return err
	}
	defer r.Close() // only read from
	if err := r.Verify(c.ctx, nil); err != nil {
		return err
	}
	props, err := parseSideProps(r.Properties().Unknown)
	if err != nil {
		return &corruption.Error{File: name, What: "side file", Err: err}
	}
	for i := 1; i < len(files); i++ {
		if files[i-1].Seq != seq {
			continue
		}
		if files[i].Seq != seq+1 { // the one that says where it ends is missing, which is told with the log
			return nil
		}
		head, err := wal.ReadHeader(c.fs, path.Join(c.dir, "wal"), files[i])
		if err != nil {
			return nil // told with the log
		}
		if want := (origin{logID: head.LogID, seq: head.PrevSeq, end: head.PrevEnd, chain: head.PrevChain}); props.origin != want {
			return corruption.At(name, 0, "the side file is not of log file %s", files[i-1].Name)
		}
		return nil
	}
	return nil // its log file has gone, so will it go; or that is missing, which is told with the log
}
