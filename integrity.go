package dyngo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/internal/pacer"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

// treeKeeper keeps the hash tree over the log: it reads what has become durable and adds a leaf for each commit frame. It runs
// behind the log, holds back while the foreground is busy, and catches up when it can; retention waits for it.
//
// A crash takes back leaves that were not synced; the next process reads them from the log again. A log file goes only when its
// leaves are durable.
type treeKeeper struct {
	db  *DB
	dir string
	key *integrity.Key // nil = heads are not signed
	src *integrity.Source

	wake    chan struct{}
	durable atomic.Uint64         // events up to this LSN have durable leaves
	failed  atomic.Pointer[error] // why the tree can't go on, nil = it can

	one     sync.Mutex // guards the fields below: one at a time works
	tree    *integrity.Tree
	log     *wal.Follower
	covered LSN   // of the last event in the tree
	head    int64 // frames in the newest signed head

	sealing sync.Mutex      // one at a time logs hashes; guards sealed
	sealed  map[string]bool // files whose hashes were logged, nil = not yet known
}

// treeEvery is how often the log is looked at.
const treeEvery = time.Second

// newTreeKeeper returns nil if the store keeps no tree. The log's id is known.
func newTreeKeeper(db *DB) (*treeKeeper, error) {
	k := &treeKeeper{db: db, dir: path.Join(db.dir, integrity.Dir), src: leafSource(db.files, db.redactedHash), wake: make(chan struct{}, 1)}
	has, err := vfs.Exists(db.opts.FS, k.dir)
	if err != nil || !has && !db.opts.Integrity || db.opts.InMemory {
		return nil, err
	}
	if !has { // from here on every owner goes on with it
		if err := db.opts.FS.MkdirAll(k.dir); err != nil {
			return nil, err
		}
	}
	if db.opts.SigningKey != "" {
		if k.key, err = integrity.ParseKey(db.opts.SigningKey); err != nil {
			return nil, fmt.Errorf("dyngo: Options.SigningKey: %w", err)
		}
	}
	return k, nil
}

// leafSource reads what events refer to from log and value files. redacted is as in integrity.Source.
func leafSource(files *wal.Files, redacted func(LSN) (integrity.Hash, bool, error)) *integrity.Source {
	return &integrity.Source{
		Redacted: redacted,
		Piece: func(p event.Piece) ([]byte, error) {
			b := make([]byte, p.StoredLen) // at most 1 MiB
			return b, files.ReadPiece(b, wal.Position{File: p.File, Offset: int64(p.Offset)}, p.CRC)
		},
		Unpack: func(codec event.Codec, stored []byte, n int) ([]byte, error) {
			return decompress(nil, codec, stored, n)
		},
	}
}

// leafOf is the hash of a frame's record. Of a frame whose events can't be read any more, as retention has dropped something, or
// the log does not tell of a redaction, it is that of a record with a root of zeros; gone says so.
func leafOf(src *integrity.Source, f *wal.Frame) (h integrity.Hash, gone bool, err error) {
	r, err := src.RecordOf(f, nil)
	if errors.Is(err, wal.ErrDropped) || errors.Is(err, integrity.ErrRedacted) {
		r.Root = integrity.Hash{}
		return r.Hash(), true, nil
	}
	return r.Hash(), false, err
}

// nudge has run look for work. It does not block.
func (k *treeKeeper) nudge() {
	if k == nil {
		return
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run ends with db.ctx.
func (k *treeKeeper) run() {
	timer := k.db.opts.Clock.NewTimer(treeEvery)
	defer timer.Stop()
	for {
		rotated := false
		select {
		case <-k.wake:
			rotated = true
		case <-timer.C():
		case <-k.db.ctx.Done():
			return
		}
		err := k.look(k.db.ctx, rotated)
		if err == nil {
			err = k.logSealed()
		}
		if err != nil {
			k.tell(err)
		}
		timer.Reset(treeEvery)
	}
}

// tell logs why the tree falls behind.
func (k *treeKeeper) tell(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	if old := k.failed.Swap(&err); old != nil && (*old).Error() == err.Error() {
		return
	}
	k.db.tell(func() {
		k.db.opts.Logger.Error("dyngo: the tree over the log can't go on; log files stay until it can; "+
			"verify tells what is wrong, a removed folder "+integrity.Dir+" is built anew from the log", "err", err)
	})
}

// look catches up with the log. If a log file was sealed, what was added becomes durable and is signed.
func (k *treeKeeper) look(ctx context.Context, rotated bool) error {
	k.one.Lock()
	defer k.one.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return err
	}
	if rotated {
		if _, err := k.newHead(); err != nil {
			return err
		}
	}
	k.failed.Store(nil)
	return nil
}

// reach catches up before log files go, so that no frame is left that refers to them.
func (k *treeKeeper) reach(ctx context.Context) {
	if k == nil {
		return
	}
	if err := k.look(ctx, true); err != nil {
		k.tell(err)
	}
}

// catchUp adds what is durable. one is held.
func (k *treeKeeper) catchUp(ctx context.Context) error {
	durable := k.db.DurableLSN()
	if durable <= k.covered {
		return nil
	}
	if err := k.open(); err != nil {
		return err
	}
	work := k.db.pacer.Begin(pacer.Verify)
	defer work.End()
	for bytes := int64(0); k.covered < durable; {
		f, err := k.log.Try()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = k.add(f)
		}
		if err != nil {
			k.log.Close() // only read from; the next look begins anew
			k.log = nil
			return err
		}
		if bytes += f.Size(); bytes >= pacer.StepBytes {
			if err := work.Wait(ctx, bytes); err != nil {
				return err
			}
			bytes = 0
		}
	}
	return nil
}

