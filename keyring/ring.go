package keyring

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/corruption"
	"github.com/dyngodb/dyngo/internal/vfs"
)

var (
	// ErrDestroyed is returned for a key that was destroyed.
	ErrDestroyed = errors.New("the key was destroyed")
	// ErrNoKey is matched when the folder has no key of an id or subject.
	ErrNoKey = errors.New("no such key")
	// ErrReadOnly is returned for changes of a folder that was opened read-only.
	ErrReadOnly = errors.New("the folder of keys was opened read-only")
)

// Options configure Open.
type Options struct {
	ReadOnly bool         // nothing is created or changed, no lock is taken
	Wall     func() int64 // wall time, Unix nanoseconds
	Mono     func() int64 // monotonic time, nanoseconds
}

// Ring is a folder of keys.
type Ring struct {
	fs  vfs.FS
	dir string
	o   Options

	mu     sync.Mutex // held while the folder is changed or searched, during I/O; guards the fields below
	lock   io.Closer  // nil = the folder was not changed yet
	secret *[32]byte  // nil = not yet read
	failed error      // the folder can't be made durable any more

	cacheMu   sync.Mutex // guards the fields below; a leaf
	ids       cache[uint64]
	subjects  cache[string]
	destroyed uint64 // id of the key that is being destroyed, 0 = none
	changes   uint64 // of what was destroyed, or may have been before lock was held: a file that was read before one counts for nothing
	owned     bool   // lock is held
}

// Open opens a folder, which need not be there: the first key makes it. Nothing is read yet.
func Open(fsys vfs.FS, dir string, o Options) *Ring { return &Ring{fs: fsys, dir: dir, o: o} }

// Dir is the folder.
func (r *Ring) Dir() string { return r.dir }

// ReadOnly says that the folder is only read.
func (r *Ring) ReadOnly() bool { return r.o.ReadOnly }

// Close gives the lock back.
func (r *Ring) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = fs.ErrClosed
	if r.lock == nil {
		return nil
	}
	err := r.lock.Close()
	r.lock = nil
	return err
}

// FileName is the file of a key.
func (r *Ring) FileName(id uint64) string { return r.path(keyName(id)) }

func (r *Ring) path(name string) string { return path.Join(r.dir, name) }

// Key returns the key of an id. Errors: ErrDestroyed; ErrNoKey, which names the folder; corruption, which names the file.
//
// Keys are kept in memory, some thousands. As long as another process may destroy one, what is kept is good for a second.
func (r *Ring) Key(id uint64) (*Key, error) {
	for {
		k, ok, changes := r.cached(id)
		if ok && k == nil {
			return nil, ErrDestroyed
		}
		if ok {
			return k, nil
		}
		rec, err := r.read(id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: the folder %s has no file %s", ErrNoKey, r.dir, keyName(id))
		}
		if err != nil {
			return nil, err
		}
		r.keep(&rec, changes)
	}
}

// cached looks into memory. A nil key that is there was destroyed.
func (r *Ring) cached(id uint64) (k *Key, ok bool, changes uint64) {
	r.cacheMu.Lock()
	defer r.cacheMu.Unlock()
	if id == r.destroyed && id != 0 {
		return nil, true, r.changes
	}
	k, ok = r.ids.get(id, r.fresh())
	return k, ok, r.changes
}

// fresh is the time from which on what was read still holds. cacheMu is held.
func (r *Ring) fresh() int64 {
	if r.owned {
		return 0
	}
	return r.o.Mono() - int64(time.Second)
}

// keep puts what a file said into memory, unless something was destroyed since changes was what it is now.
func (r *Ring) keep(rec *record, changes uint64) {
	var k *Key
	if !rec.destroyed {
		k = newKey(rec)
	}
	r.cacheMu.Lock()
	defer r.cacheMu.Unlock()
	if changes == r.changes {
		r.ids.put(rec.id, k, r.o.Mono())
	}
}

