package wal

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// Who has begun to read a log file goes on in the one that takes its name when a value is redacted: what is read from the disk
// afterwards is without the value, and all else is as before.
func TestReadersGoOnInARedactedFile(t *testing.T) {
	secret := []byte(strings.Repeat("what nobody may read again ", 1000))
	other := bytes.Repeat([]byte("-"), 1<<20)
	for what, follow := range map[string]bool{"scanner": false, "follower": true} {
		t.Run(what, func(t *testing.T) {
			fsys := vfs.NewMem()
			b := newBuilder(fsys, "db/wal")
			b.start(EndingNone)
			for range 4 { // more than is read ahead
				b.data(other)
			}
			piece := b.data(secret)
			at := Position{File: piece.File, Offset: int64(piece.Offset)}
			b.puts(1)
			b.store()
			files := OpenFiles(fsys, "db/wal")
			files.Renew = func() bool { return false }
			defer files.Close()
			got := make([]byte, len(secret))
			if err := files.ReadPiece(got, at, BodyCRC(secret)); err != nil || !bytes.Equal(got, secret) {
				t.Fatal(err)
			}
			next, end := openToRead(t, fsys, follow)
			defer end()
			for range 2 { // the dictionary, and one piece
				if _, err := next(); err != nil {
					t.Fatal(err)
				}
			}
			info := FileInfo{Name: FileName(1, 1), Seq: 1, FirstLSN: 1}
			if err := Redact(fsys, "db/wal", info, "redact.tmp", &Redaction{Pieces: []int64{at.Offset}}, nil); err != nil {
				t.Fatal(err)
			}
			if err := fsys.Rename("db/wal/redact.tmp", path.Join("db/wal", info.Name)); err != nil {
				t.Fatal(err)
			}
			frames, redacted := 2, 0
			for {
				f, err := next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if frames++; bytes.Contains(f.Body, secret[:20]) {
					t.Errorf("the frame at %d has the value", f.Offset)
				}
				if f.Flags&FrameRedacted != 0 {
					redacted++
				}
			}
			if frames != 7 || redacted != 1 {
				t.Errorf("%d frames, %d redacted", frames, redacted)
			}
			if err := files.ReadPiece(got, at, BodyCRC(secret)); !errors.Is(err, ErrRedacted) || bytes.Contains(got, secret[:20]) {
				t.Errorf("the piece: %v", err)
			}
		})
	}
}

// A file that is gone, or another one that has its name, ends the reading with an error: nobody knows whether it was redacted before.
func TestReadersEndWithTheirFile(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		fsys := vfs.NewMem()
		write := func(dir string, time int64) {
			b := newBuilder(fsys, dir)
			b.time = time
			b.start(EndingNone)
			for range 6 { // more than is read ahead
				b.data(bytes.Repeat([]byte("-"), 1<<20))
			}
			b.store()
		}
		write("db/wal", testTime)
		write("other/wal", testTime+1)
		next, end := openToRead(t, fsys, true)
		_, err := next()
		if name := path.Join("db/wal", FileName(1, 1)); err == nil && replaced {
			err = fsys.Rename(path.Join("other/wal", FileName(1, 1)), name)
		} else if err == nil {
			err = fsys.Remove(name)
		}
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = next()
		}
		if replaced && !strings.Contains(err.Error(), "replaced by another file") || !replaced && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("replaced %t: %v", replaced, err)
		}
		end()
	}
}

func openToRead(t *testing.T, fsys vfs.FS, follow bool) (next func() (*Frame, error), end func() error) {
	t.Helper()
	if follow {
		f, err := Follow(fsys, "db/wal", FollowOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return f.Try, f.Close
	}
	s, err := NewScanner(fsys, "db/wal", ScanOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	return s.Next, s.Close
}
