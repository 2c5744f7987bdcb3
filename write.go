package dyngo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/coding"
	"github.com/dyngodb/dyngo/internal/heat"
	"github.com/dyngodb/dyngo/internal/tail"
	"github.com/dyngodb/dyngo/memtable"
	"github.com/dyngodb/dyngo/segment"
	"github.com/dyngodb/dyngo/wal"
)

// Put stores value under key and returns the event's LSN. It returns when the dataset's consistency says so: durable for
// Strong, applied for Causal and Eventual. The slices stay the caller's. Errors: ErrLimit, ErrNoDataset, ErrReadOnly,
// ErrLogFailed, ErrOutcomeUnknown, ErrClosed. While the disk is full, Put waits until there is space.
func (ds *Dataset) Put(key, value []byte) (LSN, error) { return ds.PutWith(key, value, WriteOptions{}) }

// PutWith is Put with options.
func (ds *Dataset) PutWith(key, value []byte, wo WriteOptions) (LSN, error) {
	lsn, _, err := ds.writeOne(op{kind: event.OpPut, key: key, value: value}, wo)
	return lsn, err
}

// Delete removes key. Deleting what is absent is logged and no error.
func (ds *Dataset) Delete(key []byte) (LSN, error) { return ds.DeleteWith(key, WriteOptions{}) }

// DeleteWith is Delete with options; TTL has no meaning here.
func (ds *Dataset) DeleteWith(key []byte, wo WriteOptions) (LSN, error) {
	wo.TTL = 0
	lsn, _, err := ds.writeOne(op{kind: event.OpDelete, key: key}, wo)
	return lsn, err
}

// DeleteRange removes all keys in [from, to) with one event; nil is an open end. It costs the same however many keys the
// range holds.
func (ds *Dataset) DeleteRange(from, to []byte) (LSN, error) {
	return ds.DeleteRangeWith(from, to, WriteOptions{})
}

// DeleteRangeWith is DeleteRange with options; TTL has no meaning here.
func (ds *Dataset) DeleteRangeWith(from, to []byte, wo WriteOptions) (LSN, error) {
	wo.TTL = 0
	lsn, _, err := ds.writeOne(op{kind: event.OpDeleteRange, key: from, value: to}, wo)
	return lsn, err
}

// PutNewest stores value under key if t is later than the record time of the key's newest version; an equal time is
// stale, so loading a file twice changes nothing. Put sets no record time: anything is newer than its value. Delete keeps
// the record time of what it deletes. A stale write is logged with its outcome and not applied.
func (ds *Dataset) PutNewest(key, value []byte, t time.Time) (applied bool, lsn LSN, err error) {
	return ds.PutNewestWith(key, value, t, WriteOptions{})
}

// PutNewestWith is PutNewest with options.
func (ds *Dataset) PutNewestWith(key, value []byte, t time.Time, wo WriteOptions) (applied bool, lsn LSN, err error) {
	rt, err := newRecordTime(t)
	if err != nil {
		return false, 0, err
	}
	lsn, applied, err = ds.writeOne(op{kind: event.OpPut, key: key, value: value, newest: true, time: rt}, wo)
	return applied, lsn, err
}

// PutIf stores value under key if the key's version has the LSN ifLSN; 0 means that the key is absent (deleted and
// expired keys are). It is decided against the newest version, durable or not. Otherwise the error is a *ConflictError,
// which matches ErrConflict and names the LSN found, and nothing is logged.
func (ds *Dataset) PutIf(key, value []byte, ifLSN LSN) (LSN, error) {
	return ds.PutIfWith(key, value, ifLSN, WriteOptions{})
}

// PutIfWith is PutIf with options.
func (ds *Dataset) PutIfWith(key, value []byte, ifLSN LSN, wo WriteOptions) (LSN, error) {
	lsn, _, err := ds.writeOne(op{kind: event.OpPut, key: key, value: value, conditional: true, ifLSN: ifLSN}, wo)
	return lsn, err
}

