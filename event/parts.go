package event

import (
	"encoding/binary"
	"fmt"

	"github.com/dyngodb/dyngo/internal/coding"
)

// The functions that read a part take the encoded parts of an event that was checked, and report false if the part is
// not there. Those that append one follow the order of the tags, as AppendPart says.

// AppendExpiry appends the log time, in Unix nanoseconds, from which on the version is absent.
func AppendExpiry(dst []byte, unixNano int64) []byte {
	return appendInt64Part(dst, TagExpiry, unixNano)
}

// Expiry returns the log time, in Unix nanoseconds, from which on the version is absent.
func Expiry(parts []byte) (int64, bool) { return int64Part(parts, TagExpiry) }

// AppendRecordTime appends the age of the version for newest wins, in Unix nanoseconds.
func AppendRecordTime(dst []byte, unixNano int64) []byte {
	return appendInt64Part(dst, TagRecordTime, unixNano)
}

// InsertRecordTime returns a copy of parts that holds the record time at its place.
func InsertRecordTime(parts []byte, unixNano int64) []byte {
	return InsertPart(parts, TagRecordTime, binary.LittleEndian.AppendUint64(nil, uint64(unixNano)))
}

// RecordTime returns the age of the version for newest wins, in Unix nanoseconds.
func RecordTime(parts []byte) (int64, bool) { return int64Part(parts, TagRecordTime) }

// Transaction places an event in its transaction, whose id is the LSN of its first event.
type Transaction struct {
	Back uint64 // distance to the first event: 0 for the first itself
	Last bool   // the last event of the transaction
}

// AppendTransaction appends the event's place in its transaction.
func AppendTransaction(dst []byte, t Transaction) []byte {
	bits := byte(0)
	if t.Back == 0 {
		bits = 1
	}
	if t.Last {
		bits |= 2
	}
	dst = appendPartHead(dst, TagTransaction, coding.UvarintLen(t.Back)+1)
	return append(coding.AppendUvarint(dst, t.Back), bits)
}

// TransactionOf returns the event's place in its transaction.
func TransactionOf(parts []byte) (Transaction, bool) {
	body, ok := FindPart(parts, TagTransaction)
	if !ok {
		return Transaction{}, false
	}
	back, n := coding.Uvarint(body)
	if n <= 0 || n >= len(body) {
		return Transaction{}, false
	}
	return Transaction{Back: back, Last: body[n]&2 != 0}, true
}

// AppendPrevLSN appends the LSN of the key's previous version, 0 if it had none.
func AppendPrevLSN(dst []byte, lsn LSN) []byte {
	return appendUvarintPart(dst, TagPrevLSN, uint64(lsn))
}

// PrevLSN returns the LSN of the key's previous version, 0 if it had none.
func PrevLSN(parts []byte) (LSN, bool) {
	v, ok := uvarintPart(parts, TagPrevLSN)
	return LSN(v), ok
}

// Annotation is a word about an event. Known keys are "reason", "ticket" and "correlation".
type Annotation struct{ Key, Value string }

// AppendAnnotations appends annotations, at least one, sorted by key, each key once; anything else is a bug.
func AppendAnnotations(dst []byte, as []Annotation) []byte {
	size := coding.UvarintLen(uint64(len(as)))
	for i, a := range as {
		if i > 0 && as[i-1].Key >= a.Key {
			panic(fmt.Sprintf("dyngo: bug: annotation %q after %q", a.Key, as[i-1].Key))
		}
		size += coding.UvarintLen(uint64(len(a.Key))) + len(a.Key) + coding.UvarintLen(uint64(len(a.Value))) + len(a.Value)
	}
	if len(as) == 0 {
		panic("dyngo: bug: no annotations")
	}
	dst = coding.AppendUvarint(appendPartHead(dst, TagAnnotations, size), uint64(len(as)))
	for _, a := range as {
		dst = coding.AppendBytes(coding.AppendBytes(dst, a.Key), a.Value)
	}
	return dst
}

// Annotations returns copies of all annotations, sorted by key; nil if there are none.
func Annotations(parts []byte) []Annotation {
	body, ok := FindPart(parts, TagAnnotations)
	if !ok {
		return nil
	}
	r := coding.NewReader(body)
	as := make([]Annotation, r.Count(2))
	for i := range as {
		as[i].Key = string(r.Bytes())
		as[i].Value = string(r.Bytes())
	}
	return as
}

