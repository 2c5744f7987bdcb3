package dyngo

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/wal"
)

// redactions reads the log from the file on that has an LSN.
func (db *DB) redactions(ctx context.Context, lsn LSN) (*wal.Redactions, error) {
	read := db.valueReads.Enter() // retention waits
	defer read.Exit()
	r := &wal.Redactions{}
	var failed error
	err := db.eachFrame(ctx, lsn, func(f *wal.Frame) bool {
		switch {
		case f.Kind == wal.KindDictionary:
			d, err := event.ParseDictionary(f.Body)
			if failed = corruption.Locate(err, f.Name, f.Offset); err == nil {
				r.Dictionary(d)
			}
		case f.Kind == wal.KindCommit && f.Flags&wal.FrameSpilled == 0: // a batch has no such event
			for e, err := range f.Events() {
				if failed = err; err != nil {
					break
				}
				r.Event(e)
			}
		}
		return failed == nil
	})
	return r, cmp.Or(err, failed)
}

// redactedHashes keeps what the log says of values that are gone.
type redactedHashes struct {
	mu       sync.Mutex // guards the fields below; held while the log is read
	from, to LSN        // what the log says there is known
	known    *wal.Redactions
}

// redactedHash is what stands in the hash tree for a value that was redacted, as integrity.Source.Redacted. The first time it reads
// the log from the value's file on.
func (db *DB) redactedHash(lsn LSN) (hash integrity.Hash, ok bool, err error) {
	h := &db.redactedHashes
	h.mu.Lock()
	defer h.mu.Unlock()
	if to := db.DurableLSN(); h.known == nil || lsn < h.from || h.to < to {
		known, err := db.redactions(db.ctx, min(lsn, cmp.Or(h.from, lsn)))
		if err != nil {
			return hash, false, err
		}
		h.known, h.from, h.to = known, min(lsn, cmp.Or(h.from, lsn)), to
	}
	v := h.known.Of(lsn)
	if v == nil || !v.Hashed {
		return hash, false, nil
	}
	return v.Hash, true, nil
}

// redactedIn is integrity.Source.Redacted of what a verification found.
func redactedIn(list []wal.RedactedValue) func(LSN) (integrity.Hash, bool, error) {
	return func(lsn LSN) (hash integrity.Hash, ok bool, err error) {
		i, found := slices.BinarySearchFunc(list, lsn, func(v wal.RedactedValue, lsn LSN) int { return cmp.Compare(v.LSN, lsn) })
		if !found || !list[i].Hashed {
			return hash, false, nil
		}
		return list[i].Hash, true, nil
	}
}