// op is one event on its way into the log.
type op struct {
	ds         *Dataset
	kind       event.Op
	flags      event.Flags
	key, value []byte // value as stored: compressed, or the encoded reference to a large value
	base       []byte // parts, encoded, that don't depend on the key's present version
	parts      []byte // base and what was decided under the shard lock
	hash       uint64
	sealed     uint64 // id of the key that the value is encrypted under, with event.FlagSealed
	expires    int64
	time       recordTime // newest: of this write; deletes keep that of the version before
	newest     bool
	// stub: value is the place of the value in the log, since the event lies in a data frame already.
	stub    bool
	wireEnd int // where the event ends in the data frame that is being built
	// conditional: only if the key's version has ifLSN.
	conditional bool
	ifLSN       LSN
	erased      LSN   // of the key's version whose value can't be read any more, as lookUp saw it; 0 = none
	prior       prior // the key's newest version in segments, if memory has none; see commit.lookUp
}

// prior is what is to be known of the newest version of a key before a write is decided.
type prior struct {
	found   bool
	op      event.Op
	lsn     LSN
	time    recordTime
	expires int64 // 0 = never
	closed  bool  // it was redacted
}

// recordTime is the time that newest-wins compares, of versions that have one.
type recordTime struct {
	ns  int64
	has bool
}

// keyed says that the op is found by its key in the memtable.
func (o *op) keyed() bool {
	return o.kind == event.OpPut || o.kind == event.OpDelete || o.kind == event.OpExpire
}

// commit is the working memory of one write or batch, kept in a pool.
type commit struct {
	log     wal.Commit
	ops     []op
	hashes  []uint64
	scratch []byte // parts
	value   []byte // compressed value
	seen    map[string]recordTime
	// departures is memtable.Table.Departures from before the ops' priors were looked up.
	departures uint64
	tick       uint32 // of the guard that priors were looked up under, which was counted at stripe: what is sampled goes by them
	stripe     int
	hold       *hold // of the log files that values were written ahead to; nil = none was
	seals      bool  // some value is encrypted
}

func (db *DB) newCommit() *commit { return db.commits.Get().(*commit) }

// release gives the working memory back, unless it grew large.
func (db *DB) release(c *commit) {
	clear(c.ops) // the caller's slices must not be kept alive
	c.ops, c.hashes, c.scratch = c.ops[:0], c.hashes[:0], c.scratch[:0]
	c.log.Sizes, c.log.Pos, c.log.Spill = c.log.Sizes[:0], c.log.Pos[:0], nil
	c.log.Wire, c.seen, c.value = 0, nil, c.value[:0]
	c.hold.release()
	c.hold, c.seals = nil, false
	if cap(c.ops) <= 1024 && cap(c.scratch) <= 64<<10 && cap(c.value) <= 512<<10 {
		db.commits.Put(c)
	}
}

// maxRewrites bounds how often a value is encrypted anew since its subject was erased meanwhile. A write that memory holds up may lose to
// one erasure after the other, if they are asked for without a pause; each of those waits for the disk.
const maxRewrites = 100

// writeOne is the way of a single write: check, store a large value ahead, commit, wait.
func (ds *Dataset) writeOne(o op, wo WriteOptions) (LSN, bool, error) {
	lsn, applied, err := ds.writeOnce(o, wo)
	for range maxRewrites {
		if err != errKeyGone || o.flags&event.FlagValueRef != 0 {
			break
		}
		lsn, applied, err = ds.writeOnce(o, wo) // the subject was erased just now, and gets a new key
	}
	return lsn, applied, err
}

