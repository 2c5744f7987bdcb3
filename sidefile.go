package dyngo

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// A side file says where in a sealed log file the events of each key lie: side/NNNNNNNNNN.side for the log file of that
// sequence. It is derived: whoever misses it, finds it damaged or finds that it belongs to another file reads the log
// instead, and the writer makes it anew. It is a segment (see package segment for the bytes) with number = sequence, run 0:
//
//	entries   one for each event of a key: dataset, key, LSN, log time, op, session, flags without value-ref and more;
//	          value: the place of the event; parts: the expiry of a put that was applied, nothing else
//	filters   as in segments, and so is the due index
//
// and these extra properties:
//
//	64 origin    log id 16 bytes · sequence varint · end varint, offset behind the last frame · chain u32, its original CRC
//	65 wide      n varint, n times by ascending LSN, each event that concerns more than one key (delete-range,
//	             dataset-created, dataset-changed, dataset-dropped): op u8 · dataset varint · LSN varint · log time i64 ·
//	             session varint · key str · to str (of range deletes) · place
//	66 sessions  n varint, n sessions, each as str: those of the dictionary and those that the file opens
//	67 times     n varint, n times LSN varint · log time i64, both ascending: every 1024th event
//	68 lost      n varint, n times LSN varint · events varint: batches that are not among the entries, since they were
//	             written ahead into a log file that was gone when the side file was built
//
// A place is where the wire form of the event begins, and what it must be:
//
//	back    varint   how many sequences before this file; not 0 only in spilled batches
//	offset  varint
//	size    varint
//	crc     u32      CRC-32C of the wire form
//
// Downsides: 4 bytes of CRC for each event do not compress. A log file whose properties would exceed 16 MiB, as with
// hundreds of thousands of range deletes, gets no side file and is read as a whole.
const (
	sideOrigin   = segment.ExtraTag
	sideWide     = segment.ExtraTag + 1
	sideSessions = segment.ExtraTag + 2
	sideTimes    = segment.ExtraTag + 3
	sideLost     = segment.ExtraTag + 4

	sampleEvery  = 1024
	maxSideProps = 16 << 20
	minWideBytes = 1 + 1 + 1 + 8 + 1 + 1 + 1 + 1 + 1 + 1 + 4
)

// origin names the log file that a side file belongs to.
type origin struct {
	logID [16]byte
	seq   uint64
	end   uint64
	chain uint32
}

// wideEvent concerns more than one key.
type wideEvent struct {
	place
	dataset event.DatasetID
	key, to []byte
}

// sample says that the event of an LSN has a log time.
type sample struct {
	lsn  LSN
	time int64
}

func appendPlace(dst []byte, seq uint64, p *place) []byte {
	dst = coding.AppendUvarint(dst, seq-p.at.File)
	dst = coding.AppendUvarint(dst, uint64(p.at.Offset))
	dst = coding.AppendUvarint(dst, uint64(p.size))
	return binary.LittleEndian.AppendUint32(dst, p.crc)
}

// readPlace decodes a place; what else p has stays.
func readPlace(r *coding.Reader, seq uint64, p *place) {
	back, off, size := r.Uvarint(), r.Uvarint(), r.Uvarint()
	p.crc = r.Uint32()
	if r.Err() == nil && (back >= seq || off < wal.HeaderSize || off > math.MaxInt64/2 || size < event.MinWireBytes ||
		size > wal.MaxCommitBytes) {
		r.Fail(fmt.Errorf("place %d files back, at %d, of %d bytes", back, off, size))
		return
	}
	p.at, p.size = wal.Position{File: seq - back, Offset: int64(off)}, uint32(size)
}

func appendOrigin(dst []byte, o *origin) []byte {
	dst = append(dst, o.logID[:]...)
	dst = coding.AppendUvarint(coding.AppendUvarint(dst, o.seq), o.end)
	return binary.LittleEndian.AppendUint32(dst, o.chain)
}

func appendWide(dst []byte, seq uint64, w *wideEvent) []byte {
	dst = append(dst, byte(w.op))
	dst = coding.AppendUvarint(coding.AppendUvarint(dst, uint64(w.dataset)), uint64(w.lsn))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(w.time))
	dst = coding.AppendUvarint(dst, uint64(w.session))
	dst = coding.AppendBytes(coding.AppendBytes(dst, w.key), w.to)
	return appendPlace(dst, seq, &w.place)
}

// lostBatch is a batch of which only is known which LSNs it had.
type lostBatch struct {
	first LSN
	count uint64
}

