package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
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

// TestScripts runs testdata/*.txt. Commands:
//
//	new      an empty database directory
//	run      an owner's steps, see script.step
//	damage   changes bytes of files, see script.damage
//	open     reads as an owner would ("open live": as a reader without lock) and shows what is found
//	files    lists the directory
//	check    compares with the names given, as Set.Check does; "check start" as Set.Orphans does
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
	set   *Set
	marks map[string]mark
}

// mark is a record that the script wrote.
type mark struct {
	num    uint64
	at, to int64
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "new":
		s.fs, s.marks = newFS(t, vfs.NewMem()), map[string]mark{}
		return ""
	case "run", "damage":
		do := s.step
		if d.Cmd == "damage" {
			do = s.damage
		}
		for _, line := range strings.Split(d.Input, "\n") {
			if words := strings.Fields(line); len(words) > 0 {
				if err := do(t, words); err != nil {
					return s.errorLine(err)
				}
			}
		}
		return ""
	case "open":
		set, err := Open(s.fs, testDir, Options{ReadOnly: d.HasArg("live")})
		if err != nil {
			return s.errorLine(err)
		}
		return found(set)
	case "files":
		names, err := s.fs.List(testDir)
		must(t, err)
		return strings.Join(names, "\n") + "\n"
	case "check":
		set := mustOpen(t, s.fs, Options{})
		if !d.HasArg("start") {
			return s.errorLine(set.Check(strings.Fields(d.Input)))
		}
		must(t, set.Start(testLog))
		orphans, err := set.Orphans(strings.Fields(d.Input))
		if err != nil {
			return s.errorLine(err)
		}
		return fmt.Sprintf("orphans %q, next file %d\n", orphans, set.NewFileNum())
	}
	d.Fatalf(t, "unknown command")
	return ""
}

// found describes what an Open has found.
func found(set *Set) string {
	v, tail := set.Current(), set.Tail()
	if !set.Found() {
		return "nothing\n"
	}
	out := fmt.Sprintf("%s: %d edits, segments %s; ends at %d", tail.File, v.Edits, nums(collect(v)), tail.End)
	if tail.Marked {
		out += ", marked"
	}
	if tail.CutBytes > 0 {
		out += fmt.Sprintf(", %d bytes cut\n%s", tail.CutBytes, tail.Doubt)
	}
	return out + "\n"
}

func collect(v *Version) (segments []*Segment) {
	for s := range v.All() {
		segments = append(segments, s)
	}
	return segments
}

func (s *script) errorLine(err error) string {
	kind := "error"
	switch {
	case err == nil:
		return "ok\n"
	case errors.Is(err, corruption.ErrCorrupt) && errors.Is(err, event.ErrUnsupported):
		kind = "both"
	case errors.Is(err, corruption.ErrCorrupt):
		kind = "CORRUPT"
	case errors.Is(err, event.ErrUnsupported):
		kind = "UNSUPPORTED"
	}
	return fmt.Sprintf("%s: %v\n", kind, err)
}

// step is a step of an owner. The records that it writes are named after the edit: s1 is the snapshot after edit 1, e2
// the record of edit 2, m2 its mark.
//
//	start [log=N]        opens and starts the set
//	add KEY              adds a segment of one key as a new run
//	remove N             removes segment N
//	kill                 the process ends
//	close                in order
//	put KIND EDITS [field ...]   writes a record as no writer of this version does, of kind KIND, that says that it is
//	                     edit EDITS; the fields are bytes in hexadecimal
func (s *script) step(t *testing.T, words []string) error {
	switch words[0] {
	case "start":
		o := testOptions()
		o.random = &countingReader{next: byte(len(s.marks))}
		set, err := Open(s.fs, testDir, o)
		if err != nil {
			return err
		}
		log := testLog
		if len(words) > 1 {
			log[0] = byte(number(strings.TrimPrefix(words[1], "log=")))
		}
		if err := set.Start(log); err != nil {
			return err
		}
		s.set = set
		s.marks[fmt.Sprintf("s%d", set.Current().Edits)] = mark{set.mu.head.num, headerSize, set.mu.end}
	case "add":
		s.note(func() { addOne(t, s.set, words[1]) })
	case "remove":
		s.note(func() { must(t, s.set.Apply(&Edit{Remove: []FileNum{FileNum(number(words[1]))}})) })
	case "kill":
		s.set = nil
	case "close":
		return s.set.Close()
	case "put":
		m := &s.set.mu
		body := func(b []byte) []byte {
			for _, w := range words[3:] {
				for i := 0; i+1 < len(w); i += 2 {
					v, err := strconv.ParseUint(w[i:i+2], 16, 8)
					must(t, err)
					b = append(b, byte(v))
				}
			}
			return b
		}
		rec := m.head.appendRecord(nil, kind(number(words[1])), uint64(number(words[2])), body, m.end)
		_, err := m.file.WriteAt(rec, m.end)
		must(t, err)
		s.marks["put"] = mark{m.head.num, m.end, m.end + int64(len(rec))}
		m.end += int64(len(rec))
	default:
		return errors.New("unknown step")
	}
	return nil
}