func (ds *Dataset) writeOnce(o op, wo WriteOptions) (LSN, bool, error) {
	db := ds.db
	g, err := db.enterCall()
	if err != nil {
		return 0, false, err
	}
	defer g.Exit()
	if err := wo.validate(); err != nil {
		return 0, false, err
	}
	c := db.newCommit()
	defer db.release(c)
	o.ds = ds
	now := db.now()
	if err := c.add(db, o, wo, now); err != nil {
		return 0, false, err
	}
	if o.kind == event.OpDeleteRange && db.count.ranges.Add(1)%64 == 0 {
		db.raiseFloor() // lets old range deletes go
	}
	frees := o.kind == event.OpDelete || o.kind == event.OpDeleteRange
	if err := db.commit(c, db.ack(c, wo.Ack), frees, now); err != nil {
		if conflict, ok := err.(*ConflictError); ok && ds.opts.Consistency == Strong {
			// What the error tells must not be taken back by a crash.
			if err := db.log.WaitDurable(context.Background(), conflict.head); err != nil {
				return 0, false, openError(db.dir, err)
			}
		}
		return 0, false, openError(db.dir, err)
	}
	c.hold.referred(c.log.Last())
	return c.log.First, c.ops[0].flags&event.FlagNotApplied == 0, nil
}

// ack is how long a commit waits and how much of it a crash may lose: it is as strong as its strongest dataset.
func (db *DB) ack(c *commit, a Ack) wal.Ack {
	window := Eventual.window()
	durable := false
	for i := range c.ops {
		if ds := c.ops[i].ds; ds != nil {
			switch ds.opts.Consistency {
			case Strong:
				durable = true
				window = Causal.window()
			case Causal:
				window = Causal.window()
			}
		}
	}
	switch a {
	case AckDurable:
		durable = true
	case AckApplied:
		durable = false
	}
	return wal.Ack{Durable: durable, Window: window}
}

// add checks an op and encodes what does not depend on the key's present version.
func (c *commit) add(db *DB, o op, wo WriteOptions, now int64) error {
	if err := o.check(db); err != nil {
		return err
	}
	start := len(c.scratch)
	if o.kind == event.OpPut {
		ttl := wo.TTL
		if ttl == 0 {
			ttl = o.ds.opts.TTL
		}
		if ttl != 0 {
			o.expires = expiry(now, ttl)
			c.scratch = event.AppendExpiry(c.scratch, o.expires)
		}
	}
	if o.newest {
		c.scratch = event.AppendRecordTime(c.scratch, o.time.ns)
	}
	if o.conditional { // so that the log tells what the write depended on
		c.scratch = event.AppendPrevLSN(c.scratch, o.ifLSN)
	}
	if wo.Reason != "" || wo.Ticket != "" || wo.Correlation != "" {
		c.scratch = event.AppendAnnotations(c.scratch, annotations(wo))
	}
	if o.kind == event.OpPut && o.flags&event.FlagValueRef == 0 {
		k, err := db.subjectKey(&wo)
		if err != nil {
			return err
		}
		if err := c.store(db, &o, k); err != nil {
			return err
		}
		if k != nil {
			o.sealed = k.ID
		}
	}
	if o.sealed != 0 {
		o.flags |= event.FlagSealed
		c.scratch = event.AppendSubjectKey(c.scratch, o.sealed)
		c.seals = true
	}
	o.base = c.scratch[start:len(c.scratch):len(c.scratch)]
	o.parts = o.base
	if o.keyed() {
		o.hash = db.mem.Hash(o.ds.id, o.key)
	}
	c.ops = append(c.ops, o)
	return nil
}

// expiry is now+ttl within the range of an int64.
func expiry(now int64, ttl time.Duration) int64 {
	if e := now + int64(ttl); ttl < 0 || e > now {
		return max(e, 1)
	}
	return 1<<63 - 1
}

func annotations(wo WriteOptions) []event.Annotation {
	var a []event.Annotation // ordered by key
	if wo.Correlation != "" {
		a = append(a, event.Annotation{Key: "correlation", Value: wo.Correlation})
	}
	if wo.Reason != "" {
		a = append(a, event.Annotation{Key: "reason", Value: wo.Reason})
	}
	if wo.Ticket != "" {
		a = append(a, event.Annotation{Key: "ticket", Value: wo.Ticket})
	}
	return a
}

