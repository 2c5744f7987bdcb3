package backup

import (
	"path"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// An object that is there is taken for what is to be put if it is that; one that is damaged is put again.
func TestPutAgain(t *testing.T) {
	const content = "content of a log file"
	fs := vfs.NewMem()
	if err := vfs.WriteFileSync(fs, "/file", []byte(content)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, there string
		put         bool
	}{
		{"whole", content, false},
		{"cut off", content[:5], true},
		{"empty", "", true},
		{"changed", strings.ToUpper(content), true},
		{"grown", content + content, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			to, f := NewDir(fs, "/b"), &File{Name: "file", Bytes: int64(len(content)), SHA256: hashText(content)}
			full := path.Join("/b", f.object())
			if err := fs.MkdirAll(path.Dir(full)); err != nil {
				t.Fatal(err)
			}
			if err := vfs.WriteFileSync(fs, full, []byte(tc.there)); err != nil {
				t.Fatal(err)
			}
			put, err := putFile(t.Context(), to, fs, "/file", f)
			if err != nil || put != tc.put {
				t.Errorf("it was put: %v, %v", put, err)
			}
			if b, err := fs.ReadFile(full, 1<<20); err != nil || string(b) != content {
				t.Errorf("the object is %q, %v", b, err)
			}
		})
	}
}
