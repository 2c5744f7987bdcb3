package segment

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// TestScripts runs testdata/*.txt. Commands:
//
//	write [block=N] [filter=N] [due=N]   writes a segment from nothing; one entry per line, see script.line
//	blocks                               lists its blocks
//	get DATASET KEY [at=LSN]             reads a key
//	scan [from=DATASET/KEY] [back] [keys] [nofill]   visits entries; with from: from there on
//	due [from=TIME]                      visits entries with an expiry
//	props                                shows the properties
//	flip KIND N [at=I]                   flips bit 0 of byte I of the N-th block of a kind; -1 counts from the end
//	verify                               checks the file
//
// Keys are quoted as in Go if they begin with a quote.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s := script{t: t}
			datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
				out := s.run(d)
				if out != "" && !strings.HasSuffix(out, "\n") {
					out += "\n"
				}
				return out
			})
		})
	}
}

type script struct {
	t  *testing.T
	fs vfs.FS
}

func (s *script) run(d *datadriven.TestData) string {
	switch d.Cmd {
	case "write":
		return s.write(d)
	case "flip":
		return s.flip(d)
	case "blocks":
		return s.blocks()
	}
	r, err := Open(s.fs, "a.seg", ReaderOptions{HashSeed: testSeed})
	if err != nil {
		return failure(err)
	}
	defer r.Close()
	switch d.Cmd {
	case "get":
		return s.get(d, r)
	case "scan":
		return s.scan(d, r)
	case "due":
		return s.due(d, r)
	case "props":
		return strings.ReplaceAll(r.Properties().String(), ", ", "\n")
	case "verify":
		if err := r.Verify(context.Background(), nil); err != nil {
			return failure(err)
		}
		return "ok"
	}
	d.Fatalf(s.t, "unknown command")
	return ""
}

