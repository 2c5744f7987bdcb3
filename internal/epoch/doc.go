// Package epoch says when memory that readers reach without locks may be given back.
//
// A reader calls Enter, reads, and calls Exit. A writer that has unlinked something calls Retire with a function that
// frees it; the function runs when every reader that could still see the thing has left. The design follows Linux's
// sleepable RCU (SRCU): two sets of counters, of which one is drained while readers enter the other.
//
// It promises: a function given to Retire runs after all guards that existed at the call have exited; functions run
// one at a time, in the order of the calls, on the domain's goroutine; Close runs those that wait. It does not promise
// when: a guard that stays for an hour keeps an hour of memory. The package promises no compatibility.
//
// Life of a Domain: New → Enter/Exit, Retire, Synchronize from anywhere → Close, once.
//
// Concurrency: Enter and Exit take some nanoseconds and never wait; the counters are striped over cache lines by the
// address of the goroutine's stack. Retire never waits either, so that it may be called under locks and with a guard
// held. Its queue is therefore bounded by its callers: each function stands for a piece of memory that is already
// accounted for, and callers that retire in a loop call Synchronize in between.
//
// # Why a retired thing has no reader
//
// Say T is unlinked, then retired. The domain's goroutine takes it from the queue in epoch e, stores epoch e+1 and
// waits until each counter of parity e has been seen at zero.
//
//  1. A guard is valid only if the epoch was the same before and after its counter was raised. So a guard of epoch e
//     raised its counter while the epoch was e: before e+1 was stored.
//  2. The counter stays raised until Exit, on the stripe the guard remembers. A counter of parity e seen at zero after
//     the store of e+1 says that all guards of epoch e on that stripe have exited; a new one cannot appear, by 1.
//  3. Guards of epoch e-1 and before were waited for when the epoch moved on from theirs, by the same reasoning. So
//     after the wait, all guards that are still held belong to e+1 and began after the store of e+1.
//  4. T was unlinked before that store. A guard of e+1 began after it and, all these operations being sequentially
//     consistent, cannot find T.
//  5. An Enter that is interrupted between reading the epoch and raising the counter may raise a counter of the wrong
//     parity for a moment, or that of an epoch some turns ago. It sees that the epoch has moved, lowers the counter again
//     and has read nothing. This can only make the wait longer.
//  6. The wait is not missed: the goroutine stores which epoch it drains before it looks at a counter, and an Exit
//     that lowers a counter to zero looks at that word afterwards and leaves a token in a channel of capacity one. It
//     does so if the drained epoch has its counter's parity, whatever its own epoch is: the goroutine may have seen the
//     guard of an Enter that was interrupted for two epochs or more.
package epoch