// check says whether the op is within the limits.
func (o *op) check(db *DB) error {
	if o.ds.db != db {
		return fmt.Errorf("dyngo: dataset %q belongs to another store", o.ds.name)
	}
	if o.ds.dropped.Load() != 0 {
		return o.ds.errDropped()
	}
	if o.kind == event.OpDeleteRange {
		if len(o.key) > MaxKeyBytes || len(o.value) > MaxKeyBytes {
			return limitError("range end of %d bytes, at most %d are allowed", max(len(o.key), len(o.value)), MaxKeyBytes)
		}
		if o.value != nil && len(o.value) == 0 {
			return limitError("the range ends before the empty key; nil is the open end")
		}
		return nil
	}
	if err := checkKey(o.key); err != nil {
		return err
	}
	if most := min(MaxValueBytes, db.opts.MemoryBudget/4); int64(len(o.value)) > most {
		return limitError("value of %d bytes, at most %d are taken from memory (a quarter of MemoryBudget); use PutReader", len(o.value), most)
	}
	return nil
}

func checkKey(key []byte) error {
	if len(key) == 0 {
		return limitError("empty key, a key has 1 to %d bytes", MaxKeyBytes)
	}
	if len(key) > MaxKeyBytes {
		return limitError("key of %d bytes, a key has 1 to %d bytes", len(key), MaxKeyBytes)
	}
	return nil
}

// bytes is what the keys and values take.
func (c *commit) bytes() (n int) {
	for i := range c.ops {
		n += len(c.ops[i].key) + len(c.ops[i].value)
	}
	return n
}

// commit takes the ops through the log and into the memtable, and waits as ack says.
//
//  1. Admit: wait for space and pace, without locks. Look up what segments know of keys whose newest version decides.
//  2. Lock the shards of the keys, so that versions of a key are ordered as their LSNs are.
//  3. Decide what depends on the newest version.
//  4. Begin: LSNs, log time, places in memory.
//  5. Fill the records, put them into the memtable, unlock.
//  6. Applied; wait.
//
// A crash before the group's sync loses the whole commit, after it nothing.
func (db *DB) commit(c *commit, ack wal.Ack, frees bool, now int64) error {
	began, bytes := now, c.bytes()
	db.pacer.Foreground(len(c.ops), bytes)
	waited, err := db.log.Admit(now, bytes, frees)
	if err != nil {
		return err
	}
	if waited {
		now = db.now() // what is decided below is decided in the present
	}
	for {
		if err = c.lookUp(db); err != nil {
			return err
		}
		if c.seals {
			err = db.beginSealed(c, ack, now)
		} else {
			err = db.begin(c, ack, now)
		}
		if err != errDeparted {
			break
		}
		c.undecide()
	}
	if err != nil {
		return err
	}
	if !ack.Durable {
		db.log.WaitApplied(&c.log)
	} else if err := db.log.Wait(&c.log); err != nil {
		return err
	}
	if db.heat.Due(c.tick) || len(c.ops) > 1 {
		c.sample(db, began)
	}
	return nil
}

// beginSealed is begin for values that are encrypted under keys that must be there still.
func (db *DB) beginSealed(c *commit, ack wal.Ack, now int64) error {
	db.sealing.RLock()
	defer db.sealing.RUnlock()
	if err := c.checkKeys(db); err != nil {
		return err
	}
	return db.begin(c, ack, now)
}

// sample tells heat of those of the commit's operations that are to be sampled.
func (c *commit) sample(db *DB, began int64) {
	first, every := db.heat.FirstDue(c.tick)
	if first >= len(c.ops) {
		return
	}
	took := time.Duration(db.now() - began)
	for i := first; i < len(c.ops); i += every {
		if o := &c.ops[i]; o.keyed() && o.kind != event.OpExpire {
			db.heat.Add(c.stripe, heat.Write, o.ds.id, o.hash, o.key, took)
		}
	}
}

