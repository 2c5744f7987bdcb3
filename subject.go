package dyngo

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/keyring"
)

// MaxSubjectBytes bounds the name of a subject.
const MaxSubjectBytes = keyring.MaxSubject

// maxSealedBytes is the longest value of a subject: what encryption adds must leave room within MaxValueBytes.
const maxSealedBytes = MaxValueBytes / (pieceBytes + keyring.Overhead) * pieceBytes

// openKeys opens the folder of keys, if one is given.
func (db *DB) openKeys() error {
	if db.opts.Keys == "" {
		db.keys = db.opts.KeyRing
		return nil
	}
	if !db.opts.InMemory {
		inside, err := vfs.Inside(db.opts.Keys, db.dir)
		if err != nil {
			return fmt.Errorf("dyngo: Options.Keys: %w", err)
		}
		if inside {
			return fmt.Errorf("dyngo: Options.Keys is %s, within the store %s: keys must lie where they are not copied with it",
				db.opts.Keys, db.dir)
		}
	}
	db.keys = keyring.Open(db.opts.FS, filepath.ToSlash(filepath.Clean(db.opts.Keys)),
		keyring.Options{ReadOnly: db.opts.ReadOnly, Wall: db.opts.Clock.Wall, Mono: db.opts.Clock.Mono})
	return nil
}

// subjectKey is the key that a write's subject has now, nil if it names none.
func (db *DB) subjectKey(wo *WriteOptions) (*keyring.Key, error) {
	if wo.Subject == "" {
		return nil, nil
	}
	if db.keys == nil {
		return nil, fmt.Errorf("%w: WriteOptions.Subject needs Options.Keys, the folder of keys", ErrNoKeys)
	}
	k, err := db.keys.Subject(wo.Subject)
	if err != nil {
		return nil, fmt.Errorf("dyngo: key of the subject: %w", openError(db.keys.Dir(), err))
	}
	return k, nil
}

// checkKeys says whether the keys that a commit's values were sealed with are still there. The caller holds db.sealing, so that
// none is destroyed before the commit has its LSNs.
func (c *commit) checkKeys(db *DB) error {
	for i := range c.ops {
		o := &c.ops[i]
		if o.flags&event.FlagSealed == 0 {
			continue
		}
		if _, err := db.keys.Key(o.sealed); errors.Is(err, keyring.ErrDestroyed) {
			return errKeyGone
		} else if err != nil {
			return err
		}
	}
	return nil
}

// errKeyGone is the error of a commit of a value whose key was destroyed since it was sealed.
var errKeyGone = fmt.Errorf("%w while its value was on its way; nothing was written, write it again", ErrErased)

// sealed is what is needed to open a version's value.
type sealed struct {
	id       uint64 // of the key
	key      []byte // of the record
	redacted bool   // nothing opens it
}

// closedFlags are those of a value that may not be readable though it is there.
const closedFlags = event.FlagSealed | event.FlagRedacted

// sealedBy returns what opens a value with these flags, parts and key, nil if it is neither sealed nor redacted.
func sealedBy(flags event.Flags, parts, key []byte) *sealed {
	switch {
	case flags&closedFlags == 0:
		return nil
	case flags&event.FlagRedacted != 0:
		return &sealed{redacted: true}
	}
	id, _ := event.SubjectKey(parts) // there is one: the event was checked
	return &sealed{id: id, key: bytes.Clone(key)}
}

// sealedRecord is sealedBy for a record, which is pinned.
func sealedRecord(r tail.Record) *sealed {
	if r.Flags()&closedFlags == 0 {
		return nil
	}
	return sealedBy(r.Flags(), r.Parts(), r.Key())
}

// keyOf returns the key of an id.
func (db *DB) keyOf(id uint64) (*keyring.Key, error) {
	if db.keys == nil {
		return nil, fmt.Errorf("%w: the value is encrypted under the key %016x, and Options.Keys names no folder of keys", ErrNoKeys, id)
	}
	k, err := db.keys.Key(id)
	switch {
	case err == nil:
		return k, nil
	case errors.Is(err, keyring.ErrDestroyed):
		return nil, ErrErased
	case errors.Is(err, keyring.ErrNoKey):
		return nil, fmt.Errorf("%w: %w; Options.Keys must name the folder that the value was written with", ErrNoKeys, err)
	case errors.Is(err, ErrCorrupt) && !db.opts.InMemory: // a crash may have torn it in the middle of an erasure
		if logID, lerr := db.logID(); lerr == nil {
			if e, perr := db.keys.Pending(logID); perr == nil && e != nil && e.ID == id {
				return nil, ErrErased
			}
		}
	}
	return nil, err
}

// erased says whether a value can't be read any more since it was redacted or its subject was erased. Of the latter nobody knows
// without keys.
func (db *DB) erased(s *sealed) (bool, error) {
	if s != nil && s.redacted {
		return true, nil
	}
	if s == nil || db.keys == nil || db.opts.sealed {
		return false, nil
	}
	_, err := db.keyOf(s.id)
	if errors.Is(err, ErrErased) {
		return true, nil
	}
	return false, err
}

// subject is the name of the subject that a value is of; empty if it is not sealed, or its key is not there. Who writes the value again
// needs it, so a key that can't be read is an error.
func (db *DB) subject(s *sealed) (string, error) {
	if s == nil || s.redacted || db.keys == nil || db.opts.sealed {
		return "", nil
	}
	k, err := db.keyOf(s.id)
	if errors.Is(err, ErrErased) {
		return "", nil // who reads the value is told
	}
	if err != nil {
		return "", err
	}
	return k.Subject, nil
}

// open appends what a sealed piece holds.
func (s *sealed) open(db *DB, dst []byte, index int, last bool, piece []byte) ([]byte, error) {
	if s.redacted {
		return dst, ErrRedacted
	}
	k, err := db.keyOf(s.id)
	if err != nil {
		return dst, err
	}
	codec, raw, stored, err := k.Open(keyring.Piece{Key: s.key, Index: uint32(index), Last: last}, piece)
	if err != nil {
		return dst, &corruption.Error{File: db.keys.FileName(s.id), What: "the key does not open a value that names it", Err: err}
	}
	if codec == event.CodecNone {
		return append(dst, stored...), nil
	}
	return decompress(dst, codec, stored, raw)
}

// openLarge appends a sealed value that lies in pieces.
func (s *sealed) openLarge(db *DB, dst []byte, ref event.ValueRef) ([]byte, error) {
	base := len(dst)
	for i := range ref.Pieces {
		var err error
		if dst, err = s.openPiece(db, dst, ref.Pieces, i); err != nil {
			return dst[:base], err
		}
	}
	return dst, nil
}

// openPiece appends what one piece of a sealed value holds. All but the last hold pieceBytes.
func (s *sealed) openPiece(db *DB, dst []byte, pieces []event.Piece, i int) ([]byte, error) {
	if s.redacted {
		return dst, ErrRedacted
	}
	if _, err := db.keyOf(s.id); err != nil { // before the device is read
		return dst, err
	}
	start, last := len(dst), i == len(pieces)-1
	b, err := db.appendPiece(nil, pieces[i])
	if err == nil {
		dst, err = s.open(db, dst, i, last, b)
	}
	if n := len(dst) - start; err == nil && (n > pieceBytes || n < pieceBytes && !last) {
		err = &corruption.Error{File: db.files.Name(pieces[i].File), Offset: int64(pieces[i].Offset),
			What: fmt.Sprintf("piece %d of an encrypted value holds %d bytes", i, n)}
	}
	return dst, err
}
