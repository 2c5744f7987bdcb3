package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// Properties are what is known of a whole segment. They are enough to make a manifest anew from files alone.
type Properties struct {
	Num       uint64 // of the file, as the writer was told
	Run       uint64 // id of its run, as the writer was told
	CreatedAt int64  // as the writer was told, Unix nanoseconds
	// FlushedLSN, if not 0, says that when the segment was made, this and the other segments of its store held every
	// event up to this LSN that still mattered.
	FlushedLSN event.LSN
	Replaces   []uint64 // numbers of the segments that this one was merged from, ascending

	SizeBytes int64 // of the file
	RawBytes  int64 // of keys, values and parts, before blocks are compressed
	RefBytes  int64 // of large values that entries refer to in the log

	Entries      int64
	Keys         int64 // distinct
	Tombstones   int64 // entries that delete, expire or redact
	RangeDeletes int64
	RecordTimes  int64 // entries with a record time
	Dues         int64 // entries with an expiry

	Smallest, Largest Key       // of entries; zero when there are none
	MinLSN, MaxLSN    event.LSN // of entries and range deletes; 0 when there are none
	MinTime, MaxTime  int64     // log times of the same, Unix nanoseconds
	MinDue, MaxDue    int64     // of expiries, Unix nanoseconds
	// MinReplacing and MaxReplacing are the LSNs of entries that replace an older one of their key in the segment, as merge operands
	// do not: the oldest and the newest, 0 when none does. They are not in the file: only its writer knows them.
	MinReplacing, MaxReplacing event.LSN

	FilterBits int    // bits a key in filters, 0 = there are none
	HashSeed   uint64 // of filters

	SHA256 [32]byte // of the file without its footer

	// Unknown are properties of a newer version that this one may pass over: summaries, for instance. A merge drops them.
	Unknown []Property
}

// Property is a property that this version does not know.
type Property struct {
	Tag  uint64
	Body []byte
}

// Tags of properties. Never renumber. On disk a tag is doubled, plus 1 if a reader that does not know it must stop.
const (
	propOrigin   = 1 // must: num, run varint · created i64 · flushed LSN varint
	propReplaces = 2 // n varint, then n numbers varint, ascending; left out if none
	propCounts   = 3 // must: entries, keys, tombstones, range deletes, record times, dues, raw bytes, ref bytes varint
	propKeys     = 4 // must: smallest dataset varint, key str · largest; left out without entries
	propRange    = 5 // must: min, max LSN varint · min, max time i64; left out without entries and range deletes
	propDues     = 6 // min, max due i64; left out without dues
	propFilter   = 7 // kind u8 (1 split block Bloom over XXH3) · bits a key u8 · seed u64; left out without filters

	maxProp = propFilter
)

// ExtraTag is the first tag of properties that are not the segment's own; it uses the tags below for itself.
const ExtraTag = 64

const filterKind = 1

const mustProps uint64 = 1<<propOrigin | 1<<propCounts | 1<<propKeys | 1<<propRange

// appendProperties appends the block of properties. File size and hash are not in it.
func appendProperties(dst []byte, p *Properties) []byte {
	le := binary.LittleEndian
	dst = append(dst, kindProperties, 0, 0, 0)
	var b []byte
	put := func(tag uint64) {
		dst = coding.AppendUvarint(dst, tag<<1|mustProps>>tag&1)
		dst = coding.AppendBytes(dst, b)
		b = b[:0]
	}
	varints := func(vs ...uint64) {
		for _, v := range vs {
			b = coding.AppendUvarint(b, v)
		}
	}
	varints(p.Num, p.Run)
	b = le.AppendUint64(b, uint64(p.CreatedAt))
	varints(uint64(p.FlushedLSN))
	put(propOrigin)
	if len(p.Replaces) > 0 {
		varints(uint64(len(p.Replaces)))
		varints(p.Replaces...)
		put(propReplaces)
	}
	for _, v := range p.counts() {
		varints(uint64(*v))
	}
	put(propCounts)
	if p.Entries > 0 {
		varints(uint64(p.Smallest.Dataset))
		b = coding.AppendBytes(b, p.Smallest.Key)
		varints(uint64(p.Largest.Dataset))
		b = coding.AppendBytes(b, p.Largest.Key)
		put(propKeys)
	}
	if p.Entries+p.RangeDeletes > 0 {
		varints(uint64(p.MinLSN), uint64(p.MaxLSN))
		b = le.AppendUint64(le.AppendUint64(b, uint64(p.MinTime)), uint64(p.MaxTime))
		put(propRange)
	}
	if p.Dues > 0 {
		b = le.AppendUint64(le.AppendUint64(b, uint64(p.MinDue)), uint64(p.MaxDue))
		put(propDues)
	}
	if p.FilterBits > 0 {
		b = le.AppendUint64(append(b, filterKind, byte(p.FilterBits)), p.HashSeed)
		put(propFilter)
	}
	for _, u := range p.Unknown {
		dst = coding.AppendBytes(coding.AppendUvarint(dst, u.Tag<<1), u.Body)
	}
	return dst
}

