package dyngo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// redactable is a store that keeps a tree, with values of which one in each way of writing is to be redacted.
type redactable struct {
	t      *testing.T
	fs     vfs.FS
	clock  *clock.Manual
	db     *dyngo.DB
	ds     *dyngo.Dataset
	head   string // of the tree, from before
	secret map[string]dyngo.LSN
	// needles are what the files must not have afterwards: beginnings of what was stored.
	needles map[string][]byte
	others  map[dyngo.LSN]string // values of the same keys and of the same frames, which stay
}

func redactOptions(fs vfs.FS, c *clock.Manual) *dyngo.Options {
	o := keyed(fs, c)
	o.Clock = nil // background work waits by the clock
	o.Integrity, o.SigningKey = true, testKey
	o.Session.Actor = "alice"
	return o
}

func newRedactable(t *testing.T, compression dyngo.Compression) *redactable {
	t.Helper()
	s := &redactable{t: t, fs: vfs.NewMem(), clock: manualClock(), secret: map[string]dyngo.LSN{}, needles: map[string][]byte{},
		others: map[dyngo.LSN]string{}}
	s.open(nil)
	var err error
	if s.ds, err = s.db.CreateDataset("d", &dyngo.DatasetOptions{Compression: compression}); err != nil {
		t.Fatal(err)
	}
	s.write()
	return s
}

