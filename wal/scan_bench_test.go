package wal

import (
	"fmt"
	"io"
	"testing"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// BenchmarkScan reads a log of events of 150 bytes from files in the page cache, as recovery does: CRC of each frame,
// decoding of each event.
func BenchmarkScan(b *testing.B) {
	const events, fileEvents = 1_000_000, 400_000
	for _, group := range []int{1, 16, 1000} {
		b.Run(fmt.Sprintf("events=1M/group=%d", group), func(b *testing.B) {
			dir := b.TempDir()
			w := newBuilder(vfs.OS, dir)
			payload := event.AppendPayload(nil, 1, make([]byte, 16), make([]byte, 114), event.AppendExpiry(nil, 1))
			wire := event.AppendWire(nil, event.OpPut, 0, 1, 1000, payload)
			if len(wire) != 150 {
				b.Fatalf("%d bytes", len(wire))
			}
			frame := make([][]byte, group)
			for i := range frame {
				frame[i] = wire
			}
			ending := EndingNone
			for n := 0; n < events; n += group {
				if n%fileEvents == 0 {
					w.start(ending)
					ending = EndingSealed
				}
				w.commit(frame...)
			}
			w.clean()
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				scanAll(b, dir, events)
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/op")
		})
	}
}

func scanAll(b *testing.B, dir string, want int) {
	s, err := NewScanner(vfs.OS, dir, ScanOptions{})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for {
		f, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
		if f.Kind != KindCommit {
			continue
		}
		for body := f.Body; len(body) > 0; n++ {
			_, _, k, err := event.ParseWire(body)
			if err != nil {
				b.Fatal(err)
			}
			body = body[k:]
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	if n != want {
		b.Fatalf("%d events, want %d", n, want)
	}
}
