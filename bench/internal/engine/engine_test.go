package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// TestEnginesAgree puts every engine through the same small life: load, put, overwrite, get, scan,
// close and open again.
func TestEnginesAgree(t *testing.T) {
	const n = 500
	pair := func(i int) ([]byte, []byte) {
		return binary.BigEndian.AppendUint32([]byte("k"), uint32(i*7919%n)), fmt.Appendf(nil, "value %d", i*7919%n)
	}
	for _, name := range Names() {
		if name == "none" {
			continue
		}
		for _, mode := range []Mode{Buffered, Durable} {
			t.Run(name+"/"+string(mode), func(t *testing.T) {
				c := Config{Dir: t.TempDir(), Mode: mode, Writers: 2}
				e := mustOpen(t, name, c)
				must(t, e.Load(n, 64, pair))
				must(t, e.Put([]byte("new"), []byte("1")))
				must(t, e.Put([]byte("new"), []byte("2")))
				must(t, e.Drain())
				check(t, e, n)
				must(t, e.Settle())
				check(t, e, n)
				must(t, e.Close())
				e = mustOpen(t, name, c)
				must(t, e.Ready())
				check(t, e, n)
				must(t, e.Close())
				if info := Describe(name, c); info.Name != name || len(info.Options) == 0 {
					t.Errorf("no options to print: %+v", info)
				}
			})
		}
	}
	if _, err := Open("oracle", Config{}); err == nil {
		t.Error("an unknown engine was opened")
	}
}

func mustOpen(t *testing.T, name string, c Config) Engine {
	t.Helper()
	e, err := Open(name, c)
	must(t, err)
	return e
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, e Engine, n int) {
	t.Helper()
	v, found, err := e.Get([]byte("before "), []byte("new"))
	if string(v) != "before 2" || !found || err != nil {
		t.Fatalf("get: %q, %v, %v", v, found, err)
	}
	v, found, err = e.Get([]byte("before "), []byte("absent"))
	if string(v) != "before " || found || err != nil {
		t.Fatalf("get of an absent key: %q, %v, %v", v, found, err)
	}
	var last []byte
	seen := 0
	got, err := e.Scan([]byte("k"), n, func(k, v []byte) {
		if bytes.Compare(k, last) <= 0 {
			t.Fatalf("scan: %x after %x", k, last)
		}
		if want := fmt.Sprintf("value %d", binary.BigEndian.Uint32(k[1:])); string(v) != want {
			t.Fatalf("scan: %x has %q, want %q", k, v, want)
		}
		last = bytes.Clone(k)
		seen++
	})
	if err != nil || got != n || seen != n {
		t.Fatalf("scan: %d pairs, %d seen, %v", got, seen, err)
	}
	if got, err = e.Scan(nil, n+10, func(_, _ []byte) {}); got != n+1 || err != nil {
		t.Fatalf("scan of everything: %d pairs, %v", got, err)
	}
}
