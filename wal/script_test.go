package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// TestScripts runs testdata/*.txt. Three commands:
//
//	log      builds a log from nothing; one step per line, see script.build
//	damage   changes bytes of its files; one step per line, see script.damage
//	scan     reads it with a Scanner ("scan live": as a reader without lock; "scan only=2": one file)
//	verify   reads it with Verify
//
// A step of log may end with "as=NAME", which names the frame for damage.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			var s script
			datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
				return s.run(t, d)
			})
		})
	}
}

type script struct {
	fs    vfs.FS
	b     *builder
	marks map[string]Position
	piece map[string]event.Piece
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "log":
		s.fs = vfs.NewMem()
		s.b = newBuilder(s.fs, "db/wal")
		s.marks, s.piece = map[string]Position{}, map[string]event.Piece{}
		s.lines(t, d, s.build)
	case "damage":
		s.lines(t, d, s.damage)
	case "scan":
		o := ScanOptions{ReadOnly: d.HasArg("live")}
		if d.HasArg("only") {
			var seq uint64
			d.ScanArgs(t, "only", &seq)
			o.FromFile, o.Only = seq, true
		}
		return s.scan(o)
	case "verify":
		return s.verify(t)
	default:
		d.Fatalf(t, "unknown command")
	}
	return ""
}

