// Package heat finds out which keys and key ranges are read, missed, scanned and written how often, from a sample.
//
// It promises a bounded cost, whatever the load: an operation that is not sampled pays for one multiplication and one
// comparison with a word that hardly ever changes; at most some samplesPerSecond operations a second are sampled, each for
// some hundred nanoseconds on its own processor and as much in the background; memory is at most MaxBytes, whatever keys
// come. It does not promise exact counts: figures are estimates from what was sampled, and nothing survives the process.
// The package promises no compatibility.
//
// Life of a Sampler: New → Due and Add from any goroutine, Run in one of its own → Look, Recent, Totals from anywhere → the
// context of Run ends. Without Run the readers do its work when they are called.
//
// # Which operations are sampled
//
// Each operation has a tick, which counts the operations of its stripe (epoch.Guard.Tick). Tick times the golden ratio, as a
// fraction of 2^32, is spread evenly whatever regular part of the ticks one looks at, so a loop over 64 keys has all of them
// sampled; one operation in Interval falls below 2^32/Interval. The interval is a power of two that follows the load, so
// that samples stay within samplesPerSecond; each sample stands for as many operations as the interval was at its time.
//
// # The way of a sample
//
// It is copied into a ring (ring.go), of which there is one for about each processor: writers claim a place by one
// compare-and-swap and never wait. When the ring is full, the sample is lost and counted, and those that got in stand for
// it. Ten times a second, while there is something to do, the rings are emptied into:
//
//   - cells (cells.go), key ranges with decayed counts and the counts of the last Steps steps of time. Once a second ranges
//     that are hot are split where their recent keys lie, cold neighbours are joined, so that each of some hundred ranges
//     has about the same share.
//   - the hottest keys (keys.go), by Space-Saving.
//   - histograms of how long operations took (latency.go).
//
// Counts decay with HalfLife: what is told as a rate is an average over about the last 15 seconds.
//
// What falls short: keys are told apart by their first MaxKeyBytes bytes where ranges are concerned; a scan counts once in
// each range that it has passed through, however many pairs it took there; the past of a range that was split lately is that
// of the larger range, shared out; a key with less than about a thousandth of all operations is not reliably among the
// hottest.
package heat
