package dyngo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/keyring"
	"github.com/dyngodb/dyngo/wal"
)

// EraseOptions are the options of DB.Erase. The zero value erases and does not count.
type EraseOptions struct {
	// Reason, Ticket and Correlation are kept in the event, for audits; they should not hold personal data.
	Reason, Ticket, Correlation string
	// Count has the log read, from the floor of retention on, to count what is rendered unreadable.
	Count bool
	// DryRun changes nothing: it tells which key would be destroyed. A read-only store can do that too.
	DryRun bool
}

// Erasure tells of the destruction of a subject's key.
type Erasure struct {
	Subject     string
	KeyID       uint64   // as events of the subject name it
	Fingerprint [16]byte // of the key
	KeyCreated  time.Time
	// Time is when the key was destroyed, LSN the event that says so; zero after DryRun of a key that is live. Log is the log that
	// has the event: another one if the folder of keys is shared by stores.
	Time time.Time
	LSN  LSN
	Log  [16]byte
	// Already says that the key was destroyed before.
	Already bool
	// Events is how many values were written under the key, and From the first LSN that was looked at, with EraseOptions.Count.
	// What was dropped from the log below From is not counted.
	Events int64
	From   LSN
	// Actor, Reason and Ticket are of the event; empty if the log does not have it any more.
	Actor, Reason, Ticket string
}

// Erase makes all that was written of a subject unreadable, wherever it is: in this store, its history, snapshots and backups, and
// in copies of them. It destroys the key that the values were encrypted under (WriteOptions.Subject), then logs that; both are
// durable on return. Hash trees and proofs stay as they are, since they are over what is encrypted. What is written of the
// subject later gets another key, and can be read.
//
// What it can't reach: copies of the folder of keys (Options.Keys), what was read or exported before, the memory of processes
// that have used the key, and the keys of records, which are not encrypted. Values are ErrErased from then on, in processes
// that read beside this one within a second.
//
// A folder of keys that came from a copy may have several keys of a subject that can be read. All are destroyed, each with an event;
// the result tells of the last. After a crash in between, erase again.
//
// Erasing twice is no error: the result says when it was done. The error matches ErrNoSubject if nothing was ever written of the
// subject with these keys, ErrNoKeys without Options.Keys, ErrLocked if another process has the folder of keys locked. After
// any other error, and after a crash, the key may be there or not; the next Erase of any subject, and the next Open with the
// same keys, carries the erasure out.
func (db *DB) Erase(ctx context.Context, subject string, o EraseOptions) (*Erasure, error) {
	if err := keyring.CheckSubject(subject); err != nil {
		return nil, limitError("subject: %v", err)
	}
	wo := WriteOptions{Reason: o.Reason, Ticket: o.Ticket, Correlation: o.Correlation}
	if err := wo.validate(); err != nil {
		return nil, err
	}
	if db.keys == nil {
		return nil, fmt.Errorf("%w: Erase needs Options.Keys, the folder of keys", ErrNoKeys)
	}
	if o.DryRun {
		call := db.calls.Enter()
		defer call.Exit()
		if db.closed.Load() {
			return nil, ErrClosed
		}
	} else {
		call, err := db.enterCall()
		if err != nil {
			return nil, err
		}
		defer call.Exit()
	}
	r, err := db.erase(ctx, subject, wo, o.DryRun)
	if err == nil && o.Count {
		r.Events, r.From, err = db.countSealed(ctx, r.KeyID)
	}
	return r, openError(db.keys.Dir(), err)
}

func (db *DB) erase(ctx context.Context, subject string, wo WriteOptions, dryRun bool) (*Erasure, error) {
	db.erasing.Lock()
	defer db.erasing.Unlock()
	if !dryRun {
		if err := db.finishErasure(ctx); err != nil {
			return nil, err
		}
	}
	info, err := db.keys.Find(subject)
	if errors.Is(err, keyring.ErrNoKey) {
		return nil, fmt.Errorf("%w: %w", ErrNoSubject, err)
	}
	if dryRun && errors.Is(err, ErrCorrupt) { // a crash may have torn it in the middle of an erasure
		if e := db.begun(subject); e != nil {
			return &Erasure{Subject: subject, KeyID: e.ID, Fingerprint: e.Fingerprint, KeyCreated: unixTime(e.Created)}, nil
		}
	}
	if err != nil {
		return nil, err
	}
	r := &Erasure{Subject: subject, KeyID: info.ID, Fingerprint: info.Fingerprint, KeyCreated: unixTime(info.Created),
		Time: unixTime(info.Destroyed), LSN: info.LSN, Log: info.LogID, Already: info.Destroyed != 0}
	if r.Already {
		return r, db.tellErased(ctx, r)
	}
	if dryRun {
		return r, nil
	}
	var e *keyring.Erasure
	for more := true; more; more = e.More {
		next, err := db.keys.Begin(db.id, subject, db.DurableLSN(), wo.Reason, wo.Ticket, wo.Correlation)
		if e != nil && errors.Is(err, keyring.ErrNoKey) { // what might have been another is none
			break
		}
		if e = next; err == nil {
			r.LSN, err = db.carryOut(ctx, e, false)
		}
		if err != nil {
			return nil, err
		}
	}
	r.KeyID, r.Fingerprint, r.KeyCreated = e.ID, e.Fingerprint, unixTime(e.Created)
	r.Time, r.Log = unixTime(e.Begun), db.id
	r.Actor, r.Reason, r.Ticket = db.opts.Session.Actor, wo.Reason, wo.Ticket
	return r, nil
}

