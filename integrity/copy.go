package integrity

import (
	"bytes"
	"errors"
	"io/fs"
	"path"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// HeadsName is the name, within Dir, of the file of heads that a store has signed.
const HeadsName = "heads"

// CopyOptions configure Copy.
type CopyOptions struct {
	LogID [16]byte
	// LSN is the last event that the log of the copy has: frames that hold later ones are left out.
	LSN event.LSN
	// Link has the copy share files that never change. Both are in one file system.
	Link bool
	// Step is called with the bytes as they are read, as in vfs.CopyFile.
	Step func(b []byte) error
}

// Copy copies the tree in a folder, and the heads that were signed of it, to a folder that is not there, durably but for the folder's
// own name, as far as it is the tree of a log that ends with an LSN. The last frame is left out too, as it may go on behind the LSN: who
// opens the copy for writing reads it from the log again. The source may be in use. It returns how many frames the copy has.
//
// A folder without a tree gives an empty one, a folder that is not there fs.ErrNotExist. Damage is corruption. After an error the copy is
// the caller's to remove.
func Copy(from vfs.FS, dir string, to vfs.FS, dst string, o CopyOptions) (frames int64, err error) {
	t, err := Open(from, dir, Options{LogID: o.LogID, ReadOnly: true})
	if err != nil {
		return 0, err
	}
	defer t.Close() // only read from
	i, err := t.Find(o.LSN + 1)
	if err != nil {
		return 0, err
	}
	frames = max(i, 0)
	if err := to.MkdirAll(dst); err != nil {
		return 0, err
	}
	for num := int64(0); num<<t.height < frames; num++ {
		if err := t.copyFile(num, frames, to, dst, &o); err != nil {
			return 0, err
		}
	}
	if err := copyHeads(from, dir, to, dst, frames); err != nil {
		return 0, err
	}
	return frames, to.SyncDir(dst)
}

// copyFile copies the file of a number as far as it holds the first frames.
func (t *Tree) copyFile(num, frames int64, to vfs.FS, dst string, o *CopyOptions) error {
	name := path.Join(dst, treeName(num))
	bytes := int64(-1)
	if last := frames - num<<t.height; last < t.perFile() {
		bytes = headerLen + last*entryLen
	} else if o.Link {
		if err := to.Link(t.path(num), name); !vfs.IsNoLinks(err) {
			return err
		}
	}
	_, err := vfs.CopyFile(t.fs, t.path(num), to, name, bytes, o.Step)
	return err
}

// copyHeads copies the heads of as many frames or fewer.
func copyHeads(from vfs.FS, dir string, to vfs.FS, dst string, frames int64) error {
	data, err := from.ReadFile(path.Join(dir, HeadsName), MaxHeadsBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var kept bytes.Buffer
	for len(data) > 0 {
		end := noteEnd(data)
		if end < 0 {
			break
		}
		h, err := (*Key)(nil).ParseNote(string(data[:end]))
		if err != nil {
			break // Verify of the source tells it
		}
		if h.Size <= frames {
			kept.Write(data[:end])
		}
		data = data[end:]
	}
	if kept.Len() == 0 {
		return nil
	}
	return vfs.WriteFileSync(to, path.Join(dst, HeadsName), kept.Bytes())
}
