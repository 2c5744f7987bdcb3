package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

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

const goldenLine = "log/1/01010101010101010101010101010101/02020202020202020202020202020202/"

// goldenLog are objects of form 1 of the log behind a backup: a file that was sealed, two parts of the one behind it, which has ended,
// and one of the next.
var goldenLog = []struct{ name, content string }{
	{goldenLine + "0000000002-00000000000000000010.log/sealed-00000000000000000003-00000000000000000011-20231" +
		"114T221320.000000000Z-01020304-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20" +
		"015ad-18deac4b98afa5993b71488b086161baa52ad7e6dca54127a89adecc77606026", ""},
	{goldenLine + "0000000003-00000000000000000012.log/00000000000000000000-00000000000000000004-000000000000" +
		"00000011-20231114T221320.500000000Z-00000000-67def4769c1ca540618a3d26ce17de16863825c7f3731" +
		"c896bd3e65ef14f1175", "part"},
	{goldenLine + "0000000003-00000000000000000012.log/00000000000000000004-00000000000000000006-000000000000" +
		"00000013-20231114T221321.000000000Z-0a0b0c0d-8bab42d6d1262c25e57d368c956d94cfcfa76cd95b573" +
		"e22f011330148b21e4f", "of"},
	{goldenLine + "0000000003-00000000000000000012.log/ended-00000000000000000006-00000000000000000013-202311" +
		"14T221321.000000000Z-0a0b0c0d-36b739e947edb124d80637786fd5c0ed984c01d762912d7da1a15bce4bdb" +
		"80e9", ""},
	{goldenLine + "0000000004-00000000000000000014.log/00000000000000000000-00000000000000000004-000000000000" +
		"00000020-20231114T221322.000000000Z-00000001-6219b2f18c49960ff380b894bbd93b88385d4b69bdbe0" +
		"2c586f2d7407e57219f", "more"},
}

// goldenJoined is what the two parts may become.
const goldenJoined = goldenLine + "0000000003-00000000000000000012.log/00000000000000000000-00000000000000000006-000000000000" +
	"00000013-20231114T221321.000000000Z-0a0b0c0d-b52490ada07c81e16f833248a813fc5a88651ce3b550f" +
	"3c484eaeef967c8dd98"

// goldenBase is a backup that they go on behind.
func goldenBase() *Backup {
	abc := hashText("abc")
	return &Backup{Format: 1, ID: "20231114T221319.000000000Z", Log: strings.Repeat("01", 16), Timeline: strings.Repeat("02", 16), LSN: 9, Files: []File{
		{"wal/0000000001-00000000000000000001.log", 3, abc}, {"wal/0000000002-00000000000000000010.log", 3, abc}, {"wal/CLEAN", 3, abc}}}
}

// late is a place of objects in which something happens after the first list that has a prefix.
type late struct {
	Objects
	prefix string
	happen func()
}

func (l *late) List(ctx context.Context, prefix string) ([]Entry, error) {
	list, err := l.Objects.List(ctx, prefix)
	if prefix == l.prefix && l.happen != nil {
		l.happen()
		l.happen = nil
	}
	return list, err
}