// begin is steps 2 to 6 of commit without the waiting.
func (db *DB) begin(c *commit, ack wal.Ack, now int64) error {
	shards := c.lock(db)
	err := c.decide(db, now)
	if err == nil {
		c.log.Ack = ack
		err = db.log.Begin(&c.log, now)
	}
	if err != nil {
		shards.unlock()
		return err
	}
	for i := range c.ops {
		o := &c.ops[i]
		lsn := c.log.First + LSN(i)
		pos := c.log.Pos[i]
		o.fill(db.arena.Record(pos), lsn, c.log.Time, db.session)
		switch {
		case o.flags&event.FlagNotApplied != 0:
		case o.keyed():
			db.mem.Insert(o.hash, pos)
			o.ds.hot.apply(o, lsn, c.log.Time)
		case o.kind == event.OpDeleteRange:
			o.ds.hot.cut(o.key, o.value)
			o.ds.ranges.Add(o.key, o.value, lsn, db.oldestRead())
			db.flusher.addRange(segment.RangeDelete{Dataset: o.ds.id, From: bytes.Clone(o.key), To: bytes.Clone(o.value), LSN: lsn, Time: c.log.Time})
		default:
			db.catalog.note(o, lsn) // before Applied, so that the dictionary of a file behind this event knows it
		}
	}
	shards.unlock()
	db.log.Applied(&c.log)
	for i := range c.ops {
		if o := &c.ops[i]; o.expires != 0 && o.flags&event.FlagNotApplied == 0 {
			db.ttl.add(o.expires, c.log.First+LSN(i), o.ds.id, o.hash)
		}
	}
	return nil
}

// fill writes the event into its record.
func (o *op) fill(r tail.Record, lsn LSN, t int64, session event.SessionID) {
	var mem tail.Mem
	if o.expires != 0 {
		mem = tail.MemExpiry
	}
	if o.stub {
		mem |= tail.MemStub
	}
	var id event.DatasetID
	if o.ds != nil {
		id = o.ds.id
	}
	event.AppendPayload(r.Payload()[:0], session, o.key, o.value, o.parts)
	r.Fill(lsn, t, id, o.kind, o.flags, mem)
}

// errDeparted says that keys left memory between the look into the segments and the lock: the look has to be repeated.
var errDeparted = errors.New("dyngo: keys have left memory")

