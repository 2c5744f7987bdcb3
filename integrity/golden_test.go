package integrity

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/formattest"
	"github.com/dyngodb/dyngo/internal/vfs"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// golden holds bytes against a file of testdata.
func golden(t *testing.T, name string, have []byte) {
	t.Helper()
	file := filepath.Join("testdata", "v1", name)
	if *rewrite {
		if err := os.WriteFile(file, have, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s: have\n%s\nwant\n%s", name, have, want)
	}
}

// TestDocExample computes what the package comment draws.
func TestDocExample(t *testing.T) {
	f := exampleFrame()
	for e, err := range f.Events() {
		if err != nil {
			t.Fatal(err)
		}
		l, err := noSource.LeafOf(e)
		if have, want := l.Append(nil), formattest.Drawn(t, "# Example", "The record of its frame"); err != nil || !bytes.Equal(have, want) {
			t.Errorf("leaf: have % x, want % x, %v", have, want, err)
		}
	}
	r, err := noSource.RecordOf(f, nil)
	if have, want := r.Append(nil), formattest.Drawn(t, "The record of its frame", "# Proofs"); err != nil || !bytes.Equal(have, want) {
		t.Errorf("record: have % x, want % x, %v", have, want, err)
	}
	h := Head{Origin: Origin(exampleID), Size: 1, Root: r.Hash(), LSN: 9, Time: time.Unix(0, exampleTime)}
	doc, err := os.ReadFile("doc.go")
	if err != nil || !strings.Contains(string(doc), "//\t"+strings.ReplaceAll(strings.TrimSuffix(h.Text(), "\n"), "\n", "\n//\t")+"\n") {
		t.Errorf("the head in the package comment is not\n%s", h.Text())
	}
}

// allOps is one event of each op, with and without parts.
func allOps() (events []event.Event) {
	parts := [][]byte{nil, event.AppendExpiry(nil, exampleTime+1), event.AppendPrevLSN(nil, 7),
		event.AppendValueSalt(event.AppendPrevLSN(event.AppendExpiry(nil, 5), 3), [16]byte{1, 2, 3})}
	for op := event.Op(1); op < 40; op++ {
		if !op.Known() {
			continue
		}
		e := event.Event{Op: op, Session: event.SessionID(op), Key: []byte("key"), Value: []byte("value"), Parts: parts[int(op)%len(parts)]}
		if !op.System() {
			e.Dataset = event.DatasetID(op) + 1000
		}
		events = append(events, e)
	}
	return events
}

// TestGolden holds the hashes of events, records and trees against those that earlier versions computed.
func TestGolden(t *testing.T) {
	var out strings.Builder
	var root Frontier
	for i, e := range allOps() {
		e.LSN, e.Time = event.LSN(i+1), exampleTime
		l, err := noSource.LeafOf(&e)
		if err != nil {
			t.Fatal(err)
		}
		root.Add(l.Hash())
		fmt.Fprintf(&out, "%s\n  leaf %x\n  hash %x\n", e.Op, l.Append(nil), l.Hash())
	}
	r := Record{LSN: 1, Count: uint32(root.n), Wall: exampleTime, HLC: 5, Root: root.Root()}
	h := r.Hash()
	fmt.Fprintf(&out, "record %x\n  hash %x\n", r.Append(nil), h[:])
	golden(t, "leaves.txt", []byte(out.String()))
	// A tree of two files of four frames, and a file that has begun.
	fsys := vfs.NewMem()
	tree := mustOpen(t, fsys, Options{Height: 2})
	grow(t, tree, 9)
	if err := tree.Sync(); err != nil {
		t.Fatal(err)
	}
	for num := range int64(3) {
		b, err := fsys.ReadFile("db/"+DisplayName(num), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, treeName(num), b)
	}
	key, err := ParseKey(goldenKey)
	if err != nil {
		t.Fatal(err)
	}
	rootOf, err := tree.Root(9)
	if err != nil {
		t.Fatal(err)
	}
	note, err := key.Sign(&Head{Origin: Origin(exampleID), Size: 9, Root: rootOf, LSN: 90, Time: time.Unix(0, exampleTime)})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "head.note", []byte(note))
	// And back: the files open as what they were.
	golden := vfs.NewMem()
	copyGolden(t, golden)
	again := mustOpen(t, golden, Options{ReadOnly: true})
	if again.Size() != 9 || again.Last() != 81 {
		t.Errorf("%d frames, last LSN %d; want 9, 81", again.Size(), again.Last())
	}
	if r, err := again.Root(9); err != nil || r != rootOf {
		t.Errorf("root %v, %v", r, err)
	}
}

// goldenKey signs golden files only.
const goldenKey = "PRIVATE+KEY+dyngo+95439ade+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH"

func copyGolden(t *testing.T, to vfs.FS) {
	t.Helper()
	if err := to.MkdirAll("db/" + Dir); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join("testdata", "v1", "*.tree"))
	if err != nil || len(names) != 3 {
		t.Fatalf("golden files %v, %v", names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil {
			err = vfs.WriteFileSync(to, "db/"+Dir+"/"+filepath.Base(name), b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
