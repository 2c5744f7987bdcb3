package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/integrity"
)

// bundles makes a store and returns its public key, a proof of each of its events and, between its heads, of consistency, and the
// certificate of an erasure.
func bundles(t *testing.T) (public string, proofs []any) {
	t.Helper()
	private, public, err := integrity.NewKey(bytes.NewReader(bytes.Repeat([]byte{9}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	db, err := dyngo.Open(filepath.Join(dir, "db"), &dyngo.Options{Integrity: true, SigningKey: private, Keys: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{Compression: dyngo.S2})
	if err != nil {
		t.Fatal(err)
	}
	var heads []string
	for i := range 12 {
		b := db.NewBatch()
		for j := range i + 1 {
			b.Put(ds, fmt.Appendf(nil, "k%d", j), []byte(strings.Repeat("value ", 1+j*10)))
		}
		b.Delete(ds, []byte("k0"))
		if _, err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		head, err := db.TreeHead(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, head)
		for _, old := range heads {
			c, err := db.ProveConsistency(context.Background(), old)
			if err != nil {
				t.Fatal(err)
			}
			proofs = append(proofs, c)
		}
	}
	if _, err := ds.PutWith([]byte("k"), []byte("v"), dyngo.WriteOptions{Subject: "anna"}); err != nil {
		t.Fatal(err)
	}
	erased, err := db.Erase(t.Context(), "anna", dyngo.EraseOptions{Reason: `asked for "it"`, Count: true})
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := db.Certificate(t.Context(), erased)
	if err != nil {
		t.Fatal(err)
	}
	proofs = append(proofs, certificate)
	for lsn := dyngo.LSN(1); lsn <= db.DurableLSN(); lsn++ {
		p, err := db.Prove(context.Background(), lsn)
		if err != nil {
			t.Fatal(err)
		}
		proofs = append(proofs, p)
	}
	return public, proofs
}

// TestVerifierAcceptsProofs has the program check the bundles of a store, and refuse each with a digit of a hash, a number or a
// signature changed, with another key, and with parts of other bundles.
func TestVerifierAcceptsProofs(t *testing.T) {
	public, proofs := bundles(t)
	k, err := readKey(public)
	if err != nil {
		t.Fatal(err)
	}
	other := *k
	other.public = bytes.Clone(k.public)
	other.public[3]++
	for i, p := range proofs {
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := check(data, k); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if _, err := check(data, &other); err == nil {
			t.Fatal("another key's signature is taken")
		}
		if _, is := p.(*integrity.Certificate); !is && i%17 != 3 {
			continue
		}
		for at := range data {
			c := data[at]
			if c < '0' || c > '8' || bytes.HasPrefix(data[at+1:], []byte("=")) || bytes.HasPrefix(data[at-1:], []byte("-1")) {
				continue
			}
			b := bytes.Clone(data)
			b[at]++
			if _, err := check(b, k); err == nil {
				t.Errorf("accepted with byte %d changed: %s", at, b)
			}
		}
	}
}

// TestVerifierProgram runs the program on files.
func TestVerifierProgram(t *testing.T) {
	public, proofs := bundles(t)
	dir := t.TempDir()
	keyFile, file := filepath.Join(dir, "key.pub"), filepath.Join(dir, "proof.json")
	data, err := json.MarshalIndent(proofs[len(proofs)-1], "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{keyFile: []byte(public + "\n"), file: data} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := run([]string{"-key", keyFile, file}, &out); err != nil || !strings.Contains(out.String(), "is in the log dyngo.log/") {
		t.Errorf("%s, %v", &out, err)
	}
	if err := os.WriteFile(file, bytes.Replace(data, []byte(`"session": 1`), []byte(`"session": 2`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"-key", keyFile, file}, &out); err == nil {
		t.Error("a changed proof is accepted")
	}
}

// TestVerifierStandsAlone holds what checks proofs to 300 lines, what certificates take beside them to 60, and all to the standard
// library.
func TestVerifierStandsAlone(t *testing.T) {
	for name, most := range map[string]int{"main.go": 300, "erasure.go": 60} {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(src, []byte("\n")); n > most {
			t.Errorf("%s has %d lines", name, n)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			if strings.Contains(imp.Path.Value, ".") {
				t.Errorf("%s imports %s", name, imp.Path.Value)
			}
		}
	}
}

// A call that checks nothing, or without the key that was meant, is none that says that all is well.
func TestWrongUse(t *testing.T) {
	var out bytes.Buffer
	for _, args := range [][]string{{}, {"-key", "some.pub"}} {
		if err := run(args, &out); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", args, err)
		}
	}
	_, proofs := bundles(t)
	data, err := json.Marshal(proofs[0])
	file := filepath.Join(t.TempDir(), "proof.json")
	if err := errors.Join(err, os.WriteFile(file, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"-key", "", file}, &out); !errors.Is(err, os.ErrNotExist) || out.Len() > 0 {
		t.Errorf("without the key's name: %q, %v", out.String(), err)
	}
}
