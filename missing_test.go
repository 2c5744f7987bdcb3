package dyngo_test

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// gappy makes a store of at least five log files in which segments have all: keys k00 to k09, written over and over, key "once", whose
// only version lies in the third file, and "large", whose value lies there. It returns the LSN of "once".
func gappy(t *testing.T, fs vfs.FS, flush bool) (once dyngo.LSN) {
	t.Helper()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, LogFileBytes: 1 << 20})
	ds, err := db.CreateDataset("d", &dyngo.DatasetOptions{LargeValue: 256 << 10})
	for i := 0; i < 60 && err == nil; i++ {
		if n, _ := logFiles(t, fs); len(n) == 3 && once == 0 {
			if once, err = ds.Put([]byte("once"), []byte("here")); err == nil {
				_, err = ds.Put([]byte("large"), []byte(strings.Repeat("l", 300<<10)))
			}
		}
		if err == nil {
			_, err = ds.Put(fmt.Appendf(nil, "k%02d", i%10), []byte(fmt.Sprint(i)+strings.Repeat("x", 100_000)))
		}
	}
	if err == nil && flush {
		err = db.Flush(t.Context())
	}
	if err == nil {
		err = db.Close()
	}
	if files, _ := logFiles(t, fs); err != nil || len(files) < 5 || once == 0 {
		t.Fatalf("%d log files, %v", len(files), err)
	}
	return once
}

func removeLog(t *testing.T, fs vfs.FS, seq uint64) (name string) {
	t.Helper()
	files, _ := logFiles(t, fs)
	for _, f := range files {
		if f.Seq == seq {
			name = f.Name
		}
	}
	if err := fs.Remove(path.Join(storeDir, "wal", name)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("wal/%010d-*.log", seq)
}

// A log file is missing of which segments have all that the present needs: who opens for reading gets the present, and errors that name
// the file for what needs it. Nobody writes to such a store.
func TestMissingLogFile(t *testing.T) {
	fs := vfs.NewMem()
	once := gappy(t, fs, true)
	name := removeLog(t, fs, 3)
	names := func(what string, err error) {
		t.Helper()
		var damage *dyngo.CorruptionError
		if !errors.As(err, &damage) || damage.File != name {
			t.Errorf("%s: %v, want damage of %s", what, err, name)
		}
	}
	_, err := dyngo.Open(storeDir, &dyngo.Options{FS: fs})
	names("Open for writing", err)

	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, ReadOnly: true})
	defer db.Close()
	if r := db.Recovery(); r.Missing == nil || r.Missing.File != name || r.Damage != nil {
		t.Errorf("the report has missing %v, damage %v", r.Missing, r.Damage)
	}
	ds, err := db.Dataset("d")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		want := fmt.Sprint(50+i) + "x"
		if got, err := ds.Get(fmt.Appendf(nil, "k%02d", i)); err != nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("k%02d: %.4q, %v", i, got, err)
		}
	}
	if got, err := ds.Get([]byte("once")); err != nil || string(got) != "here" {
		t.Errorf("once: %q, %v", got, err)
	}
	_, err = ds.Get([]byte("large"))
	names("the value in the file", err)
	n := 0
	for _, err := range ds.Scan(dyngo.Range{KeysOnly: true}) {
		if n++; err != nil {
			t.Error(err)
		}
	}
	if n != 12 {
		t.Errorf("a scan has %d keys", n)
	}

	for _, key := range []string{"k00", "once", "never"} {
		last, n := error(nil), 0
		for v, err := range ds.History(t.Context(), []byte(key)) {
			if last = err; err != nil {
				break
			}
			if n++; v.LSN <= once {
				t.Errorf("history of %s: LSN %d", key, v.LSN)
			}
		}
		if names("history of "+key, last); (n > 0) != (key == "k00") {
			t.Errorf("history of %s: %d versions", key, n)
		}
	}
	for _, err := range db.Diff(t.Context(), dyngo.AtLSN(once-1), dyngo.AtEnd(), nil) {
		names("diff", err)
	}
}

