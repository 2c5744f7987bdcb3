package snapshot

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

var hexLine = regexp.MustCompile(`^//\t((?:[0-9a-f]{2} )*[0-9a-f]{2})(?: {2,}.*)?$`)

// example is what the package comment describes.
func example() Info {
	i := Info{LSN: 9, Time: 1700000000000000000, Created: 1700000000000000000, Files: 3, Bytes: 12288}
	for j := range i.LogID {
		i.LogID[j], i.Timeline[j] = 1, 2
	}
	return i
}

// TestDocExample decodes the bytes of the example in the package comment.
func TestDocExample(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(doc), "# Example")
	text, _, _ = strings.Cut(text, "# Crash points")
	var b []byte
	for line := range strings.SplitSeq(text, "\n") {
		if m := hexLine.FindStringSubmatch(line); m != nil {
			part, err := hex.DecodeString(strings.ReplaceAll(m[1], " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, part...)
		}
	}
	want := example()
	if enc := want.Encode(); !bytes.Equal(b, enc[:]) {
		t.Fatalf("the example is\n%s\nwant\n%s", hex.Dump(b), hex.Dump(enc[:]))
	}
	if got, err := Parse(b); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
}

// Every changed byte is found, and so is a missing or an added one; another version is unsupported.
func TestParseFindsDamage(t *testing.T) {
	info := example()
	b := info.Encode()
	for i := range b {
		b[i] ^= 1
		if _, err := Parse(b[:]); !errors.Is(err, corruption.ErrCorrupt) {
			t.Errorf("byte %d is wrong: %v", i, err)
		}
		b[i] ^= 1
	}
	for _, bad := range [][]byte{nil, b[:len(b)-1], append(b[:len(b):len(b)], 0)} {
		if _, err := Parse(bad); !errors.Is(err, corruption.ErrCorrupt) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	b = info.encode(version + 1)
	if _, err := Parse(b[:]); !errors.Is(err, event.ErrUnsupported) {
		t.Errorf("a newer version: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	info := example()
	b := info.Encode()
	f.Add(b[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := Parse(b)
		if err != nil {
			return
		}
		if again := info.Encode(); !bytes.Equal(again[:], b) {
			t.Fatalf("%x has another spelling, %x", b, again)
		}
	})
}

func TestNames(t *testing.T) {
	for _, name := range []string{"a", "Z9", "2026-11-28", "before_v2.1", strings.Repeat("x", MaxName)} {
		if !ValidName(name) {
			t.Errorf("%q is refused", name)
		}
	}
	for _, name := range []string{"", ".", "..", "-x", "_x", ".tmp-a", "a/b", `a\b`, "a b", "ä", "a\x00", "a\n", strings.Repeat("x", MaxName+1)} {
		if ValidName(name) {
			t.Errorf("%q is taken", name)
		}
	}
	fs := vfs.NewMem()
	for _, name := range []string{"b", "a", Temp("c"), ".hidden"} {
		if err := fs.MkdirAll(Dir + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	names, left, err := List(fs, Dir)
	if err != nil || strings.Join(names, " ") != "a b" || strings.Join(left, " ") != Temp("c") {
		t.Errorf("list: %q, %q, %v", names, left, err)
	}
	if names, left, err := List(fs, "nowhere"); err != nil || len(names)+len(left) > 0 {
		t.Errorf("no directory: %q, %q, %v", names, left, err)
	}
}
