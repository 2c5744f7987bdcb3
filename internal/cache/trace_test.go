package cache

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/dyngodb/dyngo/internal/corruption"
)

type record struct {
	call Call
	key  Key
	size int64
}

func records(trace []byte) (all []record, err error) {
	err = ReadTrace(trace, func(c Call, k Key, n int64) error {
		all = append(all, record{c, k, n})
		return nil
	})
	return all, err
}

func TestRecorderWritesTheExampleOfTheFormat(t *testing.T) {
	var trace bytes.Buffer
	r := NewRecorder(NewS3FIFO(1<<20), &trace)
	k := Key{File: 7, Offset: 4096}
	if r.Get(k) != nil {
		t.Fatal("a block out of nothing")
	}
	b := NewBlock(16 << 10)
	r.Add(k, b)
	b.Release()
	r.Get(k).Release()
	r.Close()
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	want, _ := hex.DecodeString(strings.ReplaceAll(
		"64 79 6e 67 6f 62 74 01  01 0e 80 40  82 02 00 00  80 02 00 00", " ", ""))
	if !bytes.Equal(trace.Bytes(), want) {
		t.Fatalf("wrote % x, want % x", trace.Bytes(), want)
	}
	got, err := records(want)
	if err != nil || !slices.Equal(got, []record{{CallMiss, k, 0}, {CallAdd, k, 16 << 10}, {CallHit, k, 16 << 10}}) {
		t.Fatalf("read %v, %v", got, err)
	}
}

func TestTraceGoesAnywhere(t *testing.T) {
	var trace bytes.Buffer
	r := NewRecorder(NewS3FIFO(1<<20), &trace)
	var want []record
	for _, k := range []Key{{5, 5}, {4, math.MaxUint64}, {math.MaxUint64, 0}, {0, 1 << 63}, {1 << 63, 3}} {
		r.Get(k)
		want = append(want, record{CallMiss, k, 0})
	}
	r.Close()
	if got, err := records(trace.Bytes()); err != nil || !slices.Equal(got, want) {
		t.Fatalf("read %v, %v, want %v", got, err, want)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestRecorderKeepsItsFirstFailure(t *testing.T) {
	r := NewRecorder(NewS3FIFO(1<<20), brokenWriter{io.ErrClosedPipe})
	for i := range uint64(10_000) {
		r.Get(Key{i, i}) // goes on
	}
	r.Close()
	if err := r.Flush(); err != io.ErrClosedPipe {
		t.Fatalf("error %v", err)
	}
}

func TestReadTraceRefuses(t *testing.T) {
	header := traceMagic + "\x01"
	for _, c := range []struct{ name, trace, want string }{
		{"nothing", "", "no \"dyngobt\""},
		{"another file", "dyngobu\x01", "no \"dyngobt\""},
		{"a newer version", traceMagic + "\x02\x01\x00\x00", "unsupported version 2"},
		{"half a record", header + "\x01\x00", "at 10: corrupt: block trace: unexpected end"},
		{"an unknown call", header + "\x07\x00\x00", "at 8: corrupt: block trace: call 3"},
		{"a miss with a buffer", header + "\x05\x00\x00", "call 1 with a buffer of 1 units"},
		{"an add without", header + "\x02\x00\x00", "call 2 with a buffer of 0 units"},
	} {
		_, err := records([]byte(c.trace))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func FuzzReadTrace(f *testing.F) {
	f.Add([]byte(traceMagic + "\x01\x01\x0e\x80\x40\x82\x02\x00\x00\x80\x02\x00\x00"))
	f.Add([]byte(traceMagic + "\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := records(b)
		if err != nil {
			if len(b) >= 8 && b[7] == traceVersion && !errors.Is(err, corruption.ErrCorrupt) {
				t.Fatalf("error %v", err)
			}
			return
		}
		// What was read can be written in one way only.
		var again bytes.Buffer
		r := NewRecorder(nil, &again)
		for _, x := range all {
			r.note(x.call, x.key, x.size)
		}
		if err := r.Flush(); err != nil || !bytes.Equal(again.Bytes(), b) {
			t.Fatalf("read % x, wrote % x, %v", b, again.Bytes(), err)
		}
	})
}