// open opens the tree, and the log where the tree ends.
func (k *treeKeeper) open() (err error) {
	db := k.db
	if k.tree == nil {
		id, err := db.logID()
		if err == nil {
			k.tree, err = integrity.Open(db.opts.FS, k.dir, integrity.Options{LogID: id})
		}
		if err != nil {
			return err
		}
		k.head = k.readHeads()
	}
	if k.log != nil {
		return nil
	}
	k.log, err = followFrom(db.opts.FS, db.walDir(), db.sorted.set.Current().OldestLog, k.tree.Last(), wal.FollowOptions{Clock: db.opts.Clock})
	return err
}

// followFrom opens the log at the file that holds an LSN, or at its first.
func followFrom(fsys vfs.FS, dir string, oldest uint64, lsn LSN, o wal.FollowOptions) (*wal.Follower, error) {
	files, err := wal.ListFiles(fsys, dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Seq >= oldest && (o.FromFile == 0 || f.FirstLSN <= lsn) {
			o.FromFile = f.Seq
		}
	}
	return wal.Follow(fsys, dir, o)
}

// add takes a frame of the log.
func (k *treeKeeper) add(f *wal.Frame) error {
	last := f.BaseLSN + LSN(f.Count) - 1
	if f.Kind != wal.KindCommit || last <= k.covered || f.BaseLSN < k.tree.Last() {
		return nil
	}
	h, gone, err := leafOf(k.src, f)
	if err != nil {
		return err
	}
	if f.BaseLSN == k.tree.Last() { // after it was opened: it goes on behind the last one, which must be the same
		e, err := k.tree.At(k.tree.Size() - 1)
		if err == nil && e.Hash != h && !gone {
			err = integrity.Mismatch(f, k.tree.Size()-1)
		}
		if err != nil {
			return err
		}
	} else if err := k.tree.Append(f.BaseLSN, h); err != nil {
		return err
	}
	k.covered = last
	return nil
}

// sync makes the leaves durable. one is held.
func (k *treeKeeper) sync() error {
	if k.tree == nil {
		return nil
	}
	if err := k.tree.Sync(); err != nil {
		return err
	}
	if k.durable.Swap(uint64(k.covered)) < uint64(k.covered) {
		k.db.retention.nudge()
	}
	return nil
}

// newHead makes all leaves durable and returns the head of the tree; signed, it is kept, once. one is held.
func (k *treeKeeper) newHead() (*treeHead, error) {
	if err := k.sync(); err != nil {
		return nil, err
	}
	if k.covered == 0 {
		return nil, errors.New("dyngo: the log has no event")
	}
	h, err := headOf(k.tree, k.db.id, k.covered, k.db.opts.Clock.Wall())
	if err != nil {
		return nil, err
	}
	note, err := k.key.Sign(&h)
	if err == nil && k.key.Private() && h.Size > k.head {
		if err = integrity.KeepNote(k.db.opts.FS, headsName(k.db.dir), note); err == nil {
			k.head = h.Size
		}
	}
	return &treeHead{h, note}, err
}

// treeHead is a head with its note.
type treeHead struct {
	integrity.Head
	note string
}

func headOf(t *integrity.Tree, logID [16]byte, last LSN, wall int64) (integrity.Head, error) {
	h := integrity.Head{Origin: integrity.Origin(logID), Size: t.Size(), LSN: last, Time: time.Unix(0, wall).UTC()}
	var err error
	h.Root, err = t.Root(h.Size)
	return h, err
}

// headsName is the file of the heads that the store has signed itself.
func headsName(dir string) string { return path.Join(dir, integrity.Dir, integrity.HeadsName) }

// readHeads says how many frames the newest head has that was signed before. What can't be read counts as none.
func (k *treeKeeper) readHeads() int64 {
	data, err := k.db.opts.FS.ReadFile(headsName(k.db.dir), integrity.MaxHeadsBytes)
	if err != nil {
		return 0
	}
	heads, _, _ := (*integrity.Key)(nil).ParseHeads(data)
	if len(heads) == 0 {
		return 0
	}
	return heads[len(heads)-1].Size
}

