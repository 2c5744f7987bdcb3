package manifest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
)

// field names a field of a record's body. Never renumber.
type field uint64

const (
	fieldAdd          field = 1 // any number of times, and so on for all up to fieldRemoveValues
	fieldRemove       field = 2
	fieldSetAside     field = 3
	fieldDamaged      field = 4
	fieldAddValues    field = 5
	fieldRemoveValues field = 6
	fieldFlushed      field = 7
	fieldFloor        field = 8
	fieldOldestLog    field = 9
	fieldNextFile     field = 10
	fieldNextRun      field = 11
	fieldReason       field = 12 // may be passed over

	fieldAddHistory    field = 20 // any number of times
	fieldRemoveHistory field = 21 // any number of times
)

// known reports whether this version knows the field.
func (f field) known() bool {
	return f <= fieldReason || f == fieldAddHistory || f == fieldRemoveHistory
}

// must reports whether a reader that does not know the field has to stop.
func (f field) must() bool { return f != fieldReason }

// repeats reports whether a record may have the field more than once.
func (f field) repeats() bool { return f <= fieldRemoveValues || f >= fieldAddHistory }

// in reports whether a record of a kind may have the field.
func (f field) in(k kind) bool {
	switch f {
	case fieldRemove, fieldSetAside, fieldRemoveValues, fieldReason, fieldRemoveHistory:
		return k == kindEdit
	case fieldDamaged:
		return k == kindSnapshot
	}
	return true
}

// appendEdit appends the body of a record that holds an edit.
func appendEdit(dst []byte, e *Edit) []byte {
	var buf []byte
	add := func(f field, body []byte) {
		tag := uint64(f) << 1
		if f.must() {
			tag |= 1
		}
		dst = coding.AppendBytes(coding.AppendUvarint(dst, tag), body)
		buf = body[:0]
	}
	number := func(f field, v uint64) { add(f, coding.AppendUvarint(buf, v)) }
	for _, s := range e.Add {
		add(fieldAdd, appendSegment(buf, s))
	}
	for _, n := range e.Remove {
		number(fieldRemove, uint64(n))
	}
	for _, a := range e.SetAside {
		add(fieldSetAside, coding.AppendBytes(coding.AppendUvarint(buf, uint64(a.Num)), cut(a.Reason)))
	}
	for _, d := range e.damaged {
		add(fieldDamaged, appendSegment(coding.AppendBytes(buf, cut(d.Reason)), d.Segment))
	}
	for _, f := range e.AddValues {
		add(fieldAddValues, appendValueFile(buf, f))
	}
	for _, n := range e.RemoveValues {
		number(fieldRemoveValues, uint64(n))
	}
	if e.FlushedLSN != nil {
		number(fieldFlushed, uint64(*e.FlushedLSN))
	}
	if e.FloorLSN != nil {
		number(fieldFloor, uint64(*e.FloorLSN))
	}
	for _, n := range [...]struct {
		f field
		v uint64
	}{{fieldOldestLog, e.OldestLog}, {fieldNextFile, uint64(e.NextFile)}, {fieldNextRun, uint64(e.NextRun)}} {
		if n.v != 0 {
			number(n.f, n.v)
		}
	}
	if e.Reason != "" {
		add(fieldReason, append(buf, cut(e.Reason)...))
	}
	for _, s := range e.AddHistory {
		add(fieldAddHistory, appendSegment(buf, s))
	}
	for _, n := range e.RemoveHistory {
		number(fieldRemoveHistory, uint64(n))
	}
	return dst
}

func cut(reason string) string { return reason[:min(len(reason), maxReasonBytes)] }

func appendSegment(dst []byte, s *Segment) []byte {
	for _, v := range [...]uint64{
		uint64(s.Num), uint64(s.Run), uint64(s.SizeBytes), uint64(s.RawBytes), uint64(s.RefBytes),
		uint64(s.Entries), uint64(s.Keys), uint64(s.Tombstones), uint64(s.RangeDeletes), uint64(s.RecordTimes),
		uint64(s.Dues), uint64(s.MinLSN), uint64(s.MaxLSN),
	} {
		dst = coding.AppendUvarint(dst, v)
	}
	for _, v := range [...]int64{s.MinTime, s.MaxTime, s.MinDue, s.MaxDue, s.CreatedAt} {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(v))
	}
	dst = append(dst, s.SHA256[:]...)
	for _, k := range [...]Key{s.Smallest, s.Largest} {
		dst = coding.AppendBytes(coding.AppendUvarint(dst, uint64(k.Dataset)), k.Key)
	}
	after := s.extra
	if s.MinReplacing > 0 {
		r := coding.NewReader(s.extra)
		for r.Len() > 0 && r.Uvarint()>>1 < partReplaced { // those come first
			r.Bytes()
			after = s.extra[r.Offset():]
		}
		dst = append(dst, s.extra[:len(s.extra)-len(after)]...)
		dst = coding.AppendUvarint(dst, partReplaced<<1)
		dst = coding.AppendBytes(dst, coding.AppendUvarint(coding.AppendUvarint(nil, uint64(s.MinReplacing)), uint64(s.MaxReplacing)))
	}
	return append(dst, after...)
}

