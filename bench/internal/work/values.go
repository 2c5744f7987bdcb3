package work

import (
	"fmt"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/stats"
)

// runValues puts distinct keys with large values, then gets them, each key as likely as another.
func runValues(s Spec) ([]Result, error) {
	e, err := openFor(s)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	rec := newRecorder(s.Writers)
	loop := closedLoop{
		clients: newClients(s.Writers, s), duration: s.duration(), ops: s.Ops,
		interval: s.Interval, minFree: s.MinFree, dir: s.Dir,
		op: func(c *client) error {
			i := (c.n-1)*uint64(s.Writers) + uint64(c.id)
			putKey(c.key, i)
			putValue(c.value, i, 0)
			t := time.Now()
			err := e.Put(c.key, c.value)
			rec.record(c.id, time.Since(t))
			return err
		},
	}
	m := startMeter(s.Dir)
	lr, err := loop.run()
	if err != nil {
		return nil, err
	}
	drain := time.Now()
	if err := e.Drain(); err != nil {
		return nil, fmt.Errorf("drain: %w", err)
	}
	put := Result{Case: "put", Ops: lr.ops, Drain: time.Since(drain).Seconds()}
	m.stop(&put)
	put.UserBytes = lr.ops * int64(s.KeySize+s.ValueSize)
	put.Latency = map[string]stats.Latency{"put": rec.latency()}
	put.Series = map[string][]stats.Point{"put": lr.series}
	if lr.full {
		put.Notes = append(put.Notes, "ended early: the disk was running full")
	}
	settled := awaitQuiet(s.Dir, quietAtMost)
	put.Extra = map[string]float64{
		// What the engine wrote afterwards, in the background, counts too.
		"device_ratio": float64(deviceBytes()-m.device) / float64(max(put.UserBytes, 1)),
		"disk_ratio":   float64(DiskBytes(s.Dir)-m.disk) / float64(max(put.UserBytes, 1)),
	}
	if !settled {
		put.Notes = append(put.Notes, "still writing a minute after the puts")
	}
	// Every writer has done at least so many, so that all numbers below Keys are there.
	fewest := loop.clients[0].done.Load()
	for _, c := range loop.clients {
		fewest = min(fewest, c.done.Load())
	}
	s.Keys = int(fewest) * s.Writers
	if s.Keys == 0 {
		return []Result{put}, fmt.Errorf("%d puts by %d writers leave nothing to read", lr.ops, s.Writers)
	}
	get, err := measureGet(e, s, Uniform)
	if err != nil {
		return []Result{put}, err
	}
	get.Case = "get"
	return []Result{put, get}, nil
}