// note names the records that an edit writes.
func (s *script) note(apply func()) {
	m := &s.set.mu
	from := m.end
	apply()
	n := s.set.Current().Edits
	s.marks[fmt.Sprintf("e%d", n)] = mark{m.head.num, from, m.end}
	s.marks[fmt.Sprintf("m%d", n)] = mark{m.head.num, m.end, m.end + recordHeaderSize}
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// damage is a step of damage. A place is a record's name, or a file's number for its start, and an offset from there.
//
//	flip PLACE N                flips a bit of one byte
//	zero PLACE N M              zeros bytes [N, M)
//	truncate PLACE N            ends the file there
//	append FILE TEXT            adds TEXT behind the file's content
//	zeros FILE N                adds zeros
//	copy PLACE PLACE            writes the bytes of a record to another place
//	remove FILE                 removes the file
//	rename FILE NUM             gives the file another number
//	save FILE, restore FILE     keeps the file under another name, and brings it back
//	temp                        leaves a file without a name
//	header FILE FIELD N         sets a field of the header and makes its CRC fit: version, incompat, rocompat, compat,
//	                            zero
func (s *script) damage(t *testing.T, words []string) error {
	switch words[0] {
	case "temp":
		f, err := s.fs.Create(path.Join(testDir, newFileName))
		must(t, err)
		return f.Close()
	case "remove":
		return s.fs.Remove(path.Join(testDir, fileName(uint64(number(words[1])))))
	case "save", "restore":
		name := path.Join(testDir, fileName(uint64(number(words[1]))))
		if words[0] == "save" {
			return s.fs.Link(name, name+".saved")
		}
		return s.fs.Link(name+".saved", name)
	case "rename":
		return s.fs.Rename(path.Join(testDir, fileName(uint64(number(words[1])))),
			path.Join(testDir, fileName(uint64(number(words[2])))))
	}
	m := s.place(words[1])
	b := content(t, s.fs, m.num)
	switch words[0] {
	case "flip":
		b[m.at+number(words[2])] ^= 0x10
	case "zero":
		clear(b[m.at+number(words[2]) : m.at+number(words[3])])
	case "truncate":
		b = b[:m.at+number(words[2])]
	case "append":
		b = append(b, words[2]...)
	case "zeros":
		b = append(b, make([]byte, number(words[2]))...)
	case "copy":
		from := s.place(words[1])
		to := s.place(words[2])
		part := content(t, s.fs, from.num)[from.at:from.to]
		m, b = to, append(content(t, s.fs, to.num)[:to.at], part...)
	case "header":
		at := map[string]int{"version": 12, "compat": 40, "rocompat": 48, "incompat": 56, "zero": 120}[words[2]]
		b[at] = byte(number(words[3]))
		binary.LittleEndian.PutUint32(b[8:], coding.CRC(b[12:headerSize]))
	default:
		return errors.New("unknown step")
	}
	overwrite(t, s.fs, path.Join(testDir, fileName(m.num)), b)
	return nil
}

func (s *script) place(word string) mark {
	if num, err := strconv.ParseUint(word, 10, 64); err == nil {
		return mark{num: num}
	}
	m, ok := s.marks[word]
	if !ok {
		panic("no record " + word)
	}
	return m
}
