package main

import (
	"fmt"

	"github.com/dyngodb/dyngo/bench/internal/chart"
	"github.com/dyngodb/dyngo/bench/internal/stats"
	"github.com/dyngodb/dyngo/bench/internal/work"
)

// suiteText says what a suite does, and which limit to read its numbers by.
func (r *benchRun) suiteText(p *page, s suiteOf) {
	text := map[string]string{
		"durable": "Closed loop; keys of 12 bytes, all distinct, values of 100 random bytes; a put returns when a power " +
			"loss can't take it back. The limit is writers ÷ (fdatasync + wake-up).",
		"buffered": "Closed loop; keys of 12 bytes drawn from a fixed set, values of 100 random bytes; puts return when " +
			"applied. The time runs until everything is durable. The limit is the device's bandwidth.",
		"get": "1 M keys of 12 bytes with values of 100 bytes, loaded, settled, everything in memory; each value is " +
			"copied into the caller's buffer and checked. *zipf* is theta 0.99, *missing* asks for keys that never were. " +
			"The limit is one to three cache misses.",
		"mixed": "1 M keys; each client reads and updates in turn, keys by zipf with theta 0.99, buffered puts, drain " +
			"included.",
		"open": "1 M puts in batches of 100, all durable, none in a sorted file; then the process is killed with SIGKILL. " +
			"Measured in a new process from the call of Open, with the files in the page cache. Afterwards the keys " +
			"are read back and checked, for at most three seconds. The larger store, with an eighth of its size for caches and " +
			"memtables, was *closed* as it should be, or killed after 100,000 more puts.",
		"large": "Keys of 12 bytes with values of 100 bytes; caches and memtables get an eighth of their bytes, the process with " +
			"its page cache a quarter more and 32 MiB. Loaded in key order of no pattern, settled, closed, dropped from the page " +
			"cache, and opened in a process of its own; each value is copied and checked. The limit is one device read of a block.",
		"scan": "Keys of 12 bytes with values of 100 bytes. *full* reads every cache line of all pairs in key order, one reader, an " +
			"operation is a pair; a checksum over all is compared with what was loaded. *100* reads 100 pairs from a start " +
			"picked by zipf with theta 0.99, two readers, an operation is a scan. *In memory* all fits; *8× memory* is the store " +
			"and the limits of the gets on larger data, full scans first and cold.",
		"values100k": "Closed loop; keys of 12 bytes, all distinct, values of 100,000 random bytes, 16 writers, each put durable; " +
			"then 2 readers, each key as likely, values copied. The limit is the device's bandwidth, for gets that of memory.",
		"amplification": "Keys and values of twice the memory that caches and memtables may take are loaded; then pairs of four times " +
			"that memory overwrite them, 8 writers, buffered. Bytes on the device are those that the process wrote until " +
			"everything had come to rest; disk is what files take then. DynGO keeps all history: its log, and the side files that " +
			"find the events of a key in it and go with it, are counted apart. " +
			"*overload* finds the rate of a closed loop, then offers twice as many puts by a timetable.",
		"adaptive": "DynGO alone: two stores with the same 1 M keys of 12 bytes and values of 100 bytes (200,000 in short runs) in one process, " +
			"one of which keeps hot ranges, in turns of a second (half a second with keys of other shapes), each after all before is durable, one client, everything in memory, after a time to adapt. A scan reads " +
			"100 pairs from a start by zipf with theta 0.99; *scan and write* is one of each in turn. In *moving hot spot*, nine of ten scans begin in a " +
			"twentieth of the keys, which is another one every 30 s, in *restless hot spot* every second; turns are of a quarter of a second, and HotRangeBytes " +
			"is 128 MiB. *Long common prefix*: keys of 40 bytes of which 32 are all the same; *sequential keys*: in the order in which they were " +
			"written, *put* behind all others. *8x memory*: 1.2 M such keys (600,000) in " +
			"segments, a MemoryBudget of an eighth of that, one of the stores without the cache of records; the system's page cache has all " +
			"files, so that no get waits for the device. × is time on ÷ off, the median of the pairs' ratios with their range: below 1 it pays. " +
			"Gets and puts, which hot ranges can't help, are measured by several processes, which open the two stores in turn in this order and " +
			"in the other; × is the median of theirs.",
		"order": "DynGO alone. *First scan*: of a dataset of 1 M keys in memory (200,000 in short runs), until 100 pairs are there, each in a store of its " +
			"own; the processor time is of all that follows, until all keys are sorted. Puts: with all keys in memory, in turns of a quarter of a second, each " +
			"after all before is durable, by five processes (one in short runs), of which every other one makes the scanned dataset first.",
		"crowd": "Half gets by zipf of 1 M keys that are there (200,000 in short runs), half buffered puts of keys that are not, so that tables grow " +
			"and are flushed all the time, by one client, then 4, 16, 64, 256 and 1024 and back, 6 s each. One in eight pairs of operations " +
			"is timed. *First* is the first quarter of a phase, just after the number of clients has changed.",
		"beside": "DynGO alone: gets by zipf (2 clients; 2 M keys with values of 100 bytes in segments, a MemoryBudget of 64 MiB, files in the page cache), and " +
			"durable puts (16 clients). Before each measurement *with all jobs* 160 MiB are written to another dataset and a part of the keys is scanned, " +
			"without measuring; then run, while it is measured, the flushes, merges, side files, retention and builds of hot ranges that these call " +
			"for. In the other half nothing of that runs. In pairs, each first in turn; × is the median of the pairs' ratios of p99.",
		"past": "DynGO alone: the others have nothing of the kind. 1 M keys of 12 bytes with values of 100 bytes, a tenth of them " +
			"overwritten since. Each thing is measured in pairs with what it is held against, one after the other and each first in " +
			"turn; × is the median of the pairs' ratios of time, with their range; of several processes, that of theirs. *audit* is a log of 100 M events of 10 M keys " +
			"(1 M of 100,000 in short runs) with all side files.",
		"memory": "10 M keys of 16 bytes (1 M in short runs) with values of 100 bytes, each overwritten once. Counted " +
			"after a garbage collection: bytes in use in Go's heap and bytes mapped by the engine, less the bytes of the " +
			"records themselves, for each key.",
		"records": "Map records of 100 fields, 50 doubles and 50 strings, 102,820 bytes encoded; 40 writers offer one " +
			"record a millisecond each and 40 readers one read every 2 ms, over 10,000 keys (5,000 in short runs). Open " +
			"loop: *due* latency counts from the moment at which the operation should have begun by its timetable, " +
			"*service* from when it did. What was offered and not begun when the bytes were used up is in no histogram. " +
			"Writes a second count until all are durable. The reference system reached 2,232 writes/s and 18,090 reads/s.",
		"clients": "100 clients in one process over 1 M loaded keys, values of 100 bytes, 21 M operations, half reads " +
			"and half writes in turn (what is done when the time is over counts). The reference system reached 100,961 " +
			"ops/s on average and 115,809 at its peak.",
	}[s.Name]
	p.f("\n%s", text)
}