func (s *redactable) open(tune func(*dyngo.Options)) {
	s.t.Helper()
	o := redactOptions(s.fs, s.clock)
	if tune != nil {
		tune(o)
	}
	s.db = mustOpen(s.t, storeDir, o)
	db := s.db
	s.t.Cleanup(func() { db.Close() })
	if s.ds != nil {
		var err error
		if s.ds, err = s.db.Dataset("d"); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *redactable) reopen(tune func(*dyngo.Options)) {
	s.t.Helper()
	if err := s.db.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.open(tune)
}

// write writes secrets in all ways, and what is near them.
func (s *redactable) write() {
	s.t.Helper()
	note := func(way string, lsn dyngo.LSN, err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatalf("%s: %v", way, err)
		}
		s.secret[way] = lsn
	}
	value := func(way string) []byte { return fmt.Appendf(nil, "secret of %s, %s", way, strings.Repeat("text ", 40)) }
	batched := func(n, i int) []byte { return value(fmt.Sprintf("batch %d of %d", i, n)) }
	lsn, err := s.ds.Put([]byte("put"), value("put"))
	note("put", lsn, err)
	lsn, err = s.ds.Put([]byte("short"), []byte("pw"))
	note("short", lsn, err)
	_, lsn, err = s.ds.PutNewest([]byte("newest"), value("newest"), time.Unix(2, 0))
	note("newest", lsn, err)
	applied, lsn, err := s.ds.PutNewest([]byte("newest"), value("stale"), time.Unix(1, 0))
	if applied {
		s.t.Error("a stale put was applied")
	}
	note("stale", lsn, err)
	lsn, err = s.ds.PutWith([]byte("ttl"), value("ttl"), dyngo.WriteOptions{TTL: time.Hour, Reason: "why"})
	note("ttl", lsn, err)
	lsn, err = s.ds.PutWith([]byte("subject"), value("subject"), ofAlice)
	note("subject", lsn, err)
	lsn, err = s.ds.Put([]byte("large"), append(value("large"), big(20<<10, 7)...))
	note("large", lsn, err)
	several := string(value("pieces")) + big(600<<10, 9)
	lsn, err = s.ds.PutReader([]byte("pieces"), int64(len(several)), strings.NewReader(several))
	note("pieces", lsn, err)
	for _, n := range []int{3, 40} { // the second spills
		b := s.db.NewBatch()
		for i := range n {
			b.Put(s.ds, fmt.Appendf(nil, "batch%d-%02d", n, i), batched(n, i))
		}
		last, err := b.Commit()
		for i := range n {
			lsn := last - dyngo.LSN(n-1-i)
			if i == n/2 {
				note(fmt.Sprintf("batch%d-%02d", n, i), lsn, err)
			} else {
				s.others[lsn] = string(batched(n, i))
			}
		}
	}
	if s.head, err = s.db.TreeHead(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// keyOf is the key that a way of writing has.
func keyOfWay(way string) []byte {
	if way == "stale" {
		way = "newest"
	}
	return []byte(way)
}

// hide overwrites half of the keys and deletes the others.
func (s *redactable) hide() {
	s.t.Helper()
	n := 0
	for _, way := range []string{"put", "short", "newest", "ttl", "subject", "large", "pieces", "batch3-01", "batch40-20"} {
		var err error
		if n++; n%2 == 0 {
			_, err = s.ds.Delete([]byte(way))
		} else {
			var lsn dyngo.LSN
			lsn, err = s.ds.Put([]byte(way), []byte("new"))
			s.others[lsn] = "new"
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// look takes down what the log has of the values that are to go.
func (s *redactable) look() {
	s.t.Helper()
	ways := map[dyngo.LSN]string{}
	for way, lsn := range s.secret {
		ways[lsn] = way
	}
	files := wal.OpenFiles(s.fs, storeDir+"/wal")
	defer files.Close()
	piece := func(p event.Piece) ([]byte, error) {
		b := make([]byte, p.StoredLen)
		return b, files.ReadPiece(b, wal.Position{File: p.File, Offset: int64(p.Offset)}, p.CRC)
	}
	sc, err := wal.NewScanner(s.fs, storeDir+"/wal", wal.ScanOptions{ReadOnly: true})
	if err != nil {
		s.t.Fatal(err)
	}
	defer sc.Close()
	needle := func(name string, b []byte) {
		s.needles[name] = bytes.Clone(b[max(0, min(len(b)-40, 5)):min(len(b), 45)])
	}
	for {
		f, err := sc.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			s.t.Fatal(err)
		}
		if f.Kind != wal.KindCommit {
			continue
		}
		err = f.Places(piece, func(e *event.Event, _ wal.Position, _ []byte) error {
			way, ok := ways[e.LSN]
			switch {
			case !ok || way == "short": // two letters are everywhere
			case e.Flags&event.FlagValueRef == 0:
				needle(way, e.Value)
			default:
				ref, err := event.ParseValueRef(e.Value)
				if err != nil {
					return err
				}
				for i, p := range ref.Pieces {
					b, err := piece(p)
					if err != nil {
						return err
					}
					needle(fmt.Sprintf("%s, piece %d", way, i), b)
				}
			}
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	if len(s.needles) < len(s.secret)+1 {
		s.t.Fatalf("%d needles", len(s.needles))
	}
	for name := range s.needles {
		if s.count(name) == 0 {
			s.t.Fatalf("%s: not there before", name)
		}
	}
}

// count says how many files of the store have what was stored of a value.
func (s *redactable) count(name string) int {
	s.t.Helper()
	with, err := filesWith(s.fs, storeDir, s.needles[name])
	if err != nil {
		s.t.Fatal(err)
	}
	return len(with)
}

func (s *redactable) redact() {
	s.t.Helper()
	for way, lsn := range s.secret {
		r, err := s.db.Redact(context.Background(), lsn, dyngo.RedactOptions{Reason: "was a secret", Ticket: "T-1"})
		if err != nil {
			s.t.Fatalf("%s: %v", way, err)
		}
		if r.LSN != lsn || string(r.Key) != string(keyOfWay(way)) || r.Dataset != "d" || r.By == 0 || r.By > s.db.DurableLSN() || r.Already ||
			r.Actor != "alice" || r.Reason != "was a secret" || r.Ticket != "T-1" || len(r.Files) == 0 || r.Bytes == 0 {
			s.t.Errorf("%s: %+v", way, r)
		}
		again, err := s.db.Redact(context.Background(), lsn, dyngo.RedactOptions{Reason: "again"})
		if err != nil || !again.Already || again.By != r.By || !again.Time.Equal(r.Time) || again.Reason != r.Reason || again.Actor != r.Actor {
			s.t.Errorf("%s again: %+v, %v", way, again, err)
		}
	}
}

// check reads the past by every route, and verifies.
func (s *redactable) check() {
	s.t.Helper()
	for name, needle := range s.needles {
		if with, err := filesWith(s.fs, storeDir, needle); err != nil || len(with) > 0 {
			s.t.Errorf("%s is still in %q, %v", name, with, err)
		}
	}
	for way, lsn := range s.secret {
		key := keyOfWay(way)
		if way != "stale" {
			past := mustViewAt(s.t, s.db, dyngo.AtLSN(lsn))
			got, err := past.Get(s.ds, key)
			has, herr := past.Has(s.ds, key)
			if !errors.Is(err, dyngo.ErrRedacted) || !errors.Is(err, dyngo.ErrNotFound) || has || herr != nil {
				s.t.Errorf("past of %s: %q, %v, has %t, %v", way, got, err, has, herr)
			}
			for _, r := range []dyngo.Range{{}, {Reverse: true}, {KeysOnly: true}} {
				r.From, r.To = key, append(bytes.Clone(key), 0)
				for kv, err := range past.Scan(s.ds, r) {
					s.t.Errorf("scan of %s: %q, %v", way, kv.Value, err)
				}
			}
			past.Close()
		}
		redacted, events := 0, 0
		for v, err := range s.ds.History(s.t.Context(), key) {
			switch {
			case err != nil:
				s.t.Fatalf("history of %s: %v", way, err)
			case v.LSN == lsn:
				if redacted++; !v.Redacted || v.Value != nil || v.NotApplied != (way == "stale") || (way == "ttl") != (v.Reason == "why") {
					s.t.Errorf("history of %s: %+v", way, v)
				}
			case v.Op == event.OpRedact && v.Of == lsn:
				if events++; v.Reason != "was a secret" || v.Actor != "alice" {
					s.t.Errorf("history of %s: %+v", way, v)
				}
			case v.Op == event.OpPut && s.others[v.LSN] != "" && string(v.Value) != s.others[v.LSN]:
				s.t.Errorf("history of %s: LSN %d is %q", way, v.LSN, v.Value)
			}
		}
		if redacted != 1 || events != 1 {
			s.t.Errorf("history of %s: %d versions, %d events of redaction", way, redacted, events)
		}
		p, err := s.db.Prove(s.t.Context(), lsn)
		if err != nil || p.Event.Value != nil || p.Event.LSN != lsn || p.Event.Flags&event.FlagRedacted != 0 {
			s.t.Errorf("proof of %s: %+v, %v", way, p, err)
		}
	}
	for lsn, want := range s.others {
		p, err := s.db.Prove(s.t.Context(), lsn)
		if err != nil || string(p.Event.Value) != want {
			s.t.Errorf("proof of LSN %d: %v", lsn, err)
		}
	}
	s.verify()
}

// verify looks at all levels, and compares with the tree head from before.
func (s *redactable) verify() {
	s.t.Helper()
	head, err := parsedKey(s.t).ParseNote(s.head)
	if err != nil {
		s.t.Fatal(err)
	}
	for level := dyngo.LevelFiles; level <= dyngo.LevelState; level++ {
		vo := dyngo.VerifyOptions{Level: level}
		if level >= dyngo.LevelTree {
			vo.Heads = []dyngo.Anchor{{Head: head, Source: "before"}}
		}
		report, err := dyngo.VerifyWith(s.t.Context(), storeDir, &dyngo.Options{FS: s.fs}, vo)
		if err := errors.Join(append(report.All(), err)...); err != nil {
			s.t.Fatalf("level %s: %v", level, err)
		}
		if level < dyngo.LevelDecode {
			continue
		}
		for way, lsn := range s.secret {
			i := slices.IndexFunc(report.Log.Redactions, func(r wal.RedactedValue) bool { return r.LSN == lsn })
			if i < 0 {
				s.t.Fatalf("level %s does not tell of %s: %+v", level, way, report.Log.Redactions)
			}
			if r := report.Log.Redactions[i]; !r.Done || r.By == 0 || r.Actor != "alice" || r.Reason != "was a secret" || r.Ticket != "T-1" || r.Time == 0 {
				s.t.Errorf("level %s: %+v", level, r)
			}
		}
		if len(report.Log.Redactions) != len(s.secret) {
			s.t.Errorf("level %s: %+v", level, report.Log.Redactions)
		}
		if t := report.Tree; t != nil && (t.Gone > 0 || t.Outside() != 1) {
			s.t.Errorf("level %s: %+v", level, t)
		}
	}
}

// A value is gone from every file of the store once it is redacted, wherever it was, and what is near it stays: history, proofs,
// the tree head from before. Every route to the past says that it was redacted.
func TestRedact(t *testing.T) {
	t.Parallel()
	steps := map[string]func(s *redactable){
		"in memory": func(*redactable) {},
		"reopened":  func(s *redactable) { s.reopen(nil) },
		"in segments": func(s *redactable) {
			if err := s.db.Flush(context.Background()); err != nil {
				s.t.Fatal(err)
			}
		},
		"merged": func(s *redactable) {
			if err := errors.Join(s.db.Flush(context.Background()), s.db.Compact(context.Background())); err != nil {
				s.t.Fatal(err)
			}
		},
		"in a hot range": func(s *redactable) {
			if _, err := s.ds.BuildHot(nil, nil); err != nil {
				s.t.Fatal(err)
			}
		},
	}
	for name, step := range steps {
		for _, c := range []dyngo.Compression{dyngo.NoCompression, dyngo.S2, dyngo.Zstd} {
			if testing.Short() && (name != "in segments" || c != dyngo.S2) {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", name, c), func(t *testing.T) {
				s := newRedactable(t, c)
				step(s)
				s.hide()
				s.look()
				s.redact()
				s.check()
				s.reopen(nil)
				s.check()
				if err := errors.Join(s.db.Flush(context.Background()), s.db.Compact(context.Background())); err != nil {
					t.Fatal(err)
				}
				s.reopen(func(o *dyngo.Options) { o.ReadOnly = true })
				s.check()
			})
		}
	}
}

// What can't be redacted is refused, with a reason, and stays readable.
func TestRedactRefuses(t *testing.T) {
	s := &redactable{t: t, fs: vfs.NewMem(), clock: manualClock()}
	archive := func(o *dyngo.Options) { o.Archive = "/archive" }
	s.open(archive)
	var err error
	if s.ds, err = s.db.CreateDataset("d", nil); err != nil {
		t.Fatal(err)
	}
	put := func(key, value string) dyngo.LSN {
		t.Helper()
		lsn, err := s.ds.Put([]byte(key), []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		return lsn
	}
	refused := func(lsn dyngo.LSN, want error, text string) {
		t.Helper()
		for _, dry := range []bool{true, false} {
			if dry && strings.HasPrefix(text, "segments") { // is only known when it was tried
				continue
			}
			r, err := s.db.Redact(t.Context(), lsn, dyngo.RedactOptions{DryRun: dry})
			if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
				t.Errorf("LSN %d, dry run %t: %+v, %v, want %v with %q", lsn, dry, r, err, want, text)
			}
			never := want == dyngo.ErrUnredactable
			if errors.Is(err, dyngo.ErrUnredactable) != never || errors.Is(err, dyngo.ErrRedact) != (never || want == dyngo.ErrRedact) {
				t.Errorf("LSN %d, dry run %t: %v, want %v", lsn, dry, err, want)
			}
		}
	}
	refused(0, dyngo.ErrNotFound, "no LSN 0")
	refused(1000, dyngo.ErrNotFound, "no LSN 1000")
	refused(1, dyngo.ErrUnredactable, "session-opened")
	empty := put("empty", "")
	first := put("key", "secret 1")
	refused(first, dyngo.ErrRedact, "what the key has now")
	view, err := s.db.View()
	if err != nil {
		t.Fatal(err)
	}
	del, err := s.ds.Delete([]byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	put("empty", "not any more")
	refused(empty, dyngo.ErrUnredactable, "its value is empty")
	refused(del, dyngo.ErrUnredactable, "the event is a delete")
	refused(first, dyngo.ErrRedact, "segments must keep the value")
	if got, err := view.Get(s.ds, []byte("key")); err != nil || string(got) != "secret 1" {
		t.Errorf("in the view: %q, %v", got, err)
	}
	view.Close()
	mustSnapshot(t, s.db, "one")
	mustSnapshot(t, s.db, "two")
	refused(first, dyngo.ErrRedact, `drop them first: ["one" "two"]`)
	for _, name := range []string{"one", "two"} {
		if err := s.db.DropSnapshot(name); err != nil {
			t.Fatal(err)
		}
	}
	file := wal.FileName(1, 1)
	if err := errors.Join(s.fs.MkdirAll("/archive"), vfs.WriteFileSync(s.fs, "/archive/"+wal.ArchivedName(file), []byte("a copy"))); err != nil {
		t.Fatal(err)
	}
	refused(first, dyngo.ErrRedact, "/archive/"+wal.ArchivedName(file))
	if err := s.fs.Remove("/archive/" + wal.ArchivedName(file)); err != nil {
		t.Fatal(err)
	}
	if r, err := s.db.Redact(t.Context(), first, dyngo.RedactOptions{DryRun: true}); err != nil || r.By != 0 || !slices.Equal(r.Files, []string{"wal/" + file}) {
		t.Errorf("%+v, %v", r, err)
	}
	past := mustViewAt(t, s.db, dyngo.AtLSN(first))
	if got, err := past.Get(s.ds, []byte("key")); err != nil || string(got) != "secret 1" {
		t.Errorf("what was refused: %q, %v", got, err)
	}
	past.Close()
	s.reopen(func(o *dyngo.Options) { o.ReadOnly = true })
	if _, err := s.db.Redact(t.Context(), first, dyngo.RedactOptions{}); !errors.Is(err, dyngo.ErrReadOnly) {
		t.Errorf("a read-only store: %v", err)
	}
	if r, err := s.db.Redact(t.Context(), first, dyngo.RedactOptions{DryRun: true}); err != nil || string(r.Key) != "key" {
		t.Errorf("a dry run of a read-only store: %+v, %v", r, err)
	}
	s.reopen(nil)
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		if _, err := s.db.Redact(t.Context(), first, dyngo.RedactOptions{DryRun: dry}); !errors.Is(err, dyngo.ErrClosed) {
			t.Errorf("a closed store: %v", err)
		}
	}
	s.open(func(o *dyngo.Options) { o.Retention.Bytes = 1 << 20 })
	fill(t, s.ds, 0, 20)
	mustGC(t, s.db)
	refused(first, dyngo.ErrOutsideWindow, "retention has dropped")
}

// What a range delete, the end of its time or the drop of the dataset has hidden is redacted too.
func TestRedactOfWhatIsHiddenOtherwise(t *testing.T) {
	s := &redactable{t: t, fs: vfs.NewMem(), clock: manualClock(), needles: map[string][]byte{}}
	s.open(nil)
	lsns := map[string]dyngo.LSN{}
	for _, name := range []string{"range", "dropped", "restored"} {
		ds, err := s.db.CreateDataset(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if lsns[name], err = ds.Put([]byte("key"), []byte("secret of "+name)); err != nil {
			t.Fatal(err)
		}
		s.needles[name] = []byte("secret of " + name)
	}
	if err := s.db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	ranged, err := s.db.Dataset("range")
	if err == nil {
		_, err = ranged.DeleteRange(nil, nil)
	}
	if err == nil {
		_, err = s.db.DropDataset("dropped")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"range", "dropped"} {
		r, err := s.db.Redact(t.Context(), lsns[name], dyngo.RedactOptions{Reason: "test"})
		if err != nil || (r.Dataset == "") != (name == "dropped") {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if n := s.count(name); n > 0 {
			t.Errorf("%s is still in %d files", name, n)
		}
	}
	s.ds = nil
	s.reopen(nil)
	report, err := dyngo.VerifyWith(t.Context(), storeDir, &dyngo.Options{FS: s.fs}, dyngo.VerifyOptions{Level: dyngo.LevelState})
	if err := errors.Join(append(report.All(), err)...); err != nil || len(report.Log.Redactions) != 2 {
		t.Errorf("%+v: %v", report.Log.Redactions, err)
	}
}

// A store that is restored to when a redacted value was its key's has the key without it: reads say that it was redacted, and a
// condition takes it as absent. Retention goes on over it.
func TestRestoreToARedactedValue(t *testing.T) {
	s := newRedactable(t, dyngo.NoCompression)
	at := s.db.DurableLSN()
	s.hide()
	s.look()
	s.redact()
	secret := s.secret
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := dyngo.RestoreWith(t.Context(), storeDir, "/restored", dyngo.AtLSN(at), &dyngo.RestoreOptions{FS: s.fs}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"restored", "in segments"} {
		o := redactOptions(s.fs, s.clock)
		o.Retention.Bytes = 1 << 20
		db := mustOpen(t, "/restored", o)
		ds, err := db.Dataset("d")
		if err != nil {
			t.Fatal(err)
		}
		for way := range secret {
			if way == "stale" {
				continue
			}
			got, err := ds.Get([]byte(way))
			has, herr := ds.Has([]byte(way))
			if !errors.Is(err, dyngo.ErrRedacted) || has || herr != nil {
				t.Errorf("%s, %s: %q, %v, has %t, %v", step, way, got, err, has, herr)
			}
		}
		n := 0
		for kv, err := range ds.Scan(dyngo.Range{}) {
			if n++; err != nil || len(kv.Value) == 0 {
				t.Errorf("%s: %q, %v", step, kv.Key, err)
			}
		}
		if n != 41 && step == "restored" {
			t.Errorf("%s: %d keys", step, n)
		}
		report, err := dyngo.VerifyWith(t.Context(), "/restored", &dyngo.Options{FS: s.fs}, dyngo.VerifyOptions{Level: dyngo.LevelState})
		if err := errors.Join(append(report.All(), err)...); err != nil {
			t.Errorf("%s: %v", step, err)
		}
		if step == "restored" {
			if _, err := ds.PutIf([]byte("put"), []byte("again"), 0); err != nil {
				t.Errorf("a put if the key is absent: %v", err)
			}
			fill(t, ds, 0, 20)
			for _, key := range []string{"short", "large"} { // what they had was current at the floor
				if _, err := ds.Put([]byte(key), []byte("again")); err != nil {
					t.Error(err)
				}
			}
			plan := mustGC(t, db)
			if db.Metrics().FloorLSN == 0 {
				t.Errorf("nothing was dropped: %+v", plan)
			}
			for _, key := range []string{"short", "large"} {
				redacted := false
				for v, err := range ds.History(t.Context(), []byte(key)) {
					if redacted = v.Redacted; err != nil || v.AtFloor && !v.Redacted {
						t.Errorf("history at the floor: %+v, %v", v, err)
					}
				}
				if !redacted {
					t.Errorf("history of %s ends without the version at the floor", key)
				}
			}
			secret = map[string]dyngo.LSN{"newest": 0, "ttl": 0, "subject": 0, "pieces": 0, "batch3-01": 0, "batch40-20": 0}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A backup after a redaction has no byte of the value, though one from before has it, in the same place. That one is still sound.
func TestBackupAfterARedaction(t *testing.T) {
	s := newRedactable(t, dyngo.NoCompression)
	to := backup.NewDir(s.fs, "/backups")
	s.hide()
	s.look()
	if _, err := backUp(s.fs, to, s.db, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	// This one goes into the log file that the backup ends with, which is written anew too.
	lsn, err := s.ds.Put([]byte("later"), []byte("secret of later"))
	if err == nil {
		_, err = s.ds.Delete([]byte("later"))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.secret["later"], s.needles["later"] = lsn, []byte("secret of later")
	s.redact()
	if _, err := backUp(s.fs, to, s.db, time.Unix(2, 0)); err != nil {
		t.Fatal(err)
	}
	list, damage, err := backup.List(t.Context(), to)
	if err != nil || len(list) != 2 || len(damage) > 0 {
		t.Fatalf("%d backups, %v, %v", len(list), damage, err)
	}
	report, err := backup.Verify(t.Context(), to, nil)
	if err := errors.Join(append(report.Defects, err)...); err != nil {
		t.Error(err)
	}
	for i, b := range list {
		dir := fmt.Sprint("/copy", i)
		if _, err := dyngo.RestoreWith(t.Context(), ".", dir, dyngo.AtLSN(b.LSN), &dyngo.RestoreOptions{FS: s.fs, From: backup.FS(t.Context(), to, &b)}); err != nil {
			t.Fatal(err)
		}
		report, err := dyngo.VerifyWith(t.Context(), dir, &dyngo.Options{FS: s.fs}, dyngo.VerifyOptions{Level: dyngo.LevelState})
		if err := errors.Join(append(report.All(), err)...); err != nil {
			t.Error(err)
		}
		found := 0
		for name := range s.needles {
			with, err := filesWith(s.fs, dir, s.needles[name])
			if found += len(with); err != nil || i == 1 && len(with) > 0 {
				t.Errorf("%s is in %q, %v", name, with, err)
			}
		}
		if i == 0 && found == 0 {
			t.Error("a backup from before has none of the values")
		}
	}
	// A store that is restored from the older one to after the redactions has the values and the events: they are redacted again.
	// But for that one, which the newer backup alone has: there it is redacted.
	if _, err := dyngo.RestoreWith(t.Context(), ".", "/again", dyngo.AtLSN(list[1].LSN), &dyngo.RestoreOptions{FS: s.fs, From: backup.FS(t.Context(), to, &list[0])}); err != nil {
		t.Fatal(err)
	}
	if report, err := wal.Verify(t.Context(), s.fs, "/again/wal", nil); err != nil || len(report.Defects) > 0 || len(report.Redactions) != len(s.secret) ||
		slices.ContainsFunc(report.Redactions, func(r wal.RedactedValue) bool { return r.By == 0 || r.Done != (r.LSN == lsn) }) {
		t.Errorf("%+v, %v", report, err)
	}
	db := mustOpen(t, "/again", redactOptions(s.fs, s.clock))
	defer db.Close()
	for way, lsn := range s.secret {
		if r, err := db.Redact(t.Context(), lsn, dyngo.RedactOptions{Reason: "again"}); err != nil || r.Already != (way == "later") {
			t.Errorf("%s: %+v, %v", way, r, err)
		}
	}
	for name := range s.needles {
		if with, err := filesWith(s.fs, "/again", s.needles[name]); err != nil || len(with) > 0 {
			t.Errorf("%s is in %q, %v", name, with, err)
		}
	}
	if err := errors.Join(db.LogSealed(), db.Close()); err != nil {
		t.Fatal(err)
	}
	verified, err := dyngo.VerifyWith(t.Context(), "/again", &dyngo.Options{FS: s.fs}, dyngo.VerifyOptions{Level: dyngo.LevelState})
	if err := errors.Join(append(verified.All(), err)...); err != nil || verified.Tree.Gone > 0 {
		t.Errorf("%+v: %v", verified.Tree, err)
	}
}
