package event

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"

	"github.com/dyngodb/dyngo/internal/corruption"
)

func TestPartsRoundTrip(t *testing.T) {
	parts := allParts()
	if err := CheckParts(parts); err != nil {
		t.Fatal(err)
	}
	var again []byte
	for tag := Tag(1); tag <= maxTag; tag++ {
		if _, ok := FindPart(parts, tag); !ok {
			t.Errorf("part %d is missing", tag)
		}
		if got := appendAgain(nil, nil, tag); got != nil {
			t.Errorf("part %d found in nothing", tag)
		}
		again = appendAgain(again, parts, tag)
	}
	if !bytes.Equal(again, parts) {
		t.Fatalf("got %x, want %x", again, parts)
	}
	if v, ok := FindAnnotation(parts, "reason"); !ok || string(v) != "r" {
		t.Fatalf("reason %q", v)
	}
	if _, ok := FindAnnotation(parts, "none"); ok {
		t.Fatal("found an annotation that is not there")
	}
}

func TestCheckPartsRefuses(t *testing.T) {
	expiry := AppendExpiry(nil, 1)
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"tag 0", []byte{0, 0}, corruption.ErrCorrupt},
		{"a part twice", append(expiry[:10:10], expiry...), corruption.ErrCorrupt},
		{"parts out of order", append(AppendSchema(nil, 1), expiry...), corruption.ErrCorrupt},
		{"a length beyond the end", []byte{3, 9, 0, 0, 0, 0, 0, 0, 0, 0}, corruption.ErrCorrupt},
		{"a huge length", []byte{3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, corruption.ErrCorrupt},
		{"an expiry that need not be understood", append([]byte{2}, expiry[1:]...), corruption.ErrCorrupt},
		{"a schema that must be understood", []byte{6<<1 | 1, 1, 1}, corruption.ErrCorrupt},
		{"an expiry of 7 bytes", []byte{3, 7, 0, 0, 0, 0, 0, 0, 0}, corruption.ErrCorrupt},
		{"an LSN of 64 bits", AppendPrevLSN(nil, math.MaxUint64), corruption.ErrCorrupt},
		{"a long zero", []byte{6 << 1, 2, 0x80, 0}, corruption.ErrCorrupt},
		{"the first event of a transaction at a distance", []byte{3 << 1, 2, 5, 1}, corruption.ErrCorrupt},
		{"an event at no distance that is not the first", []byte{3 << 1, 2, 0, 0}, corruption.ErrCorrupt},
		{"a transaction bit of a newer version", []byte{3 << 1, 2, 0, 5}, ErrUnsupported},
		{"no annotations", []byte{5 << 1, 1, 0}, corruption.ErrCorrupt},
		{"an annotation twice", []byte{5 << 1, 9, 2, 1, 'a', 1, 'x', 1, 'a', 1, 'y'}, corruption.ErrCorrupt},
		{"more annotations than bytes", []byte{5 << 1, 5, 0xff, 0xff, 0xff, 0xff, 1}, corruption.ErrCorrupt},
		{"no codec", AppendCodec(nil, CodecNone, 5), corruption.ErrCorrupt},
		{"a codec of a newer version", AppendCodec(nil, 3, 5), ErrUnsupported},
		{"a value that would be huge", AppendCodec(nil, CodecS2, MaxInlineRaw+1), corruption.ErrCorrupt},
		{"a salt of 15 bytes", AppendPart(nil, TagValueSalt, make([]byte, 15)), corruption.ErrCorrupt},
		{"an empty read set", AppendReadSet(nil, nil), corruption.ErrCorrupt},
		{"a read set of 9 bytes", AppendPart(nil, TagReadSet, make([]byte, 9)), corruption.ErrCorrupt},
		{"a stream without a name", AppendStream(nil, "", 1), corruption.ErrCorrupt},
		{"a part of a newer version that must be understood", []byte{20<<1 | 1, 0}, ErrUnsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := CheckParts(c.in); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
	if err := CheckParts(append(AppendStream(nil, "s", 1), 20<<1, 2, 0xff, 0xff)); err != nil {
		t.Fatalf("a part that may be skipped: %v", err)
	}
}

func TestInsertPartKeepsTheOrder(t *testing.T) {
	for _, c := range []struct {
		name     string
		in, want []byte
	}{
		{"into nothing", nil, AppendRecordTime(nil, 9)},
		{"before all", AppendSchema(nil, 1), AppendSchema(AppendRecordTime(nil, 9), 1)},
		{"after all", AppendExpiry(nil, 1), AppendRecordTime(AppendExpiry(nil, 1), 9)},
		{"between", AppendSchema(AppendExpiry(nil, 1), 1), AppendSchema(AppendRecordTime(AppendExpiry(nil, 1), 9), 1)},
		{"over one", AppendSchema(AppendRecordTime(nil, 5), 1), AppendSchema(AppendRecordTime(nil, 9), 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := bytes.Clone(c.in)
			if got := InsertRecordTime(c.in, 9); !bytes.Equal(got, c.want) {
				t.Fatalf("got %x, want %x", got, c.want)
			}
			if !bytes.Equal(before, c.in) {
				t.Fatal("the original changed")
			}
		})
	}
}

func TestAppendAnnotationsRefusesDisorder(t *testing.T) {
	for _, as := range [][]Annotation{nil, {{"b", ""}, {"a", ""}}, {{"a", ""}, {"a", ""}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v was taken", as)
				}
			}()
			AppendAnnotations(nil, as)
		}()
	}
}

