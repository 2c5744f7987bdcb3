package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/formattest"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// movedPiece is a piece that a test moves.
type movedPiece struct {
	pos    Position
	stored []byte
}

// docPieces are those of the example in the package comment.
func docPieces() []movedPiece {
	return []movedPiece{{Position{2, 4160}, []byte("value")}, {Position{2, 4232}, []byte("larger")}, {Position{3, 4160}, []byte("last")}}
}

func writeValues(t testing.TB, fsys vfs.FS, name string, pieces []movedPiece) []byte {
	t.Helper()
	w, err := CreateValueFile(fsys, name, ValueHead{LogID: [16]byte(bytes.Repeat([]byte{1}, 16)), Num: 7, Created: testTime})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pieces {
		if err := w.Add(p.pos, p.stored); err != nil {
			t.Fatal(err)
		}
	}
	size, _, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	w.Abort() // does nothing
	b, err := fsys.ReadFile(name, 1<<30)
	if err != nil || int64(len(b)) != size {
		t.Fatalf("%d bytes, Finish says %d: %v", len(b), size, err)
	}
	return b
}

// store makes a file of some content.
func store(t testing.TB, fsys vfs.FS, name string, b []byte) {
	t.Helper()
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	f, err := fsys.Create(name)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// Pieces are read back by where they lay in the log, whatever file they moved to.
func TestValueFilesServeWhatWasMoved(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	fsys := vfs.NewMem()
	var all []movedPiece
	var infos []ValueInfo
	for num, seq := uint64(1), uint64(1); num <= 80; num++ { // more than are kept open
		var pieces []movedPiece
		from := seq
		for range 1 + rng.IntN(4) {
			off := int64(HeaderSize)
			for range 1 + rng.IntN(5) {
				b := make([]byte, 1+rng.IntN(5000))
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				off += int64(8 * (1 + rng.IntN(1000)))
				pieces = append(pieces, movedPiece{Position{seq, off}, b})
			}
			seq += 1 + uint64(rng.IntN(2))
		}
		name := ValueInfo{Num: num, Path: "values" + strconv.FormatUint(num, 10), Name: "segments/x.val", From: from, To: seq}
		writeValues(t, fsys, name.Path, pieces)
		all, infos, seq = append(all, pieces...), append(infos, name), seq+1
	}
	f := OpenFiles(fsys, "none")
	defer f.Close()
	f.Drop(1 << 40)
	f.Move(infos)
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, p := range all {
		b := make([]byte, len(p.stored))
		if err := f.ReadPiece(b, p.pos, coding.CRC(p.stored)); err != nil || !bytes.Equal(b, p.stored) {
			t.Fatalf("%+v: %v", p.pos, err)
		}
	}
	first := all[0]
	b := make([]byte, len(first.stored))
	var damage *corruption.Error
	if err := f.ReadPiece(b, first.pos, 1); !errors.As(err, &damage) || damage.File != "segments/x.val" {
		t.Errorf("another CRC: %v", err)
	}
	for _, p := range []Position{{first.pos.File, first.pos.Offset + 4}, {1 << 39, HeaderSize}} {
		if err := f.ReadPiece(b, p, 0); !errors.Is(err, ErrDropped) {
			t.Errorf("%+v, which nothing refers to: %v", p, err)
		}
	}
	f.Move(nil)
	if err := f.ReadPiece(b, first.pos, coding.CRC(first.stored)); !errors.Is(err, ErrDropped) {
		t.Errorf("of no file: %v", err)
	}
}

// A log file that stays whole serves its pieces from where they were.
func TestALogFileAsValueFile(t *testing.T) {
	fsys := vfs.NewMem()
	b := newBuilder(fsys, "db/wal")
	b.start(EndingNone)
	piece := b.data(bytes.Repeat([]byte("large "), 100))
	b.puts(3)
	b.store()
	log := filepath.Join("db/wal", FileName(1, 1))
	if err := fsys.Link(log, "whole.val"); err != nil {
		t.Fatal(err)
	}
	if err := fsys.Remove(log); err != nil {
		t.Fatal(err)
	}
	f := OpenFiles(fsys, "db/wal")
	defer f.Close()
	f.Drop(2)
	renewed := 0
	f.Renew = func() bool {
		renewed++
		f.Move([]ValueInfo{{Num: 1, Path: "whole.val", Name: "segments/1.val", From: 1, To: 1}})
		return true
	}
	got := make([]byte, piece.StoredLen)
	if err := f.ReadPiece(got, Position{1, int64(piece.Offset)}, piece.CRC); err != nil || string(got[:6]) != "large " || renewed != 1 {
		t.Fatalf("%q, renewed %d times: %v", got, renewed, err)
	}
	content, err := fsys.ReadFile("whole.val", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	everyFlipIsFound(t, content)
}

func verifyValues(fsys vfs.FS, name string) error {
	v, err := OpenValueFile(fsys, name, name)
	if err != nil {
		return err
	}
	return errors.Join(v.Verify(context.Background(), nil), v.Close())
}

func everyFlipIsFound(t *testing.T, content []byte) {
	t.Helper()
	fsys := vfs.NewMem()
	store(t, fsys, "a.val", content)
	if err := verifyValues(fsys, "a.val"); err != nil {
		t.Fatal(err)
	}
	var damage *corruption.Error
	for i := range content {
		b := bytes.Clone(content)
		b[i] ^= 1 << (i % 8)
		store(t, fsys, "a.val", b)
		err := verifyValues(fsys, "a.val")
		if !errors.Is(err, event.ErrUnsupported) && (!errors.As(err, &damage) || damage.File != "a.val") {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	for n := 0; n < len(content); n += 1 + n/100 {
		store(t, fsys, "a.val", content[:n])
		if err := verifyValues(fsys, "a.val"); !errors.As(err, &damage) || damage.File != "a.val" {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestEveryFlippedByteOfAValueFileIsFound(t *testing.T) {
	everyFlipIsFound(t, writeValues(t, vfs.NewMem(), "a.val", docPieces()))
}

// TestDocValueFile reads the example in the package comment.
func TestDocValueFile(t *testing.T) {
	b := formattest.Drawn(t, "# Value files", "# Example")
	if want := writeValues(t, vfs.NewMem(), "a.val", docPieces()); !bytes.Equal(b, want) {
		t.Fatalf("the example is\n%x\nwant\n%x", b, want)
	}
}

// TestGoldenValueFile opens a file that this version wrote, in all versions to come.
func TestGoldenValueFile(t *testing.T) {
	name := filepath.Join(goldenDir, "values", "0000000007.val")
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, writeValues(t, vfs.NewMem(), "a.val", docPieces()), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	name = filepath.ToSlash(name)
	if err := verifyValues(vfs.OS, name); err != nil {
		t.Fatal(err)
	}
	v, err := OpenValueFile(vfs.OS, name, name)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, p := range docPieces() {
		b := make([]byte, len(p.stored))
		at, ok := v.place(p.pos, len(b))
		if _, err := v.read(b, at); !ok || err != nil || !bytes.Equal(b, p.stored) {
			t.Errorf("%+v: %q, %t, %v", p.pos, b, ok, err)
		}
	}
	if v.From != 2 || v.To != 3 || v.LogID[15] != 1 {
		t.Errorf("of log %x, files %d to %d", v.LogID, v.From, v.To)
	}
}

func FuzzValueFile(f *testing.F) {
	f.Add(writeValues(f, vfs.NewMem(), "a.val", docPieces()), false)
	f.Add(writeValues(f, vfs.NewMem(), "a.val", docPieces()[:1]), true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix && len(b) >= valueHeaderSize+valueFooterSize { // gets behind the checksums
			b = bytes.Clone(b)
			fixCRC(b, valueHeaderSize)
			fixValueIndex(b)
		}
		fsys := vfs.NewMem()
		store(t, fsys, "a.val", b)
		v, err := OpenValueFile(fsys, "a.val", "a.val")
		if err != nil {
			known(t, err, len(b))
			return
		}
		defer v.Close()
		if err := v.Verify(context.Background(), nil); err != nil {
			known(t, err, len(b))
			return
		}
		if v.whole != nil {
			return
		}
		head, err := parseValueHead(b)
		if err != nil {
			t.Fatal(err)
		}
		w, err := CreateValueFile(fsys, "again.val", head)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range v.pieces {
			if err := w.Add(m.from, b[m.at:m.at+int64(m.n)]); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		if again, err := fsys.ReadFile("again.val", 1<<30); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is a second spelling of %x, %v", b, again, err)
		}
	})
}

// fixValueIndex gives footer and index the checksums that they should have.
func fixValueIndex(b []byte) {
	foot := b[len(b)-valueFooterSize:]
	start := min(binary.LittleEndian.Uint64(foot), uint64(len(b)-valueFooterSize))
	binary.LittleEndian.PutUint32(foot[16:], coding.CRC(b[start:len(b)-valueFooterSize]))
	binary.LittleEndian.PutUint32(foot[20:], coding.CRC(foot[:20]))
	copy(foot[24:], valueMagic)
}
