// Package dyngo is an event-sourced, log-structured storage engine to embed in Go programs.
//
// The log is the database: every change is an event in one append-only log with a dense LSN; memory and everything else on
// disk is derived from it. A write that was acknowledged as durable survives kill -9 and power loss, and nobody sees data
// of a Strong dataset before it is durable.
//
//	db, err := dyngo.Open("data", nil)
//	if err != nil {
//		return err
//	}
//	defer db.Close()
//	scores, err := db.CreateDataset("scores", nil)
//	if err != nil {
//		return err
//	}
//	if _, err := scores.Put([]byte("anna"), []byte("42")); err != nil { // durable on return
//		return err
//	}
//	value, err := scores.Get([]byte("anna"))
//	for kv, err := range scores.Scan(dyngo.Prefix([]byte("a"))) {
//		if err != nil {
//			return err
//		}
//		fmt.Printf("%s=%s (LSN %d)\n", kv.Key, kv.Value, kv.LSN)
//	}
//
// # The packages
//
//	event      the event and its bytes: what everybody speaks of
//	wal        the log: files, frames, group commit, verification
//	memtable   recent events by key: hash first, order on demand
//	segment    older events by key: immutable sorted files
//	manifest   which files form the store
//	compaction which segments to merge, and the merging
//	recovery   from the files to a running store
//	snapshot   the state at one LSN, kept under a name
//	backup     copies of a store in a place of immutable objects
//	integrity  the hash tree over the log, signed heads of it, proofs
//	keyring    the keys that values of subjects are encrypted under
//	cmd        dyngo-cli, dyngo-replay
//	internal   vfs (files, crashes, faults) · clock · tail (events in memory) · epoch (when memory may go) · offheap ·
//	           cache (blocks of segments) · iter (merging) · pacer (background work) · heat (what is hot) · coding · corruption
//
// # The way of a write
//
// Dataset.Put → op.check → commit.add (encode) → wal.Log.Admit → lock the key's shard → wal.Log.Begin (LSN, time, place in
// memory) → op.fill → memtable.Insert → unlock → wal.Log.Applied → wal.Log.Wait (one caller leads: frame, write, sync).
// docs/ARCHITECTURE.md follows it in more detail.
//
// # Locks
//
// Taken in this order; each guards what its comment lists:
//
//	DB.erasing                   held while a subject is erased, during I/O
//	DB.snapshots                 held while a snapshot is made or dropped, or a value redacted, during I/O; retention.one is taken under it
//	DB.starting                  held while the log's first file is made; no other path holds a lock while taking it
//	retention.one                one pass of retention; held during I/O, flusher.one and treeKeeper.one are taken under it
//	treeKeeper.sealing           held while hashes of segments are logged; a write, so retention.one is not taken above it
//	treeKeeper.one               one at a time adds to the tree over the log; held during I/O
//	redactedHashes.mu            held while the log is read for what it says of redacted values
//	compactor.one, flusher.one   one merge, one flush at a time; held during I/O; neither is taken under the other
//	flusher.leaving              one generation at a time leaves memory, also while a flush goes on
//	flusher.pressing             held while flushes and writers are pressed; the pacer's lock and throttle.mu are taken under it
//	sortedFiles.mu               held while the sources of reads change
//	catalog.mu                   dataset created or dropped
//	Ring.mu (keyring)            held while the folder of keys is changed or searched, during I/O
//	DB.sealing                   a commit of encrypted values has it for reading until it has its LSNs
//	memtable shard(s)            in ascending order; LockAll takes all
//	wal.Log.mu                   LSNs and places; never held during I/O
//	wal.writer.mu                the newest file; held while a frame is handed to the file system
//	past.mu                      what a view of the past has found out; held while a log file is read into an overlay
//	sideFiles.mu                 held while a side file is opened
//	catalog.dictMu, expirer.mu, flusher.mu, viewSet.mu, holdSet.mu, sortedFiles.goneMu, wal.Files.mu, Ring.cacheMu,
//	heat.Sampler.mu              leaves
//
// Readers take none of them: they pin an epoch.Domain and follow atomic pointers. Scans hold their segments by a reference.
//
// # Concurrency and ends
//
// All types but Batch and readers of large values are safe for concurrent use. Every goroutine ends with Close: the log's
// (wal.Log.run), the expirer's, the flusher's, the compactor's, retention's, that of old views, that of heat, the filling of shards after Open, live.sock's, and those of
// epoch and memtable.
//
// Names and shapes in this package keep compatible from version 1.0 on; until then the CHANGELOG tells what changed.
package dyngo
