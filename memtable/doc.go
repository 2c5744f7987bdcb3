// Package memtable finds the records of the log's tail in memory by key, and keeps keys in order when a scan asks.
//
// It promises: a read at a current or held LSN gives the newest version of a key at that LSN, or says that memory does
// not have it, whatever inserts, growth, merges and departures go on; a version stays reachable until its
// generation leaves, deletes included; reads take no lock and allocate nothing. It does not know what an op means, which
// LSNs are durable or visible, how values in the log are read or what segments hold: the caller says so. It promises no
// compatibility.
//
// Life of a Table: New → AddPending and DrainPending by recovery → Insert, Get, Scan by everyone, for each generation
// Sorted and then Leave → Close, then the epoch domain's Close, then the arena's.
//
// # Structure
//
// 256 shards, chosen by the first 8 bits of the key's hash. A shard has a lock, for writers, and a state, which readers
// load with one atomic load: a table that takes the writes (cur) and, while the shard grows, the one before (old).
//
//	slot, 8 bytes:  tag, 16 bits of the hash | Pos of the key's newest version, 48 bits;  0 = empty
//	record:         prev → the version before, and so on down; LSNs fall along the chain; 0 = the oldest in memory
//
// A table is an array of slots with linear probing, at most ¾ full. It costs 11 to 21 bytes a key (32 while a shard
// moves) as long as no key leaves; with keys that come and go 16 to 32, half of the slots being dead then, and twice that
// while a shard moves. A lookup costs one cache miss for the slot, one or two for the record.
//
// Leave touches no slot and no chain: a generation departs, which means that its chunk numbers become unknown to the
// arena (see package tail), and that is looked at wherever a Pos is followed. A slot whose record has departed is dead:
// probes pass over it, a new key may take it, and it is not copied when the shard gets its next table. A shard gets one
// when its slots are used up, dead ones included, or when it has far more slots than keys: of twice the size, the same
// or less, as the keys in memory need.
//
// A dataset that has been scanned is kept in order by runs: sorted arrays of (8 bytes of the key after what all keys of
// the run share, Pos), 16 bytes for each key — not each version. New keys of such a dataset go to a list, fresh, which a
// scan or the background sorts into another run; runs are merged so that each is several times larger than those after
// it. The Pos is an anchor: it leads to some version of the key. If that version is the newest, it answers the scan; if
// not, the scan asks the index and has the entry point to the newest version. So overwriting costs the order nothing,
// and a scan of what was overwritten since the last one costs a lookup a key, once.
//
// # Locks
//
// In this order: leaver.mu; ordered.mergeMu; ordered.collectMu; a shard's lock (several in ascending order);
// ordered.freshMu. ordered.publishMu and order.mu are innermost but for freshMu. Nobody waits for the epoch domain with
// any lock but leaver.mu held. A shard's lock is held for an insert (with at most 24 slots of a growing table) or for 128
// slots of a growing table; the first use of a shard after recovery inserts all that recovery left for it.
//
// # Why readers need no lock
//
// A reader holds a guard of the epoch domain and reads at max; every Insert of an event with LSN ≤ max has returned
// before it began. Writers hold the shard's lock. All stores to slots, prev, state and entries are atomic.
//
// No torn record:
//
//  1. A record is filled before the store that first publishes its Pos (a slot), and what is
//     not atomic in it never changes after that. Who loads the Pos sees the record whole.
//
// No missed key, within a table:
//
//  2. A slot goes from 0 to a key once and never becomes 0 again; it changes its key only when it is dead. So a probe
//     that finds a key's slot once finds it until the key leaves, and an empty slot ends a probe only if the key was not
//     in the table when it was read. Insert takes a dead slot only after it has probed on to an empty one without finding
//     the key, under the lock: no key has two slots that are not dead. A reader that passed the slot before has begun
//     before that Insert returned.
//  3. An overwrite changes the slot's Pos to a newer version of the same key. Either value is a valid answer for a reader
//     in the middle of it: the Insert has not returned.
//
// No missed key, while a shard grows:
//
//  4. Growth (and its like: a table of the same size, or less) stores one state with cur = an empty table and old = the
//     former cur. old is not written any more, so it has every key inserted before, until that leaves. New versions go
//     to cur, with prev leading to what old has.
//  5. Draining copies a slot of old to cur if it is not dead and cur has not got the key. If it has, what cur has is
//     newer or the same.
//  6. A reader loads one state and looks in cur, then in old. A key inserted before the growth is in old; if the reader
//     finds it in cur, that is at least as new, by 5. A key inserted since is in cur.
//  7. A reader that loaded the state before the growth looks only in what is now old. It misses what was inserted into
//     cur since; but those Inserts had not returned when it began, since the state was stored before them.
//  8. The state without old is stored after the last slot was copied. Who loads it finds all in cur. Who loaded the one
//     before has old, which is freed through the domain.
//
// Chains:
//
//  9. Insert sets prev of the new record before it publishes it and touches no other prev. Nothing changes prev of
//     a published record. So the chain below a head is stable. It ends where it leads to a record that has departed.
//
// Memory:
//
//  10. Who holds a shard's lock instead of a guard is safe: slots and heads change under the lock only.
//  11. The memory is freed by Release through the domain, after every reader of before has left.
//
// # Why scans miss nothing
//
//  12. A new key of an ordered dataset is put into fresh, and uncollected is raised, before its Insert returns.
//     uncollected is lowered after the run with the key is published. So a scan that sees 0 finds every key it must
//     find in the runs it loads next; otherwise it collects, or waits for who does.
//
//  13. The first build looks at each shard after new keys go to fresh, and after taking the shard's lock once: an Insert
//     that did not see that had ended by then, and its slot is found. A key may come from both sides; merging keeps one.
//
//  14. An entry's record that has neither departed nor is marked superseded answers by itself: every version that came
//     after it, and whose Insert has returned, would have marked it. Insert marks the former head after storing the slot.
//
//  15. An entry's record that is marked is not used, since there is a newer version: the head is looked up.
//     Storing the mark before the slot would not do: the lookup could find the old head. One that has departed is not
//     used either, since a version that came after that did not mark it. The record itself can be read as long as an
//     entry leads to it.
//
//  16. Between two calls of Next the iterator keeps the key visited last and indices into the runs. If the published
//     runs are the same object as before, they have not been freed and the indices are valid; otherwise it seeks.
//
//  17. Merging and collecting use records without a guard: a generation whose records their entries may lead to is
//     not released before freeze, which waits for them.
//
// # Why departures are safe
//
// Leave marks the steps that it numbers. A caller that misses in memory looks at the segments as they are after that.
//
//  18. Generations depart oldest first, and the chunks of each in order. So at any moment what has departed is the records
//     up to some LSN; who has seen one departed sees all before it departed. A chain is cut by that at one place, below
//     which all has departed; and if a key's record in cur has departed, so has the older one in old: it can't be served
//     from there, nor be brought back by draining.
//  19. What memory does not find has left, or was inserted after the read began: a key that did not leave keeps its slot
//     by 2 and 4 to 8, its chain by 9. (A reader may hold an old value of a slot, whose record departs before it is looked
//     at, while the slot has a newer version: that one's Insert had not returned when the read began.) What has left is in
//     a segment that was published before Leave began; who saw it departed finds that segment.
//  20. What memory finds is the newest version ≤ max. It is reached through versions above max only; a newer one ≤ max
//     would lie above it in the chain, or has departed: then what was found departed before that, by 18, and would not
//     have been found.
//  21. Insert decides once, under the lock, whether the version before is in memory. If it has departed, the key is new: it
//     counts as one, and goes to fresh. The version before is then not marked as superseded and never will be; so a record
//     that is not marked after step 4 was its key's last when the generation departed. Step 5 counts them.
//  22. Step 4 takes and gives back each shard's lock: whoever found a departed record under a lock and without a guard is
//     done with it. Readers with a guard are waited for before the memory is freed, by 11. A record whose Pos is still in
//     a slot or prev is looked up, never simply read; Pos come again after 2^30 chunks, and by then the slot is gone,
//     since each shard gets a new table once in 256 calls.
//  23. Departures rises before the first record departs. Say it is c when a caller reads it and again after Head has found
//     nothing under the shard's lock. Let v be the key's newest version then. Its Insert has returned, and it has departed
//     with a call of Leave that began before c was read the first time: so it was inserted before that too. The caller's
//     search, memory first, then the segments of that time, ended at v, by 19 and 20. Nothing newer can come while the
//     lock is held.
//
// Entries and departures:
//
//  24. After step 3 no head lies in the generation. The wait of step 6 lets scans store what they had looked up; freeze
//     then as in 22. A dataset whose order is turned on after step 6 has listed the datasets gets no departed record: its
//     first build looks them up, and its fresh keys were inserted after that.
//  25. Each entry that leads to a departed record is changed to the key's newest version, or taken out if the key is not
//     found. It may have come back before that and have another entry; merging keeps any of the two, so that the mark of
//     15 is no reason to take it out. A key that comes back after the lookup is new, by 21: it gets its entry in a run
//     that is not merged with this one before that is exchanged for the one without the entry.
//
// A scan of memory and segments, by the caller, at an LSN that it holds: read Departures, then load the segments. For each
// step: call Next; if Departures has changed, read it and load the segments again, behind the key returned last; merge up
// to the last key that Next gave, or to the end if it gave none, the version of memory being the newer one.
//
//  26. No key is lost: if a step of memory missed a key because its version had left, the Leave had raised Departures
//     before the step ended. Either that was before Departures was read last, and then the segments, loaded after that,
//     have the version, by 19; or they are loaded again now. No key comes twice: each source goes on behind the key
//     returned last. None is wrong: memory's version, if it has one ≤ the LSN, is the newest, by 20.
//
// # Downsides
//
// The first scan of a dataset reads the record of every key in the table, and with a limit first all records in memory,
// of other datasets too. Draining reads each key's record once more. Leave reads all entries of all runs, so that many
// generations of a large memory had better leave together; runs that lose entries are copied, which for a moment takes
// their memory twice. A dead slot is passed over by probes as a taken one is.
package memtable
