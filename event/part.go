package event

import (
	"encoding/binary"

	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// Tag names an optional part of an event. Never renumber.
type Tag uint64

// The parts. A reader that does not know a tag may skip the part unless its must-understand bit is set; for the tags
// below the bit is fixed.
const (
	TagExpiry      Tag = 1  // must: i64, the log time from which on the version is absent, Unix nanoseconds
	TagRecordTime  Tag = 2  // must: i64, the version's age for newest wins, Unix nanoseconds
	TagTransaction Tag = 3  // uvarint distance back to the transaction's first LSN, u8: bit 0 first event, bit 1 last
	TagPrevLSN     Tag = 4  // uvarint LSN of the key's previous version, 0 if it had none
	TagAnnotations Tag = 5  // uvarint n ≥ 1, n × (uvarint length, key, uvarint length, value), keys ascending
	TagSchema      Tag = 6  // uvarint schema id
	TagCodec       Tag = 7  // must: u8 codec (not none), uvarint length of the value before compression
	TagValueSalt   Tag = 8  // 16 bytes, destroyed with the value
	TagSubjectKey  Tag = 9  // must: uvarint id of the key that encrypts the value
	TagSource      Tag = 10 // position in the source that the event was loaded from, opaque
	TagReadSet     Tag = 11 // n ≥ 1 × u64 hashes of the keys that the transaction read
	TagPartition   Tag = 12 // uvarint
	TagEpoch       Tag = 13 // uvarint
	TagStream      Tag = 14 // uvarint length, name (not empty), uvarint position in the stream

	maxTag = TagStream
)

// mustTags has the bit of each tag that must be understood.
const mustTags uint64 = 1<<TagExpiry | 1<<TagRecordTime | 1<<TagCodec | 1<<TagSubjectKey

// AppendPart appends a part of a known tag. Parts must be appended in the order of their tags, each at most once.
func AppendPart(dst []byte, tag Tag, body []byte) []byte {
	dst = appendPartHead(dst, tag, len(body))
	return append(dst, body...)
}

func appendPartHead(dst []byte, tag Tag, n int) []byte {
	must := byte(mustTags >> tag & 1)
	return coding.AppendUvarint(append(dst, byte(tag)<<1|must), uint64(n))
}

// nextPart takes one part off the front. n is its length, ≤ 0 if the syntax is broken.
func nextPart(parts []byte) (tag Tag, must bool, body []byte, n int) {
	t, k := coding.Uvarint(parts)
	if k <= 0 {
		return 0, false, nil, 0
	}
	size, m := coding.Uvarint(parts[k:])
	if m <= 0 || size > uint64(len(parts)-k-m) {
		return Tag(t >> 1), false, nil, 0
	}
	k += m
	n = k + int(size)
	return Tag(t >> 1), t&1 != 0, parts[k:n:n], n
}

// CheckParts checks the encoding of a list of parts, and the bodies of the parts that this version knows. The error is
// ErrUnsupported or corruption with an offset in parts. It allocates only for an error.
func CheckParts(parts []byte) error {
	last := Tag(0)
	for at := 0; at < len(parts); {
		tag, must, body, n := nextPart(parts[at:])
		if n <= 0 {
			return corrupt(at, "part: broken tag or length")
		}
		if tag <= last {
			return corrupt(at, "part %d after part %d", tag, last)
		}
		last = tag
		if tag > maxTag {
			if must {
				return Unsupported("event part %d", tag)
			}
			at += n
			continue
		}
		if must != (mustTags>>tag&1 != 0) {
			return corrupt(at, "part %d: must-understand is %t", tag, must)
		}
		if err := checkPart(tag, body); err != nil {
			return corruption.Shift(err, at+n-len(body))
		}
		at += n
	}
	return nil
}

// checkPart checks the body of a known part.
func checkPart(tag Tag, body []byte) error {
	ok := true
	switch tag {
	case TagExpiry, TagRecordTime:
		ok = len(body) == 8
	case TagPrevLSN:
		v, n := coding.Uvarint(body)
		ok = n == len(body) && n > 0 && v <= uint64(MaxLSN)
	case TagSchema, TagSubjectKey, TagPartition, TagEpoch:
		_, n := coding.Uvarint(body)
		ok = n == len(body) && n > 0
	case TagTransaction:
		return checkTransaction(body)
	case TagAnnotations:
		return checkAnnotations(body)
	case TagCodec:
		if len(body) > 0 && body[0] > byte(CodecZstd) {
			return Unsupported("value codec %d", body[0])
		}
		ok = len(body) > 1 && body[0] != byte(CodecNone)
		if ok {
			v, n := coding.Uvarint(body[1:])
			ok = n == len(body)-1 && n > 0 && v <= MaxInlineRaw
		}
	case TagValueSalt:
		ok = len(body) == 16
	case TagReadSet:
		ok = len(body) > 0 && len(body)%8 == 0
	case TagStream:
		r := coding.NewReader(body)
		name := r.Bytes()
		r.Uvarint()
		ok = r.End() == nil && len(name) > 0
	}
	if !ok {
		return corrupt(0, "part %d: broken body of %d bytes", tag, len(body))
	}
	return nil
}

func checkTransaction(body []byte) error {
	back, n := coding.Uvarint(body)
	if n <= 0 || n != len(body)-1 || back > uint64(MaxLSN) {
		return corrupt(0, "part %d: broken body of %d bytes", TagTransaction, len(body))
	}
	bits := body[n]
	if bits > 3 {
		return Unsupported("transaction bits %#x", bits)
	}
	if (bits&1 != 0) != (back == 0) {
		return corrupt(n, "part %d: distance %d, bits %#x", TagTransaction, back, bits)
	}
	return nil
}

func checkAnnotations(body []byte) error {
	r := coding.NewReader(body)
	n := r.Count(2)
	var last []byte
	for i := range n {
		at := r.Offset()
		key := r.Bytes()
		r.Bytes()
		if r.Err() == nil && i > 0 && string(key) <= string(last) {
			return corrupt(at, "annotation %q after %q", key, last)
		}
		last = key
	}
	if r.End() != nil || n == 0 {
		return &corruption.Error{Offset: int64(r.Offset()), What: "annotations", Err: r.Err()}
	}
	return nil
}

// FindPart returns the body of a part, which aliases parts. It stops at the first syntax error: parts should have been
// checked.
func FindPart(parts []byte, tag Tag) ([]byte, bool) {
	for len(parts) > 0 {
		t, _, body, n := nextPart(parts)
		if n <= 0 || t > tag {
			return nil, false
		}
		if t == tag {
			return body, true
		}
		parts = parts[n:]
	}
	return nil, false
}

// InsertPart returns a copy of parts that holds the part at its place; one of the same tag is replaced.
func InsertPart(parts []byte, tag Tag, body []byte) []byte {
	dst := make([]byte, 0, len(parts)+len(body)+2*coding.MaxVarintLen)
	done := false
	for len(parts) > 0 {
		t, _, _, n := nextPart(parts)
		if n <= 0 {
			break
		}
		if t >= tag && !done {
			dst, done = AppendPart(dst, tag, body), true
		}
		if t != tag {
			dst = append(dst, parts[:n]...)
		}
		parts = parts[n:]
	}
	if !done {
		dst = AppendPart(dst, tag, body)
	}
	return append(dst, parts...)
}

// AppendPartsWithout appends parts but those of some tags, which are below 64. It stops at the first syntax error: parts
// should have been checked.
func AppendPartsWithout(dst, parts []byte, tags ...Tag) []byte {
	var skip uint64
	for _, t := range tags {
		skip |= 1 << t
	}
	for len(parts) > 0 {
		t, _, _, n := nextPart(parts)
		if n <= 0 {
			break
		}
		if t >= 64 || skip>>t&1 == 0 {
			dst = append(dst, parts[:n]...)
		}
		parts = parts[n:]
	}
	return dst
}

func uvarintPart(parts []byte, tag Tag) (uint64, bool) {
	body, ok := FindPart(parts, tag)
	if !ok {
		return 0, false
	}
	v, n := coding.Uvarint(body)
	return v, n > 0
}

func int64Part(parts []byte, tag Tag) (int64, bool) {
	body, ok := FindPart(parts, tag)
	if !ok || len(body) != 8 {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(body)), true
}

func appendInt64Part(dst []byte, tag Tag, v int64) []byte {
	return binary.LittleEndian.AppendUint64(appendPartHead(dst, tag, 8), uint64(v))
}

func appendUvarintPart(dst []byte, tag Tag, v uint64) []byte {
	return coding.AppendUvarint(appendPartHead(dst, tag, coding.UvarintLen(v)), v)
}