func (s *script) lines(t *testing.T, d *datadriven.TestData, do func(words []string, opts map[string]string) error) {
	for _, line := range strings.Split(d.Input, "\n") {
		var words []string
		opts := map[string]string{}
		for _, w := range strings.Fields(line) {
			if k, v, ok := strings.Cut(w, "="); ok {
				opts[k] = v
			} else {
				words = append(words, w)
			}
		}
		if len(words) == 0 {
			continue
		}
		if err := do(words, opts); err != nil {
			d.Fatalf(t, "%s: %v", line, err)
		}
	}
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// build runs one step of log:
//
//	file [sealed|cut]     starts a file; says how the one before ended
//	puts N                a commit frame of N puts
//	data TEXT             a data frame
//	big NAME              a commit frame of a put whose value is the data frame NAME
//	spill N [lost=I]      a batch of N puts in a data frame, and its commit frame; event I is not applied
//	copy NAME             a put whose value holds a copy of the frame NAME, which is in the same file
//	watermark             everything before is durable
//	frame kind=K ...      a commit frame of one put with odd fields
//	store                 the process stops here
//	clean [field=+N ...]  the log is closed; CLEAN states something else by N
func (s *script) build(words []string, opts map[string]string) error {
	b := s.b
	var pos Position
	switch words[0] {
	case "file":
		ending := EndingNone
		if len(words) > 1 {
			ending = map[string]Ending{"sealed": EndingSealed, "cut": EndingCut}[words[1]]
		}
		b.start(ending)
		pos = Position{File: b.head.Seq}
	case "puts":
		pos = b.puts(int(number(words[1])))
	case "data":
		p := b.data([]byte(words[1]))
		pos = Position{File: p.File, Offset: int64(p.Offset)}
		s.piece[opts["as"]] = p
	case "big":
		p := s.piece[words[1]]
		if v, ok := opts["crc"]; ok {
			p.CRC += uint32(number(v))
		}
		if v, ok := opts["at"]; ok {
			p.Offset += uint64(number(v))
		}
		ref := event.AppendValueRef(nil, event.ValueRef{RawSize: int64(p.RawLen), Pieces: []event.Piece{p}})
		pos = b.commit(event.AppendWire(nil, event.OpPut, event.FlagValueRef, 1, 10,
			event.AppendPayload(nil, 1, []byte("big"), ref, nil)))
	case "spill":
		pos = s.spill(int(number(words[1])), opts)
	case "copy":
		m := s.marks[words[1]]
		n, _ := bodyLength(b.file[m.Offset:])
		pos = b.commit(put("copy", string(b.file[m.Offset:m.Offset+int64(FrameSize(n))])))
	case "watermark":
		pos = b.watermark()
	case "frame":
		pos = s.odd(opts)
	case "store":
		b.store()
	case "clean":
		c := b.cleanFile()
		for k, v := range opts {
			switch k {
			case "seq":
				c.Seq += uint64(number(v))
			case "end":
				c.End += uint64(number(v))
			case "chain":
				c.Chain += uint32(number(v))
			case "lsn":
				c.NextLSN += event.LSN(number(v))
			}
		}
		b.store()
		return WriteClean(b.fs, b.dir, c)
	default:
		return errors.New("unknown step")
	}
	if name := opts["as"]; name != "" {
		s.marks[name] = pos
	}
	return nil
}

func (s *script) spill(n int, opts map[string]string) Position {
	var body []byte
	for i := range n {
		flags := event.FlagMore
		if i == n-1 {
			flags = 0
		}
		payload := event.AppendPayload(nil, 1, fmt.Appendf(nil, "spilled-%d", i), []byte("v"), nil)
		body = event.AppendWire(body, event.OpPut, flags, 1, 0, payload)
	}
	p := s.b.data(body)
	if name := opts["data"]; name != "" {
		s.marks[name] = Position{File: p.File, Offset: int64(p.Offset)}
	}
	var sp Spill
	sp.Add(Position{File: p.File, Offset: int64(p.Offset)}, len(body), p.CRC)
	if v, ok := opts["lost"]; ok {
		sp.NotApplied = []uint64{uint64(number(v))}
	}
	pos := s.b.frame(Frame{Kind: KindCommit, Flags: FrameSpilled, Count: uint32(n)}, sp.Append(nil))
	s.b.next += event.LSN(n)
	s.b.time += 1000
	return pos
}

// odd appends a frame that no writer of this version makes.
func (s *script) odd(opts map[string]string) Position {
	f := Frame{Kind: KindCommit, Count: 1}
	body := put("odd", "v")
	for k, v := range opts {
		switch k {
		case "kind":
			f.Kind = Kind(number(v))
		case "flags":
			f.Flags = FrameFlags(number(v))
		case "count":
			f.Count = uint32(number(v))
		case "lsn":
			f.BaseLSN = s.b.next + event.LSN(number(v))
		case "chain":
			f.Chain = s.b.chain + uint32(number(v))
		case "durable":
			f.DurableLSN = s.b.next + event.LSN(number(v))
		case "orig":
			f.OrigCRC = uint32(number(v))
		case "time":
			f.BaseTime = s.b.time + number(v)
		case "body":
			body = bytes.Repeat([]byte{0xff}, int(number(v)))
		case "op":
			body = event.AppendWire(nil, event.Op(number(v)), 0, 1, 0, event.AppendPayload(nil, 1, []byte("odd"), nil, nil))
		}
	}
	pos := s.b.frame(f, body)
	s.b.next += event.LSN(f.Count)
	return pos
}

// damage runs one step of damage. A place is the name of a frame or a file's sequence, and an offset from there.
//
//	flip PLACE N               flips a bit of one byte
//	zero PLACE N M             zeros bytes [N, M) or to the end of the file
//	truncate PLACE N           ends the file there
//	zeros SEQ N                adds N zeros behind the file's content
//	append SEQ TEXT [pad=N]    adds N zeros and TEXT behind the file's content
//	remove SEQ                 removes the file; CLEAN removes CLEAN
//	rename SEQ SEQ [lsn=N]     gives the file the name of another sequence or first LSN
//	swap SEQ SEQ               exchanges the files' contents
//	double SEQ lsn=N           copies the file to a second name of its sequence
//	newer CLEAN                makes it one of version 2
//	header SEQ FIELD N         sets a field of the header and makes its CRC fit: version, incompat, rocompat, compat,
//	                           cipher, hash, ending, padding, prevend, prevchain, timeline, logid, seq
func (s *script) damage(words []string, opts map[string]string) error {
	switch words[0] {
	case "remove":
		if words[1] == CleanName {
			return s.fs.Remove(path.Join(s.b.dir, CleanName))
		}
		return s.fs.Remove(s.fileName(uint64(number(words[1]))))
	case "rename", "double":
		from := s.fileName(uint64(number(words[1])))
		seq, first, _ := ParseFileName(path.Base(from))
		if len(words) > 2 {
			seq = uint64(number(words[2]))
		}
		if v, ok := opts["lsn"]; ok {
			first = event.LSN(number(v))
		}
		to := path.Join(s.b.dir, FileName(seq, first))
		if words[0] == "double" {
			return s.fs.Link(from, to)
		}
		return s.fs.Rename(from, to)
	case "swap":
		a, b := s.fileName(uint64(number(words[1]))), s.fileName(uint64(number(words[2])))
		x, y := s.content(a), s.content(b)
		overwrite(s.fs, a, y)
		overwrite(s.fs, b, x)
		return nil
	}
	name, base := s.place(words[1])
	b := s.content(name)
	switch words[0] {
	case "flip":
		b[base+number(words[2])] ^= 0x10
	case "zero":
		clear(b[base+number(words[2]) : min(base+number(words[3]), int64(len(b)))])
	case "truncate":
		b = b[:base+number(words[2])]
	case "append":
		if v, ok := opts["pad"]; ok {
			b = append(b, make([]byte, number(v))...)
		}
		b = append(b, words[2]...)
	case "zeros":
		b = append(b, make([]byte, number(words[2]))...)
	case "header":
		setHeader(b, words[2], number(words[3]))
	case "newer":
		b[12] = 2
		binary.LittleEndian.PutUint32(b[8:], coding.CRC(b[12:]))
	default:
		return errors.New("unknown step")
	}
	overwrite(s.fs, name, b)
	return nil
}

func setHeader(b []byte, field string, v int64) {
	at := map[string]int{"version": 12, "logid": 16, "timeline": 32, "prevend": 64, "prevchain": 72, "ending": 76, "hash": 77, "cipher": 78,
		"compat": 80, "rocompat": 88, "incompat": 96, "padding": 4000, "seq": 48}[field]
	if at == 0 {
		panic("unknown field " + field)
	}
	if field == "prevend" {
		binary.LittleEndian.PutUint64(b[at:], uint64(v))
	} else {
		b[at] = byte(v)
	}
	binary.LittleEndian.PutUint32(b[8:], coding.CRC(b[12:HeaderSize]))
}

func (s *script) fileName(seq uint64) string {
	names, err := s.fs.List(s.b.dir)
	if err != nil {
		panic(err)
	}
	for _, n := range names {
		if have, _, ok := ParseFileName(n); ok && have == seq {
			return path.Join(s.b.dir, n)
		}
	}
	panic(fmt.Sprintf("no file %d", seq))
}

func (s *script) place(word string) (name string, base int64) {
	if word == CleanName {
		return path.Join(s.b.dir, CleanName), 0
	}
	if seq, err := strconv.ParseUint(word, 10, 64); err == nil {
		return s.fileName(seq), 0
	}
	m, ok := s.marks[word]
	if !ok {
		panic("no frame " + word)
	}
	return s.fileName(m.File), m.Offset
}

func (s *script) content(name string) []byte {
	b, err := s.fs.ReadFile(name, 1<<30)
	if err != nil {
		panic(err)
	}
	return b
}

func (s *script) scan(o ScanOptions) string {
	var out strings.Builder
	sc, err := NewScanner(s.fs, s.b.dir, o)
	if err != nil {
		return s.errorLine(err)
	}
	defer sc.Close()
	for {
		f, err := sc.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return out.String() + s.errorLine(err)
		}
		fmt.Fprintf(&out, "%d @%d %s", f.File, f.Offset, f.Kind)
		if f.Kind == KindCommit {
			fmt.Fprintf(&out, " %d-%d", f.BaseLSN, f.BaseLSN+event.LSN(f.Count)-1)
		}
		if f.Kind == KindWatermark {
			fmt.Fprintf(&out, " %d", f.DurableLSN)
		}
		out.WriteByte('\n')
	}
	t := sc.Tail()
	fmt.Fprintf(&out, "end %d @%d, next LSN %d", t.File, t.End, t.NextLSN)
	if t.Clean {
		out.WriteString(", clean")
	}
	if t.Cut {
		fmt.Fprintf(&out, ", %d bytes cut, durable up to %d", t.CutBytes, t.DurableLSN)
	}
	return out.String() + "\n"
}

func (s *script) errorLine(err error) string {
	kind := "error"
	switch {
	case errors.Is(err, corruption.ErrCorrupt) && errors.Is(err, event.ErrUnsupported):
		kind = "both"
	case errors.Is(err, corruption.ErrCorrupt):
		kind = "CORRUPT"
	case errors.Is(err, event.ErrUnsupported):
		kind = "UNSUPPORTED"
	}
	return fmt.Sprintf("%s: %v\n", kind, err)
}

func (s *script) verify(t *testing.T) string {
	r, err := Verify(context.Background(), s.fs, s.b.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%d files, %d frames, %d events, %d data frames, %d unreferenced\n", r.Files, r.Frames, r.Events,
		r.DataFrames, r.Unreferenced)
	for _, err := range r.Defects {
		out.WriteString(s.errorLine(err))
	}
	return out.String()
}