func (p *Properties) counts() [8]*int64 {
	return [8]*int64{&p.Entries, &p.Keys, &p.Tombstones, &p.RangeDeletes, &p.RecordTimes, &p.Dues,
		&p.RawBytes, &p.RefBytes}
}

// parseProperties decodes the block of properties, which must be all of b. They hold copies. The error is
// event.ErrUnsupported or corruption with an offset in b.
func parseProperties(b []byte) (*Properties, error) {
	if len(b) < 4 || b[0] != kindProperties || b[1]|b[2]|b[3] != 0 {
		return nil, corruption.New(0, "properties: broken start")
	}
	r := coding.NewReader(b)
	r.Next(4)
	p := &Properties{}
	last, seen := uint64(0), uint64(0)
	for r.Len() > 0 {
		at := r.Offset()
		t := r.Uvarint()
		body := r.Bytes()
		if r.Err() != nil {
			break
		}
		tag, must := t>>1, t&1 != 0
		switch {
		case tag <= last:
			return nil, corruption.New(int64(at), "property %d after %d", tag, last)
		case tag > maxProp && must:
			return nil, event.Unsupported("segment property %d", tag)
		case tag > maxProp:
			p.Unknown = append(p.Unknown, Property{Tag: tag, Body: append([]byte(nil), body...)})
		case must != (mustProps>>tag&1 != 0):
			return nil, corruption.New(int64(at), "property %d: must-understand is %t", tag, must)
		default:
			if err := p.parse(tag, body); err != nil {
				return nil, corruption.Shift(err, r.Offset()-len(body))
			}
			seen |= 1 << tag
		}
		last = tag
	}
	if r.Err() != nil {
		return nil, &corruption.Error{Offset: int64(r.Offset()), What: "properties", Err: r.Err()}
	}
	return p, p.check(seen)
}

// parse decodes one property.
func (p *Properties) parse(tag uint64, body []byte) error {
	r := coding.NewReader(body)
	switch tag {
	case propOrigin:
		p.Num, p.Run, p.CreatedAt, p.FlushedLSN = r.Uvarint(), r.Uvarint(), int64(r.Uint64()), event.LSN(r.Uvarint())
		if p.FlushedLSN > event.MaxLSN {
			return corruption.New(0, "property %d: flushed LSN %d", tag, p.FlushedLSN)
		}
	case propReplaces:
		p.Replaces = make([]uint64, r.Count(1))
		for i := range p.Replaces {
			p.Replaces[i] = r.Uvarint()
			if r.Err() == nil && i > 0 && p.Replaces[i] <= p.Replaces[i-1] {
				return corruption.New(0, "property %d: segment %d after %d", tag, p.Replaces[i], p.Replaces[i-1])
			}
		}
		if r.Err() == nil && len(p.Replaces) == 0 {
			return corruption.New(0, "property %d: empty", tag)
		}
	case propCounts:
		for _, v := range p.counts() {
			u := r.Uvarint()
			if u > math.MaxInt64/2 {
				return corruption.New(int64(r.Offset()), "property %d: count of %d", tag, u)
			}
			*v = int64(u)
		}
	case propKeys:
		for _, k := range [2]*Key{&p.Smallest, &p.Largest} {
			ds := r.Uvarint()
			k.Key = append([]byte(nil), r.Bytes()...)
			if r.Err() == nil && (ds > math.MaxUint32 || len(k.Key) == 0 || len(k.Key) > event.MaxKeyBytes) {
				return corruption.New(0, "property %d: key of %d bytes in dataset %d", tag, len(k.Key), ds)
			}
			k.Dataset = event.DatasetID(ds)
		}
	case propRange:
		p.MinLSN, p.MaxLSN = event.LSN(r.Uvarint()), event.LSN(r.Uvarint())
		p.MinTime, p.MaxTime = int64(r.Uint64()), int64(r.Uint64())
		if p.MinLSN == 0 || p.MinLSN > p.MaxLSN || p.MaxLSN > event.MaxLSN || p.MinTime > p.MaxTime {
			r.Fail(fmt.Errorf("LSN %d to %d, time %d to %d", p.MinLSN, p.MaxLSN, p.MinTime, p.MaxTime))
		}
	case propDues:
		p.MinDue, p.MaxDue = int64(r.Uint64()), int64(r.Uint64())
		if p.MinDue > p.MaxDue {
			r.Fail(fmt.Errorf("due %d to %d", p.MinDue, p.MaxDue))
		}
	case propFilter:
		kind, bits := r.Byte(), int(r.Byte())
		if kind != filterKind && r.Err() == nil {
			return nil // of a newer version: reads go on without filters
		}
		p.FilterBits, p.HashSeed = bits, r.Uint64()
		if r.Err() == nil && (bits == 0 || bits > maxBitsPerKey) {
			return corruption.New(1, "property %d: %d bits a key", tag, bits)
		}
	}
	if r.End() != nil {
		return &corruption.Error{Offset: int64(r.Offset()), What: fmt.Sprintf("property %d", tag), Err: r.Err()}
	}
	return nil
}

