package segment

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// rangeDeleteBlock is the size from which on a block of range deletes takes no more of them.
const rangeDeleteBlock = 64 << 10

// minRangeDeleteBytes is the length of the shortest range delete on disk.
const minRangeDeleteBytes = 1 + 1 + 8 + 1 + 1

// appendRangeDeletes appends a block of the first range deletes of rs, at least one, and returns the others. They are
// sorted by LSN.
func appendRangeDeletes(dst []byte, rs []RangeDelete) ([]byte, []RangeDelete) {
	at := len(dst)
	dst = append(dst, kindRangeDeletes, 0, 0, 0, 0, 0, 0, 0)
	n := 0
	for n < len(rs) && (n == 0 || len(dst)-at < rangeDeleteBlock) {
		r := &rs[n]
		dst = coding.AppendUvarint(coding.AppendUvarint(dst, uint64(r.Dataset)), uint64(r.LSN))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Time))
		dst = coding.AppendBytes(coding.AppendBytes(dst, r.From), r.To)
		n++
	}
	binary.LittleEndian.PutUint32(dst[at+4:], uint32(n))
	return dst, rs[n:]
}

// parseRangeDeletes decodes a block of range deletes, which must be all of b, behind those of rs. They are copies. The
// error is corruption with an offset in b.
func parseRangeDeletes(rs []RangeDelete, b []byte) ([]RangeDelete, error) {
	if len(b) < 8 || b[0] != kindRangeDeletes || b[1]|b[2]|b[3] != 0 {
		return rs, corruption.New(0, "range deletes: broken start")
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n == 0 || n > int64(len(b)/minRangeDeleteBytes) {
		return rs, corruption.New(4, "%d range deletes in %d bytes", n, len(b))
	}
	r := coding.NewReader(b)
	r.Next(8)
	rs = slices.Grow(rs, int(n))
	for range n {
		at := r.Offset()
		ds, lsn := r.Uvarint(), event.LSN(r.Uvarint())
		d := RangeDelete{LSN: lsn, Time: int64(r.Uint64())}
		from, to := r.Bytes(), r.Bytes()
		if r.Err() != nil {
			break
		}
		if ds == 0 || ds > math.MaxUint32 || lsn == 0 || lsn > event.MaxLSN || len(from) > event.MaxKeyBytes ||
			len(to) > event.MaxKeyBytes {
			return rs, corruption.New(int64(at), "range delete of LSN %d, dataset %d, %d to %d bytes", lsn, ds, len(from),
				len(to))
		}
		if k := len(rs); k > 0 && rs[k-1].LSN >= lsn {
			return rs, corruption.New(int64(at), "range delete of LSN %d after %d", lsn, rs[k-1].LSN)
		}
		d.Dataset = event.DatasetID(ds)
		d.From = append([]byte(nil), from...)
		if len(to) > 0 {
			d.To = append([]byte(nil), to...)
		}
		rs = append(rs, d)
	}
	if r.End() != nil {
		return rs, &corruption.Error{Offset: int64(r.Offset()), What: "range deletes", Err: r.Err()}
	}
	return rs, nil
}
