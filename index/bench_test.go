package index

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/dyngodb/dyngo/event"
)

// BenchmarkRange scans 100 records of a million from any start, and writes them.
func BenchmarkRange(b *testing.B) {
	const n = 1_000_000
	r, lsn := New(nil, nil, nil), event.LSN(n)
	fill := r.Fill(lsn)
	keyOf := func(dst []byte, i int) []byte {
		return binary.BigEndian.AppendUint64(append(dst[:0], "user"...), uint64(i)<<40)
	}
	value := make([]byte, 100)
	key := keyOf(nil, 0)
	for i := range n {
		key = keyOf(key, i)
		fill.Add(&Entry{Key: key, Value: value, LSN: event.LSN(i + 1), Time: 1})
	}
	if err := fill.Done(lsn); err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	scan := func(b *testing.B) {
		b.ReportAllocs()
		var c Cursor
		var records [16]Record
		sum := byte(0)
		for range b.N {
			key = keyOf(key, rng.IntN(n))
			c.Seek(r, key, nil, false, lsn)
			for left := 100; left > 0; {
				n, _ := c.Next(records[:min(left, len(records))])
				if n == 0 {
					break
				}
				for i := range n {
					_, value := records[i].Pair()
					sum += value[0] + value[64]
				}
				left -= n
			}
		}
	}
	write := func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			key = keyOf(key, rng.IntN(n))
			lsn++
			r.Apply(&Entry{Key: key, Value: value, LSN: lsn, Time: 1}, lsn-1)
		}
	}
	b.Run("scan", scan)
	b.Run("write", write)
	b.Run("scan what was written", scan)
}
