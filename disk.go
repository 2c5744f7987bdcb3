package dyngo

import (
	"sync"
	"time"
)

// diskUse remembers how much of the disk was free, to tell when it will be full.
type diskUse struct {
	mu      sync.Mutex   // guards samples; a leaf
	samples []diskSample // of about a day, oldest first
}

type diskSample struct{ at, free int64 } // monotonic time, bytes

const (
	sampleDisk  = 15 * time.Minute
	diskSamples = 96
)

// add notes what is free now.
func (u *diskUse) add(at, free int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := len(u.samples); n > 0 && at-u.samples[n-1].at < int64(sampleDisk) {
		return
	}
	if len(u.samples) == diskSamples {
		u.samples = append(u.samples[:0], u.samples[1:]...)
	}
	u.samples = append(u.samples, diskSample{at, free})
}

// daysToFull is when nothing is free any more if it goes on like that, 0 = it can't be told: less is known than an hour, or
// what is free does not shrink.
func (u *diskUse) daysToFull(at, free int64) float64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.samples) == 0 {
		return 0
	}
	first := u.samples[0]
	if at-first.at < int64(time.Hour) || free >= first.free {
		return 0
	}
	return float64(free) / float64(first.free-free) * float64(at-first.at) / float64(24*time.Hour)
}

// diskLow tells once that the disk fills.
func (r *retention) diskLow() {
	free, total, err := r.db.opts.FS.Free(r.db.dir)
	if err != nil || total <= 0 {
		return // it is not known
	}
	r.disk.add(r.db.opts.Clock.Mono(), free)
	r.one.Lock()
	defer r.one.Unlock()
	if low := free < total/10; low != r.low {
		if r.low = low; !low {
			return
		}
		r.db.tell(func() {
			r.db.opts.Logger.Warn("dyngo: less than a tenth of the disk is free", "free", free, "total", total)
			if l := r.db.opts.Listener.DiskLow; l != nil {
				l(free, total)
			}
		})
	}
}