// pastOf tells for each LSN, or each so many, and for what came between it and the end, what reads get, or the error.
func pastOf(t *testing.T, fs vfs.FS, step dyngo.LSN) (told []string, errs []error) {
	t.Helper()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, ReadOnly: true})
	defer db.Close()
	note := func(text string, err error) { told, errs = append(told, text), append(errs, err) }
	keys := []string{"once", "large", "never"}
	for i := range 10 {
		keys = append(keys, fmt.Sprintf("k%02d", i))
	}
	for lsn := dyngo.LSN(1); lsn <= db.LSN(); lsn += step {
		v, err := db.ViewAt(t.Context(), dyngo.AtLSN(lsn))
		if err != nil {
			for range 4 + len(keys) {
				note("", err)
			}
			continue
		}
		sets, err := v.Datasets()
		note(fmt.Sprint("datasets at ", lsn, ": ", len(sets)), err)
		ds, err := v.Dataset("d")
		if note(fmt.Sprint("d at ", lsn), err); err != nil {
			for range 2 + len(keys) {
				note("", err)
			}
			v.Close()
			continue
		}
		for _, key := range keys {
			got, err := v.Get(ds, []byte(key))
			note(fmt.Sprintf("%s at %d: %.5q", key, lsn, got), err)
		}
		text := fmt.Sprint("scan at ", lsn, ":")
		for kv, serr := range v.Scan(ds, dyngo.Range{}) {
			if err = serr; err == nil {
				text += fmt.Sprintf(" %s=%.3s", kv.Key, kv.Value)
			}
		}
		note(text, err)
		v.Close()
		text = fmt.Sprint("diff from ", lsn, ":")
		for c, derr := range db.Diff(t.Context(), dyngo.AtLSN(lsn), dyngo.AtEnd(), nil) {
			if err = derr; err == nil {
				for _, kv := range []*dyngo.KV{c.Before, c.After} {
					if kv != nil {
						text += fmt.Sprintf(" %s=%.3s", c.Key, kv.Value)
					}
				}
			}
		}
		note(text, err)
	}
	return told, errs
}

// Whichever log file is missing: what is read of the past is what it was, or an error that names the file.
func TestMissingLogFileInThePast(t *testing.T) {
	step := dyngo.LSN(1)
	if testing.Short() {
		step = 5
	}
	for _, side := range []bool{false, true} {
		whole := vfs.NewMem()
		gappy(t, whole, true)
		if side {
			db := mustOpen(t, storeDir, &dyngo.Options{FS: whole})
			if err := errors.Join(db.BuildSideFiles(t.Context()), db.Close()); err != nil {
				t.Fatal(err)
			}
		}
		want, werrs := pastOf(t, whole, step)
		files, _ := logFiles(t, whole)
		for _, f := range files[1 : len(files)-1] {
			name, from, aside := fmt.Sprintf("wal/%010d-*.log", f.Seq), path.Join(storeDir, "wal", f.Name), path.Join(storeDir, "aside")
			if err := whole.Rename(from, aside); err != nil {
				t.Fatal(err)
			}
			right, refused := 0, 0
			got, errs := pastOf(t, whole, step)
			for i := range want {
				var damage *dyngo.CorruptionError
				switch {
				case errors.As(errs[i], &damage) && damage.File == name:
					refused++
				case i >= len(got) || got[i] != want[i] || (errs[i] == nil) != (werrs[i] == nil) || fmt.Sprint(errs[i]) != fmt.Sprint(werrs[i]):
					t.Errorf("side files %t, without %s: %s, %v; it was %s, %v", side, name, got[i], errs[i], want[i], werrs[i])
				default:
					right++
				}
			}
			if err := whole.Rename(aside, from); err != nil {
				t.Fatal(err)
			}
			t.Logf("side files %t, without %s: %d right, %d refused", side, name, right, refused)
		}
	}
}

// Without the segments, or with the first file missing, there is no present to read.
func TestMissingLogFileThatIsNeeded(t *testing.T) {
	for _, c := range []struct {
		flush bool
		seq   uint64
	}{{true, 1}, {false, 3}} {
		fs := vfs.NewMem()
		gappy(t, fs, c.flush)
		name := removeLog(t, fs, c.seq)
		_, err := dyngo.Open(storeDir, &dyngo.Options{FS: fs, ReadOnly: true})
		var damage *dyngo.CorruptionError
		if !errors.As(err, &damage) || damage.File != name {
			t.Errorf("flushed %t, without file %d: %v", c.flush, c.seq, err)
		}
	}
}

// A log file that vanishes under whoever has the store open is told by who reads the past, not passed over.
func TestLogFileVanishes(t *testing.T) {
	fs := vfs.NewMem()
	once := gappy(t, fs, true)
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs})
	defer db.Close()
	ds, err := db.Dataset("d")
	if err != nil {
		t.Fatal(err)
	}
	name := removeLog(t, fs, 3)
	var last error
	for _, err := range ds.History(t.Context(), []byte("once")) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), name) {
		t.Errorf("history: %v", last)
	}
	if _, err := db.ViewAt(t.Context(), dyngo.AtLSN(once)); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a view: %v", err)
	}
}

