package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// Tail says how the newest manifest file ends. The zero Tail is that of no manifest.
type Tail struct {
	File     string // relative to the database directory, empty if there is none
	End      int64  // offset behind the last sound record
	Marked   bool   // the last record is a mark: every edit before End is known to have been durable
	CutBytes int64  // from the end to the last byte that is not zero: a crash left them, they are no part of the manifest
	Doubt    string // with CutBytes: what cannot be told apart; for people
}

// file is the content of a manifest file.
type file struct {
	head          header
	version       *Version
	tail          Tail
	snapshotBytes int64 // header and snapshot
}

// maxAttempts bounds how often a reader looks again for a file, far above what a writer at work can bring about.
const maxAttempts = 1000

// load reads the newest manifest file in dir, nil if there is none, and lists the numbers of all, ascending.
//
// With retry, a writer may be at work: a file that goes away is looked for again, and what looks damaged is read again
// before it is believed.
func load(fsys vfs.FS, dir string, retry bool) (*file, []uint64, error) {
	var before []byte
	for attempts := 0; ; attempts++ {
		again := retry && attempts < maxAttempts
		nums, err := listFiles(fsys, dir)
		if err != nil || len(nums) == 0 {
			return nil, nil, err
		}
		num := nums[len(nums)-1]
		name := path.Join(dir, fileName(num))
		rel := path.Join(path.Base(dir), fileName(num))
		b, err := fsys.ReadFile(name, maxFileBytes)
		switch {
		case again && errors.Is(err, fs.ErrNotExist):
			continue // a newer one has taken its place
		case errors.Is(err, vfs.ErrTooLarge):
			return nil, nil, corruption.At(rel, maxFileBytes, "manifest of more than %d bytes", maxFileBytes)
		case err != nil:
			return nil, nil, fmt.Errorf("read the manifest: %w", err)
		}
		f, err := parseFile(b, rel, num)
		if err != nil && again && !bytes.Equal(b, before) {
			before = b
			continue
		}
		if err != nil {
			return nil, nil, corruption.Locate(err, rel, 0)
		}
		return f, nums, nil
	}
}

func listFiles(fsys vfs.FS, dir string) (nums []uint64, err error) {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the manifest files: %w", err)
	}
	for _, name := range names {
		if num, ok := parseFileName(name); ok {
			nums = append(nums, num)
		}
	}
	slices.Sort(nums)
	return nums, nil
}

// parseFile decodes a manifest file of the given name and number.
func parseFile(b []byte, name string, num uint64) (*file, error) {
	h, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	if h.num != num {
		return nil, corruption.New(32, "the header is that of %s", fileName(h.num))
	}
	f := &file{head: h, tail: Tail{File: name, End: headerSize}}
	build := newBuilder(&Version{})
	err = h.eachRecord(b, func(r *record) error {
		f.tail.End, f.tail.Marked = r.offset+r.size, r.kind == kindMark
		if r.kind == kindMark {
			return nil
		}
		e, err := parseEdit(r.body, r.kind)
		if err != nil {
			return corruption.Shift(err, int(r.offset)+recordHeaderSize)
		}
		build.at = r.offset
		if _, err := build.apply(e); err != nil {
			return &corruption.Error{Offset: r.offset, What: r.kind.String(), Err: err}
		}
		if r.kind == kindSnapshot {
			build.next.Edits = r.edits
			f.snapshotBytes = f.tail.End
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	version, at, err := build.build()
	if err != nil {
		return nil, &corruption.Error{Offset: at, What: "manifest", Err: err}
	}
	f.version = version
	if last, err := h.judge(b, f.tail.End, f.tail.Marked); err != nil {
		return nil, err
	} else if last >= 0 {
		f.tail.CutBytes = last + 1 - f.tail.End
		f.tail.Doubt = fmt.Sprintf("What follows edit %d may have been durable if these bytes decayed and were not torn "+
			"by a crash.", version.Edits)
	}
	return f, nil
}

// eachRecord calls visit with the sound records of a file, in order, up to a mark.
func (h *header) eachRecord(b []byte, visit func(*record) error) error {
	edits := uint64(0)
	for at := int64(headerSize); at < int64(len(b)); {
		r, defect := h.readRecord(b, at)
		if defect != "" {
			return nil // judge has the last word
		}
		if err := h.checkRecord(b, &r, edits); err != nil {
			return err
		}
		if err := visit(&r); err != nil {
			return err
		}
		if r.kind == kindMark {
			return nil
		}
		edits = r.edits
		at += r.size
	}
	return nil
}

// judge decides what it means that the sound records of a file end at an offset, with a mark or not: see "How a
// manifest ends" in the package comment. It returns the offset of the last byte that is no part of the manifest and not
// zero, -1 if there is none.
func (h *header) judge(b []byte, end int64, marked bool) (last int64, err error) {
	if end == headerSize {
		_, defect := h.readRecord(b, end)
		return 0, corruption.New(end, "%s; the snapshot was durable before the file had its name", defect)
	}
	if coding.AllZero(b[end:]) {
		return -1, nil
	}
	if marked && h.soundHeader(b[end:], end) {
		return 0, corruption.New(end, "a record behind a mark, which is the last of a file")
	}
	for at := end + recordAlign; at+recordHeaderSize <= int64(len(b)); at += recordAlign {
		if h.soundHeader(b[at:], at) {
			_, defect := h.readRecord(b, end)
			return 0, corruption.New(end, "%s, but it was durable before the record at %d was written", defect, at)
		}
	}
	last = int64(len(b)) - 1
	for b[last] == 0 {
		last--
	}
	return last, nil
}