// A folder is listed while a follower goes on to the next file: what is there by then is not missing. A backup that is made beside
// Expire, with what was archived behind it, stays.
func TestListBesideFollow(t *testing.T) {
	put := func(to Objects, name, content string) {
		t.Helper()
		if err := to.Put(t.Context(), name, strings.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
	}
	manifestOf := func(b *Backup) (name, content string) {
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return backupDir + b.ID + "-" + hashText(string(text)) + ".json", string(text)
	}
	to := NewDir(vfs.NewMem(), "/b")
	name, content := manifestOf(goldenBase())
	put(to, name, content)
	for _, i := range []int{0, 1, 2, 4} {
		put(to, goldenLog[i].name, goldenLog[i].content)
	}
	ended := func() { put(to, goldenLog[3].name, "") }
	list, damage, err := List(t.Context(), &late{to, logDir, ended})
	if err != nil || len(damage) > 0 || len(list) != 1 {
		t.Fatalf("%+v, %v, %v", list, damage, err)
	}
	if lsn, _ := list[0].Reach(); lsn != 20 {
		t.Errorf("it reaches LSN %d", lsn)
	}

	other := goldenBase()
	other.ID, other.Timeline = "20231114T221325.000000000Z", strings.Repeat("04", 16)
	p, err := parsePiece(Entry{goldenLog[1].name, 4})
	if err != nil {
		t.Fatal(err)
	}
	p.timeline, p.file = other.Timeline, "0000000002-00000000000000000010.log"
	p.name = p.prefix() + p.sum([]byte("part"))
	forked := func() {
		name, content := manifestOf(other)
		put(to, name, content)
		put(to, p.name, "part")
	}
	e, err := PlanExpire(t.Context(), &late{to, backupDir, forked}, 1, 0, time.Unix(1800000000, 0))
	if err != nil || len(e.Remove)+len(e.Parts)+len(e.Files) > 0 {
		t.Errorf("%+v, %v", e, err)
	}
}

// Objects of form 1 of the log behind a backup are read for ever. A newer form is unsupported, and what can't be is corruption.
func TestPieces(t *testing.T) {
	put := func(to Objects, name, content string) {
		t.Helper()
		if err := to.Put(t.Context(), name, strings.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
	}
	b := goldenBase()
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, joined := range []bool{false, true} { // parts may overlap
		to := NewDir(vfs.NewMem(), "/b")
		put(to, backupDir+b.ID+"-"+hashText(string(text))+".json", string(text))
		put(to, b.Files[0].object(), "abc")
		for _, o := range goldenLog {
			put(to, o.name, o.content)
		}
		if joined {
			put(to, goldenJoined, "partof")
		}
		list, damage, err := List(t.Context(), to)
		if err != nil || len(damage) > 0 || len(list) != 1 {
			t.Fatalf("%+v, %v, %v", list, damage, err)
		}
		if lsn, at := list[0].Reach(); lsn != 20 || at.Unix() != 1700000002 {
			t.Errorf("it reaches LSN %d, %v", lsn, at)
		}
		if report, err := Verify(t.Context(), to, nil); err != nil || len(report.Defects) > 0 || len(report.Backups) != 1 {
			t.Errorf("%+v, %v", report, err)
		}
		v := FS(t.Context(), to, &list[0])
		names, err := v.List("wal")
		if err != nil || strings.Join(names, " ") != "0000000001-00000000000000000001.log 0000000002-00000000000000000010.log 0000000003-00000000000000000012.log "+
			"0000000004-00000000000000000014.log" {
			t.Errorf("%q, %v", names, err)
		}
		if got, err := v.ReadFile("wal/0000000003-00000000000000000012.log", 100); err != nil || string(got) != "partof" {
			t.Errorf("%q, %v", got, err)
		}
		// Each is needed, and held against its name.
		for i, o := range goldenLog {
			if joined && (i == 1 || i == 2) {
				continue
			}
			if err := to.Delete(t.Context(), o.name); err != nil {
				t.Fatal(err)
			}
			list, damage, err := List(t.Context(), to)
			if err != nil || len(list) != 1 {
				t.Fatalf("%+v, %v", list, err)
			}
			if i+1 == len(goldenLog) { // as if it had not been archived yet
				if len(damage) > 0 {
					t.Errorf("without the last part: %v", damage)
				}
			} else if len(damage) != 1 || !errors.Is(damage[0], corruption.ErrCorrupt) || !strings.Contains(damage[0].Error(), "is missing") {
				t.Errorf("without %s, what lies behind it is not restored: %v", o.name, damage)
			}
			if lsn, _ := list[0].Reach(); lsn != [...]event.LSN{9, 11, 11, 13, 13}[i] {
				t.Errorf("without %s it reaches LSN %d", o.name, lsn)
			}
			if len(o.content) > 0 {
				put(to, o.name, strings.Repeat("x", len(o.content)))
				if report, err := Verify(t.Context(), to, nil); err != nil || len(report.Defects) != 1 || !strings.Contains(report.Defects[0].Error(), o.name) {
					t.Errorf("%s is damaged: %+v, %v", o.name, report, err)
				}
				if err := to.Delete(t.Context(), o.name); err != nil {
					t.Fatal(err)
				}
			}
			put(to, o.name, o.content)
		}
	}
	name := goldenLog[2].name
	for _, tc := range []struct {
		what, from, to string
		bytes          int64
		want           error
	}{
		{"golden", "", "", 2, nil},
		{"a newer form", "log/1/", "log/2/", 2, event.ErrUnsupported},
		{"cut off", "", "", 1, corruption.ErrCorrupt},
		{"it ends before it begins", "-00000000000000000006-", "-00000000000000000003-", 2, corruption.ErrCorrupt},
		{"a negative place", "/00000000000000000004-", "/-0000000000000000004-", 2, corruption.ErrCorrupt},
		{"another spelling", "-0a0b0c0d-", "-0A0B0C0D-", 2, corruption.ErrCorrupt},
		{"no log file", ".log/", ".lag/", 2, corruption.ErrCorrupt},
		{"no time", "20231114T", "20231314T", 2, corruption.ErrCorrupt},
		{"in no folder", goldenLine, "log/1/", 2, corruption.ErrCorrupt},
		{"a record with content", "00000000000000000004-", "ended-", 2, corruption.ErrCorrupt},
	} {
		p, err := parsePiece(Entry{strings.Replace(name, tc.from, tc.to, 1), tc.bytes})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.what, err)
		}
		if tc.want == nil && p.prefix()+p.sum([]byte("of")) != name {
			t.Errorf("%+v is written as %s", p, p.prefix()+p.sum([]byte("of")))
		}
	}
}

func FuzzPieces(f *testing.F) {
	for _, o := range goldenLog {
		f.Add(o.name, int64(len(o.content)), o.name, int64(len(o.content)))
	}
	f.Fuzz(func(t *testing.T, a string, abytes int64, b string, bbytes int64) {
		var pieces []piece
		for _, e := range []Entry{{a, abytes}, {b, bbytes}} {
			p, err := parsePiece(e)
			if err != nil {
				continue
			}
			if !strings.HasPrefix(e.Name, p.prefix()) || p.to <= p.from {
				t.Errorf("%q is read as %+v", e.Name, p)
			}
			pieces = append(pieces, p)
		}
		base := goldenBase()
		base.chain = chainOf(base, pieces)
		if reach, _ := base.Reach(); reach < base.LSN {
			t.Errorf("it reaches LSN %d", reach)
		}
	})
}
