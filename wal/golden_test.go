package wal

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

var update = flag.Bool("update", false, "write the golden files of the log's format anew")

// goldenDir holds the files of format version 1. Each folder in it is a database directory, and NAME.txt says what a reader
// finds in it. They are never changed: what a released version wrote every later one reads. A new kind of content gets a
// folder of its own.
const goldenDir = "../testdata/format1"

// golden builds the databases, deterministically.
var golden = map[string]func(fsys vfs.FS, dir string){
	"every":    goldenEvery,
	"future":   goldenFuture,
	"plain":    goldenPlain,
	"redacted": goldenRedacted,
	"sealed":   goldenSealed,
	"torn":     goldenTorn,
}

func TestGoldenFiles(t *testing.T) {
	for name, build := range golden {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			build(mem, "db/wal")
			dir := filepath.Join(goldenDir, name, "wal")
			list := filepath.Join(goldenDir, name+".txt")
			if *update {
				writeGolden(t, mem, dir)
			}
			compareGolden(t, mem, dir)
			got := listing(t, vfs.OS, filepath.ToSlash(dir))
			if *update {
				if err := os.WriteFile(list, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(list)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Fatalf("%s reads as\n%s\nwant\n%s", dir, got, want)
			}
		})
	}
}

func writeGolden(t *testing.T, mem vfs.FS, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range memFiles(t, mem) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// compareGolden says whether today's encoders give the bytes of the golden files.
func compareGolden(t *testing.T, mem vfs.FS, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	built := memFiles(t, mem)
	for _, e := range entries {
		want, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := built[e.Name()]
		if !ok {
			t.Errorf("%s is not built any more", e.Name())
		} else if !bytes.Equal(got, want) {
			at := 0
			for at < min(len(got), len(want)) && got[at] == want[at] {
				at++
			}
			t.Errorf("%s is built differently from byte %d on", e.Name(), at)
		}
		delete(built, e.Name())
	}
	for name := range built {
		t.Errorf("%s has no golden file", name)
	}
}

func memFiles(t *testing.T, mem vfs.FS) map[string][]byte {
	t.Helper()
	names, err := mem.List("db/wal")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		if files[name], err = mem.ReadFile(path.Join("db/wal", name), 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// listing tells all that is in a log.
func listing(t *testing.T, fsys vfs.FS, dir string) string {
	t.Helper()
	r, err := Verify(context.Background(), fsys, dir, nil)
	if err != nil || len(r.Defects) > 0 {
		t.Fatalf("%v, %v", err, r.Defects)
	}
	files := OpenFiles(fsys, dir)
	defer files.Close()
	s, err := NewScanner(fsys, dir, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var out strings.Builder
	for {
		f, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Offset == HeaderSize {
			h := *s.Header()
			fmt.Fprintf(&out, "file %d after %d, ended %d at %d, chain %08x; log %x, timeline %x, first LSN %d, time %d, created %d\n",
				h.Seq, h.PrevSeq, h.PrevEnding, h.PrevEnd, h.PrevChain, h.LogID, h.TimelineID, h.FirstLSN, h.FirstTime, h.Created)
			fmt.Fprintf(&out, "  features %x %x %x, hash %d, cipher %d, key %d, salt %x\n", h.Compat, h.ROCompat, h.Incompat,
				h.HashID, h.CipherID, h.KeyID, h.Salt)
		}
		listFrame(t, &out, f, files)
	}
	tail := s.Tail()
	fmt.Fprintf(&out, "end of file %d at %d: next LSN %d, time %d, durable %d, clean %t, cut %t %d\n", tail.File, tail.End,
		tail.NextLSN, tail.LastTime, tail.DurableLSN, tail.Clean, tail.Cut, tail.CutBytes)
	return out.String()
}

func listFrame(t *testing.T, out *strings.Builder, f *Frame, files *Files) {
	t.Helper()
	fmt.Fprintf(out, "%d %s flags %d, crc %08x (%08x) after %08x, LSN %d, %d events, durable %d, time %d, wall %d, hlc %d, %d bytes\n",
		f.Offset, f.Kind, f.Flags, f.CRC, f.OrigCRC, f.Chain, f.BaseLSN, f.Count, f.DurableLSN, f.BaseTime, f.WallTime, f.HLC,
		len(f.Body))
	switch f.Kind {
	case KindData:
		fmt.Fprintf(out, "  %.60q\n", f.Body)
	case KindDictionary:
		d, err := event.ParseDictionary(f.Body)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(out, "  %+v\n", *d)
	case KindCommit:
		var events iter.Seq2[*event.Event, error]
		if f.Flags&FrameSpilled != 0 {
			s, err := ParseSpill(f.Body, f.Count)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(out, "  %+v\n", s)
			events = f.SpilledEvents(files.readPiece)
		} else {
			events = f.Events()
		}
		for e, err := range events {
			if err != nil {
				t.Fatal(err)
			}
			listEvent(t, out, e)
		}
		checkPlaces(t, f, files)
	}
}

// checkPlaces reads each event of a commit frame where Places says that it lies.
func checkPlaces(t *testing.T, f *Frame, files *Files) {
	t.Helper()
	n := event.LSN(0)
	err := f.Places(files.readPiece, func(e *event.Event, at Position, wire []byte) error {
		b := make([]byte, len(wire))
		if err := files.ReadAt(b, at); err != nil {
			return err
		}
		there, _, size, err := event.ParseWire(b)
		if err != nil || size != len(b) || !bytes.Equal(b, wire) || there.Op != e.Op || !bytes.Equal(there.Key, e.Key) {
			t.Errorf("at %+v lies %s %q of %d bytes, want %s %q of %d: %v", at, there.Op, there.Key, size, e.Op, e.Key, len(b), err)
		}
		if e.LSN != f.BaseLSN+n {
			t.Errorf("LSN %d after %d", e.LSN, f.BaseLSN+n)
		}
		n++
		return nil
	})
	if err != nil || n != event.LSN(f.Count) {
		t.Errorf("%d places, want %d: %v", n, f.Count, err)
	}
}

func listEvent(t *testing.T, out *strings.Builder, e *event.Event) {
	t.Helper()
	fmt.Fprintf(out, "  %d @%d %s %s dataset %d session %d %q", e.LSN, e.Time, e.Op, e.Flags, e.Dataset, e.Session, e.Key)
	if e.Flags&event.FlagValueRef != 0 {
		ref, err := event.ParseValueRef(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(out, " = %+v", ref)
	} else {
		fmt.Fprintf(out, " = %q", e.Value)
	}
	for tag := event.Tag(1); tag < 64; tag++ {
		if body, ok := event.FindPart(e.Parts, tag); ok {
			fmt.Fprintf(out, " %d:%s", tag, hex.EncodeToString(body))
		}
	}
	out.WriteByte('\n')
}

func payload(session event.SessionID, key, value string, parts []byte) []byte {
	return event.AppendPayload(nil, session, []byte(key), []byte(value), parts)
}

// goldenOptions are the options of a dataset with something in each.
func goldenOptions() []byte {
	return event.AppendDatasetOptions(nil, event.DatasetOptions{
		Consistency: event.Causal, TTL: 3600e9, LargeValue: 8192, Compression: event.CodecS2,
	})
}

func strongOptions() []byte {
	return event.AppendDatasetOptions(nil, event.DatasetOptions{Consistency: event.Strong, LargeValue: 8192})
}

func goldenSession(id event.SessionID) event.Session {
	return event.Session{ID: id, Opened: testTime, Actor: "alice", Address: "192.0.2.1:4711", Client: "dyngo-cli"}
}

// goldenEvery is a closed log of three files with every op, part, flag and kind of frame and dictionary entry.
func goldenEvery(fsys vfs.FS, dir string) {
	b := newBuilder(fsys, dir)
	b.start(EndingNone)
	everyOp(b)
	everyPart(b)
	b.watermark()

	b.dict.Sessions = []event.Session{goldenSession(1), {ID: 300, Opened: testTime + 1}}
	b.dict.Datasets = []event.DatasetInfo{{ID: 1, Created: 3, Name: "scores", Options: goldenOptions()},
		{ID: 1 << 20, Created: 6, Name: "caf\u00e9", Options: strongOptions()}}
	b.dict.Merges = []event.MergeFunc{{ID: 1, Name: "sum"}}
	b.dict.Keys = []event.KeyInfo{{ID: 7, Info: []byte("subject 7")}}
	b.dict.NextSession, b.dict.NextDataset = 301, 1<<20+1
	b.start(EndingSealed)
	large := b.data([]byte("first piece, stored as it is; "))
	second := b.data([]byte("\x28\x240123456789\x19\x0a\x19\x0a\x19\x0a")) // s2: 40 bytes, ten and three copies of them
	second.RawLen, second.Codec = 40, event.CodecS2
	ref := event.AppendValueRef(nil, event.ValueRef{RawSize: int64(large.RawLen) + 40, Pieces: []event.Piece{large, second}})
	b.commit(event.AppendWire(nil, event.OpPut, event.FlagValueRef, 1, 5, payload(300, "large", string(ref), nil)))
	goldenSpill(b)
	b.data([]byte("nothing refers to this piece"))

	b.start(EndingSealed)
	b.frame(Frame{Kind: KindCommit, Flags: FrameRedacted, Count: 1, OrigCRC: 0xfeedbeef}, put("redacted", "\x00\x00\x00\x00"))
	b.next++
	b.frame(Frame{Kind: KindData, Flags: FrameRedacted, OrigCRC: 0xdeadbeef}, make([]byte, 20))
	b.puts(2)
	b.watermark()
	b.clean()
}

// goldenSealed has values that are encrypted: one in its event, one in pieces.
func goldenSealed(fsys vfs.FS, dir string) {
	b := newBuilder(fsys, dir)
	b.start(EndingNone)
	subject := event.AppendSubjectKey(nil, 0x7edcba9876543210)
	b.commit(event.AppendWire(nil, event.OpPut, event.FlagSealed, 1, 5, payload(1, "inline", "nonce and ciphertext", subject)))
	first, last := b.data([]byte("the first sealed piece")), b.data([]byte("the last"))
	ref := event.AppendValueRef(nil, event.ValueRef{RawSize: 30, Pieces: []event.Piece{first, last}})
	b.commit(event.AppendWire(nil, event.OpPut, event.FlagSealed|event.FlagValueRef, 1, 6, payload(1, "large", string(ref), subject)))
	b.commit(event.AppendWire(nil, event.OpKeyDestroyed, 0, 0, 7, payload(1, "", "", subject)))
	b.watermark()
	b.clean()
}

// goldenRedacted has values that were redacted, one in a frame with others, one in pieces, one in a spilled batch, and the events that
// say so.
func goldenRedacted(fsys vfs.FS, dir string) {
	b := newBuilder(fsys, dir)
	b.start(EndingNone)
	b.commit(put("beside", "stays"), put("inline", "a secret"), put("behind", "stays"))
	first, last := b.data([]byte("the first piece of a secret")), b.data([]byte("the last"))
	ref := event.AppendValueRef(nil, event.ValueRef{RawSize: 35, Pieces: []event.Piece{first, last}})
	b.commit(event.AppendWire(nil, event.OpPut, event.FlagValueRef, 1, 6, payload(1, "large", string(ref), nil)))
	goldenSpill(b)
	b.watermark()
	b.start(EndingSealed)
	for i, lsn := range []event.LSN{2, 4, 9} {
		parts := event.AppendRedaction(nil, lsn, []event.Annotation{{Key: "reason", Value: "a secret"}}, [32]byte{byte(i + 1)})
		key := []string{"inline", "large", "spilled-1-1"}[i]
		b.commit(event.AppendWire(nil, event.OpRedact, 0, 1, 7, payload(1, key, "", parts)))
	}
	b.watermark()
	b.clean()
	for _, lsn := range []event.LSN{2, 4, 9} {
		if err := redactIn(fsys, dir, lsn); err != nil {
			panic(err)
		}
	}
}

// redactIn redacts an event in the first file of a log.
func redactIn(fsys vfs.FS, dir string, lsn event.LSN) error {
	infos, err := ListFiles(fsys, dir)
	if err != nil {
		return err
	}
	files := OpenFiles(fsys, dir)
	defer files.Close()
	s, err := NewScanner(fsys, dir, ScanOptions{})
	if err != nil {
		return err
	}
	defer s.Close()
	var what Redaction
	for what.Event == 0 && err == nil {
		var f *Frame
		if f, err = s.Next(); err != nil || f.Kind != KindCommit {
			continue
		}
		err = f.Places(files.readPiece, func(e *event.Event, at Position, wire []byte) error {
			if e.LSN != lsn {
				return nil
			}
			what.Event, what.Frame = at.Offset, f.Offset
			if f.Flags&FrameSpilled != 0 {
				s, err := ParseSpill(f.Body, f.Count)
				for _, p := range s.Pieces {
					if int64(p.Offset) < at.Offset {
						what.Frame = int64(p.Offset)
					}
				}
				return err
			}
			pieces, err := event.Redact(bytes.Clone(wire))
			for _, p := range pieces {
				what.Pieces = append(what.Pieces, int64(p.Offset))
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	name := Redacted{Seq: 1, LSN: lsn, After: 10}.Name()
	if err := Redact(fsys, dir, infos[0], name, &what, nil); err != nil {
		return err
	}
	return fsys.Rename(path.Join(dir, name), path.Join(dir, infos[0].Name))
}

// everyOp appends an event of each op, in the form that is drawn for it.
func everyOp(b *builder) {
	wire := func(op event.Op, flags event.Flags, ds event.DatasetID, p []byte) []byte {
		return event.AppendWire(nil, op, flags, ds, 1, p)
	}
	annotated := event.AppendAnnotations(nil, []event.Annotation{{Key: "reason", Value: "scanned often"}})
	version := event.AppendPrevLSN(nil, 7)
	b.commit(wire(event.OpSessionOpened, 0, 0, payload(1, "", string(event.AppendSession(nil, goldenSession(1))), nil)))
	b.commit(wire(event.OpSessionOpened, 0, 0,
		payload(300, "", string(event.AppendSession(nil, event.Session{ID: 300, Opened: testTime + 1})), nil)))
	b.commit(wire(event.OpDatasetCreated, 0, 1, payload(1, "score", string(goldenOptions()), nil)),
		wire(event.OpDatasetChanged, 0, 1, payload(1, "scores", string(goldenOptions()), nil)),
		wire(event.OpDatasetCreated, 0, 2, payload(1, "scratch", string(goldenOptions()), nil)),
		wire(event.OpDatasetCreated, 0, 1<<20, payload(1, "caf\u00e9", string(strongOptions()), nil)))
	b.commit(
		wire(event.OpPut, event.FlagMore, 1, payload(1, "key", "value", nil)),
		wire(event.OpPut, event.FlagMore|event.FlagNotApplied, 1, payload(1, "key", "stale", event.AppendRecordTime(nil, -1))),
		wire(event.OpPut, event.FlagMore, 1, payload(1, "empty", "", nil)),
		wire(event.OpMerge, event.FlagMore, 1, payload(1, "counter", "+1", nil)),
		wire(event.OpExpire, event.FlagMore, 1, payload(0, "key", "", version)),
		wire(event.OpDelete, event.FlagMore, 1, payload(1, "key", "", nil)),
		wire(event.OpDeleteRange, event.FlagMore, 1, payload(1, "a", "b", nil)),
		wire(event.OpDeleteRange, event.FlagMore, 1, payload(1, "", "", nil)),
		wire(event.OpRedact, 0, 1, payload(1, "key", "", version)),
	)
	var lsn [8]byte
	lsn[0] = 9
	b.commit(
		wire(event.OpSegmentSealed, 0, 0, payload(0, "0000000001.seg", strings.Repeat("h", 32), nil)),
		wire(event.OpIndexCreated, 0, 1, payload(0, "by-name", "definition", annotated)),
		wire(event.OpIndexDropped, 0, 1, payload(0, "by-name", "", annotated)),
		wire(event.OpViewCreated, 0, 0, payload(0, "totals", "definition", annotated)),
		wire(event.OpViewDropped, 0, 0, payload(0, "totals", "", annotated)),
		wire(event.OpSnapshot, 0, 0, payload(1, "monday", "", nil)),
		wire(event.OpFork, 0, 0, payload(0, strings.Repeat("t", 16), "\x09", nil)),
		wire(event.OpConsumerAcked, 0, 0, payload(1, "mailer", "\x09", nil)),
		wire(event.OpKeyDestroyed, 0, 0, payload(1, "", "", event.AppendSubjectKey(nil, 7))),
		wire(event.OpClockAnomaly, 0, 0, payload(0, "", string(lsn[:]), nil)),
		wire(event.OpDatasetDropped, 0, 2, payload(1, "scratch", "", nil)),
	)
}

// everyPart appends events with each part alone, and one with all that go together.
func everyPart(b *builder) {
	alone := [][]byte{
		event.AppendExpiry(nil, testTime+60e9),
		event.AppendRecordTime(nil, testTime-60e9),
		event.AppendTransaction(nil, event.Transaction{}),
		event.AppendTransaction(nil, event.Transaction{Back: 3, Last: true}),
		event.AppendPrevLSN(nil, 200),
		event.AppendPrevLSN(nil, 0),
		event.AppendAnnotations(nil, []event.Annotation{{Key: "correlation", Value: "c-1"}, {Key: "reason", Value: "because"},
			{Key: "ticket", Value: "T-1"}}),
		event.AppendSchema(nil, 1),
		event.AppendCodec(nil, event.CodecS2, 9),
		event.AppendCodec(nil, event.CodecZstd, 1<<24),
		event.AppendValueSalt(nil, [16]byte{0: 1, 15: 16}),
		event.AppendSubjectKey(nil, 7),
		event.AppendSource(nil, []byte("input.csv:17")),
		event.AppendReadSet(nil, []uint64{1, 1 << 63}),
		event.AppendPartition(nil, 5),
		event.AppendEpoch(nil, 1<<40),
		event.AppendStream(nil, "orders", 12),
	}
	var all []byte
	for i, p := range alone {
		if i != 3 && i != 5 && i != 9 { // second forms of a part
			all = append(all, p...)
		}
	}
	var events [][]byte
	for i, p := range append(alone, all) {
		key := fmt.Sprintf("part-%d", i)
		events = append(events, event.AppendWire(nil, event.OpPut, 0, 1<<20, int64(i), payload(300, key, "v", p)))
	}
	b.commit(events...)
}

// goldenSpill appends a batch in two data frames, one of whose events lost.
func goldenSpill(b *builder) {
	var s Spill
	for i := range 2 {
		var body []byte
		for k := range 3 {
			flags := event.FlagMore
			if i == 1 && k == 2 {
				flags = 0
			}
			key := fmt.Sprintf("spilled-%d-%d", i, k)
			body = event.AppendWire(body, event.OpPut, flags, 1, 0, payload(300, key, "value", nil))
		}
		p := b.data(body)
		s.Add(Position{File: p.File, Offset: int64(p.Offset)}, len(body), p.CRC)
	}
	s.NotApplied = []uint64{0, 4}
	b.frame(Frame{Kind: KindCommit, Flags: FrameSpilled, Count: 6}, s.Append(nil))
	b.next += 6
	b.time += 1000
}

// goldenFuture is a log with what a later minor version may add and this one passes over: an op, a part, a dictionary entry
// and a feature bit.
func goldenFuture(fsys vfs.FS, dir string) {
	b := newBuilder(fsys, dir)
	h := Header{LogID: [16]byte{1}, TimelineID: [16]byte{2}, Seq: 1, HashID: HashSHA256, FirstLSN: 1, FirstTime: testTime,
		Created: testTime, Compat: 1 << 63}
	for i := range h.Salt {
		h.Salt[i] = byte(i)
	}
	enc := h.Encode()
	b.head, b.file = h, enc[:]
	dict := event.AppendDictionary(nil, &b.dict)
	dict[0]++
	b.frame(Frame{Kind: KindDictionary}, append(dict, 0x80, 3, 'n', 'e', 'w'))
	parts := append(event.AppendExpiry(nil, testTime), 15<<1, 3, 'n', 'e', 'w')
	b.commit(
		event.AppendWire(nil, event.OpPut, event.FlagMore, 1, 0, payload(1, "key", "value", parts)),
		event.AppendWire(nil, 0x80, event.FlagMore, 1, 1, []byte("anything")),
		event.AppendWire(nil, 0xff, 0, 1<<32-1, 2, nil),
	)
	b.clean()
}

// goldenPlain is a closed log as today's engine writes it.
func goldenPlain(fsys vfs.FS, dir string) {
	b := newBuilder(fsys, dir)
	b.start(EndingNone)
	options := strongOptions()
	b.commit(event.AppendWire(nil, event.OpSessionOpened, 0, 0, 0,
		payload(1, "", string(event.AppendSession(nil, goldenSession(1))), nil)))
	b.commit(event.AppendWire(nil, event.OpDatasetCreated, 0, 1, 0, payload(1, "scores", string(options), nil)))
	b.puts(10)
	b.commit(event.AppendWire(nil, event.OpDelete, 0, 1, 0, payload(1, "key-5", "", nil)))
	b.watermark()
	b.dict.Sessions = []event.Session{goldenSession(1)}
	b.dict.Datasets = []event.DatasetInfo{{ID: 1, Created: 2, Name: "scores", Options: options}}
	b.dict.NextSession, b.dict.NextDataset = 2, 2
	b.start(EndingSealed)
	p := b.data(bytes.Repeat([]byte("large "), 1500))
	ref := event.AppendValueRef(nil, event.ValueRef{RawSize: int64(p.RawLen), Pieces: []event.Piece{p}})
	b.commit(event.AppendWire(nil, event.OpPut, event.FlagValueRef, 1, 0, payload(1, "large", string(ref), nil)))
	b.watermark()
	b.clean()
}

// goldenTorn is a log after two crashes: the first was recovered from, so that the second file states a cut; the second left
// half a frame.
func goldenTorn(fsys vfs.FS, dir string) {
	b := newBuilder(fsys, dir)
	b.start(EndingNone)
	b.puts(3)
	b.watermark()
	end := b.end
	b.file = append(b.file, bytes.Repeat([]byte("torn "), 20)...)
	b.start(EndingCut)
	if int(b.head.PrevEnd) != end {
		panic("the cut moved")
	}
	b.puts(2)
	at := len(b.file)
	b.puts(2)
	clear(b.file[at+100:])
	b.file = append(b.file, make([]byte, 512)...)
	b.store()
}
