package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/vfs"
)

var le = binary.LittleEndian

var update = flag.Bool("update", false, "write the golden files of the segment's format anew")

// goldenDir holds the files of format version 1; NAME.txt says what a reader finds in NAME.seg. They are never changed:
// what a released version wrote every later one reads. A new kind of content gets a file of its own.
const goldenDir = "../testdata/format1/segment"

// golden builds the files. What is compressed is only read, because another version of a compressor may find other
// bytes.
var golden = map[string]func(t *testing.T, fsys vfs.FS, name string){
	"every": func(t *testing.T, fsys vfs.FS, name string) { goldenEvery(t, fsys, name, NoCompression) },
	"s2":    func(t *testing.T, fsys vfs.FS, name string) { goldenEvery(t, fsys, name, S2) },
	"zstd":  func(t *testing.T, fsys vfs.FS, name string) { goldenEvery(t, fsys, name, Zstd) },
	"ranges": func(t *testing.T, fsys vfs.FS, name string) {
		write(t, fsys, name, goldenOptions(NoCompression), nil,
			RangeDelete{Dataset: 3, From: []byte("a"), LSN: 5, Time: testTime})
	},
	"sealed": goldenSealed,
	"padded": goldenPadded,
	"future": goldenFuture,
}

func TestGoldenFiles(t *testing.T) {
	for name, build := range golden {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			build(t, mem, name+".seg")
			built, err := mem.ReadFile(name+".seg", 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(goldenDir, name+".seg")
			list := filepath.Join(goldenDir, name+".txt")
			if *update {
				if err := os.MkdirAll(goldenDir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, built, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			stored, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if compressed := name == "s2" || name == "zstd"; !compressed && !bytes.Equal(stored, built) {
				t.Errorf("%s is built differently from byte %d on", file, sharedLen(stored, built))
			}
			got := listing(t, vfs.OS, filepath.ToSlash(file))
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
				t.Fatalf("%s reads as\n%s\nwant\n%s", file, got, want)
			}
		})
	}
}

func goldenOptions(c Compression) WriterOptions {
	o := WriterOptions{Num: 12, Run: 9, CreatedAt: testTime, FlushedLSN: 1000, Replaces: []uint64{7, 3}, Compression: c,
		BlockBytes: 1 << 10, HashSeed: testSeed}
	for i := range o.Salt {
		o.Salt[i] = byte(i)
	}
	return o
}

// goldenPadded is a segment with blocks of nearly a page, before some of which there are zeros.
func goldenPadded(t *testing.T, fsys vfs.FS, name string) {
	var es []Entry
	for i := range 100 {
		es = append(es, put(fmt.Sprintf("key-%03d", i), strings.Repeat("x", 240+17*i%100), event.LSN(i+1)))
	}
	o := goldenOptions(NoCompression)
	o.BlockBytes = 0
	write(t, fsys, name, o, es)
}

// goldenEvery is a segment with every op that segments hold, every part, flag and kind of block, more versions than a
// block takes, and more blocks than one index block takes.
func goldenEvery(t *testing.T, fsys vfs.FS, name string, c Compression) {
	var es []Entry
	add := func(e Entry) {
		e.LSN = event.LSN(len(es) + 1)
		e.Time = testTime + int64(e.LSN)
		es = append(es, e)
	}
	add(Entry{Dataset: 1, Key: []byte("put"), Op: event.OpPut, Session: 300, Value: []byte("value")})
	add(Entry{Dataset: 1, Key: []byte("put"), Op: event.OpExpire, Parts: event.AppendPrevLSN(nil, 1)})
	add(Entry{Dataset: 1, Key: []byte("put"), Op: event.OpDelete, Flags: event.FlagMore, Session: 1})
	add(Entry{Dataset: 1, Key: []byte("put"), Op: event.OpRedact, Parts: event.AppendPrevLSN(nil, 1)})
	add(Entry{Dataset: 1, Key: []byte("counter"), Op: event.OpMerge, Value: []byte("+1"), Session: 1})
	add(Entry{Dataset: 1, Key: []byte("lost"), Op: event.OpPut, Flags: event.FlagNotApplied, Session: 1})
	ref := event.AppendValueRef(nil, event.ValueRef{RawSize: 1000, Pieces: []event.Piece{
		{File: 1, Offset: 4168, StoredLen: 900, RawLen: 1000, Codec: event.CodecS2, CRC: 0x1234}}})
	add(Entry{Dataset: 2, Key: []byte("large"), Op: event.OpPut, Flags: event.FlagValueRef, Session: 1, Value: ref})
	parts := event.AppendRecordTime(event.AppendExpiry(nil, testTime+60e9), testTime-60e9)
	parts = event.AppendTransaction(parts, event.Transaction{Back: 7, Last: true})
	parts = event.AppendPrevLSN(parts, 3)
	parts = event.AppendAnnotations(parts, []event.Annotation{{Key: "reason", Value: "because"}})
	parts = event.AppendCodec(event.AppendSchema(parts, 8), event.CodecZstd, 900)
	parts = event.AppendSource(event.AppendSubjectKey(event.AppendValueSalt(parts, [16]byte{1, 15: 2}), 9), []byte("file:12"))
	parts = event.AppendPartition(event.AppendReadSet(parts, []uint64{10, 11}), 12)
	parts = event.AppendStream(event.AppendEpoch(parts, 13), "orders", 14)
	add(Entry{Dataset: 2, Key: []byte("parts"), Op: event.OpPut, Session: 1, Value: []byte("v"), Parts: parts})
	for i := range 40 {
		add(Entry{Dataset: 2, Key: []byte("versions"), Op: event.OpPut, Session: 1, Value: bytes.Repeat([]byte{'v'}, 100),
			Parts: event.AppendExpiry(nil, testTime+int64(i%7))})
	}
	for i := range 12 {
		key := bytes.Repeat([]byte{byte('a' + i)}, 2000)
		add(Entry{Dataset: 1 << 31, Key: append(key, 0), Op: event.OpPut, Session: 1})
		add(Entry{Dataset: 1 << 31, Key: append(key, 0, 0xff), Op: event.OpPut, Session: 1})
	}
	sortEntries(es)
	write(t, fsys, name, goldenOptions(c), es,
		RangeDelete{Dataset: 2, From: []byte("b"), To: []byte("c"), LSN: 2000, Time: testTime + 2000},
		RangeDelete{Dataset: 1, LSN: 1999, Time: testTime + 1999})
}