func TestParseValueRefRefuses(t *testing.T) {
	good := Piece{File: 1, Offset: 4096, StoredLen: 9, RawLen: 9}
	with := func(change func(*Piece)) []byte {
		p := good
		change(&p)
		return AppendValueRef(nil, ValueRef{RawSize: int64(p.RawLen), Pieces: []Piece{p}})
	}
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"no pieces", AppendValueRef(nil, ValueRef{}), corruption.ErrCorrupt},
		{"another size", AppendValueRef(nil, ValueRef{RawSize: 8, Pieces: []Piece{good}}), corruption.ErrCorrupt},
		{"more pieces than bytes", []byte{9, 0xff, 0xff, 0xff, 0xff, 1}, corruption.ErrCorrupt},
		{"bytes after the end", append(with(func(*Piece) {}), 0), corruption.ErrCorrupt},
		{"file 0", with(func(p *Piece) { p.File = 0 }), corruption.ErrCorrupt},
		{"an odd offset", with(func(p *Piece) { p.Offset++ }), corruption.ErrCorrupt},
		{"an empty piece", with(func(p *Piece) { p.StoredLen, p.RawLen = 0, 0 }), corruption.ErrCorrupt},
		{"a long piece", with(func(p *Piece) { p.StoredLen, p.RawLen = 1<<20+1, 1<<20+1 }), corruption.ErrCorrupt},
		{"a piece that would grow long", with(func(p *Piece) { p.RawLen, p.Codec = 1<<20+1, CodecS2 }), corruption.ErrCorrupt},
		{"two lengths without a codec", with(func(p *Piece) { p.RawLen = 10 }), corruption.ErrCorrupt},
		{"a codec of a newer version", with(func(p *Piece) { p.Codec = 3 }), ErrUnsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseValueRef(c.in); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestDictionaryRoundTrip(t *testing.T) {
	want := testDictionary()
	b := AppendDictionary(nil, want)
	got, err := ParseDictionary(b)
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprintf("%+v", want); fmt.Sprintf("%+v", got) != s {
		t.Fatalf("got  %+v\nwant %s", got, s)
	}
	b[0]++
	if got, err = ParseDictionary(append(b, 0xff, 2, 1, 2)); err != nil || !reflect.DeepEqual(got.Sessions, want.Sessions) {
		t.Fatalf("with an entry that may be skipped: %+v, %v", got, err)
	}
}

func TestParseDictionaryRefuses(t *testing.T) {
	options := AppendDatasetOptions(nil, DatasetOptions{Consistency: Strong})
	change := func(f func(*Dictionary)) []byte {
		d := testDictionary()
		f(d)
		return AppendDictionary(nil, d)
	}
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, corruption.ErrCorrupt},
		{"no next ids", []byte{0}, corruption.ErrCorrupt},
		{"more entries than bytes", []byte{0xff, 0xff, 0xff, 0xff, 1}, corruption.ErrCorrupt},
		{"an entry of a newer version", []byte{1, 6, 0}, ErrUnsupported},
		{"kind 0", []byte{1, 0, 0}, corruption.ErrCorrupt},
		{"a session twice", change(func(d *Dictionary) { d.Sessions[1].ID = 3 }), corruption.ErrCorrupt},
		{"session 0", change(func(d *Dictionary) { d.Sessions[0].ID = 0 }), corruption.ErrCorrupt},
		{"a session beyond the next", change(func(d *Dictionary) { d.NextSession = 300 }), corruption.ErrCorrupt},
		{"dataset 0", change(func(d *Dictionary) { d.Datasets[0].ID = 0 }), corruption.ErrCorrupt},
		{"a dataset beyond the next", change(func(d *Dictionary) { d.NextDataset = 5 }), corruption.ErrCorrupt},
		{"datasets out of order", change(func(d *Dictionary) {
			d.Datasets[0], d.Datasets[1] = d.Datasets[1], d.Datasets[0]
		}), corruption.ErrCorrupt},
		{"a dataset without a name", change(func(d *Dictionary) { d.Datasets[0].Name = "" }), corruption.ErrCorrupt},
		{"options of a newer version", change(func(d *Dictionary) { d.Datasets[0].Options = append(options, 1) }),
			ErrUnsupported},
		{"a consistency of a newer version", change(func(d *Dictionary) { d.Datasets[0].Options = []byte{4, 0, 0, 0} }),
			ErrUnsupported},
		{"half of the options", change(func(d *Dictionary) { d.Datasets[0].Options = options[:2] }), corruption.ErrCorrupt},
		{"a merge function without a name", change(func(d *Dictionary) { d.Merges[0].Name = "" }), corruption.ErrCorrupt},
		{"next ids twice", []byte{2, 5, 2, 1, 1, 5, 2, 1, 1}, corruption.ErrCorrupt},
		{"a session after the next ids", append([]byte{2, 5, 2, 9, 1, 1, 12}, AppendSession(nil, Session{ID: 1})...),
			corruption.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseDictionary(c.in); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for want, got := range map[string]fmt.Stringer{
		"put": OpPut, "clock-anomaly": OpClockAnomaly, "op(15)": Op(15), "op(200)": Op(200), "-": Flags(0),
		"not-applied|more": FlagNotApplied | FlagMore, "value-ref|0x80": FlagValueRef | 0x80, "s2": CodecS2, "codec(9)": Codec(9),
		"strong": Strong, "eventual": Eventual, "consistency(7)": Consistency(7),
	} {
		if got.String() != want {
			t.Errorf("%#v prints as %q, want %q", got, got, want)
		}
	}
}