// FindAnnotation returns the value of one annotation, which aliases parts. It allocates nothing.
func FindAnnotation(parts []byte, key string) ([]byte, bool) {
	body, ok := FindPart(parts, TagAnnotations)
	if !ok {
		return nil, false
	}
	r := coding.NewReader(body)
	for range r.Count(2) {
		k, v := r.Bytes(), r.Bytes()
		if r.Err() == nil && string(k) == key {
			return v, true
		}
	}
	return nil, false
}

// AppendSchema appends the id of the value's schema.
func AppendSchema(dst []byte, id uint64) []byte { return appendUvarintPart(dst, TagSchema, id) }

// Schema returns the id of the value's schema.
func Schema(parts []byte) (uint64, bool) { return uvarintPart(parts, TagSchema) }

// AppendCodec appends how the value is compressed (not CodecNone: then there is no such part) and its length before, at
// most MaxInlineRaw.
func AppendCodec(dst []byte, c Codec, rawSize int) []byte {
	dst = append(appendPartHead(dst, TagCodec, 1+coding.UvarintLen(uint64(rawSize))), byte(c))
	return coding.AppendUvarint(dst, uint64(rawSize))
}

// CodecOf returns how the value is compressed, and its length before, which is at most MaxInlineRaw.
func CodecOf(parts []byte) (c Codec, rawSize int, ok bool) {
	body, ok := FindPart(parts, TagCodec)
	if !ok || len(body) < 2 {
		return CodecNone, 0, false
	}
	v, n := coding.Uvarint(body[1:])
	return Codec(body[0]), int(v), n > 0
}

// AppendValueSalt appends the salt of the value's commitment.
func AppendValueSalt(dst []byte, salt [16]byte) []byte { return AppendPart(dst, TagValueSalt, salt[:]) }

// ValueSalt returns the salt of the value's commitment.
func ValueSalt(parts []byte) (salt [16]byte, ok bool) {
	body, ok := FindPart(parts, TagValueSalt)
	return salt, ok && copy(salt[:], body) == len(salt)
}

// AppendSubjectKey appends the id of the key that encrypts the value.
func AppendSubjectKey(dst []byte, id uint64) []byte { return appendUvarintPart(dst, TagSubjectKey, id) }

// SubjectKey returns the id of the key that encrypts the value.
func SubjectKey(parts []byte) (uint64, bool) { return uvarintPart(parts, TagSubjectKey) }

// AppendSource appends the position in the source that the event was loaded from.
func AppendSource(dst, position []byte) []byte { return AppendPart(dst, TagSource, position) }

// Source returns the position in the source that the event was loaded from; it aliases parts.
func Source(parts []byte) ([]byte, bool) { return FindPart(parts, TagSource) }

// AppendReadSet appends the hashes, at least one, of the keys that the transaction read.
func AppendReadSet(dst []byte, hashes []uint64) []byte {
	dst = appendPartHead(dst, TagReadSet, 8*len(hashes))
	for _, h := range hashes {
		dst = binary.LittleEndian.AppendUint64(dst, h)
	}
	return dst
}

// ReadSet returns the hashes of the keys that the transaction read.
func ReadSet(parts []byte) []uint64 {
	body, _ := FindPart(parts, TagReadSet)
	var hashes []uint64
	for ; len(body) >= 8; body = body[8:] {
		hashes = append(hashes, binary.LittleEndian.Uint64(body))
	}
	return hashes
}

// AppendPartition appends the partition of the key.
func AppendPartition(dst []byte, p uint64) []byte { return appendUvarintPart(dst, TagPartition, p) }

// Partition returns the partition of the key.
func Partition(parts []byte) (uint64, bool) { return uvarintPart(parts, TagPartition) }

// AppendEpoch appends the epoch in which the event was ordered.
func AppendEpoch(dst []byte, epoch uint64) []byte { return appendUvarintPart(dst, TagEpoch, epoch) }

// Epoch returns the epoch in which the event was ordered.
func Epoch(parts []byte) (uint64, bool) { return uvarintPart(parts, TagEpoch) }

// AppendStream appends the stream (its name is not empty) and the event's position in it.
func AppendStream(dst []byte, name string, position uint64) []byte {
	dst = appendPartHead(dst, TagStream, coding.UvarintLen(uint64(len(name)))+len(name)+coding.UvarintLen(position))
	return coding.AppendUvarint(coding.AppendBytes(dst, name), position)
}

// Stream returns the stream and the event's position in it; the name aliases parts.
func Stream(parts []byte) (name []byte, position uint64, ok bool) {
	body, ok := FindPart(parts, TagStream)
	if !ok {
		return nil, 0, false
	}
	r := coding.NewReader(body)
	name, position = r.Bytes(), r.Uvarint()
	return name, position, r.Err() == nil
}
