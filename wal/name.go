package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// Position is a place in the log.
type Position struct {
	File   uint64 // sequence of the log file
	Offset int64  // in bytes from its start
}

// Before reports whether p comes before q in the log.
func (p Position) Before(q Position) bool {
	return p.File < q.File || p.File == q.File && p.Offset < q.Offset
}

// FileName returns the name of a log file within the log's directory.
func FileName(seq uint64, first event.LSN) string {
	return fmt.Sprintf("%010d-%020d.log", seq, uint64(first))
}

var fileName = regexp.MustCompile(`^([0-9]{10,20})-([0-9]{20})\.log$`)

// ParseFileName is the reverse of FileName. ok is false for any name that FileName would not give.
func ParseFileName(name string) (seq uint64, first event.LSN, ok bool) {
	m := fileName.FindStringSubmatch(name)
	if m == nil {
		return 0, 0, false
	}
	seq, err1 := strconv.ParseUint(m[1], 10, 64)
	lsn, err2 := strconv.ParseUint(m[2], 10, 64)
	first = event.LSN(lsn)
	return seq, first, err1 == nil && err2 == nil && FileName(seq, first) == name
}

// FileInfo describes a log file by its name and size.
type FileInfo struct {
	Seq      uint64
	FirstLSN event.LSN
	Name     string // within the log's directory
	Size     int64  // bytes
}

// ListFiles lists the log files in dir by sequence. Other names are passed over. Two files of one sequence are
// corruption. A file that goes away meanwhile is left out.
func ListFiles(fsys vfs.FS, dir string) ([]FileInfo, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list the log files: %w", err)
	}
	var files []FileInfo
	for _, name := range names {
		seq, first, ok := ParseFileName(name)
		if !ok {
			continue
		}
		info, err := fsys.Stat(path.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list the log files: %w", err)
		}
		files = append(files, FileInfo{Seq: seq, FirstLSN: first, Name: name, Size: info.Size})
	}
	slices.SortStableFunc(files, func(a, b FileInfo) int { return cmp.Compare(a.Seq, b.Seq) })
	for i := 1; i < len(files); i++ {
		if a, b := files[i-1], files[i]; a.Seq == b.Seq {
			return nil, corruption.At(relName(dir, b.Name), 0, "second file of sequence %d beside %s", b.Seq, a.Name)
		}
	}
	return files, nil
}

// Gap is the error for a log file that is missing between two that a list has one after the other, nil if none is.
func Gap(dir string, older, newer FileInfo) *corruption.Error {
	if newer.Seq == older.Seq+1 {
		return nil
	}
	return corruption.At(missingName(dir, older.Seq+1), 0, "the file is missing between %s and %s", older.Name, newer.Name)
}

// Missing is the error for a log file that is not there and must be, as the oldest of a list.
func Missing(dir string, seq uint64) *corruption.Error {
	return corruption.At(missingName(dir, seq), 0, "the file is missing")
}

// relName is the name of a file relative to the database directory, which holds the log's directory.
func relName(dir, name string) string { return path.Join(path.Base(dir), name) }