// begun is the erasure of a subject that this store has begun and not done, nil if it knows of none.
func (db *DB) begun(subject string) *keyring.Erasure {
	logID, err := db.logID()
	if err != nil {
		return nil
	}
	e, err := db.keys.Pending(logID)
	if e == nil || err != nil {
		return nil
	}
	if is, err := db.keys.Of(e, subject); !is || err != nil {
		return nil
	}
	return e
}

// tellErased completes what is known of an erasure by what its event says, if this store's log has it still.
func (db *DB) tellErased(ctx context.Context, r *Erasure) error {
	logID, err := db.logID()
	if err != nil || r.LSN == 0 || r.Log != logID {
		return err
	}
	sessions := map[event.SessionID]event.Session{}
	var failed error
	err = db.eachFrame(ctx, r.LSN, func(f *wal.Frame) bool {
		switch {
		case f.Kind == wal.KindDictionary:
			d, err := event.ParseDictionary(f.Body)
			if err != nil {
				failed = corruption.Locate(err, f.Name, f.Offset)
			}
			for _, s := range d.Sessions {
				sessions[s.ID] = s
			}
		case f.Kind != wal.KindCommit || f.Flags&wal.FrameSpilled != 0: // a batch has no such event
		default:
			for e, err := range f.Events() {
				if failed = err; err != nil {
					return false
				}
				if e.Op == event.OpSessionOpened {
					if s, err := event.ParseSession(e.Value); err == nil { // it was checked
						sessions[s.ID] = s
					}
				}
				if id, ok := event.SubjectKey(e.Parts); e.LSN == r.LSN && e.Op == event.OpKeyDestroyed && ok && id == r.KeyID {
					reason, _ := event.FindAnnotation(e.Parts, "reason")
					ticket, _ := event.FindAnnotation(e.Parts, "ticket")
					r.Actor, r.Reason, r.Ticket = sessions[e.Session].Actor, string(reason), string(ticket)
				}
				if e.LSN >= r.LSN {
					return false
				}
			}
		}
		return failed == nil
	})
	return errors.Join(err, failed)
}

// finishErasure carries out what this store has begun and a crash or an error has kept it from. db.erasing is held, or nobody
// else has the store yet.
func (db *DB) finishErasure(ctx context.Context) error {
	e, err := db.keys.Pending(db.id)
	if e == nil || err != nil {
		return err
	}
	call, err := db.enterCall()
	if err != nil {
		return err
	}
	defer call.Exit()
	_, err = db.carryOut(ctx, e, true)
	return err
}

// carryOut is steps 2 to 5 of the crash points in package keyring, and returns the event's LSN; again says that step 3 may have
// been done.
func (db *DB) carryOut(ctx context.Context, e *keyring.Erasure, again bool) (LSN, error) {
	// Commits that have seen the key get their LSNs before; later ones don't see it.
	if err := db.keys.Destroy(e, &db.sealing); err != nil {
		return 0, fmt.Errorf("dyngo: destroy the key: %w", err)
	}
	lsn := LSN(0)
	if again {
		var err error
		if lsn, err = db.findDestroyed(ctx, e); err != nil {
			return 0, err
		}
	}
	if lsn == 0 {
		var err error
		if lsn, err = db.logDestroyed(e); err != nil {
			return 0, err
		}
	}
	if err := db.keys.Done(db.id, e, lsn); err != nil {
		return 0, fmt.Errorf("dyngo: the key was destroyed, which LSN %d says, but not all was noted in %s: %w", lsn, db.keys.Dir(), err)
	}
	return lsn, nil
}

