// Package recovery turns the files of a store into its running state.
//
// It promises that the state is the effect of a prefix of the log which reaches at least to the last acknowledged durable
// LSN, that a batch is in it whole or not at all, and that damage is an error which names file and offset: it is never
// skipped and never taken for a torn tail when the log itself says that the bytes were durable. It changes no file.
//
// # The ways a crash can leave the files
//
//  1. CLEAN exists: the store was closed. The log ends where CLEAN says; any difference is damage.
//  2. The last file ends in a torn tail: the frames that were being written when the power failed, in any mixture of old
//     and new sectors. The log ends before the first frame that is not whole. No frame behind it can have been
//     acknowledged, because a group is acknowledged only after a sync that covers all frames before it. Package wal draws
//     the line between this and damage: see its rules for the tail.
//  3. A file under a temporary name: the power failed while the next file was being started. Nothing in it was
//     acknowledged; the next writer removes it.
//  4. The newest file holds only header and dictionary: it was started, then the power failed.
//  5. Data frames that nothing refers to: a large value or batch whose commit frame was not written. They are garbage.
//  6. The process was killed, the machine was not: everything that was written is there, but perhaps only in the page
//     cache, and after a failed sync perhaps never to be written. The next writer writes again what may not be on disk, over
//     itself, and syncs the old file, before it serves anything and before a new file's header vouches for it.
//  7. Files whose names begin with redact-: a value was being redacted. If the log has the event that says so, they are whole
//     and take the place of the log files that they are of; else they go. Package dyngo does so before the store is used.
//
// # How it runs
//
// One goroutine reads the frames in order (package wal reads ahead and checks them), copies the events into the tail and
// hands each to the shard of its key, which only notes it: AddPending. A shard takes what it noted into its table when it
// is first asked for, or when the background reaches it. So Open returns when the log has been read, and a read waits only
// for its own shard. Options.Seal takes what was read so far, and may have it written and leave memory while Run goes on.
//
// Concurrency: Run is called once, before anybody else has the memtable, but for who flushes what Seal has taken. The format
// of files is package wal's. This package promises no compatibility to users of DynGO.
package recovery
