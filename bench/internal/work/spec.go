// Package work is the side of the benchmark that runs in a process of its own: it opens one engine,
// runs one case against it and returns what it measured.
package work

import (
	"fmt"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/engine"
	"github.com/dyngodb/dyngo/bench/internal/stats"
)

// Spec is one case for one engine. It travels to the worker as JSON.
type Spec struct {
	Kind         Kind          `json:"kind"`
	Case         string        `json:"case,omitempty"` // of Past, Adapt and Beside
	Engine       string        `json:"engine"`
	Mode         engine.Mode   `json:"mode"`
	Dir          string        `json:"dir,omitempty"` // fresh and empty, but for Reopen
	Keys         int           `json:"keys,omitempty"`
	KeySize      int           `json:"key_size,omitempty"`
	ValueSize    int           `json:"value_size,omitempty"`
	Writers      int           `json:"writers,omitempty"`
	Readers      int           `json:"readers,omitempty"`
	Seconds      float64       `json:"seconds,omitempty"` // of measurement, without load and drain
	Ops          int64         `json:"ops,omitempty"`     // ends the measurement earlier; 0 = no end
	MaxBytes     int64         `json:"max_bytes,omitempty"`
	Dists        []Dist        `json:"dists,omitempty"`
	MemoryBudget int64         `json:"memory_budget,omitempty"`
	MemoryLimit  int64         `json:"memory_limit,omitempty"` // of process and page cache together; 0 = none
	Grouped      bool          `json:"grouped,omitempty"`      // the system enforces MemoryLimit
	Prepared     bool          `json:"prepared,omitempty"`     // Dir holds what Prepare left
	Pairs        int           `json:"pairs,omitempty"`        // measurements of Past, each beside another
	WarmUp       float64       `json:"warm_up_s,omitempty"`    // seconds before a measurement; 0 = warmUp
	Interval     time.Duration `json:"interval,omitempty"`     // of the series; 0 = no series
	Seed         uint64        `json:"seed,omitempty"`
	MinFree      int64         `json:"min_free,omitempty"` // bytes of disk; with less the case ends early
	Profile      string        `json:"profile,omitempty"`  // file for a CPU profile of the measurement
}

// Kind names what a worker does.
type Kind string

// The kinds of work.
const (
	Put     Kind = "put"     // Writers put distinct keys (Keys = 0) or any of Keys keys
	Get     Kind = "get"     // load Keys keys, then read them by each of Dists
	Mixed   Kind = "mixed"   // load Keys keys, then half reads, half updates
	Prepare Kind = "prepare" // load Keys keys, let the store settle and close it
	Scan    Kind = "scan"    // everything in key order, then 100 pairs from each of many starts
	Values  Kind = "values"  // puts of distinct keys, then gets of them
	Amplify Kind = "amplify" // overwrites of Keys keys by the first of Dists: bytes on the device and on disk
	Offer   Kind = "offer"   // overwrites at twice the rate that can be sustained
	Fill    Kind = "fill"    // load Keys keys, make them durable, say so and wait to be killed
	Touch   Kind = "touch"   // as Fill, over what Prepare left: Ops of its pairs are put again as they are
	Reopen  Kind = "reopen"  // open what Fill, Touch or Prepare left
	Memory  Kind = "memory"  // put each of Keys keys twice and count bytes
	Records Kind = "records" // open loop of large records
	Clients Kind = "clients" // many clients in process over time
	Past    Kind = "past"    // what only DynGO does: reads of the past, proofs, restores
	Adapt   Kind = "adapt"   // what DynGO adapts to, on against off
	Crowd   Kind = "crowd"   // one client, four times as many, and so on to Writers, and back
	Beside  Kind = "beside"  // gets and durable puts with every background job running and without
	Probe   Kind = "probe"   // what the disk and the processor can do, without an engine
)

// Dist is how keys are picked.
type Dist string

