package pacer

import "time"

// Metrics is what a Pacer has let pass and how fast it goes. Rates are in bytes a second, as of the last step.
type Metrics struct {
	Classes [ClassCount]ClassMetrics // by Class

	CapacityBytesPerSec   int64 // of the machine, set or learned: sinks when the disk or the processors get slow
	ForegroundBytesPerSec int64 // operations included
	BackgroundBytesPerSec int64 // what background work may do at the moment; at the floor, the foreground takes all
}

// ClassMetrics is what one class has done.
type ClassMetrics struct {
	Class   Class
	Urgency float64
	Begun   int64 // jobs
	Running int64 // jobs
	Waiting int64 // steps
	Bytes   int64 // that passed

	// Waited is the time that steps which passed were held back, summed up. When it rises as fast as the time goes by,
	// the class gets less than it could use.
	Waited time.Duration
}

// Metrics returns the present numbers.
func (p *Pacer) Metrics() Metrics {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := &p.mu.budget
	m := Metrics{
		CapacityBytesPerSec:   int64(b.capacity()),
		ForegroundBytesPerSec: int64(b.foreground),
		BackgroundBytesPerSec: int64(b.rate),
	}
	for i := range p.mu.classes {
		k := &p.mu.classes[i]
		m.Classes[i] = k.metrics
		m.Classes[i].Urgency, m.Classes[i].Waiting = k.urgency, int64(len(k.queue))
	}
	return m
}