// logDestroyed logs that a key is gone, durably.
func (db *DB) logDestroyed(e *keyring.Erasure) (LSN, error) {
	var parts []byte
	if as := annotations(WriteOptions{Reason: e.Reason, Ticket: e.Ticket, Correlation: e.Correlation}); len(as) > 0 {
		parts = event.AppendAnnotations(nil, as)
	}
	parts = event.AppendSubjectKey(parts, e.ID)
	c := db.newCommit()
	defer db.release(c)
	c.ops = append(c.ops, op{kind: event.OpKeyDestroyed, base: parts, parts: parts})
	if err := db.commit(c, wal.Ack{Durable: true}, true, db.now()); err != nil {
		return 0, openError(db.dir, err)
	}
	return c.log.First, nil
}

// findDestroyed looks for the event that says that a key is gone, 0 = there is none.
func (db *DB) findDestroyed(ctx context.Context, e *keyring.Erasure) (lsn LSN, err error) {
	werr := db.eachEvent(ctx, e.After+1, func(ev *event.Event) bool {
		if id, ok := event.SubjectKey(ev.Parts); ok && ev.Op == event.OpKeyDestroyed && id == e.ID {
			lsn = ev.LSN
		}
		return lsn == 0
	})
	if lsn != 0 {
		return lsn, db.log.WaitDurable(ctx, lsn)
	}
	return 0, werr
}

// countSealed counts the values that are encrypted under a key in what is durable of the log, from is where it begins.
func (db *DB) countSealed(ctx context.Context, id uint64) (n int64, from LSN, err error) {
	end := db.DurableLSN()
	err = db.eachEvent(ctx, 1, func(e *event.Event) bool {
		if from == 0 {
			from = e.LSN
		}
		if got, ok := event.SubjectKey(e.Parts); ok && e.Flags&event.FlagSealed != 0 && got == id {
			n++
		}
		return e.LSN < end
	})
	return n, from, err
}

// eachEvent visits the events of the log that are still there from an LSN on, until visit returns false. What retention has
// dropped of a batch is passed over.
func (db *DB) eachEvent(ctx context.Context, from LSN, visit func(*event.Event) bool) error {
	files, err := wal.ListFiles(db.opts.FS, db.walDir())
	if err != nil || len(files) == 0 {
		return err
	}
	read := db.valueReads.Enter() // retention waits
	defer read.Exit()
	var failed error
	err = db.eachFrame(ctx, from, func(f *wal.Frame) bool {
		if f.Kind != wal.KindCommit || f.BaseLSN+LSN(f.Count) <= from {
			return true
		}
		more := true
		failed = unlessDropped(f, f.Places(db.readPiece, func(e *event.Event, _ wal.Position, _ []byte) error {
			if e.LSN >= from && more {
				more = visit(e)
			}
			return nil
		}))
		failed = corruption.Locate(failed, f.Name, f.Offset)
		return more && failed == nil
	})
	if err == nil {
		err = failed
	}
	return err
}

// Certificate makes the certificate of an erasure of this store: what was made unreadable, when, by whom and why, signed with
// Options.SigningKey if that is there. If the store keeps a hash tree, it has the proof that the event is in the log.
func (db *DB) Certificate(ctx context.Context, r *Erasure) (*integrity.Certificate, error) {
	c := &integrity.Certificate{Log: integrity.Origin(r.Log), Subject: r.Subject, Key: fmt.Sprintf("%016x", r.KeyID),
		Fingerprint: fmt.Sprintf("%x", r.Fingerprint), Created: r.KeyCreated.UTC(), LSN: r.LSN, Time: r.Time.UTC(),
		Actor: r.Actor, Reason: r.Reason, Ticket: r.Ticket, Events: r.Events, From: r.From}
	if r.LSN == 0 {
		return nil, fmt.Errorf("dyngo: no certificate: no event says yet that the key %016x was destroyed", r.KeyID)
	}
	logID, err := db.logID()
	if err != nil {
		return nil, err
	}
	if r.Log == logID && r.LSN <= db.DurableLSN() {
		if c.Proof, err = db.Prove(ctx, r.LSN); err != nil && !errors.Is(err, ErrNoTree) && !errors.Is(err, wal.ErrDropped) {
			return nil, err
		}
		if c.Proof != nil && !c.Proves() { // the store was set back to before the erasure: the LSN is of something else now
			c.Proof = nil
		}
	}
	var key *integrity.Key
	if db.opts.SigningKey != "" {
		if key, err = integrity.ParseKey(db.opts.SigningKey); err != nil {
			return nil, err
		}
	}
	return c, c.Sign(key)
}
