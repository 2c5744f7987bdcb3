package keyring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
)

var update = flag.Bool("update", false, "write the golden files anew")

func fill[T [16]byte | [32]byte](from byte) (b T) {
	for i := range len(b) {
		b[i] = from + byte(i)
	}
	return b
}

func testRecord() record {
	r := record{id: 0x0123456789abcdef, created: 1700000000000000000, digest: fill[[32]byte](0x40), key: fill[[32]byte](0x80), subject: "anna"}
	r.fingerprint = fingerprintOf(r.key)
	return r
}

func goldenFiles() map[string][]byte {
	live := testRecord()
	gone := live
	gone.destroyed, gone.gone, gone.lsn, gone.logID, gone.key, gone.subject = true, 1700000001000000000, 9, fill[[16]byte](1), [32]byte{}, ""
	e := Erasure{ID: live.id, Fingerprint: live.fingerprint, Created: live.created, Begun: gone.gone, After: 8, Reason: "asked for it",
		Ticket: "T-1", digest: live.digest}
	return map[string][]byte{"KEYRING": encodeRing(fill[[32]byte](0x10), 1700000000000000000), "live.key": live.encode(),
		"destroyed.key": gone.encode(), "erasing": e.encode()}
}

// parse decodes a file by its magic.
func parse(b []byte) (any, error) {
	switch {
	case bytes.HasPrefix(b, []byte(magicRing)):
		return parseRing(b)
	case bytes.HasPrefix(b, []byte(magicErasure)):
		return parseErasure(b)
	}
	return parseRecord(b)
}

// Files of version 1 are read, and written as they are, for ever.
func TestGoldenFiles(t *testing.T) {
	for name, have := range goldenFiles() {
		file := filepath.Join("testdata", "v1", name+".hex")
		if *update {
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(hex.Dump(have)), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if hex.Dump(have) != string(want) {
			t.Errorf("%s: have\n%swant\n%s", name, hex.Dump(have), want)
		}
		if _, err := parse(have); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every byte of a file counts; a newer version is unsupported, not corrupt.
func TestDamagedFiles(t *testing.T) {
	for name, b := range goldenFiles() {
		for i := range b {
			damaged := bytes.Clone(b)
			damaged[i] ^= 0x20
			if _, err := parse(damaged); !errors.Is(err, corruption.ErrCorrupt) {
				t.Errorf("%s with another byte at %d: %v", name, i, err)
			}
			if _, err := parse(b[:i]); !errors.Is(err, corruption.ErrCorrupt) {
				t.Errorf("%s cut at %d: %v", name, i, err)
			}
		}
		longer := append(bytes.Clone(b), 0)
		le.PutUint32(longer[8:], crcOf(longer))
		if _, err := parse(longer); !errors.Is(err, corruption.ErrCorrupt) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
		newer := bytes.Clone(b)
		newer[12] = 2
		le.PutUint32(newer[8:], crcOf(newer))
		if _, err := parse(newer); !errors.Is(err, event.ErrUnsupported) || errors.Is(err, corruption.ErrCorrupt) {
			t.Errorf("%s of version 2: %v", name, err)
		}
	}
}

// A piece that was sealed once can be opened for ever.
func TestGoldenPiece(t *testing.T) {
	r := testRecord()
	k := newKey(&r)
	file := filepath.Join("testdata", "v1", "pieces.hex")
	where := Piece{Key: []byte("record"), Index: 3, Last: true}
	if *update {
		text := hex.EncodeToString(k.Seal(nil, where, event.CodecNone, 5, []byte("plain"))) + "\n" +
			hex.EncodeToString(k.Seal(nil, where, event.CodecS2, 300, []byte("packed"))) + "\n"
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i, want := range []struct {
		codec  event.Codec
		raw    int
		stored string
	}{{event.CodecNone, 5, "plain"}, {event.CodecS2, 300, "packed"}} {
		sealed, err := hex.DecodeString(lines[i])
		if err != nil {
			t.Fatal(err)
		}
		codec, raw, stored, err := k.Open(where, sealed)
		if err != nil || codec != want.codec || raw != want.raw || string(stored) != want.stored {
			t.Errorf("%s, %d, %q, %v, want %+v", codec, raw, stored, err, want)
		}
		if i == 0 && len(sealed) != Overhead+5 {
			t.Errorf("%d bytes", len(sealed))
		}
		// It opens nowhere else, and no byte of it can change.
		for _, other := range []Piece{{[]byte("recorD"), 3, true}, {[]byte("record"), 4, true}, {[]byte("record"), 3, false}, {nil, 3, true}} {
			if _, _, _, err := k.Open(other, sealed); err == nil {
				t.Errorf("it opens as %+v", other)
			}
		}
		for at := range sealed {
			damaged := bytes.Clone(sealed)
			damaged[at] ^= 1
			if _, _, _, err := k.Open(where, damaged); err == nil {
				t.Errorf("it opens with another byte at %d", at)
			}
			if _, _, _, err := k.Open(where, sealed[:at]); err == nil {
				t.Errorf("it opens cut at %d", at)
			}
		}
		id := *k
		id.ID++
		if _, _, _, err := id.Open(where, sealed); err == nil {
			t.Error("it opens under another id")
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range goldenFiles() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= headSize { // let it get past the checksum
			le.PutUint32(b[8:], crcOf(b))
		}
		switch v, err := parse(b); v := v.(type) {
		case record:
			if err == nil && !bytes.Equal(v.encode(), b) {
				t.Errorf("%x is read as %+v, which is written in another way", b, v)
			}
		case *Erasure:
			if err == nil && !bytes.Equal(v.encode(), b) {
				t.Errorf("%x is read as %+v, which is written in another way", b, v)
			}
		}
	})
}