// sideProps are the extra properties of a side file.
type sideProps struct {
	origin
	wide     []wideEvent
	sessions map[event.SessionID]event.Session
	times    []sample
	lost     []lostBatch
}

var errSideProps = errors.New("properties are missing or contradict themselves")

func parseSideProps(props []segment.Property) (*sideProps, error) {
	s := &sideProps{sessions: map[event.SessionID]event.Session{}}
	tags := []uint64{sideOrigin, sideWide, sideSessions, sideTimes, sideLost}
	if len(props) < len(tags) {
		return nil, errSideProps
	}
	for i, tag := range tags {
		if props[i].Tag != tag {
			return nil, errSideProps
		}
		r := coding.NewReader(props[i].Body)
		switch tag {
		case sideOrigin:
			copy(s.logID[:], r.Next(16))
			s.seq, s.end, s.chain = r.Uvarint(), r.Uvarint(), r.Uint32()
		case sideWide:
			s.parseWide(&r)
		case sideSessions:
			for range r.Count(1) {
				e, err := event.ParseSession(r.Bytes())
				if err != nil {
					return nil, err
				}
				s.sessions[e.ID] = e
			}
		case sideTimes:
			for range r.Count(1 + 8) {
				s.times = append(s.times, sample{LSN(r.Uvarint()), int64(r.Uint64())})
			}
		case sideLost:
			for range r.Count(1 + 1) {
				s.lost = append(s.lost, lostBatch{LSN(r.Uvarint()), r.Uvarint()})
			}
		}
		if err := r.End(); err != nil {
			return nil, err
		}
	}
	byLSN := slices.IsSortedFunc(s.wide, func(a, b wideEvent) int { return cmp.Compare(a.lsn, b.lsn) })
	byTime := slices.IsSortedFunc(s.times, func(a, b sample) int { return cmp.Compare(a.time, b.time) })
	if !byLSN || !byTime {
		return nil, errSideProps
	}
	return s, nil
}

func (s *sideProps) parseWide(r *coding.Reader) {
	n := r.Count(minWideBytes)
	s.wide = make([]wideEvent, 0, n)
	for range n {
		w := wideEvent{}
		w.op, w.dataset, w.lsn = event.Op(r.Byte()), event.DatasetID(r.Uvarint()), LSN(r.Uvarint())
		w.time, w.session = int64(r.Uint64()), event.SessionID(r.Uvarint())
		w.key, w.to = r.Bytes(), r.Bytes() // of the properties' own memory
		readPlace(r, s.seq, &w.place)
		if r.Err() != nil {
			return
		}
		s.wide = append(s.wide, w)
	}
}

// lsnAt bounds the last LSN of the file whose log time is at most t: not before from, before to. from is 0 when the file
// begins later, to is event.MaxLSN when the samples end earlier.
func (s *sideProps) lsnAt(t int64) (from, to LSN) {
	i := sort.Search(len(s.times), func(i int) bool { return s.times[i].time > t })
	to = event.MaxLSN
	if i > 0 {
		from = s.times[i-1].lsn
	}
	if i < len(s.times) {
		to = s.times[i].lsn
	}
	return from, to
}

// placeOf decodes an entry.
func (f *sideFile) placeOf(e *segment.Entry) (place, error) {
	p := place{op: e.Op, flags: e.Flags, lsn: e.LSN, time: e.Time, session: e.Session}
	r := coding.NewReader(e.Value)
	readPlace(&r, f.seq, &p)
	if err := r.End(); err != nil {
		return place{}, &corruption.Error{What: "place of an event", Err: err}
	}
	return p, nil
}

// find returns the newest event of a key that counts for a history.
func (f *sideFile) find(h *history) (p place, by event.Session, ok bool, err error) {
	if h.id != 0 && h.below > 0 {
		var e segment.Entry
		b, has, err := f.Get(h.id, h.key, segment.Hash(f.seed, h.id, h.key), h.below-1, &e)
		if err != nil {
			return place{}, by, false, err
		}
		if has {
			p, err = f.placeOf(&e)
			b.Release()
			if err != nil {
				return place{}, by, false, err
			}
			ok = true
		}
	}
	for i := sort.Search(len(f.wide), func(i int) bool { return f.wide[i].lsn >= h.below }) - 1; i >= 0; i-- {
		w := &f.wide[i]
		if ok && w.lsn < p.lsn {
			break
		}
		if h.counts(&event.Event{LSN: w.lsn, Op: w.op, Dataset: w.dataset, Key: w.key, Value: w.to}) {
			p, ok = w.place, true
			break
		}
	}
	return p, f.sessions[p.session], ok, nil
}
