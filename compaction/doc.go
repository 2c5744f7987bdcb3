// Package compaction decides which segments are merged, and merges them.
//
// Pick is the decision: a pure function from a version, what is read, and what is under way, to a Job that explains
// itself. Run does the work of a job and returns what the manifest is to be told; it tells nobody itself. The package
// makes no promise of compatibility.
//
// Life of a job: Pick, on the current version → Run, while the caller holds that version → the caller applies
// Result.Edit. Any number of jobs at once, each picked beside those under way (Input.Running).
//
// # What Pick aims at
//
// Runs are ordered by age, and each run is a list of segments with disjoint keys. A flush makes a new run. Pick keeps
// four things in bounds, each with as few bytes rewritten as it can:
//
//   - Space. What is overwritten lies twice on disk, once in the oldest run and once above it. All runs above it
//     together have at most a share of its bytes (Options.SpaceShare), so a store takes at most 1 + that share of what
//     lives. Beyond it, slices of the upper runs are merged into the oldest, the fullest first: a slice that was merged
//     is left alone until it is full again. Large values in the log count where a segment refers to them. So do old
//     versions in the oldest run that were kept for a pin, once no pin needs them: how many that are is guessed from
//     the LSNs of those that replace them (MinReplacing and MaxReplacing of a segment) and the oldest pin.
//   - Sources. A key lies in at most so many runs (Options.MaxSources). Where it is more, neighbouring runs are merged,
//     those that make one source of many for the fewest bytes: the small and young ones, mostly. So the runs above the
//     oldest have sizes like those of size-tiered compaction, with no fixed ratio.
//   - Reads. Where ranges are read so often that fewer sources are worth more than the bytes rewritten, they are merged
//     long before the bound.
//   - Tombstones. Segments full of them are merged with what they hide, down to the oldest run, where they go too.
//
// What costs nothing comes first: segments of which nothing can be seen are dropped unread (Drop), and runs whose
// keys do not meet become one (Move). So keys written in order are never rewritten, and a queue takes no more than
// its content.
//
// A job is bounded (Options.MaxJobBytes), and so are the disk and the time that it needs. For that the files of a run
// must not reach over too much of the older ones: see Cutter, which flushes should use too. If all the same no merge
// fits into the bound, a file is rewritten in pieces that do (Width).
//
// # What makes a job right
//
// For each key, LSNs fall from run to run. A merge of runs i to j (j the oldest) puts its output into run j, so for
// each input of a newer run, each segment of an older run up to j that may hold one of its keys must be an input too,
// and each segment of run j between the smallest and largest key of the job. Jobs beside each other have no run and
// key in common: neither moves versions past those of the other.
//
// Without writes, Pick comes to an end: each job but those of Width moves bytes to an older run or makes fewer of
// them or of the files, and Width only cuts what is too large for any merge.
//
// # What stays
//
// The versions of a key are read from the newest down. A version stays if a read can find it: one at a pin, or at the
// durable LSN or later; all as they were when the job began. One that a range delete or the drop of its dataset hides
// from all these goes. A tombstone goes where nothing older is left: no older run has a segment that could hold the
// key, and no older version stays for a pin. What a merge operand applies to stays with it. A range delete goes when
// nothing older that it covers is left, in no segment and not among what the job keeps, or when a newer one around it
// does the same.
//
// A record time is kept as long as its tombstone.
//
// # Writing
//
// Outputs are cut by a Cutter, between keys. They are synced, and their directory, when Run returns; after a crash
// before that, or before the edit is durable, they are orphans. On any error Run removes them. Run asks Pace before
// each step of at most 256 KiB. The oldest run is compressed with zstd once it is large, all else with s2.
//
// Moved segments still name in their properties the run that they were written for.
//
// # Figures
//
// Bytes written to segments (the flush included) for each byte of entries, space as a mean over time, both in the
// model of TestSimulation (-ratio 50 -mem 500); live data 50 times a flush. The last column is a model of a store
// with levels, each ten times as large as the one before.
//
//	load                         written  space  levels
//	uniform overwrites               7.6   1.16     9.5
//	zipf overwrites                  4.6   1.15     5.2
//	keys in order                    1.0   1.00     2.0
//	new keys in random order         7.1   1.00     8.9
//	queue                            1.1   1.00     2.1
//	half deletes, uniform            6.5   1.17     7.9
//
// # Downsides
//
// Whether a segment that is no input holds anything older under a range delete is judged by its LSNs alone. Those of
// the oldest run reach back, so range deletes of many different ranges stay until all that may lie under them is read
// at once: see Rewrite.
//
// Sizes are those of files: a run that compresses better looks smaller than it is. What a merge reclaims is guessed
// from counts, as nothing is read before. A dataset that shares a segment with one that is dropped keeps the segment
// until it is merged. A key range that several datasets of very different heat share is judged by what is hottest.
package compaction