// goldenSealed is a segment with encrypted values.
func goldenSealed(t *testing.T, fsys vfs.FS, name string) {
	subject := event.AppendSubjectKey(nil, 0x7edcba9876543210)
	ref := event.AppendValueRef(nil, event.ValueRef{RawSize: 1000, Pieces: []event.Piece{
		{File: 1, Offset: 4168, StoredLen: 1000, RawLen: 1000, CRC: 0x1234}}})
	write(t, fsys, name, goldenOptions(NoCompression), []Entry{
		{Dataset: 1, Key: []byte("inline"), LSN: 1, Time: testTime, Op: event.OpPut, Flags: event.FlagSealed, Session: 1,
			Value: []byte("nonce and ciphertext"), Parts: subject},
		{Dataset: 1, Key: []byte("large"), LSN: 2, Time: testTime, Op: event.OpPut, Flags: event.FlagSealed | event.FlagValueRef,
			Session: 1, Value: ref, Parts: subject}})
}

// goldenFuture is a file with what a later minor version may add and this one passes over: a property and a feature
// bit.
func goldenFuture(t *testing.T, fsys vfs.FS, name string) {
	w, err := Create(fsys, name, goldenOptions(NoCompression))
	if err != nil {
		t.Fatal(err)
	}
	e := put("key", "value", 9)
	if err := w.Add(&e); err != nil {
		t.Fatal(err)
	}
	w.props.Unknown = []Property{{Tag: 63, Body: []byte("summary")}}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	rewriteFooter(t, fsys, name, func(b []byte) { b[48+7] = 0x80 })
}

// rewriteFooter changes the footer of a file, which gets the right CRC.
func rewriteFooter(t *testing.T, fsys vfs.FS, name string, change func(b []byte)) {
	t.Helper()
	content, err := fsys.ReadFile(name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	b := content[len(content)-footerBytes:]
	change(b)
	sealFooter(b)
	overwrite(t, fsys, name, content)
}

func overwrite(t testing.TB, fsys vfs.FS, name string, content []byte) {
	t.Helper()
	if err := vfs.WriteFileSync(fsys, name, content); err != nil {
		t.Fatal(err)
	}
}

// listing tells all that is in a segment.
func listing(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	r, err := Open(fsys, name, ReaderOptions{HashSeed: testSeed})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Verify(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	p := *r.Properties()
	if name := filepath.Base(name); name == "s2.seg" || name == "zstd.seg" {
		p.SizeBytes, p.SHA256 = 0, [32]byte{}
	}
	fmt.Fprintf(&out, "salt %x, features %x %x\n", r.foot.salt, r.foot.compat, r.foot.incompat)
	fmt.Fprintf(&out, "segment %d of run %d, created %d, flushed %d, replaces %d\n", p.Num, p.Run, p.CreatedAt, p.FlushedLSN,
		p.Replaces)
	fmt.Fprintf(&out, "%d bytes, %d raw, %d referred, sha256 %x\n", p.SizeBytes, p.RawBytes, p.RefBytes, p.SHA256)
	fmt.Fprintf(&out, "%d entries, %d keys, %d tombstones, %d range deletes, %d record times, %d dues\n", p.Entries, p.Keys,
		p.Tombstones, p.RangeDeletes, p.RecordTimes, p.Dues)
	fmt.Fprintf(&out, "keys %d %.40q to %d %.40q, LSN %d to %d, time %d to %d, due %d to %d, filter %d bits, seed %x\n",
		p.Smallest.Dataset, p.Smallest.Key, p.Largest.Dataset, p.Largest.Key, p.MinLSN, p.MaxLSN, p.MinTime, p.MaxTime, p.MinDue,
		p.MaxDue, p.FilterBits, p.HashSeed)
	for _, u := range p.Unknown {
		fmt.Fprintf(&out, "property %d %q\n", u.Tag, u.Body)
	}
	it := r.NewIter(IterOptions{})
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		e := it.Entry()
		fmt.Fprintf(&out, "%s", show(e))
		if _, ok, err := get(r, e.Dataset, e.Key, e.LSN); !ok || err != nil {
			fmt.Fprintf(&out, ", but Get: %t, %v", ok, err)
		}
		fmt.Fprintln(&out)
	}
	for _, d := range r.RangeDeletes() {
		fmt.Fprintf(&out, "range delete %d [%q, %q) LSN %d time %d\n", d.Dataset, d.From, d.To, d.LSN, d.Time)
	}
	due := r.Due(0)
	defer due.Close()
	for due.Next() {
		d := due.Due()
		fmt.Fprintf(&out, "due %d: %d %.40q@%d\n", d.Due, d.Dataset, d.Key, d.LSN)
	}
	if it.Err() != nil || due.Err() != nil {
		t.Fatalf("%v, %v", it.Err(), due.Err())
	}
	return out.String()
}

// sealFooter gives a footer the right CRC.
func sealFooter(b []byte) { le.PutUint32(b[footerBytes-12:], crcOf(b[:footerBytes-12])) }

func crcOf(b []byte) uint32 { return coding.CRC(b) }
