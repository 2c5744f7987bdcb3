package integrity

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo/internal/vfs"
)

func newKeys(t *testing.T) (private, public *Key) {
	t.Helper()
	priv, pub, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if private, err = ParseKey(priv + "\n"); err != nil {
		t.Fatal(err)
	}
	if public, err = ParseKey(pub); err != nil {
		t.Fatal(err)
	}
	if private.Public() != pub || !private.Private() || public.Private() {
		t.Fatalf("keys %v, %v", private, public)
	}
	return private, public
}

func exampleHead() *Head {
	return &Head{Origin: Origin(exampleID), Size: 3, Root: testLeaf(1), LSN: 30, Time: time.Unix(0, exampleTime).UTC()}
}

// TestHeadsComeBack signs heads, keeps them in a file and reads them with the public key.
func TestHeadsComeBack(t *testing.T) {
	private, public := newKeys(t)
	_, other := newKeys(t)
	fsys := vfs.NewMem()
	for range 3 {
		msg, err := private.Sign(exampleHead())
		if err == nil {
			err = AppendNote(fsys, "heads", msg)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	data, err := fsys.ReadFile("heads", MaxHeadsBytes)
	if err != nil {
		t.Fatal(err)
	}
	heads, torn, err := public.ParseHeads(data)
	if err != nil || torn || len(heads) != 3 || heads[2].Signed == "" {
		t.Errorf("%v, %t, %v", heads, torn, err)
	}
	heads[2].Signed = ""
	if heads[2] != *exampleHead() {
		t.Errorf("%+v", heads[2])
	}
	if _, _, err := other.ParseHeads(data); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("another key reads them: %v", err)
	}
	forged := strings.Replace(string(data), "lsn 30", "lsn 31", 1)
	if _, _, err := public.ParseHeads([]byte(forged)); err == nil {
		t.Error("a changed head is taken as signed")
	}
	if heads, _, err := (*Key)(nil).ParseHeads([]byte(forged)); err != nil || len(heads) != 3 {
		t.Errorf("without a key: %v, %v", heads, err)
	}
	if heads, torn, err := public.ParseHeads(data[:len(data)-1]); err != nil || !torn || len(heads) != 2 {
		t.Errorf("cut: %v, %t, %v", heads, torn, err)
	}
	unsigned, _ := public.Sign(exampleHead())
	if _, err := public.ParseNote(unsigned); err == nil {
		t.Error("an unsigned head is taken as signed")
	}
}

// A store's own file of heads has an end: old ones become sparse, the first and the newest stay, and what is left is in order. A file
// of somebody else is never thinned.
func TestKeptHeadsBecomeSparse(t *testing.T) {
	fsys := vfs.NewMem()
	for _, add := range []struct {
		name string
		f    func(vfs.FS, string, string) error
	}{{"kept", KeepNote}, {"anchors", AppendNote}} {
		all := []byte{}
		head := exampleHead()
		for head.Size = 1; head.Size < 4*maxKept-3; head.Size++ { // written by a version that did not thin
			all = append(all, head.Text()+"\n"...)
		}
		if err := vfs.WriteFileSync(fsys, add.name, all); err != nil {
			t.Fatal(err)
		}
		for ; head.Size <= 4*maxKept; head.Size++ {
			if err := add.f(fsys, add.name, head.Text()+"\n"); err != nil {
				t.Fatal(err)
			}
		}
		data, err := fsys.ReadFile(add.name, MaxHeadsBytes)
		if err != nil {
			t.Fatal(err)
		}
		heads, torn, err := (*Key)(nil).ParseHeads(data)
		if err != nil || torn {
			t.Fatalf("%t, %v", torn, err)
		}
		if add.name == "anchors" {
			if len(heads) != 4*maxKept {
				t.Errorf("%d of %d anchors are left", len(heads), 4*maxKept)
			}
			continue
		}
		n := len(heads)
		if n >= maxKept || n < maxKept/2 || heads[0].Size != 1 || heads[n-1].Size != 4*maxKept {
			t.Fatalf("%d heads, of %d to %d frames", n, heads[0].Size, heads[n-1].Size)
		}
		for i, h := range heads[1:] {
			gap := h.Size - heads[i].Size
			if gap < 1 || i > n-maxKept/4 && gap != 1 {
				t.Errorf("head %d of %d frames follows one of %d", i+1, h.Size, heads[i].Size)
			}
		}
	}
	// What is damaged is left for Verify to tell.
	if err := vfs.WriteFileSync(fsys, "damaged", []byte("no head")); err != nil {
		t.Fatal(err)
	}
	if err := KeepNote(fsys, "damaged", exampleHead().Text()+"\n"); err != nil {
		t.Fatal(err)
	}
	if data, err := fsys.ReadFile("damaged", MaxHeadsBytes); err != nil || !strings.HasPrefix(string(data), "no head") {
		t.Errorf("%q, %v", data, err)
	}
}

// FuzzHeads holds the reader of heads to: no panic, and one spelling.
func FuzzHeads(f *testing.F) {
	key, err := ParseKey(goldenKey)
	if err != nil {
		f.Fatal(err)
	}
	msg, err := key.Sign(exampleHead())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(msg + msg))
	f.Add([]byte("a\n1\n\nlsn 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		heads, torn, err := (*Key)(nil).ParseHeads(data)
		again := ""
		for _, h := range heads {
			again += h.Text()
		}
		if err == nil && !torn && !strings.Contains(string(data), "— ") && len(heads) > 0 &&
			again != strings.ReplaceAll(string(data), "\n\n", "\n") {
			t.Errorf("%q was read as %q", data, again)
		}
		_, _, _ = key.ParseHeads(data)
	})
}

// FuzzKey holds the reader of keys to: no panic.
func FuzzKey(f *testing.F) {
	f.Add(goldenKey)
	f.Add(privatePrefix)
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParseKey(text); err == nil {
			if _, err := k.Sign(exampleHead()); err != nil {
				t.Error(err)
			}
		}
	})
}