// check judges properties against each other. seen has the bit of each tag that was there.
func (p *Properties) check(seen uint64) error {
	has := func(tag uint) bool { return seen>>tag&1 != 0 }
	switch {
	case !has(propOrigin) || !has(propCounts):
		return corruption.New(0, "properties: origin or counts are missing")
	case has(propKeys) != (p.Entries > 0), has(propRange) != (p.Entries+p.RangeDeletes > 0), has(propDues) != (p.Dues > 0):
		return corruption.New(0, "properties: %d entries, %d range deletes, %d dues, but tags %#x", p.Entries,
			p.RangeDeletes, p.Dues, seen)
	case p.Keys > p.Entries || p.Tombstones > p.Entries || p.RecordTimes > p.Entries || p.Dues > p.Entries ||
		(p.Keys == 0) != (p.Entries == 0):
		return corruption.New(0, "properties: %s", p)
	case p.Smallest.Compare(p.Largest) > 0:
		return corruption.New(0, "properties: the smallest key is larger than the largest")
	}
	return nil
}

// String lists what follows from the entries and range deletes.
func (p *Properties) String() string {
	return fmt.Sprintf("%d entries, %d keys, %d tombstones, %d range deletes, %d record times, %d dues (%d to %d), "+
		"%d bytes, %d referred, %d/%.20q to %d/%.20q, LSN %d to %d, time %d to %d",
		p.Entries, p.Keys, p.Tombstones, p.RangeDeletes, p.RecordTimes, p.Dues, p.MinDue, p.MaxDue,
		p.RawBytes, p.RefBytes, p.Smallest.Dataset, p.Smallest.Key, p.Largest.Dataset, p.Largest.Key,
		p.MinLSN, p.MaxLSN, p.MinTime, p.MaxTime)
}

// count adds an entry; all but the largest key follows from it.
func (p *Properties) count(e *Entry, newKey bool) error {
	if p.Entries == 0 {
		p.Smallest = Key{Dataset: e.Dataset, Key: bytes.Clone(e.Key)}
	}
	p.Entries++
	if newKey {
		p.Keys++
	}
	if e.Op == event.OpDelete || e.Op == event.OpExpire || e.Op == event.OpRedact {
		p.Tombstones++
	}
	p.RawBytes += int64(len(e.Key) + len(e.Value) + len(e.Parts))
	p.span(e.LSN, e.Time)
	if e.Flags&event.FlagValueRef != 0 {
		n, err := event.ValueRefSize(e.Value)
		if err != nil {
			return fmt.Errorf("segment: value reference of LSN %d: %w", e.LSN, err)
		}
		p.RefBytes += n
	}
	if len(e.Parts) == 0 {
		return nil
	}
	if _, ok := event.RecordTime(e.Parts); ok {
		p.RecordTimes++
	}
	if due, ok := event.Expiry(e.Parts); ok {
		if p.Dues == 0 {
			p.MinDue, p.MaxDue = due, due
		}
		p.MinDue, p.MaxDue = min(p.MinDue, due), max(p.MaxDue, due)
		p.Dues++
	}
	return nil
}

// replaces notes an entry that replaces the next one.
func (p *Properties) replaces(lsn event.LSN) {
	if p.MinReplacing == 0 {
		p.MinReplacing = lsn
	}
	p.MinReplacing, p.MaxReplacing = min(p.MinReplacing, lsn), max(p.MaxReplacing, lsn)
}

// span widens the ranges of LSNs and log times.
func (p *Properties) span(lsn event.LSN, time int64) {
	if p.MinLSN == 0 {
		p.MinLSN, p.MaxLSN, p.MinTime, p.MaxTime = lsn, lsn, time, time
	}
	p.MinLSN, p.MaxLSN = min(p.MinLSN, lsn), max(p.MaxLSN, lsn)
	p.MinTime, p.MaxTime = min(p.MinTime, time), max(p.MaxTime, time)
}
