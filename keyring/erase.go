package keyring

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/dyngodb/dyngo/event"
)

// Erasure is the destruction of a key that a store has begun, as the folder remembers it until it is done.
type Erasure struct {
	ID                          uint64
	Fingerprint                 [16]byte
	Created                     int64     // the key: wall time, Unix nanoseconds
	Begun                       int64     // the erasure: the same
	After                       event.LSN // the last in the log when it was begun
	Reason, Ticket, Correlation string
	// More says that the subject has, or may have, another live key, whose destruction the caller of Begin begins when this one is done:
	// in a folder that is a copy which was made while the first key was destroyed. The folder does not remember it.
	More bool

	digest [32]byte
}

func erasureName(logID [16]byte) string { return fmt.Sprintf("%s%x", erasurePrefix, logID) }

// Pending returns the erasure that the store of a log has begun and not done, nil if there is none. It reads only.
func (r *Ring) Pending(logID [16]byte) (*Erasure, error) {
	name := r.path(erasureName(logID))
	b, err := r.fs.ReadFile(name, maxErasure)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := parseErasure(b)
	return e, r.locate(err, name)
}

// Of says whether an erasure is of a key of a subject.
func (r *Ring) Of(e *Erasure, subject string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.readSecret(); err != nil {
		return false, err
	}
	return hmac.Equal(e.digest[:], r.hmac(1, 0, subject)), nil
}

// Begin is step 1 of the destruction of a subject's key, which must be live: from when it returns without an error, Pending
// tells of it. One erasure of a log at a time; the caller sees to that.
func (r *Ring) Begin(logID [16]byte, subject string, after event.LSN, reason, ticket, correlation string) (*Erasure, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.begin(); err != nil {
		return nil, err
	}
	rec, n, err := r.find(subject, 1)
	if err != nil {
		return nil, err
	}
	if rec == nil || rec.destroyed {
		return nil, ErrNoKey
	}
	later, _, err := r.find(subject, n+1) // what can't be read there does not save this one
	e := &Erasure{ID: rec.id, Fingerprint: rec.fingerprint, Created: rec.created, Begun: r.o.Wall(), After: after, Reason: reason,
		Ticket: ticket, Correlation: correlation, More: err != nil || later != nil && !later.destroyed, digest: rec.digest}
	return e, r.write(erasureName(logID), e.encode())
}

// Destroy is step 2: when it returns without an error, the key is gone for good. First it makes the key count as destroyed in this
// process, whatever comes of it: meanwhile it holds exclude.
func (r *Ring) Destroy(e *Erasure, exclude sync.Locker) error {
	r.mu.Lock() // so that nobody looks for the subject's key until there is none
	defer r.mu.Unlock()
	exclude.Lock()
	r.forget(e)
	exclude.Unlock()
	return r.overwrite(e, [16]byte{}, 0)
}

func (r *Ring) forget(e *Erasure) {
	r.cacheMu.Lock()
	defer r.cacheMu.Unlock()
	r.destroyed = e.ID
	r.changes++
	r.ids.remove(func(_ uint64, c cached) bool { return c.key != nil && c.key.ID == e.ID })
	r.subjects.remove(func(_ string, c cached) bool { return c.key.ID == e.ID })
}

// Done is steps 4 and 5: the event is durable.
func (r *Ring) Done(logID [16]byte, e *Erasure, lsn event.LSN) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.overwrite(e, logID, lsn); err != nil {
		return err
	}
	if err := r.fs.Remove(r.path(erasureName(logID))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := r.sync(); err != nil {
		return err
	}
	r.cacheMu.Lock()
	defer r.cacheMu.Unlock()
	r.ids.put(e.ID, nil, r.o.Mono())
	r.destroyed = 0
	r.changes++
	return nil
}

// overwrite writes what is left of a key over its file, whatever that holds by now, also if a crash has torn it. mu is held.
func (r *Ring) overwrite(e *Erasure, logID [16]byte, lsn event.LSN) error {
	if err := r.begin(); err != nil {
		return err
	}
	rec := record{id: e.ID, destroyed: true, created: e.Created, gone: e.Begun, lsn: lsn, logID: logID, digest: e.digest,
		fingerprint: e.Fingerprint}
	f, err := r.fs.OpenRW(r.path(keyName(e.ID)))
	if errors.Is(err, fs.ErrNotExist) { // somebody has removed it, which is as good
		return r.write(keyName(e.ID), rec.encode())
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(rec.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