func failure(err error) string {
	if errors.Is(err, corruption.ErrCorrupt) {
		return "CORRUPT: " + err.Error()
	}
	return "ERROR: " + err.Error()
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func scriptKey(s string) (event.DatasetID, []byte) {
	ds, key, _ := strings.Cut(s, "/")
	return event.DatasetID(number(ds)), text(key)
}

func text(s string) []byte {
	if strings.HasPrefix(s, `"`) {
		q, err := strconv.Unquote(s)
		if err != nil {
			panic(err)
		}
		return []byte(q)
	}
	return []byte(s)
}

// line reads an entry: op DATASET/KEY LSN [VALUE] [time=T] [due=T] [record=T] [session=N] [repeat=N], where repeat
// makes that many versions with falling LSNs and "*N" behind a value repeats it; or: range DATASET [FROM] [TO] LSN.
func (s *script) line(w *Writer, line string) error {
	var words []string
	opts := map[string]string{}
	for _, f := range strings.Fields(line) {
		if k, v, ok := strings.Cut(f, "="); ok && !strings.HasPrefix(f, `"`) {
			opts[k] = v
		} else {
			words = append(words, f)
		}
	}
	if words[0] == "range" {
		ds, from := scriptKey(words[1])
		w.AddRangeDelete(RangeDelete{Dataset: ds, From: from, To: text(opts["to"]), LSN: event.LSN(number(words[2])), Time: 7})
		return nil
	}
	e := Entry{LSN: event.LSN(number(words[2])), Session: 1}
	e.Dataset, e.Key = scriptKey(words[1])
	for op := event.OpPut; op <= event.OpRedact; op++ {
		if op.String() == words[0] {
			e.Op = op
		}
	}
	if len(words) > 3 {
		v, n, _ := strings.Cut(words[3], "*")
		e.Value = text(v)
		if n != "" {
			e.Value = []byte(strings.Repeat(v, int(number(n))))
		}
	}
	if v, ok := opts["due"]; ok {
		e.Parts = event.AppendExpiry(e.Parts, number(v))
	}
	if v, ok := opts["record"]; ok {
		e.Parts = event.AppendRecordTime(e.Parts, number(v))
	}
	if v, ok := opts["session"]; ok {
		e.Session = event.SessionID(number(v))
	}
	repeat := int64(1)
	if v, ok := opts["repeat"]; ok {
		repeat = number(v)
	}
	for ; repeat > 0; repeat-- {
		if e.Time = int64(e.LSN) * 10; opts["time"] != "" {
			e.Time = number(opts["time"])
		}
		if err := w.Add(&e); err != nil {
			return err
		}
		e.LSN--
	}
	return nil
}

func (s *script) write(d *datadriven.TestData) (out string) {
	o := WriterOptions{Num: 1, HashSeed: testSeed, Compression: NoCompression, Salt: [16]byte{1}}
	for _, arg := range d.CmdArgs {
		n := int(number(arg.Vals[0]))
		switch arg.Key {
		case "block":
			o.BlockBytes = n
		case "filter":
			o.FilterBits = n
		case "due":
			o.dueBytes = n
		}
	}
	defer func() {
		if p := recover(); p != nil {
			out = fmt.Sprint("PANIC: ", p)
		}
	}()
	s.fs = vfs.NewMem()
	w, err := Create(s.fs, "a.seg", o)
	if err != nil {
		return failure(err)
	}
	defer w.Abort() // does nothing after Finish
	for _, line := range strings.Split(d.Input, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := s.line(w, line); err != nil {
			return failure(err)
		}
	}
	if _, err := w.Finish(); err != nil {
		return failure(err)
	}
	return ""
}

func (s *script) blocks() string {
	content, err := s.fs.ReadFile("a.seg", 1<<30)
	if err != nil {
		s.t.Fatal(err)
	}
	var out strings.Builder
	for at := headerBytes; at < len(content)-footerBytes; {
		h, err := parseStored(content[at:])
		if err != nil {
			s.t.Fatal(err)
		}
		body := content[at+blockHead:][:h.stored]
		fmt.Fprintf(&out, "%d %s %d", at, kindNames[h.kind], h.raw)
		var v sorted
		switch {
		case h.kind == kindFilter:
			fmt.Fprintf(&out, ": %d lines", le.Uint32(body[4:]))
		case columnsOf[h.kind] > 0 && v.parse(body, h.kind):
			fmt.Fprintf(&out, ": %d of %.30q…", v.n, v.common)
			for i := range min(v.n, 4) {
				fmt.Fprintf(&out, " %.30q@%d", v.appendKey(nil, i)[len(v.common):], v.lsn(i))
				if h.kind != kindData && h.kind != kindDue {
					fmt.Fprintf(&out, "→%d+%d", v.handle(i).offset, v.handle(i).length)
				}
			}
		}
		fmt.Fprintln(&out)
		at += blockHead + int(h.stored)
	}
	return out.String()
}

func (s *script) get(d *datadriven.TestData, r *Reader) string {
	ds, key := scriptKey(d.CmdArgs[0].Key)
	max := event.MaxLSN
	if d.HasArg("at") {
		var at uint64
		d.ScanArgs(s.t, "at", &at)
		max = event.LSN(at)
	}
	e, ok, err := get(r, ds, key, max)
	switch {
	case err != nil:
		return failure(err)
	case !ok:
		return "-"
	}
	return scriptEntry(&e)
}

func scriptEntry(e *Entry) string {
	out := fmt.Sprintf("%d/%.30q@%d %s t%d s%d", e.Dataset, e.Key, e.LSN, e.Op, e.Time, e.Session)
	if len(e.Value) > 0 {
		out += fmt.Sprintf(" %.20q", e.Value)
		if len(e.Value) > 20 {
			out += fmt.Sprintf("… %d bytes", len(e.Value))
		}
	}
	if due, ok := event.Expiry(e.Parts); ok {
		out += fmt.Sprintf(" due %d", due)
	}
	return out
}

func (s *script) scan(d *datadriven.TestData, r *Reader) string {
	it := r.NewIter(IterOptions{KeysOnly: d.HasArg("keys"), NoFill: d.HasArg("nofill")})
	defer it.Close()
	back := d.HasArg("back")
	ok := false
	switch {
	case d.HasArg("from"):
		var from string
		d.ScanArgs(s.t, "from", &from)
		ds, key := scriptKey(from)
		if back {
			ok = it.SeekLT(ds, key)
		} else {
			ok = it.SeekGE(ds, key)
		}
	case back:
		ok = it.Last()
	default:
		ok = it.First()
	}
	var out strings.Builder
	for ok {
		fmt.Fprintln(&out, scriptEntry(it.Entry()))
		if back {
			ok = it.Prev()
		} else {
			ok = it.Next()
		}
	}
	if it.Err() != nil {
		fmt.Fprintln(&out, failure(it.Err()))
	}
	return out.String()
}

func (s *script) due(d *datadriven.TestData, r *Reader) string {
	from := int64(-1 << 63)
	if d.HasArg("from") {
		d.ScanArgs(s.t, "from", &from)
	}
	it := r.Due(from)
	defer it.Close()
	var out strings.Builder
	for it.Next() {
		due := it.Due()
		fmt.Fprintf(&out, "%d %d/%q@%d\n", due.Due, due.Dataset, due.Key, due.LSN)
	}
	if it.Err() != nil {
		fmt.Fprintln(&out, failure(it.Err()))
	}
	return out.String()
}

func (s *script) flip(d *datadriven.TestData) string {
	content, err := s.fs.ReadFile("a.seg", 1<<30)
	if err != nil {
		s.t.Fatal(err)
	}
	kind := byte(0)
	for k, name := range kindNames {
		if strings.ReplaceAll(name, " ", "-") == d.CmdArgs[0].Key {
			kind = byte(k)
		}
	}
	h := blocksOf(s.t, content)[kind][number(d.CmdArgs[1].Key)]
	at := int64(blockHead)
	if d.HasArg("at") {
		d.ScanArgs(s.t, "at", &at)
	}
	content[h.offset+uint64(at)] ^= 1
	overwrite(s.t, s.fs, "a.seg", content)
	return ""
}
