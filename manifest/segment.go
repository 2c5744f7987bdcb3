package manifest

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/dyngodb/dyngo/event"
)

// Dir is the name of the directory of segments and value files within the database directory.
const Dir = "segments"

// FileNum is the number of a segment or value file, from 1. A number is never used again, for a file of either kind.
type FileNum uint64

// String returns the number as it stands in file names.
func (n FileNum) String() string { return fmt.Sprintf("%010d", uint64(n)) }

// RunID names a run, from 1. The larger id is the newer run. Never used again.
type RunID uint64

// maxNumber bounds every number in a manifest but LSNs, so that sums and conversions cannot overflow.
const maxNumber = math.MaxInt64 >> 1

// SegmentName returns the name of a segment file within Dir.
func SegmentName(n FileNum) string { return n.String() + ".seg" }

// ValueName returns the name of a value file within Dir.
func ValueName(n FileNum) string { return n.String() + ".val" }

// ParseName is the reverse of SegmentName and ValueName. ok is false for any name that neither would give.
func ParseName(name string) (n FileNum, value, ok bool) {
	digits, value := strings.CutSuffix(name, ".val")
	if !value {
		if digits, ok = strings.CutSuffix(name, ".seg"); !ok {
			return 0, false, false
		}
	}
	v, ok := parseNumber(digits)
	return FileNum(v), value, ok
}

// parseNumber reads a number of at least ten digits in its one spelling.
func parseNumber(digits string) (uint64, bool) {
	v, err := strconv.ParseUint(digits, 10, 64)
	return v, err == nil && v > 0 && v <= maxNumber && fmt.Sprintf("%010d", v) == digits
}

// Key is a key of a dataset. Keys are ordered by dataset, then by bytes.
type Key struct {
	Dataset event.DatasetID
	Key     []byte
}

// Compare is negative if k comes before o, positive if after, else 0.
func (k Key) Compare(o Key) int {
	if c := cmp.Compare(k.Dataset, o.Dataset); c != 0 {
		return c
	}
	return bytes.Compare(k.Key, o.Key)
}

// String returns the key as people read it.
func (k Key) String() string { return fmt.Sprintf("%d/%.40q", k.Dataset, k.Key) }

// Segment is what the manifest knows of a segment file. It is immutable once it is part of an edit, and shared by all
// versions that have it. Counts and sizes are not negative.
type Segment struct {
	Num FileNum
	Run RunID

	SizeBytes int64 // of the file
	RawBytes  int64 // keys and values before compression
	RefBytes  int64 // large values in the log that entries refer to

	// Smallest and Largest are the keys of the first and last entry; zero if there are only range deletes.
	Smallest, Largest Key
	// MinLSN and MaxLSN are the oldest and newest of entries and range deletes.
	MinLSN, MaxLSN event.LSN
	// MinReplacing and MaxReplacing are the oldest and newest of entries that replace an older one of their key in the segment, as
	// merge operands do not. 0 if none does, or if it is not known.
	MinReplacing, MaxReplacing event.LSN

	Entries      int64 // versions of keys
	Keys         int64 // different keys
	Tombstones   int64 // entries that hide older ones of their key
	RangeDeletes int64
	RecordTimes  int64 // entries with a record time
	Dues         int64 // entries with an expiry

	MinTime, MaxTime int64 // log times of entries and range deletes, Unix nanoseconds
	MinDue, MaxDue   int64 // expiries, Unix nanoseconds; 0 if there are none
	CreatedAt        int64 // wall time, Unix nanoseconds

	SHA256 [32]byte // of the file

	extra []byte // parts that a newer version added and this one may pass over
}

// contains reports whether a key lies in the key range of the segment.
func (s *Segment) contains(k Key) bool {
	return s.Entries > 0 && s.Smallest.Compare(k) <= 0 && s.Largest.Compare(k) >= 0
}

// Overlaps reports whether both hold entries and their key ranges have a key in common.
func (s *Segment) Overlaps(o *Segment) bool {
	return s.Entries > 0 && o.Entries > 0 && s.Smallest.Compare(o.Largest) <= 0 && o.Smallest.Compare(s.Largest) <= 0
}

// isMoved reports whether s is old, a segment, in an older run.
func (s *Segment) isMoved(old *Segment) bool {
	if s.Run >= old.Run {
		return false
	}
	same := *old
	same.Run = s.Run
	return bytes.Equal(appendSegment(nil, s), appendSegment(nil, &same))
}

