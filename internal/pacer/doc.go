// Package pacer holds background work back so that the foreground finds processors and disk free.
//
// One Pacer serves flushes, compactions, index builds and verification alike. A job asks before each step:
//
//	job := p.Begin(pacer.Compaction)
//	defer job.End()
//	for … {
//		if err := job.Wait(ctx, pacer.StepBytes); err != nil {
//			return err // the context ended
//		}
//		… read, merge and write so many bytes
//	}
//
// The foreground only notes what it has done (Foreground), in some nanoseconds; nothing ever makes it wait.
//
// # How fast
//
// Everything is counted in bytes; an operation of the foreground counts OpBytes beside its own. Background work has an
// account, which fills at
//
//	rate = max(capacity - foreground, floor)      bytes a second
//
// and a step passes unless the account is in debt; it may put it there, and lets other
// goroutines have the processor first. While the foreground is busy, a step also waits until fewer jobs work than there are processors
// less one, so that whoever wakes up, as a writer whose sync is done, finds one that is free and need not wait for a job to be
// preempted. A job that takes longer than 10 ms for a step does not count as working any more: it may wait itself. capacity is what the machine can do in all, set
// or learned; foreground is an average over some 50 ms, looked at every 20 ms while a job waits. Urgency u of a class,
// 0 to 1, raises the rate by u·(capacity - rate) while a job of the class waits. A class of urgency 1 does not wait.
//
// When several classes wait, each pays a price for its bytes, and the one that has paid least passes: a flush gets four
// times the bytes of a compaction, that gets four times those of an index build, and that four times those of
// verification. None starves, and none saves anything up while it is away. (Start-time fair queueing, Goyal and others,
// SIGCOMM 1996.) Within a class, first come is first served.
//
// Capacity is learned from the jobs: what one lets pass, by the time that it then works until it waits again, is its
// speed. The fastest speed of late, times Cores, is the capacity. "Of late" means that it fades by half a minute, so
// that a disk which has become slow is noticed.
//
// It promises: rates follow the foreground within 100 ms, a waiting job wakes when its context ends, no goroutine runs
// and no timer is set while nobody waits. It does not look at the disk, and work that does not ask is not held back.
// The package promises no compatibility.
//
// Concurrency: everything may be called at any time, but each Job belongs to one goroutine at a time.
package pacer
