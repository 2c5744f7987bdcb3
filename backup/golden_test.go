package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// golden is a manifest of format 1.
const golden = `{"format":1,"id":"20231114T221320.000000000Z","log":"01010101010101010101010101010101","timeline":"02020202020202020202020202020202",` +
	`"seed":"03030303030303030303030303030303","floor":7,"lsn":9,"time":"2023-11-14T22:13:20Z","files":[` +
	`{"name":"wal/0000000001-00000000000000000001.log","bytes":3,"sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}]}`

const goldenName = "backups/20231114T221320.000000000Z-"

// A manifest of format 1 is read for ever, with fields that a newer version adds; a newer format is unsupported, and what can't be
// is corruption.
func TestManifests(t *testing.T) {
	for _, tc := range []struct {
		name, from, to string
		want           error
	}{
		{"golden", "", "", nil},
		{"a new field", `"format":1`, `"format":1,"packed":true`, nil},
		{"a newer format", `"format":1`, `"format":2`, event.ErrUnsupported},
		{"another id", `T221320.000000000Z"`, `T221321.000000000Z"`, corruption.ErrCorrupt},
		{"a path out of the store", `"wal/`, `"../`, corruption.ErrCorrupt},
		{"an absolute path", `"wal/`, `"/wal/`, corruption.ErrCorrupt},
		{"a negative size", `"bytes":3`, `"bytes":-3`, corruption.ErrCorrupt},
		{"a short hash", `"sha256":"ba`, `"sha256":"`, corruption.ErrCorrupt},
		{"another spelling of a hash", `"sha256":"ba`, `"sha256":"BA`, corruption.ErrCorrupt},
		{"no JSON", `{"format"`, `"format"`, corruption.ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			content := strings.Replace(golden, tc.from, tc.to, 1)
			fs := vfs.NewMem()
			to := NewDir(fs, "/b")
			if err := to.Put(t.Context(), goldenName+hashText(content)+".json", strings.NewReader(content), int64(len(content))); err != nil {
				t.Fatal(err)
			}
			list, damage, err := List(t.Context(), to)
			switch {
			case err != nil:
				t.Fatal(err)
			case tc.want == nil:
				if len(list) != 1 || len(damage) > 0 || list[0].Floor != 7 || list[0].LSN != 9 || list[0].Bytes() != 3 {
					t.Errorf("%+v, %v", list, damage)
				}
			case len(damage) != 1 || !errors.Is(damage[0], tc.want):
				t.Errorf("%+v, %v", list, damage)
			}
		})
	}
	var b Backup
	if err := json.Unmarshal([]byte(golden), &b); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(&b); err != nil || string(again) != golden {
		t.Errorf("written as %s, %v", again, err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(golden)
	f.Fuzz(func(t *testing.T, content string) {
		to := NewDir(vfs.NewMem(), "/b")
		if err := to.Put(t.Context(), goldenName+hashText(content)+".json", strings.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
		list, damage, err := List(t.Context(), to)
		if err != nil || len(list)+len(damage) != 1 {
			t.Fatalf("%+v, %v, %v", list, damage, err)
		}
		for i := range list {
			v := FS(t.Context(), to, &list[i])
			for _, file := range list[i].Files {
				if _, err := v.Stat(file.Name); err != nil {
					t.Errorf("%q: %v", file.Name, err)
				}
			}
			if _, err := v.List("."); err != nil && len(list[i].Files) > 0 {
				t.Error(err)
			}
			Gaps(list)
		}
	})
}

func hashText(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