// withoutEach calls check for each log file between others, while that file is not there. name is how an error calls it.
func withoutEach(t *testing.T, fs vfs.FS, check func(name string)) {
	t.Helper()
	files, _ := logFiles(t, fs)
	if len(files) < 4 {
		t.Fatalf("%d log files", len(files))
	}
	for _, f := range files[1 : len(files)-1] {
		from, aside := path.Join(storeDir, "wal", f.Name), path.Join(storeDir, "aside")
		if err := fs.Rename(from, aside); err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprintf("wal/%010d-*.log", f.Seq))
		if err := fs.Rename(aside, from); err != nil {
			t.Fatal(err)
		}
	}
}

// A time leads to the LSN that it did when all log files were there, or to an error that names the one that is missing: not to the last
// event before that.
func TestMissingLogFileAndTimes(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c, LogFileBytes: 1 << 20})
	ds, err := db.CreateDataset("d", nil)
	var times []time.Time
	for i := 0; i < 50 && err == nil; i++ {
		c.Advance(time.Second)
		_, err = ds.Put(fmt.Appendf(nil, "k%d", i), []byte(strings.Repeat("x", 100_000)))
		now := time.Unix(0, c.Now())
		times = append(times, now.Add(-1), now, now.Add(time.Second/2))
	}
	if err := errors.Join(err, db.Flush(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Hour)
	lsns := func() (lsns []dyngo.LSN, errs []error) {
		db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c, ReadOnly: true})
		defer db.Close()
		for _, at := range times {
			v, err := db.ViewAt(t.Context(), dyngo.AtTime(at))
			lsn := dyngo.LSN(0)
			if err == nil {
				lsn = v.LSN()
				v.Close()
			}
			lsns, errs = append(lsns, lsn), append(errs, err)
		}
		return lsns, errs
	}
	want, errs := lsns()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	withoutEach(t, fs, func(name string) {
		got, errs := lsns()
		refused := 0
		for i := range got {
			var damage *dyngo.CorruptionError
			switch {
			case errors.As(errs[i], &damage) && damage.File == name:
				refused++
			case errs[i] != nil || got[i] != want[i]:
				t.Errorf("without %s: %v is LSN %d, %v, want %d", name, times[i], got[i], errs[i], want[i])
			}
		}
		if refused == 0 || refused > len(times)/2 {
			t.Errorf("without %s: %d of %d times are refused", name, refused, len(times))
		}
	})
}

// What a token is in a store that comes from others is told as before, or an error names the log file that is missing: it may have had
// the fork.
func TestMissingLogFileAndTokens(t *testing.T) {
	fs, c := vfs.NewMem(), manualClock()
	dirs := []string{"/first", "/second", storeDir}
	var tokens []dyngo.Token
	for i, dir := range dirs {
		db := mustOpen(t, dir, &dyngo.Options{FS: fs, Clock: c, LogFileBytes: 1 << 20})
		ds, err := db.CreateDataset(fmt.Sprint("d", i), nil)
		for n := 0; n < 25 && err == nil; n++ {
			_, err = ds.Put([]byte("k"), []byte(strings.Repeat("x", 100_000)))
		}
		end := db.DurableLSN()
		for _, lsn := range []dyngo.LSN{1, end - 4, end - 3, end - 2, end} {
			token, terr := db.Token(lsn)
			tokens, err = append(tokens, token), errors.Join(err, terr)
		}
		if err := errors.Join(err, db.Flush(t.Context()), db.Close()); err != nil {
			t.Fatal(err)
		}
		if i+1 < len(dirs) {
			if _, err := dyngo.RestoreWith(t.Context(), dir, dirs[i+1], dyngo.AtLSN(end-3), &dyngo.RestoreOptions{FS: fs, Clock: c}); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func() (told []error) {
		db := mustOpen(t, storeDir, &dyngo.Options{FS: fs, Clock: c, ReadOnly: true})
		defer db.Close()
		for _, token := range tokens {
			told = append(told, db.CheckToken(token))
		}
		return told
	}
	want := check()
	if want[2] != nil || want[3] == nil || want[7] != nil || want[8] == nil || want[14] != nil {
		t.Fatalf("tokens are %v", want)
	}
	withoutEach(t, fs, func(name string) {
		for i, err := range check() {
			var damage *dyngo.CorruptionError
			if named := errors.As(err, &damage) && damage.File == name; !named && fmt.Sprint(err) != fmt.Sprint(want[i]) {
				t.Errorf("without %s, token %v: %v, want %v", name, tokens[i], err, want[i])
			}
		}
	})
}