// read reads a key file.
func (r *Ring) read(id uint64) (record, error) {
	name := r.path(keyName(id))
	b, err := r.fs.ReadFile(name, fileSize)
	if errors.Is(err, vfs.ErrTooLarge) {
		return record{}, &corruption.Error{File: name, Offset: fileSize, What: "a key file is longer than it can be", Err: err}
	}
	if err != nil {
		return record{}, err
	}
	rec, err := parseRecord(b)
	if err == nil && rec.id != id {
		err = corruption.New(16, "it holds the key %016x", rec.id)
	}
	if err = r.locate(err, name); errors.Is(err, corruption.ErrCorrupt) {
		err = fmt.Errorf("%w; nothing can be read or written under the subject's keys: take the key file from the folder that is in use, or from "+
			"another copy (a copy made while a key is destroyed may have it torn, and lack the file erasing- with which that is gone on with)", err)
	}
	return rec, err
}

// locate names the file that an error is about.
func (r *Ring) locate(err error, name string) error {
	if errors.Is(err, event.ErrUnsupported) {
		return fmt.Errorf("%s: %w", name, err)
	}
	return corruption.Locate(err, name, 0)
}

func (r *Ring) hmac(kind byte, n uint64, subject string) []byte {
	h := hmac.New(sha256.New, r.secret[:])
	h.Write([]byte{kind})
	if kind == 2 {
		h.Write(le.AppendUint64(nil, n))
	}
	h.Write([]byte(subject))
	return h.Sum(nil)
}

// idOf is the id of key n of a subject.
func (r *Ring) idOf(subject string, n uint64) uint64 {
	return max(1, le.Uint64(r.hmac(2, n, subject))&^(1<<63))
}

// CheckSubject says whether a name is one that a subject can have.
func CheckSubject(name string) error {
	switch {
	case len(name) == 0 || len(name) > MaxSubject:
		return fmt.Errorf("name of %d bytes, a subject has 1 to %d", len(name), MaxSubject)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q is not UTF-8", name)
	}
	return nil
}

// Subject returns the key for what is written of a subject from now on, and creates it if need be: it is durable then.
func (r *Ring) Subject(name string) (*Key, error) {
	r.cacheMu.Lock()
	k, ok := r.subjects.get(name, 0)
	ok = ok && r.owned && k.ID != r.destroyed
	r.cacheMu.Unlock()
	if ok {
		return k, nil
	}
	if err := CheckSubject(name); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.begin(); err != nil {
		return nil, err
	}
	last, n, err := r.find(name, 1)
	if err != nil {
		return nil, err
	}
	if last == nil || last.destroyed {
		if last, err = r.create(name, r.idOf(name, n)); err != nil {
			return nil, err
		}
	}
	k = newKey(last)
	r.cacheMu.Lock()
	defer r.cacheMu.Unlock()
	if k.ID == r.destroyed {
		return nil, fmt.Errorf("the key of the subject is being destroyed; erase the subject again: %w", ErrDestroyed)
	}
	r.ids.put(k.ID, k, r.o.Mono())
	r.subjects.put(name, k, r.o.Mono())
	return k, nil
}

// find returns the first live key of a subject from number n on, else the last that was destroyed, nil if there is none; and the
// number at which it ended: of the live one, or of the next that is to be made. mu is held, the secret is known.
func (r *Ring) find(name string, n uint64) (last *record, at uint64, err error) {
	digest := r.hmac(1, 0, name)
	for ; ; n++ {
		rec, err := r.read(r.idOf(name, n))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return last, n, nil
		case err != nil:
			return nil, n, err
		case !hmac.Equal(rec.digest[:], digest):
			continue // of another subject
		}
		if last = &rec; !rec.destroyed {
			return last, n, nil
		}
	}
}

// create makes a key. mu is held, begin was called.
func (r *Ring) create(name string, id uint64) (*record, error) {
	rec := &record{id: id, created: r.o.Wall(), subject: name, digest: [32]byte(r.hmac(1, 0, name))}
	if _, err := rand.Read(rec.key[:]); err != nil {
		return nil, fmt.Errorf("read random bytes for a key: %w", err)
	}
	rec.fingerprint = fingerprintOf(rec.key)
	return rec, r.write(keyName(id), rec.encode())
}