// lookUp finds the newest versions of those keys whose newest version decides, in segments where memory has none. No lock is
// held, so that nobody waits for the device but this commit. If memory has no version of a key when its shard is locked, what
// was found is the newest, unless a departure has begun in between: a newer version would be in memory.
func (c *commit) lookUp(db *DB) error {
	g := db.reads.Enter()
	defer g.Exit()
	c.tick, c.stripe = g.Tick(), g.Stripe()
	c.departures = db.mem.Departures()
	s := db.sorted.current.Load() // after it: a key's segment is there before the key leaves
	if s.empty() && db.keys == nil {
		return nil
	}
	for i := range c.ops {
		o := &c.ops[i]
		o.prior, o.erased = prior{}, 0
		if !o.decides() || o.kind == event.OpDelete && !s.recordTimes {
			continue
		}
		if _, head, ok := db.mem.Head(o.hash, o.ds.id, o.key); ok {
			o.prior = priorOf(head) // it may leave before the lock is taken
			if err := o.seeErased(db, head.LSN(), head.Flags(), head.Parts()); err != nil {
				return err
			}
			continue
		}
		if s.empty() {
			continue
		}
		var e segment.Entry
		b, ok, err := s.get(o.ds.id, o.key, event.MaxLSN, &e)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		o.prior = prior{found: true, op: e.Op, lsn: e.LSN, closed: e.Flags&event.FlagRedacted != 0}
		o.prior.time.ns, o.prior.time.has = event.RecordTime(e.Parts)
		o.prior.expires, _ = event.Expiry(e.Parts)
		err = o.seeErased(db, e.LSN, e.Flags, e.Parts)
		b.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// seeErased looks whether the version that a condition is about can be read. If another one comes meanwhile, it can.
func (o *op) seeErased(db *DB, lsn LSN, flags event.Flags, parts []byte) error {
	if !o.conditional {
		return nil
	}
	gone, err := db.erased(sealedBy(flags, parts, nil))
	if gone {
		o.erased = lsn
	}
	return err
}

// decides says that what the op does depends on the newest version of its key.
func (o *op) decides() bool {
	return o.keyed() && (o.newest || o.conditional || o.kind != event.OpPut)
}

// undecide takes back what decide has settled.
func (c *commit) undecide() {
	for i := range c.ops {
		o := &c.ops[i]
		o.flags &^= event.FlagNotApplied
		o.parts = o.base
		if !o.newest {
			o.time = recordTime{}
		}
	}
	c.log.Sizes, c.hashes, c.seen = c.log.Sizes[:0], c.hashes[:0], nil
	c.log.Wire = 0
	if c.log.Spill != nil {
		c.log.Spill.NotApplied = nil
	}
}

// lock takes the shards of the commit's keys and returns how to give them back.
func (c *commit) lock(db *DB) locked {
	for i := range c.ops {
		switch o := &c.ops[i]; {
		case o.keyed():
			c.hashes = append(c.hashes, o.hash)
		case o.kind == event.OpDeleteRange || o.kind == event.OpDatasetDropped:
			db.mem.LockAll() // it touches all keys
			return locked{mem: db.mem, all: true}
		}
	}
	switch len(c.hashes) {
	case 0:
		return locked{}
	case 1:
		db.mem.Lock(c.hashes[0])
		return locked{mem: db.mem, one: true, hash: c.hashes[0]}
	}
	return locked{mem: db.mem, many: db.mem.LockMany(c.hashes)}
}

// locked is the shards that a commit holds.
type locked struct {
	mem      *memtable.Table // nil = none
	one, all bool
	hash     uint64
	many     memtable.Locked
}

func (l locked) unlock() {
	switch {
	case l.mem == nil:
	case l.all:
		l.mem.UnlockAll()
	case l.one:
		l.mem.Unlock(l.hash)
	default:
		l.many.Unlock()
	}
}

// decide settles what depends on the newest versions of the keys, durable or not, and sizes the records. The shards are
// locked.
func (c *commit) decide(db *DB, now int64) error {
	watch := len(c.ops) > 1
	for i := range c.ops {
		o := &c.ops[i]
		if o.ds != nil && o.ds.dropped.Load() != 0 {
			return o.ds.errDropped() // the drop holds all shards, so this is decided before or after it
		}
		if o.decides() {
			if err := c.decideOne(db, i, now, watch); err != nil {
				return err
			}
		} else if watch && o.kind == event.OpPut && c.seen != nil {
			c.note(o)
		}
		size := event.PayloadSize(db.session, o.key, o.value, o.parts)
		c.log.Sizes = append(c.log.Sizes, size)
		c.log.Wire += int64(size) + event.MaxWireOverhead
	}
	for len(c.log.Pos) < len(c.ops) {
		c.log.Pos = append(c.log.Pos, 0)
	}
	return nil
}

func (c *commit) decideOne(db *DB, i int, now int64, watch bool) error {
	o := &c.ops[i]
	newest, err := c.newest(db, o)
	if err != nil {
		return err
	}
	last := newest.time
	if watch { // an earlier event of this batch may be newer than the memtable's
		if c.seen == nil {
			c.seen = make(map[string]recordTime)
			for j := range c.ops[:i] {
				if p := &c.ops[j]; p.keyed() {
					c.note(p)
				}
			}
		}
		if t, ok := c.seen[seenKey(o)]; ok {
			last = t
		}
	}
	switch {
	case o.kind == event.OpExpire:
		if !newest.found || newest.lsn != o.ifLSN {
			return errSuperseded
		}
		fallthrough
	case o.kind == event.OpDelete:
		if o.time = last; last.has {
			o.parts = event.InsertRecordTime(o.base, last.ns)
		}
	case o.conditional:
		if have := newest.current(o, now); have != o.ifLSN {
			return &ConflictError{Want: o.ifLSN, Have: have, head: newest.lsn}
		}
	case o.newest && last.has && o.time.ns <= last.ns:
		o.flags |= event.FlagNotApplied
		if c.log.Spill != nil {
			if len(c.log.Spill.NotApplied) >= maxStaleInSpill {
				return limitError("batch of more than %d stale events above %d bytes", maxStaleInSpill, db.opts.spillBatch)
			}
			c.log.Spill.NotApplied = append(c.log.Spill.NotApplied, uint64(i))
		}
		return nil
	}
	if watch {
		c.note(o)
	}
	return nil
}

// note remembers what an event of this batch leaves as the key's record time.
func (c *commit) note(o *op) {
	if o.flags&event.FlagNotApplied == 0 {
		c.seen[seenKey(o)] = o.time
	}
}

// maxStaleInSpill bounds the list of stale events in a commit frame.
const maxStaleInSpill = 2 << 20

func newRecordTime(t time.Time) (recordTime, error) {
	if t.Before(time.Unix(0, math.MinInt64)) || t.After(time.Unix(0, math.MaxInt64)) {
		return recordTime{}, limitError("record time %v, possible are the years 1678 to 2262", t)
	}
	return recordTime{t.UnixNano(), true}, nil
}

func seenKey(o *op) string { return fmt.Sprintf("%d/%s", o.ds.id, o.key) }

// newest is what is known of the key's newest version, durable or not. The shard is locked.
func (c *commit) newest(db *DB, o *op) (prior, error) {
	_, head, ok := db.mem.Head(o.hash, o.ds.id, o.key)
	if !ok {
		if db.mem.Departures() != c.departures {
			return prior{}, errDeparted
		}
		return o.prior, nil
	}
	return priorOf(head), nil
}

func priorOf(head tail.Record) prior {
	p := prior{found: true, op: head.Op(), lsn: head.LSN(), closed: head.Flags()&event.FlagRedacted != 0}
	p.time.ns, p.time.has = event.RecordTime(head.Parts())
	p.expires, _ = expiryOf(head)
	return p
}

// current is the LSN of the version as a reader would see it if everything were visible; 0 = absent.
func (p prior) current(o *op, now int64) LSN {
	if !p.found || p.op != event.OpPut || p.lsn == o.erased || p.closed || p.expires != 0 && now >= p.expires ||
		o.ds.ranges.Any() && o.ds.ranges.Covers(o.key, p.lsn, event.MaxLSN) {
		return 0
	}
	return p.lsn
}

// errSuperseded ends the expiry of a version that is no longer the key's newest.
var errSuperseded = fmt.Errorf("dyngo: the version was superseded")

// fork is where a timeline leaves its parent.
type fork struct {
	ctx    context.Context // Open ends with it
	parent [16]byte
	lsn    LSN       // the last that both have
	after  int64     // log time that the first event is later than
	lock   io.Closer // of the store's directory, which is taken over
}

// logFork writes the first event of a timeline that Restore begins.
func (db *DB) logFork() error {
	f := db.opts.fork
	if f == nil || f.parent == [16]byte{} { // of an empty store
		return nil
	}
	session := db.session
	db.session = 0 // the engine's own: no session is open yet
	defer func() { db.session = session }()
	c := db.newCommit()
	defer db.release(c)
	c.ops = append(c.ops, op{kind: event.OpFork, key: f.parent[:], value: coding.AppendUvarint(nil, uint64(f.lsn))})
	return db.begin(c, wal.Ack{Window: Causal.window()}, db.now())
}

// logSession writes the event that says who writes from now on. It is the first event of the process.
func (db *DB) logSession() error {
	s := event.Session{ID: db.session, Opened: db.now(), Actor: db.opts.Session.Actor, Address: db.opts.Session.Address,
		Client: db.opts.Session.Client}
	c := db.newCommit()
	defer db.release(c)
	c.ops = append(c.ops, op{kind: event.OpSessionOpened, value: event.AppendSession(nil, s)})
	return db.begin(c, wal.Ack{Window: Causal.window()}, db.now())
}