// suiteExtras adds the tables that only one suite has.
func (r *benchRun) suiteExtras(p *page, s suiteOf) {
	switch s.Name {
	case "durable":
		r.durableLimit(p)
	case "open":
		r.openTable(p, s)
	case "memory":
		r.memoryTable(p, s)
	case "records":
		r.recordsTable(p, s)
	case "clients":
		r.clientsTable(p, s)
	case "buffered":
		r.bufferedTable(p, s)
	case "large", "scan":
		r.largeTable(p, s)
	case "values100k":
		r.valuesTable(p, s)
	case "past", "adaptive", "order":
		r.pastTable(p, s)
	case "crowd":
		r.crowdTable(p, s)
	case "beside":
		r.besideTable(p, s)
	case "amplification":
		r.amplificationTable(p, s)
		r.overloadTable(p, s)
	}
}

func (r *benchRun) each(s suiteOf, do func(w *row)) {
	for _, c := range s.Cases {
		for _, e := range r.engines(s.Name) {
			if w := r.row(s.Name, c, e); w != nil && len(w.Results) > 0 {
				do(w)
			}
		}
	}
}

// durableLimit says what fdatasync alone allows, by the probes of this run.
func (r *benchRun) durableLimit(p *page) {
	var syncs []float64
	for _, b := range r.Probes {
		syncs = append(syncs, float64(b.Fdatasync.P50))
	}
	s := stats.Summarize(syncs)
	if s.N == 0 || s.Median == 0 {
		return
	}
	rate := func(writers float64) string { return chart.Short(writers * 1e9 / s.Median) }
	p.f("\nBy the probes' median fdatasync of %s, groups of all writers could at most reach %s/s with one writer, "+
		"%s/s with 16 and %s/s with 64; with 1024 the processor is the limit.",
		chart.Nanos(s.Median), rate(1), rate(16), rate(64))
}