// write makes a file that its owner alone may read, in one step, durably. mu is held.
func (r *Ring) write(name string, data []byte) error {
	temp := r.path(tempName)
	if err := r.fs.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := r.fs.Create(temp)
	if err != nil {
		return err
	}
	if err = vfs.Restrict(r.fs, temp); err == nil {
		_, err = f.WriteAt(data, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := r.fs.Rename(temp, r.path(name)); err != nil {
		return err
	}
	return r.sync()
}

// sync makes the names in the folder durable. After a failure nothing more is written: what is there may go with the power.
func (r *Ring) sync() error {
	if err := r.fs.SyncDir(r.dir); err != nil {
		r.failed = fmt.Errorf("the folder of keys %s can't be made durable; open the store again: %w", r.dir, err)
		return r.failed
	}
	return nil
}

// begin makes the folder ready for changes: it is there, and locked. mu is held.
func (r *Ring) begin() error {
	switch {
	case r.failed != nil:
		return r.failed
	case r.lock != nil:
		return nil
	case r.o.ReadOnly:
		return ErrReadOnly
	}
	if err := r.mkdir(); err != nil {
		return fmt.Errorf("create the folder of keys: %w", err)
	}
	lock, err := r.fs.Lock(r.path(lockName))
	if err != nil {
		return fmt.Errorf("the folder of keys: %w", err)
	}
	if err = r.fs.Remove(r.path(tempName)); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = r.readSecret()
		if errors.Is(err, fs.ErrNotExist) {
			err = r.createSecret()
		}
	}
	if err == nil {
		err = r.sync() // a process that was killed may have left names that are not durable
	}
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	r.lock = lock
	r.cacheMu.Lock()
	defer r.cacheMu.Unlock()
	r.owned = true
	r.changes++ // what was read before may have changed, also what somebody is about to keep
	r.ids, r.subjects = cache[uint64]{}, cache[string]{}
	return nil
}

// mkdir makes the folder with the parents it lacks, durably: one after the other, so that a crash leaves at most one that is not,
// the last that is there.
func (r *Ring) mkdir() error {
	var missing []string
	dir := r.dir
	for ; dir != path.Dir(dir); dir = path.Dir(dir) {
		ok, err := vfs.Exists(r.fs, dir)
		if err != nil {
			return err
		}
		if ok {
			break
		}
		missing = append(missing, dir)
	}
	// Who may not read the parent has not made the folder.
	if err := r.fs.SyncDir(path.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for _, dir := range slices.Backward(missing) {
		if err := r.fs.MkdirAll(dir); err != nil {
			return err
		}
		if err := vfs.Restrict(r.fs, dir); err != nil {
			return err
		}
		if err := r.fs.SyncDir(path.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// readSecret reads KEYRING. mu is held.
func (r *Ring) readSecret() error {
	if r.secret != nil {
		return nil
	}
	b, err := r.fs.ReadFile(r.path(ringName), ringSize)
	if err != nil {
		return err
	}
	secret, err := parseRing(b)
	if err != nil {
		return r.locate(err, r.path(ringName))
	}
	r.secret = &secret
	return nil
}

// createSecret makes KEYRING in a folder that holds nothing else. mu is held.
func (r *Ring) createSecret() error {
	names, err := r.fs.List(r.dir)
	if err != nil {
		return err
	}
	if names = slices.DeleteFunc(names, func(n string) bool { return n == lockName }); len(names) > 0 {
		return fmt.Errorf("%s holds %s and %d files more, but no %s: it is no folder of keys, or that file was lost and must "+
			"come from a copy", r.dir, names[0], len(names)-1, ringName)
	}
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return fmt.Errorf("read random bytes for the folder's secret: %w", err)
	}
	if err := r.write(ringName, encodeRing(secret, r.o.Wall())); err != nil {
		return err
	}
	r.secret = &secret
	return nil
}

// Info tells of a key.
type Info struct {
	ID          uint64
	Fingerprint [16]byte
	Created     int64 // wall time, Unix nanoseconds
	Destroyed   int64 // the same; 0 = it is live
	LSN         event.LSN
	LogID       [16]byte // of the log that LSN is in
}

// Find tells of the newest key of a subject. The error matches ErrNoKey if it has none. It reads only.
func (r *Ring) Find(name string) (*Info, error) {
	if err := CheckSubject(name); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.readSecret()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is no folder of keys", ErrNoKey, r.dir)
	}
	if err != nil {
		return nil, err
	}
	rec, _, err := r.find(name, 1)
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, fmt.Errorf("%w: the folder %s has none of this subject", ErrNoKey, r.dir)
	}
	return &Info{ID: rec.id, Fingerprint: rec.fingerprint, Created: rec.created, Destroyed: rec.gone, LSN: rec.lsn, LogID: rec.logID}, nil
}
