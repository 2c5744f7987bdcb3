package integrity

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/dyngodb/dyngo/event"
)

// BenchmarkRecord computes the record of a frame of 64 events, for each event; "hash" hashes as many bytes in as many calls of
// SHA-256, and does nothing else: that is the limit.
func BenchmarkRecord(b *testing.B) {
	for _, size := range []int{100, 1024} {
		value := make([]byte, size)
		var events []event.Event
		for i := range 64 {
			events = append(events, event.Event{Op: event.OpPut, Dataset: 1, Session: 3, Key: fmt.Appendf(nil, "user%08d", i), Value: value})
		}
		f := frameOf(1, events...)
		b.Run(fmt.Sprintf("record/value=%dB", size), func(b *testing.B) {
			b.SetBytes(int64(len(f.Body)) / 64)
			for i := 0; i < b.N; i += 64 {
				if _, err := noSource.RecordOf(f, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("hash/value=%dB", size), func(b *testing.B) {
			b.SetBytes(int64(len(f.Body)) / 64)
			buf := make([]byte, 2048)
			for range b.N {
				_ = sha256.Sum256(buf[:13])
				_ = sha256.Sum256(buf[:1+size])
				_ = sha256.Sum256(buf[:1+leafFixed])
				_ = sha256.Sum256(buf[:65])
			}
		})
	}
}
