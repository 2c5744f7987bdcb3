package snapshot

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

const (
	// Dir is the name of the directory of snapshots within the database directory.
	Dir = "snapshots"
	// FileName is the name of the file that makes a folder a snapshot.
	FileName = "SNAPSHOT"
	// PendingName is the name of a file with the same bytes in a folder that is being made into a store: of the state that it is
	// to have.
	PendingName = "RESTORE"
	// MaxName bounds the bytes of a name.
	MaxName = 128

	tempPrefix = ".tmp-"
	magic      = "DYNGOSNP"
	version    = 1
	infoSize   = 128
)

// Info says what a snapshot is of.
type Info struct {
	LogID, Timeline [16]byte
	LSN             event.LSN
	Time            int64 // log time of the state, Unix nanoseconds: not before that of the LSN
	Created         int64 // wall time, Unix nanoseconds
	Files, Bytes    int64
}

// Encode returns the content of the file.
func (i *Info) Encode() [infoSize]byte { return i.encode(version) }

func (i *Info) encode(version uint32) [infoSize]byte {
	var b [infoSize]byte
	le := binary.LittleEndian
	copy(b[:8], magic)
	le.PutUint32(b[12:], version)
	copy(b[16:32], i.LogID[:])
	copy(b[32:48], i.Timeline[:])
	for j, v := range [...]uint64{uint64(i.LSN), uint64(i.Time), uint64(i.Created), uint64(i.Files), uint64(i.Bytes)} {
		le.PutUint64(b[48+8*j:], v)
	}
	le.PutUint32(b[8:], coding.CRC(b[12:]))
	return b
}

// Parse decodes the content of the file, which is all of b. The error is event.ErrUnsupported or corruption with an offset in b.
func Parse(b []byte) (Info, error) {
	le := binary.LittleEndian
	switch {
	case len(b) < infoSize:
		return Info{}, corruption.New(int64(len(b)), "snapshot: %d bytes, want %d", len(b), infoSize)
	case string(b[:8]) != magic:
		return Info{}, corruption.New(0, "snapshot: magic %q", b[:8])
	case le.Uint32(b[8:]) != coding.CRC(b[12:infoSize]):
		return Info{}, corruption.New(8, "snapshot: crc %08x, want %08x", coding.CRC(b[12:infoSize]), le.Uint32(b[8:]))
	case le.Uint32(b[12:]) == 0:
		return Info{}, corruption.New(12, "snapshot: version 0")
	case le.Uint32(b[12:]) != version:
		return Info{}, event.Unsupported("snapshot version %d", le.Uint32(b[12:]))
	case len(b) != infoSize || !coding.AllZero(b[88:]):
		return Info{}, corruption.New(88, "snapshot: reserved bytes are not zero")
	}
	i := Info{
		LogID: [16]byte(b[16:]), Timeline: [16]byte(b[32:]), LSN: event.LSN(le.Uint64(b[48:])), Time: int64(le.Uint64(b[56:])),
		Created: int64(le.Uint64(b[64:])), Files: int64(le.Uint64(b[72:])), Bytes: int64(le.Uint64(b[80:])),
	}
	if i.LSN > event.MaxLSN || i.Files < 0 || i.Bytes < 0 {
		return Info{}, corruption.New(48, "snapshot: LSN %d, %d files, %d bytes", i.LSN, i.Files, i.Bytes)
	}
	return i, nil
}

// Read reads the file in a folder; ok is false if there is none. name is the folder's, for messages.
func Read(fsys vfs.FS, folder, name string) (info Info, ok bool, err error) {
	return read(fsys, folder, name, FileName)
}

// ReadPending is Read for PendingName.
func ReadPending(fsys vfs.FS, folder string) (info Info, ok bool, err error) {
	return read(fsys, folder, "", PendingName)
}

func read(fsys vfs.FS, folder, name, file string) (info Info, ok bool, err error) {
	b, err := fsys.ReadFile(path.Join(folder, file), infoSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Info{}, false, nil
	case errors.Is(err, vfs.ErrTooLarge):
		return Info{}, false, corruption.At(path.Join(name, file), infoSize, "snapshot: more than %d bytes", infoSize)
	case err != nil:
		return Info{}, false, err
	}
	if info, err = Parse(b); err != nil {
		return Info{}, false, corruption.Locate(err, path.Join(name, file), 0)
	}
	return info, true, nil
}

// ValidName reports whether a snapshot can have a name; see the package comment.
func ValidName(name string) bool {
	if name == "" || len(name) > MaxName || strings.ContainsRune("._-", rune(name[0])) {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	}) < 0
}

// Temp is the name that a snapshot has while it is made or dropped.
func Temp(name string) string { return tempPrefix + name }

// List lists the names in a directory of snapshots, sorted, and the temporary ones that a crash has left. No directory is none.
func List(fsys vfs.FS, dir string) (names, left []string, err error) {
	all, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	for _, name := range all {
		switch {
		case strings.HasPrefix(name, tempPrefix):
			left = append(left, name)
		case ValidName(name):
			names = append(names, name)
		}
	}
	return names, left, err
}
