package compaction

import (
	"sort"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/segment"
)

// Liveness says which versions reads can still see. It is as it was when the job began: what came later hides more, and
// that is left to the next merge.
type Liveness struct {
	// Durable is an LSN that every read has reached which is not at one of Pins. Pins ascend.
	Durable event.LSN
	Pins    []event.LSN

	// Dropped returns the LSN at which a dataset was dropped, 0 if it was not. nil: none was.
	Dropped func(event.DatasetID) event.LSN

	// Ranges returns the range deletes of a dataset, those of all segments included; nil if there are none. nil: no
	// dataset has any. It is called by one goroutine at a time, what it returns by several.
	Ranges func(event.DatasetID) Covering
}

// Covering is the range deletes of a dataset.
type Covering interface {
	// Covers says whether a range delete with an LSN in (after, max] covers key.
	Covers(key []byte, after, max event.LSN) bool
}

// none is above every LSN: of the version that is newer than the newest one.
const none = event.MaxLSN + 1

// keeper decides which versions of keys are needed, given one after the other in the order of segments.
//
// A version v is what reads at the LSNs from its own up to that of the next newer one find. It is needed if such an
// LSN is one of Pins, or is Durable or above, and neither a range delete nor a drop at or below that LSN hides v
// there. What hides v at an LSN hides it at all later ones, so the least such LSN decides. Versions that are dropped
// because they are hidden uncover none: whatever is older is hidden by the same.
type keeper struct {
	l *Liveness

	dropped event.LSN // of the dataset
	ranges  Covering  // of the dataset
	newer   event.LSN // of the version before, which is the next newer one of the key
	operand bool      // that one is kept and is a merge operand: what is below it belongs to its value
	at      event.LSN // the least LSN at which that one is read, if it is needed
}

// dataset begins another dataset.
func (k *keeper) dataset(ds event.DatasetID) {
	k.dropped, k.ranges = 0, nil
	if k.l.Dropped != nil {
		k.dropped = k.l.Dropped(ds)
	}
	if k.l.Ranges != nil {
		k.ranges = k.l.Ranges(ds)
	}
}

// key begins another key.
func (k *keeper) key() { k.newer, k.operand = none, false }

// needs reports whether the next version of the key is needed.
func (k *keeper) needs(e *segment.Entry) bool {
	newer, operand := k.newer, k.operand
	if e.LSN >= newer {
		return false // the same version again
	}
	k.newer, k.operand = e.LSN, false
	at, seen := k.least(e.LSN, newer)
	if operand { // read with it
		at, seen = min(at, newer), true
	}
	need := seen && !k.hidden(e, at)
	k.at = at
	k.operand = need && e.Op == event.OpMerge
	return need
}

// least returns the least LSN in [from, to) that is read at.
func (k *keeper) least(from, to event.LSN) (at event.LSN, ok bool) {
	at = max(from, k.l.Durable)
	pins := k.l.Pins
	if i := sort.Search(len(pins), func(i int) bool { return pins[i] >= from }); i < len(pins) {
		at = min(at, pins[i])
	}
	return at, at < to
}

// hidden reports whether a range delete or drop hides the version from reads at an LSN.
func (k *keeper) hidden(e *segment.Entry, at event.LSN) bool {
	return k.dropped != 0 && k.dropped <= at || k.ranges != nil && k.ranges.Covers(e.Key, e.LSN, at)
}

// isTombstone reports whether the version has no value: where nothing older is left, it says no more than its absence.
// (A redacted version that is the newest counts, as it does in the properties of segments.)
func isTombstone(e *segment.Entry) bool { return e.Op != event.OpPut && e.Op != event.OpMerge }