// logSealed logs the hashes of segments and value files that the manifest has gained, as events, so that the tree covers them.
// Which ones were logged is kept in a file; without it they are logged once more. When the disk is full it waits for
// space, which retention makes: one must not be held.
func (k *treeKeeper) logSealed() error {
	k.sealing.Lock()
	defer k.sealing.Unlock()
	db := k.db
	if !db.started.Load() || db.log.Err() != nil {
		return nil
	}
	if k.sealed == nil {
		k.sealed = k.readSealed()
	}
	now := map[string]bool{}
	c := db.newCommit()
	defer db.release(c)
	for name, hash := range sealedFiles(db.sorted.set.Current()) {
		if now[name] = true; !k.sealed[name] {
			c.ops = append(c.ops, op{kind: event.OpSegmentSealed, key: []byte(name), value: hash[:]})
		}
	}
	if len(c.ops) == 0 {
		return nil
	}
	g, err := db.enterCall()
	if err != nil {
		return nil // it is being closed
	}
	defer g.Exit()
	if err := db.commit(c, wal.Ack{Durable: true, Window: Causal.window()}, false, db.now()); err != nil {
		return fmt.Errorf("log the hashes of segments: %w", err)
	}
	k.sealed = now
	names := make([]string, 0, len(now))
	for name := range now {
		names = append(names, name+"\n")
	}
	slices.Sort(names)
	return vfs.WriteFileSync(db.opts.FS, path.Join(k.dir, "sealed"), []byte(strings.Join(names, "")))
}

func (k *treeKeeper) readSealed() map[string]bool {
	sealed := map[string]bool{}
	data, err := k.db.opts.FS.ReadFile(path.Join(k.dir, "sealed"), 64<<20)
	if err != nil {
		return sealed
	}
	for name := range strings.Lines(string(data)) {
		sealed[strings.TrimSuffix(name, "\n")] = true
	}
	return sealed
}

// sealedFiles are the files of a version with their hashes, by name.
func sealedFiles(m *manifest.Version) map[string][32]byte {
	files := map[string][32]byte{}
	for _, s := range slices.AppendSeq(slices.Clone(m.History), m.All()) {
		files[segmentDisplayName(s.Num)] = s.SHA256
	}
	for _, v := range m.Values {
		files[valueDisplayName(v.Num)] = v.SHA256
	}
	return files
}

// keeps says why the tree needs log files to which events up to last may refer, "" = it does not.
func (k *treeKeeper) keeps(last LSN) string {
	if k == nil || last <= LSN(k.durable.Load()) {
		return ""
	}
	if err := k.failed.Load(); err != nil {
		return fmt.Sprintf("the tree over the log can't go on: %v", *err)
	}
	return fmt.Sprintf("the tree over the log has events up to LSN %d", k.durable.Load())
}

// maxCatchUp is how many events Close adds to the tree at most; the rest is for the next process.
const maxCatchUp = 1 << 18

// close adds what came last, and signs it. The log is closed.
func (k *treeKeeper) close() error {
	if k == nil {
		return nil
	}
	k.one.Lock()
	defer k.one.Unlock()
	var err error
	if durable := k.db.DurableLSN(); durable > k.covered && k.db.started.Load() {
		err = k.open()
		if err == nil && durable-max(k.covered, k.tree.Last()) <= maxCatchUp {
			err = k.catchUp(context.Background())
		}
	}
	if k.covered > 0 && err == nil {
		_, err = k.newHead()
	}
	if err != nil {
		k.tell(err)
	}
	if k.log != nil {
		k.log.Close() // only read from
	}
	if k.tree == nil {
		return nil
	}
	return k.tree.Close()
}

// ErrNoTree is returned for a store that keeps no tree over its log: Options.Integrity begins one.
var ErrNoTree = errors.New("dyngo: the store keeps no tree over its log")

// TreeHead has the tree catch up with what is durable now, makes it durable and returns its head as a note: signed and kept in
// the store if Options.SigningKey is there. Who keeps it elsewhere can tell later whether the log up to it was changed, see
// VerifyWith. It fails with ErrNoTree if the store keeps none.
func (db *DB) TreeHead(ctx context.Context) (note string, err error) {
	h, err := db.headNow(ctx, db.DurableLSN())
	if err != nil {
		return "", err
	}
	return h.note, nil
}

func (db *DB) headNow(ctx context.Context, lsn LSN) (*treeHead, error) {
	switch {
	case db.closed.Load():
		return nil, ErrClosed
	case db.tree == nil:
		return nil, ErrNoTree
	}
	g := db.calls.Enter()
	defer g.Exit()
	if db.closed.Load() {
		return nil, ErrClosed
	}
	k := db.tree
	k.one.Lock()
	defer k.one.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return nil, err
	}
	if k.covered < lsn {
		return nil, fmt.Errorf("dyngo: the tree has events up to LSN %d, not %d", k.covered, lsn)
	}
	return k.newHead()
}
