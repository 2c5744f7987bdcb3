package segment

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/dyngodb/dyngo/event"
)

// searchKey is where to look in a block: a position in the order of its entries. The key is head and tail together, so
// that nobody has to copy a key behind its dataset.
type searchKey struct {
	head    [8]byte
	headLen int // at most 8
	tail    []byte
	lsn     event.LSN
}

// entryKey returns the position of the version lsn of a key.
func entryKey(ds event.DatasetID, key []byte, lsn event.LSN) searchKey {
	k := searchKey{headLen: 4, tail: key, lsn: lsn}
	binary.BigEndian.PutUint32(k.head[:], uint32(ds))
	return k
}

func (k *searchKey) len() int { return k.headLen + len(k.tail) }

// against says where the key stands relative to all keys that begin with common: 0 if it is one of them.
func (k *searchKey) against(common []byte) int {
	if len(common) < k.headLen {
		return bytes.Compare(k.head[:len(common)], common)
	}
	if c := bytes.Compare(k.head[:k.headLen], common[:k.headLen]); c != 0 {
		return c
	}
	common = common[k.headLen:]
	return bytes.Compare(k.tail[:min(len(k.tail), len(common))], common)
}

// prefix returns the 8 bytes from offset at on, which is at most len, as a big-endian number. What lacks is zero.
func (k *searchKey) prefix(at int) uint64 {
	if at >= k.headLen {
		return prefix8(k.tail[at-k.headLen:])
	}
	var b [16]byte
	copy(b[copy(b[:], k.head[:k.headLen]):], k.tail)
	return binary.BigEndian.Uint64(b[at:])
}

// rest returns what follows offset at, which is at least the length of the head and at most len.
func (k *searchKey) rest(at int) []byte { return k.tail[at-k.headLen:] }

// prefix8 returns the first 8 bytes of b as a big-endian number. What lacks is zero.
func prefix8(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b)
	}
	var v uint64
	for i, c := range b {
		v |= uint64(c) << (56 - 8*i)
	}
	return v
}

// sharedLen returns how many bytes a and b have in common at their start.
func sharedLen(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