// partReplaced is the part of a segment that holds MinReplacing and MaxReplacing.
const partReplaced = 2

func appendValueFile(dst []byte, f *ValueFile) []byte {
	for _, v := range [...]uint64{uint64(f.Num), f.From, f.To, uint64(f.SizeBytes)} {
		dst = coding.AppendUvarint(dst, v)
	}
	dst = append(dst, f.SHA256[:]...)
	return append(dst, f.extra...)
}

// Failures that decoding adds to those of package coding.
var (
	errRange = errors.New("number out of range")
	errEmpty = errors.New("empty where it should be left out")
	errLong  = errors.New("text too long")
)

// decoder is a coding.Reader with bounds for numbers.
type decoder struct{ coding.Reader }

func (d *decoder) number(limit uint64) uint64 {
	v := d.Uvarint()
	if v > limit {
		d.Fail(errRange)
		return 0
	}
	return v
}

func (d *decoder) size() int64      { return int64(d.number(maxNumber)) }
func (d *decoder) fileNum() FileNum { return FileNum(d.number(maxNumber)) }
func (d *decoder) lsn() event.LSN   { return event.LSN(d.number(uint64(event.MaxLSN))) }

// text reads a string for people.
func (d *decoder) text() string {
	b := d.Bytes()
	if len(b) > maxReasonBytes {
		d.Fail(errLong)
		return ""
	}
	return string(b)
}

// corrupt turns the failure of the decoder into corruption in the slice that it reads.
func (d *decoder) corrupt(what string) error {
	return &corruption.Error{Offset: int64(d.Offset()), What: what, Err: d.Err()}
}

// parseEdit decodes the body of a snapshot or edit. The error is event.ErrUnsupported or corruption with an offset in
// b. What the edit holds is its own: it does not alias b.
func parseEdit(b []byte, k kind) (*Edit, error) {
	e := &Edit{}
	r := decoder{coding.NewReader(b)}
	last := field(0)
	for r.Len() > 0 {
		at := r.Offset()
		tag := r.Uvarint()
		f, must := field(tag>>1), tag&1 != 0
		body := r.Bytes()
		switch {
		case r.Err() != nil:
			return nil, r.corrupt("field")
		case f < last || f == 0 || f == last && !f.repeats():
			return nil, corruption.New(int64(at), "field %d after field %d", f, last)
		case !f.known() && must:
			return nil, event.Unsupported("field %d of a manifest's %s", f, k)
		case !f.known(): // passed over
		case must != f.must() || !f.in(k):
			return nil, corruption.New(int64(at), "field %d in a %s, must-understand is %t", f, k, must)
		default:
			if err := e.parseField(f, body); err != nil {
				return nil, corruption.Shift(err, r.Offset()-len(body))
			}
		}
		last = f
	}
	return e, nil
}