// The ways to pick.
const (
	Zipf    Dist = "zipf"    // theta 0.99 over all keys, the popular ones anywhere
	Uniform Dist = "uniform" // each key as likely
	Missing Dist = "missing" // only keys that were never written
)

// Result is what one measurement came to. A worker returns one or more.
type Result struct {
	Case       string                    `json:"case,omitempty"` // set where one worker measures several
	Ops        int64                     `json:"ops"`
	Seconds    float64                   `json:"seconds"`           // drain included
	Drain      float64                   `json:"drain_s,omitempty"` // of these
	OpsPerSec  float64                   `json:"ops_per_s"`
	CPU        float64                   `json:"cpu_us_per_op"` // user and system, whole worker
	Allocs     float64                   `json:"allocs_per_op"`
	AllocBytes float64                   `json:"alloc_bytes_per_op"`
	UserBytes  int64                     `json:"user_bytes,omitempty"` // keys and values written
	Device     int64                     `json:"device_bytes"`         // write_bytes of /proc/self/io
	DiskWrite  int64                     `json:"disk_bytes"`           // whole disk, by anyone; -1 unknown
	DeviceRead int64                     `json:"device_read_bytes"`    // read_bytes of /proc/self/io
	DiskReads  int64                     `json:"disk_reads"`           // requests, whole disk, by anyone; -1 unknown
	PeakRSS    int64                     `json:"peak_rss"`             // since the measurement began
	RSS        int64                     `json:"rss"`
	Latency    map[string]stats.Latency  `json:"latency,omitempty"` // by kind of operation
	Histogram  map[string][]stats.Bucket `json:"histogram,omitempty"`
	Series     map[string][]stats.Point  `json:"series,omitempty"`
	Extra      map[string]float64        `json:"extra,omitempty"`
	Limit      string                    `json:"limit,omitempty"` // what kept MemoryLimit
	Notes      []string                  `json:"notes,omitempty"`
}

// Output is all that a worker says on its standard output, as one line of JSON.
type Output struct {
	Info    engine.Info `json:"info"`
	Results []Result    `json:"results,omitempty"`
	Waiting bool        `json:"waiting,omitempty"` // Fill or Touch is done and waits to be killed
	Error   string      `json:"error,omitempty"`
}

// Run does what s says. Fill and Touch say so through waiting and then block for good.
func Run(s Spec, waiting func(Output)) Output {
	out := Output{Info: engine.Describe(s.Engine, s.config())}
	if s.Profile != "" {
		profile = &s.Profile
	}
	var err error
	switch s.Kind {
	case Put:
		out.Results, err = runPut(s)
	case Get:
		out.Results, err = runGet(s)
	case Mixed:
		out.Results, err = runMixed(s)
	case Prepare:
		err = runPrepare(s)
	case Scan:
		out.Results, err = runScan(s)
	case Values:
		out.Results, err = runValues(s)
	case Amplify:
		out.Results, err = runAmplify(s)
	case Offer:
		out.Results, err = runOffer(s)
	case Fill, Touch:
		err = runFill(s, func() { waiting(Output{Info: out.Info, Waiting: true}) })
	case Reopen:
		out.Results, err = runReopen(s)
	case Memory:
		out.Results, err = runMemory(s)
	case Records:
		out.Results, err = runRecords(s)
	case Clients:
		out.Results, err = runClients(s)
	case Past:
		out.Results, err = runPast(s)
	case Adapt:
		out.Results, err = runAdapt(s)
	case Crowd:
		out.Results, err = runCrowd(s)
	case Beside:
		out.Results, err = runBeside(s)
	case Probe:
		out.Results, err = runProbe(s)
	default:
		err = fmt.Errorf("no kind of work %q", s.Kind)
	}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

func (s Spec) config() engine.Config {
	return engine.Config{
		Dir:          s.Dir,
		Mode:         s.Mode,
		Writers:      s.Writers,
		Unflushed:    !s.Prepared && (s.Kind == Fill || s.Kind == Reopen),
		MemoryBudget: s.MemoryBudget,
	}
}
