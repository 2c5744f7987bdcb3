package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

const dir = "/somewhere/keys"

func crcOf(b []byte) uint32 { return coding.CRC(b[12:]) }

var testLog = fill[[16]byte](7)

func openRing(t *testing.T, fsys vfs.FS, c *clock.Manual, readOnly bool) *Ring {
	t.Helper()
	r := Open(fsys, dir, Options{ReadOnly: readOnly, Wall: c.Wall, Mono: c.Mono})
	t.Cleanup(func() { r.Close() })
	return r
}

func mustSubject(t *testing.T, r *Ring, name string) *Key {
	t.Helper()
	k, err := r.Subject(name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// destroy carries out all steps.
func destroy(t *testing.T, r *Ring, subject string) *Erasure {
	t.Helper()
	e, err := r.Begin(testLog, subject, 41, "why", "T-1", "c")
	if err == nil {
		err = errors.Join(r.Destroy(e, &sync.Mutex{}), r.Done(testLog, e, 42))
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A subject keeps its key from process to process, until that is destroyed; then it gets another, and the old one can't be found
// in any file.
func TestRing(t *testing.T) {
	fsys, c := vfs.NewMem(), clock.NewManual(time.Unix(1_700_000_000, 0))
	r := openRing(t, fsys, c, false)
	if _, err := r.Find("anna"); !errors.Is(err, ErrNoKey) {
		t.Errorf("in no folder: %v", err)
	}
	anna, bert := mustSubject(t, r, "anna"), mustSubject(t, r, "bert")
	if anna.ID == bert.ID || mustSubject(t, r, "anna") != anna || anna.Subject != "anna" {
		t.Errorf("%+v, %+v", anna, bert)
	}
	sealed := anna.Seal(nil, Piece{Last: true}, 0, 1, []byte("x"))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = openRing(t, fsys, c, false)
	again := mustSubject(t, r, "anna")
	if _, _, b, err := again.Open(Piece{Last: true}, sealed); again.ID != anna.ID || string(b) != "x" || err != nil {
		t.Errorf("in the next process: %+v, %q, %v", again, b, err)
	}
	if k, err := r.Key(bert.ID); err != nil || k.Subject != "bert" {
		t.Errorf("by id: %+v, %v", k, err)
	}
	if _, err := r.Key(99); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), dir) {
		t.Errorf("an id that is not there: %v", err)
	}
	info, err := r.Find("anna")
	if err != nil || info.ID != anna.ID || info.Destroyed != 0 || info.Created != c.Wall() {
		t.Errorf("%+v, %v", info, err)
	}
	file, err := fsys.ReadFile(r.FileName(anna.ID), fileSize)
	if err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	for n := range uint64(3) {
		last := mustSubject(t, r, "anna")
		e := destroy(t, r, "anna")
		if e.ID != last.ID || e.ID != r.idOf("anna", n+1) {
			t.Errorf("key %d of anna: %016x is destroyed, the last was %016x", n+1, e.ID, last.ID)
		}
		info, err := r.Find("anna")
		if err != nil || info.ID != e.ID || info.Destroyed != c.Wall() || info.LSN != 42 || info.LogID != testLog {
			t.Errorf("%+v, %v", info, err)
		}
		if _, err := r.Key(e.ID); err != ErrDestroyed {
			t.Errorf("key %d of anna: %v", n+1, err)
		}
		if p, err := r.Pending(testLog); p != nil || err != nil {
			t.Errorf("pending: %+v, %v", p, err)
		}
	}
	if _, err := r.Begin(testLog, "anna", 0, "", "", ""); !errors.Is(err, ErrNoKey) {
		t.Errorf("an erasure without a live key: %v", err)
	}
	names, err := fsys.List(dir)
	if err != nil || len(names) != 6 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, name := range names {
		b, err := fsys.ReadFile(dir+"/"+name, 1<<20)
		if err != nil || bytes.Contains(b, file[120:128]) || bytes.Contains(b, []byte("anna")) || strings.Contains(name, "anna") {
			t.Errorf("%s has the key, or the name: %v", name, err)
		}
	}
}

// A copy of the folder that was made while a key was destroyed has that key and the next one. Both are destroyed, in as many erasures,
// also if the second can't be read meanwhile; no file has them, and what is written then gets a third.
func TestTwoLiveKeys(t *testing.T) {
	for _, unread := range []bool{false, true} {
		fault, c := vfs.NewFault(vfs.NewMem()), clock.NewManual(time.Unix(1, 0))
		r := openRing(t, fault, c, false)
		var files [][]byte
		var ids []uint64
		for i := range 2 {
			k := mustSubject(t, r, "anna")
			b, err := fault.ReadFile(r.FileName(k.ID), fileSize)
			if err != nil {
				t.Fatal(err)
			}
			if ids, files = append(ids, k.ID), append(files, b); i == 0 {
				destroy(t, r, "anna")
			}
		}
		if err := errors.Join(r.Close(), vfs.WriteFileSync(fault, r.FileName(ids[0]), files[0])); err != nil {
			t.Fatal(err)
		}
		r = openRing(t, fault, c, false)
		if unread {
			fault.Inject(vfs.Plan{Ops: vfs.OpReadFile, Name: r.FileName(ids[1])})
		}
		for i, id := range ids {
			if e := destroy(t, r, "anna"); e.ID != id || e.More != (i == 0) {
				t.Errorf("erasure %d is of %016x, more %t; want that of %016x", i, e.ID, e.More, id)
			}
		}
		names, err := fault.List(dir)
		for i, id := range ids {
			if _, err := r.Key(id); err != ErrDestroyed {
				t.Errorf("key %d: %v", i+1, err)
			}
			for _, name := range names {
				if b, rerr := fault.ReadFile(dir+"/"+name, 1<<20); rerr != nil || bytes.Contains(b, files[i][120:152]) {
					t.Errorf("%s has key %d, %v", name, i+1, rerr)
				}
			}
		}
		if k := mustSubject(t, r, "anna"); k.ID != r.idOf("anna", 3) || err != nil {
			t.Errorf("the next is %016x, %v", k.ID, err)
		}
	}
}

// An id that another subject has is passed over.
func TestIDThatIsTaken(t *testing.T) {
	fsys, c := vfs.NewMem(), clock.NewManual(time.Unix(1, 0))
	r := openRing(t, fsys, c, false)
	mustSubject(t, r, "bert")
	other := testRecord()
	other.id = r.idOf("anna", 1)
	if err := r.write(keyName(other.id), other.encode()); err != nil {
		t.Fatal(err)
	}
	if k := mustSubject(t, r, "anna"); k.ID != r.idOf("anna", 2) {
		t.Errorf("%016x", k.ID)
	}
	destroy(t, r, "anna")
	if rec, err := r.read(other.id); err != nil || rec.destroyed {
		t.Errorf("the other's key: %+v, %v", rec, err)
	}
}

// One process at a time changes a folder. Another that reads sees within a second that a key was destroyed.
func TestRingOfTwoProcesses(t *testing.T) {
	fsys, c := vfs.NewMem(), clock.NewManual(time.Unix(1, 0))
	owner, reader, second := openRing(t, fsys, c, false), openRing(t, fsys, c, true), openRing(t, fsys, c, false)
	id := mustSubject(t, owner, "anna").ID
	var locked *vfs.LockedError
	if _, err := second.Subject("bert"); !errors.As(err, &locked) {
		t.Errorf("a second process makes a key: %v", err)
	}
	if _, err := reader.Subject("anna"); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a key of a folder that is only read: %v", err)
	}
	if _, err := reader.Key(id); err != nil {
		t.Fatal(err)
	}
	destroy(t, owner, "anna")
	c.Advance(time.Second + 1)
	for who, r := range map[string]*Ring{"the reader": reader, "the second": second, "the owner": owner} {
		if _, err := r.Key(id); err != ErrDestroyed {
			t.Errorf("%s: %v", who, err)
		}
	}
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	mustSubject(t, second, "bert")
	if _, err := owner.Subject("carl"); err == nil {
		t.Error("a folder that was closed gives a key")
	}
}

// afterRead calls something when a file was read, before the reader has its bytes.
type afterRead struct {
	vfs.FS
	call func(name string)
}

func (f *afterRead) ReadFile(name string, limit int64) ([]byte, error) {
	b, err := f.FS.ReadFile(name, limit)
	if f.call != nil {
		f.call(name)
	}
	return b, err
}

// A key that a process is just reading when the folder's owner destroys it, ends, and the process becomes the owner, is not taken for
// live from then on.
func TestKeyThatIsReadAsTheOwnerChanges(t *testing.T) {
	fsys, c := &afterRead{FS: vfs.NewMem()}, clock.NewManual(time.Unix(1, 0))
	owner, next := openRing(t, fsys.FS, c, false), openRing(t, fsys, c, false)
	id := mustSubject(t, owner, "anna").ID
	fsys.call = func(string) {
		fsys.call = nil
		destroy(t, owner, "anna")
		if err := owner.Close(); err != nil {
			t.Error(err)
		}
		mustSubject(t, next, "bert")
	}
	for range 2 {
		if _, err := next.Key(id); err != ErrDestroyed {
			t.Errorf("a key that was destroyed: %v", err)
		}
	}
}

// Nobody but the owner may read what is in the folder, also if somebody else has made it.
func TestFilesAreTheOwnersAlone(t *testing.T) {
	folder, c := filepath.ToSlash(t.TempDir()), clock.NewManual(time.Unix(1, 0))
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{folder, folder + "/made/by/us"} {
		r := Open(vfs.OS, dir, Options{Wall: c.Wall, Mono: c.Mono})
		defer r.Close()
		mustSubject(t, r, "anna")
		if _, err := r.Begin(testLog, "anna", 0, "why", "", ""); err != nil {
			t.Fatal(err)
		}
		names, err := vfs.OS.List(dir)
		if err != nil || len(names) < 4 {
			t.Fatalf("%q, %v", names, err)
		}
		for _, name := range names {
			info, err := os.Stat(dir + "/" + name)
			if err != nil || name != lockName && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
			}
		}
	}
	if info, err := os.Stat(folder + "/made/by/us"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
}

// What was kept in memory gives way to what was used since, however many keys there are.
func TestManyKeys(t *testing.T) {
	var ids cache[uint64]
	for i := range uint64(5 * cacheKeys) {
		ids.put(i, &Key{ID: i}, 0)
		if k, ok := ids.get(7, 0); i > 7 && (!ok || k.ID != 7) {
			t.Fatalf("what is used goes after %d", i)
		}
		if n := len(ids.young) + len(ids.old); n > 2*cacheKeys {
			t.Fatalf("%d keys are kept", n)
		}
	}
	if _, ok := ids.get(8, 0); ok {
		t.Error("what is not used stays")
	}
}

// A folder with something else, one that has lost its secret, damaged files and impossible names are refused, and said which.
func TestBadFolders(t *testing.T) {
	c := clock.NewManual(time.Unix(1, 0))
	write := func(fsys vfs.FS, name string, b []byte) {
		t.Helper()
		if err := errors.Join(fsys.MkdirAll(dir), vfs.WriteFileSync(fsys, dir+"/"+name, b)); err != nil {
			t.Fatal(err)
		}
	}
	other := vfs.NewMem()
	write(other, "letter.txt", []byte("dear anna"))
	if _, err := openRing(t, other, c, false).Subject("anna"); err == nil || !strings.Contains(err.Error(), "letter.txt") {
		t.Errorf("a folder of something else: %v", err)
	}
	if names, err := other.List(dir); err != nil || !slices.Equal(names, []string{"LOCK", "letter.txt"}) {
		t.Errorf("it holds %q, %v", names, err)
	}
	fsys := vfs.NewMem()
	r := openRing(t, fsys, c, false)
	anna := mustSubject(t, r, "anna")
	bert := mustSubject(t, r, "bert")
	r.Close()
	b, err := fsys.ReadFile(r.FileName(anna.ID), fileSize)
	if err != nil {
		t.Fatal(err)
	}
	b[130]++
	write(fsys, keyName(anna.ID), b)
	r = openRing(t, fsys, c, false)
	var damage *corruption.Error
	for what, f := range map[string]func() error{
		"read":  func() error { _, err := r.Key(anna.ID); return err },
		"write": func() error { _, err := r.Subject("anna"); return err },
		"find":  func() error { _, err := r.Find("anna"); return err },
	} {
		if err := f(); !errors.As(err, &damage) || damage.File != r.FileName(anna.ID) {
			t.Errorf("%s with a damaged key: %v", what, err)
		} else if !strings.Contains(err.Error(), "take the key file from the folder that is in use") {
			t.Errorf("%s with a damaged key does not say what to do: %v", what, err)
		}
	}
	bb, err := fsys.ReadFile(r.FileName(bert.ID), fileSize)
	if err != nil {
		t.Fatal(err)
	}
	write(fsys, keyName(anna.ID), bb)
	if _, err := r.Key(anna.ID); !errors.As(err, &damage) || !strings.Contains(err.Error(), fmt.Sprintf("%016x", bert.ID)) {
		t.Errorf("another key's file: %v", err)
	}
	r.Close()
	if err := fsys.Remove(dir + "/" + ringName); err != nil {
		t.Fatal(err)
	}
	if _, err := openRing(t, fsys, c, false).Subject("anna"); err == nil || !strings.Contains(err.Error(), ringName) {
		t.Errorf("without the secret: %v", err)
	}
	for _, name := range []string{"", strings.Repeat("x", MaxSubject+1), "\xff"} {
		if _, err := openRing(t, vfs.NewMem(), c, false).Subject(name); err == nil {
			t.Errorf("subject %q", name)
		}
	}
	if k := mustSubject(t, openRing(t, vfs.NewMem(), c, false), strings.Repeat("x", MaxSubject)); len(k.Subject) != MaxSubject {
		t.Errorf("subject of %d bytes", len(k.Subject))
	}
}

// A file that was read before its key was destroyed does not bring the key back.
func TestKeyThatWasReadBefore(t *testing.T) {
	r := openRing(t, vfs.NewMem(), clock.NewManual(time.Unix(1, 0)), false)
	id := mustSubject(t, r, "anna").ID
	_, _, changes := r.cached(id)
	rec, err := r.read(id)
	if err != nil {
		t.Fatal(err)
	}
	destroy(t, r, "anna")
	r.keep(&rec, changes)
	if _, err := r.Key(id); err != ErrDestroyed {
		t.Error(err)
	}
}