func (r *benchRun) openTable(p *page, s suiteOf) {
	p.table("case", "engine", "-Open returned", "-first correct read", "-(min–max)", "-first put", "-recovery complete",
		"-CPU ms", "-RSS MB", "-keys read back")
	r.each(s, func(w *row) {
		at := func(name string) string { return chart.Nanos(w.extra(name).Median * 1e9) }
		read := w.extra("first_read_s")
		p.cells(w.Case, w.Engine, at("open_s"), at("first_read_s"),
			chart.Nanos(read.Min*1e9)+"–"+chart.Nanos(read.Max*1e9), at("first_put_s"), at("ready_s"),
			fmt.Sprintf("%.0f", w.summary(func(x work.Result) float64 { return x.CPU * float64(x.Ops) / 1e3 }).Median),
			fmt.Sprintf("%.0f", w.summary(func(x work.Result) float64 { return float64(x.PeakRSS) / 1e6 }).Median),
			chart.Short(w.extra("checked").Min))
	})
}

func (r *benchRun) memoryTable(p *page, s suiteOf) {
	p.table("case", "engine", "-keys", "-heap MB", "-mapped MB", "-tail MB", "-(heap + mapped − tail) B/key",
		"-RSS MB", "-RSS B/key", "-puts/s")
	r.each(s, func(w *row) {
		mb := func(name string) string { return fmt.Sprintf("%.0f", w.extra(name).Median/1e6) }
		own := "–"
		if v := w.extra("bytes_per_key").Median; v != 0 {
			own = fmt.Sprintf("%.1f", v)
		}
		p.cells(w.Case, w.Engine, chart.Short(w.extra("keys").Median), mb("heap"), mb("mapped"), mb("tail"), own,
			fmt.Sprintf("%.0f", w.summary(func(x work.Result) float64 { return float64(x.RSS) / 1e6 }).Median),
			fmt.Sprintf("%.0f", w.extra("rss_per_key").Median), chart.Short(w.summary(opsPerSec).Median))
	})
}

func (r *benchRun) recordsTable(p *page, s suiteOf) {
	p.table("mode", "engine", "-writes/s (reference 2,232)", "-reads/s (reference 18,090)", "-offered writes/s, reads/s",
		"-records MB/s", "-disk ÷ user bytes", "-dirtied ÷ user bytes", "-user GB with load", "-seconds offered")
	r.each(s, func(w *row) {
		of := func(name string) float64 { return w.extra(name).Median }
		ratio := w.summary(func(x work.Result) float64 { return float64(x.Device) / float64(max(x.UserBytes, 1)) })
		disk := w.summary(func(x work.Result) float64 { return float64(x.DiskWrite) / float64(max(x.UserBytes, 1)) })
		total := w.summary(func(x work.Result) float64 { return (float64(x.UserBytes) + x.Extra["loaded_bytes"]) / 1e9 })
		p.cells(w.Case, w.Engine, chart.Short(of("writes_per_s")), chart.Short(of("reads_per_s")),
			chart.Short(of("offered_writes_per_s"))+", "+chart.Short(of("offered_reads_per_s")),
			fmt.Sprintf("%.0f", of("writes_per_s")*of("record_bytes")/1e6),
			fmt.Sprintf("%.3f", disk.Median), fmt.Sprintf("%.3f", ratio.Median), fmt.Sprintf("%.1f", total.Median), fmt.Sprintf("%.1f", of("offered_s")))
	})
}

func (r *benchRun) clientsTable(p *page, s suiteOf) {
	p.table("mode", "engine", "-mean ops/s (reference 100,961)", "-peak ops/s (reference 115,809)", "-operations",
		"-seconds, drain included")
	r.each(s, func(w *row) {
		p.cells(w.Case, w.Engine, chart.Short(w.summary(opsPerSec).Median), chart.Short(w.extra("peak").Median),
			chart.Short(w.summary(func(x work.Result) float64 { return float64(x.Ops) }).Median),
			fmt.Sprintf("%.1f", w.summary(func(x work.Result) float64 { return x.Seconds }).Median))
	})
}

func (r *benchRun) bufferedTable(p *page, s suiteOf) {
	p.table("engine", "-puts", "-seconds, drain included", "-drain ms", "-slowest–fastest interval, puts/s",
		"-disk ÷ user bytes", "-dirtied ÷ user bytes")
	r.each(s, func(w *row) {
		res := w.Results[0]
		lo, hi := 0.0, 0.0
		for i, pt := range res.Series["put"] {
			if i == 0 || pt.Rate < lo {
				lo = pt.Rate
			}
			hi = max(hi, pt.Rate)
		}
		user := float64(max(res.UserBytes, 1))
		p.cells(w.Engine, chart.Short(float64(res.Ops)), fmt.Sprintf("%.1f", res.Seconds),
			fmt.Sprintf("%.1f", res.Drain*1e3), chart.Short(lo)+"–"+chart.Short(hi),
			fmt.Sprintf("%.2f", float64(res.DiskWrite)/user), fmt.Sprintf("%.2f", float64(res.Device)/user))
	})
}