// check returns what is impossible about the segment alone.
func (s *Segment) check() error {
	for _, n := range [...]int64{s.SizeBytes, s.RawBytes, s.RefBytes, s.Entries, s.Keys, s.Tombstones, s.RangeDeletes,
		s.RecordTimes, s.Dues} {
		if n < 0 || n > maxNumber {
			return fmt.Errorf("segment %s: a count or size is %d", s.Num, n)
		}
	}
	switch {
	case s.Num == 0 || s.Num > maxNumber:
		return fmt.Errorf("segment %d: no such file number", uint64(s.Num))
	case s.Run == 0 || s.Run > maxNumber:
		return fmt.Errorf("segment %s: no such run: %d", s.Num, s.Run)
	case s.Entries == 0 && s.RangeDeletes == 0:
		return fmt.Errorf("segment %s: it holds nothing", s.Num)
	case max(s.Keys, s.Tombstones, s.RecordTimes, s.Dues) > s.Entries:
		return fmt.Errorf("segment %s: %d keys, %d tombstones, %d record times and %d expiries in %d entries", s.Num, s.Keys,
			s.Tombstones, s.RecordTimes, s.Dues, s.Entries)
	case (s.Keys == 0) != (s.Entries == 0):
		return fmt.Errorf("segment %s: %d keys in %d entries", s.Num, s.Keys, s.Entries)
	case s.MinLSN == 0 || s.MinLSN > s.MaxLSN || s.MaxLSN > event.MaxLSN:
		return fmt.Errorf("segment %s: LSN %d to %d", s.Num, s.MinLSN, s.MaxLSN)
	case s.MinReplacing > s.MaxReplacing || s.MaxReplacing > s.MaxLSN || s.MinReplacing > 0 && (s.MinReplacing <= s.MinLSN || s.Keys == s.Entries):
		return fmt.Errorf("segment %s: LSN %d to %d replace others of %d to %d", s.Num, s.MinReplacing, s.MaxReplacing, s.MinLSN, s.MaxLSN)
	case s.MinTime > s.MaxTime:
		return fmt.Errorf("segment %s: time %d to %d", s.Num, s.MinTime, s.MaxTime)
	case s.MinDue > s.MaxDue || s.Dues == 0 && (s.MinDue != 0 || s.MaxDue != 0):
		return fmt.Errorf("segment %s: %d expiries, %d to %d", s.Num, s.Dues, s.MinDue, s.MaxDue)
	case max(len(s.Smallest.Key), len(s.Largest.Key)) > event.MaxKeyBytes:
		return fmt.Errorf("segment %s: a key of %d bytes", s.Num, max(len(s.Smallest.Key), len(s.Largest.Key)))
	case s.Smallest.Compare(s.Largest) > 0:
		return fmt.Errorf("segment %s: key %s to %s", s.Num, s.Smallest, s.Largest)
	case s.Entries == 0 && s.Largest.Compare(Key{}) != 0:
		return fmt.Errorf("segment %s: key %s, but no entries", s.Num, s.Largest)
	}
	return nil
}

// String describes the segment in one line.
func (s *Segment) String() string {
	keys := "no keys"
	if s.Entries > 0 {
		keys = fmt.Sprintf("%s to %s", s.Smallest, s.Largest)
	}
	return fmt.Sprintf("%s run %d, %d bytes, %s, LSN %d to %d, %d entries, %d keys, %d tombstones, %d range deletes",
		s.Num, s.Run, s.SizeBytes, keys, s.MinLSN, s.MaxLSN, s.Entries, s.Keys, s.Tombstones, s.RangeDeletes)
}

// ValueFile is a file of large values that were moved out of log files before those were dropped. Immutable, as Segment
// is.
type ValueFile struct {
	Num       FileNum
	From, To  uint64 // sequences of the log files that it stands in for, both included, from 1
	SizeBytes int64
	SHA256    [32]byte
	extra     []byte // see Segment.extra
}

func (f *ValueFile) check() error {
	switch {
	case f.Num == 0 || f.Num > maxNumber:
		return fmt.Errorf("value file %d: no such file number", uint64(f.Num))
	case f.From == 0 || f.From > f.To || f.To > maxNumber:
		return fmt.Errorf("value file %s: log files %d to %d", f.Num, f.From, f.To)
	case f.SizeBytes < 0 || f.SizeBytes > maxNumber:
		return fmt.Errorf("value file %s: %d bytes", f.Num, f.SizeBytes)
	}
	return nil
}

// Damaged is a segment that was set aside: it is in no run, and its file is kept until it is removed by an edit.
type Damaged struct {
	Segment *Segment
	Reason  string // for people
}