func (e *Edit) parseField(f field, body []byte) error {
	d := decoder{coding.NewReader(body)}
	switch f {
	case fieldAdd:
		s, err := parseSegment(&d)
		if err != nil {
			return err
		}
		e.Add = append(e.Add, s)
	case fieldRemove:
		e.Remove = append(e.Remove, d.fileNum())
	case fieldSetAside:
		e.SetAside = append(e.SetAside, SetAside{d.fileNum(), d.text()})
	case fieldDamaged:
		reason := d.text()
		s, err := parseSegment(&d)
		if err != nil {
			return err
		}
		e.damaged = append(e.damaged, Damaged{s, reason})
	case fieldAddValues:
		v, err := parseValueFile(&d)
		if err != nil {
			return err
		}
		e.AddValues = append(e.AddValues, v)
	case fieldRemoveValues:
		e.RemoveValues = append(e.RemoveValues, d.fileNum())
	case fieldAddHistory:
		s, err := parseSegment(&d)
		if err != nil {
			return err
		}
		e.AddHistory = append(e.AddHistory, s)
	case fieldRemoveHistory:
		e.RemoveHistory = append(e.RemoveHistory, d.fileNum())
	case fieldFlushed:
		lsn := d.lsn()
		e.FlushedLSN = &lsn
	case fieldFloor:
		lsn := d.lsn()
		e.FloorLSN = &lsn
	case fieldOldestLog:
		e.OldestLog = d.number(maxNumber)
	case fieldNextFile:
		e.NextFile = d.fileNum()
	case fieldNextRun:
		e.NextRun = RunID(d.number(maxNumber))
	case fieldReason:
		if len(body) > maxReasonBytes {
			d.Fail(errLong)
		}
		e.Reason = string(d.Next(uint64(d.Len())))
	}
	if f >= fieldOldestLog && f <= fieldReason && e.isZero(f) {
		d.Fail(errEmpty)
	}
	if d.End() != nil {
		return d.corrupt(fmt.Sprintf("field %d", f))
	}
	return nil
}

// isZero reports whether a field that is left out when it is zero was not.
func (e *Edit) isZero(f field) bool {
	return f == fieldOldestLog && e.OldestLog == 0 || f == fieldNextFile && e.NextFile == 0 ||
		f == fieldNextRun && e.NextRun == 0 || f == fieldReason && e.Reason == ""
}

func parseSegment(d *decoder) (*Segment, error) {
	s := &Segment{
		Num: d.fileNum(), Run: RunID(d.number(maxNumber)), SizeBytes: d.size(), RawBytes: d.size(), RefBytes: d.size(),
		Entries: d.size(), Keys: d.size(), Tombstones: d.size(), RangeDeletes: d.size(), RecordTimes: d.size(),
		Dues: d.size(), MinLSN: d.lsn(), MaxLSN: d.lsn(),
		MinTime: int64(d.Uint64()), MaxTime: int64(d.Uint64()), MinDue: int64(d.Uint64()), MaxDue: int64(d.Uint64()),
		CreatedAt: int64(d.Uint64()),
	}
	copy(s.SHA256[:], d.Next(uint64(len(s.SHA256))))
	for _, k := range [...]*Key{&s.Smallest, &s.Largest} {
		k.Dataset = event.DatasetID(d.number(1<<32 - 1))
		if b := d.Bytes(); len(b) > 0 {
			k.Key = bytes.Clone(b)
		}
	}
	if d.Err() != nil {
		return nil, d.corrupt("segment")
	}
	var err error
	s.extra, err = parseExtra(d, "segment", func(tag uint64, body []byte) bool {
		if tag != partReplaced {
			return false
		}
		r := coding.NewReader(body)
		s.MinReplacing, s.MaxReplacing = event.LSN(r.Uvarint()), event.LSN(r.Uvarint())
		if r.End() != nil || s.MinReplacing == 0 {
			s.MinReplacing, s.MaxReplacing = 1, 0 // which check refuses
		}
		return true
	})
	return s, err
}

func parseValueFile(d *decoder) (*ValueFile, error) {
	f := &ValueFile{Num: d.fileNum(), From: d.number(maxNumber), To: d.number(maxNumber), SizeBytes: d.size()}
	copy(f.SHA256[:], d.Next(uint64(len(f.SHA256))))
	if d.Err() != nil {
		return nil, d.corrupt("value file")
	}
	var err error
	f.extra, err = parseExtra(d, "value file", func(uint64, []byte) bool { return false })
	return f, err
}

// parseExtra reads the parts to the end, and returns those as they stand that known does not take.
func parseExtra(d *decoder, what string, known func(tag uint64, body []byte) bool) (extra []byte, err error) {
	last := uint64(0)
	for d.Len() > 0 {
		at := d.Offset()
		tag := d.Uvarint()
		body := d.Bytes()
		switch {
		case d.Err() != nil:
			return nil, d.corrupt(what + " part")
		case tag>>1 <= last:
			return nil, corruption.New(int64(at), "%s part %d after part %d", what, tag>>1, last)
		case tag&1 != 0:
			return nil, event.Unsupported("part %d of a manifest's %s", tag>>1, what)
		}
		if last = tag >> 1; !known(last, body) {
			extra = coding.AppendBytes(coding.AppendUvarint(extra, tag), body)
		}
	}
	return extra, nil
}
