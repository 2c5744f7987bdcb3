package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/engine"
	"github.com/dyngodb/dyngo/bench/internal/work"
)

// The suites on data that is larger than memory, or of another kind than small pairs.

func largeSuite(set settings) suite {
	return suite{title: "Gets, data 8× memory", rounds: 1, engines: allPeers, cases: []benchCase{{
		name: "2 readers", bound: 3 * time.Minute, need: preparedNeed(set.largeBytes, 4),
		spec: preparedSpec(set.largeBytes, work.Spec{Kind: work.Get, Readers: 2,
			Seconds: pick(set, 5.0, 1.5), WarmUp: pick(set, 2.0, 0.5),
			Dists: []work.Dist{work.Zipf, work.Uniform, work.Missing}}),
	}}}
}

func scanSuite(set settings) suite {
	spec := work.Spec{Kind: work.Scan, Mode: engine.Buffered, Readers: 2, Seconds: pick(set, 4.0, 1)}
	memory, large := spec, preparedSpec(set.largeBytes, spec)
	memory.Keys = pick(set, 1_000_000, 300_000)
	return suite{title: "Scans", rounds: 1, engines: allPeers, cases: []benchCase{
		{name: "in memory", spec: memory, bound: 2 * time.Minute, need: 2 * gb,
			results: []string{"full, in memory", "100, in memory"}},
		{name: "8× memory", spec: large, bound: 3 * time.Minute, need: preparedNeed(set.largeBytes, 4),
			results: []string{"full, 8× memory", "100, 8× memory"}},
	}}
}

func valuesSuite(set settings) suite {
	return suite{title: "Values of 100 KB", rounds: pick(set, 2, 1), engines: allPeers, cases: []benchCase{{
		name: "16 writers, 2 readers", bound: 3 * time.Minute, need: 8 * gb, results: []string{"put", "get"},
		spec: work.Spec{Kind: work.Values, Mode: engine.Durable, Writers: 16, Readers: 2,
			KeySize: pairKey, ValueSize: 100_000, Seconds: pick(set, 5.0, 1), Ops: pick(set, int64(20_000), 4000),
			Interval: pick(set, 250*time.Millisecond, 100*time.Millisecond)},
	}}}
}

func amplificationSuite(set settings) suite {
	spec := work.Spec{Mode: engine.Buffered, Writers: 8, MemoryBudget: pick(set, int64(64<<20), 16<<20),
		Interval: pick(set, 500*time.Millisecond, 100*time.Millisecond)}
	spec.Keys = int(2 * spec.MemoryBudget / (pairKey + pairValue))
	s := suite{title: "Amplification", rounds: 1, engines: []string{"dyngo", "pebble"}}
	for _, d := range []work.Dist{work.Uniform, work.Zipf} {
		over := spec
		over.Kind, over.Dists, over.Seconds = work.Amplify, []work.Dist{d}, pick(set, 120.0, 60)
		over.Ops = 2 * int64(over.Keys)
		s.cases = append(s.cases, benchCase{name: string(d), spec: over, bound: 6 * time.Minute, need: 4 * gb})
	}
	offer := spec
	offer.Kind, offer.Seconds = work.Offer, pick(set, 60.0, 5)
	s.cases = append(s.cases, benchCase{
		name: "overload", spec: offer, bound: 5 * time.Minute, need: pick(set, 16*gb, 4*gb),
	})
	return s
}

// adaptiveCases are those of hot ranges, shapeCases the same with keys of other shapes, recordCases those of records of segments that
// are kept, orderCases those of order on demand.
var (
	adaptiveCases = []string{"scan, zipf", "scan and write", "get, zipf", "get, uniform", "put, uniform", "put, zipf, and scans before"}
	movingCases   = []string{"scan, moving hot spot", "scan, restless hot spot"}
	shapeCases    = []string{"scan, zipf, long common prefix", "scan and write, long common prefix", "get, zipf, long common prefix",
		"put, long common prefix", "scan, zipf, sequential keys", "scan and write, sequential keys", "get, zipf, sequential keys",
		"put, sequential keys"}
	orderCases  = []string{"first scan of a dataset", "put, dataset never scanned"}
	recordCases = []string{"8x memory: get, zipf", "8x memory: get and put", "8x memory: get, uniform", "8x memory: get, missing"}
)

// Where nothing can be won, a difference of some percent between two stores is that of where their memory lies: several processes tell.
var (
	plainCases = []string{"get, zipf", "get, uniform", "put, uniform", "put, zipf, and scans before"}

	plainRounds = 5
)

// adaptiveSuite measures hot ranges and the cache of records on against off, where they help and where they can't.
func adaptiveSuite(set settings) suite {
	s := suite{title: "What adapts, on against off", rounds: pick(set, plainRounds, 1), engines: []string{"dyngo"}}
	for _, name := range slices.Concat(adaptiveCases, shapeCases, movingCases, recordCases) {
		keys, budget := pick(set, 1_000_000, 200_000), int64(2<<30)
		if slices.Contains(recordCases, name) {
			keys, budget = pick(set, 1_200_000, 600_000), pick(set, int64(16<<20), 8<<20)
		}
		spec := work.Spec{Kind: work.Adapt, Case: name, Keys: keys, Pairs: pick(set, 15, 3), Seconds: pick(set, 1.0, 0.3),
			WarmUp: pick(set, 15.0, 5), MemoryBudget: budget}
		if slices.Contains(shapeCases, name) {
			spec.Seconds, spec.WarmUp = pick(set, 0.5, 0.3), pick(set, 6.0, 5)
		}
		if slices.Contains(movingCases, name) {
			spec.Pairs, spec.Seconds, spec.WarmUp, spec.MemoryBudget = pick(set, 180, 60), 0.25, 0, 512<<20
		}
		rounds := 1
		if slices.Contains(plainCases, name) {
			rounds, spec.Pairs = pick(set, plainRounds, 1), pick(set, 5, 3)
			if !strings.Contains(name, "scans before") { // what scans have had promoted needs its time to go
				spec.WarmUp = 5
			}
		}
		s.cases = append(s.cases, benchCase{
			name: name, rounds: rounds, bound: 5 * time.Minute, need: pick(set, 8*gb, 4*gb), results: []string{name, name + ", off"}, spec: spec,
		})
	}
	return s
}

// orderSuite measures order on demand.
func orderSuite(set settings) suite {
	s := suite{title: "Order on demand", rounds: pick(set, plainRounds, 1), engines: []string{"dyngo"}}
	for i, beside := range []string{"next scan of it", "put, dataset that was scanned"} {
		rounds, pairs, budget := 1, pick(set, 15, 3), int64(gb)
		if i > 0 { // what is put has room, so that no flush falls into some turns
			rounds, pairs, budget = pick(set, plainRounds, 1), pick(set, 5, 3), 4*gb
		}
		s.cases = append(s.cases, benchCase{
			name: orderCases[i], rounds: rounds, bound: 5 * time.Minute, need: pick(set, 8*gb, 4*gb), results: []string{orderCases[i], beside},
			spec: work.Spec{Kind: work.Adapt, Case: orderCases[i], Keys: pick(set, 1_000_000, 200_000), Pairs: pairs,
				Seconds: pick(set, 1.0, 0.3), MemoryBudget: budget},
		})
	}
	return s
}

// crowdSuite has clients come and go.
func crowdSuite(set settings) suite {
	return suite{title: "Clients that come and go", rounds: 1, engines: []string{"dyngo", "pebble"}, cases: []benchCase{{
		name: "1 to 1024 and back", bound: 5 * time.Minute, need: pick(set, 24*gb, 4*gb), results: crowdPhases(1024),
		spec: work.Spec{Kind: work.Crowd, Mode: engine.Buffered, Writers: 1024, Keys: pick(set, 1_000_000, 200_000),
			Seconds: pick(set, 6.0, 0.8), Interval: pick(set, 250*time.Millisecond, 100*time.Millisecond)},
	}}}
}

// crowdPhases names the results of a crowd of at most n clients.
func crowdPhases(n int) (names []string) {
	up, down := work.Crowds(n)
	for _, n := range up {
		names = append(names, plural(n, "client")+", growing")
	}
	for _, n := range down {
		names = append(names, plural(n, "client")+", shrinking")
	}
	return names
}

var besideCases = []string{"get", "durable put"}

// besideSuite measures what background jobs cost those in front.
func besideSuite(set settings) suite {
	s := suite{title: "Beside background jobs", rounds: 1, engines: []string{"dyngo"}}
	for _, name := range besideCases {
		spec := work.Spec{Kind: work.Beside, Case: name, Keys: pick(set, 2_000_000, 300_000), Pairs: pick(set, 15, 3),
			Seconds: pick(set, 1.5, 0.5), MemoryBudget: pick(set, int64(64<<20), 32<<20), MaxBytes: 160 << 20,
			Readers: 2}
		if name == besideCases[1] {
			spec.Readers, spec.Writers = 0, 16
		}
		s.cases = append(s.cases, benchCase{
			name: name, bound: 6 * time.Minute, need: pick(set, 12*gb, 4*gb), results: []string{name + ", all jobs running", name + ", none"}, spec: spec,
		})
	}
	return s
}

// pastSuite measures what only DynGO does, each thing beside what it is held against.
func pastSuite(set settings) suite {
	base := work.Spec{Kind: work.Past, Keys: 1_000_000, Pairs: pick(set, 15, 3)}
	s := suite{title: "The past", rounds: pick(set, plainRounds, 1), engines: []string{"dyngo"}}
	add := func(of string, change func(*work.Spec), results ...string) {
		spec := base
		spec.Case = of
		if change != nil {
			change(&spec)
		}
		rounds := 1
		if of == "durable put with a tree" {
			rounds = s.rounds
		}
		s.cases = append(s.cases, benchCase{
			name: results[0], rounds: rounds, spec: spec, bound: 20 * time.Minute, need: pick(set, 30*gb, 8*gb), results: results,
		})
	}
	add("view", nil, "view, opened and closed", "get of the present")
	add("as of, unchanged key", nil, "get as of, key unchanged since", "get of the present, the same keys")
	add("as of, changed key", nil, "get as of, key changed since", "get of the present, these keys")
	add("as of, changed key, cold", nil, "get as of, cold")
	for _, bytes := range []int{100, 1024} {
		add("verify the tree", func(s *work.Spec) { s.KeySize, s.ValueSize = pairKey, bytes },
			fmt.Sprintf("verify --level tree, %d B", bytes), fmt.Sprintf("SHA-256 alone, %d B", bytes))
	}
	add("durable put with a tree", func(s *work.Spec) {
		s.Writers, s.Seconds, s.Pairs = 64, 1, pick(set, 15, 3)
	}, "durable put with a tree", "durable put without one")
	add("restore", func(s *work.Spec) { // 10 GB
		s.KeySize, s.ValueSize, s.Keys, s.Pairs = pairKey, 1024, pick(set, 9_000_000, 200_000), pick(set, 3, 1)
	}, "restore to an LSN, bytes", "plain writes, bytes")
	add("audit", func(s *work.Spec) {
		s.Ops, s.Keys, s.Pairs = pick(set, int64(100_000_000), 1_000_000), pick(set, 10_000_000, 100_000), pick(set, 5, 3)
		s.MemoryBudget = pick(set, int64(1<<30), 0)
	}, "history of a key", "bisect", "every event read and counted")
	return s
}

// preparedSpec asks for a store of so many bytes of keys and values with an eighth of that for caches and
// memtables, and a quarter more and 32 MiB for the process and its page cache.
func preparedSpec(bytes int64, s work.Spec) work.Spec {
	s.Mode, s.Prepared, s.Keys = engine.Buffered, true, int(bytes/(pairKey+pairValue))
	s.MemoryBudget = max(bytes/8, leastBudget)
	s.MemoryLimit = s.MemoryBudget + s.MemoryBudget/4 + 32<<20
	return s
}

const leastBudget = 8 << 20 // that DynGO takes

// preparedNeed is what the stores of some engines take, with room for what they merge and for logs.
func preparedNeed(bytes int64, engines int64) int64 { return 3*bytes*engines + gb/2 }

// openCases open a store of so many bytes of keys and values: closed properly, and killed after some puts.
func openCases(bytes int64, engines []string) []benchCase {
	spec := preparedSpec(bytes, work.Spec{Kind: work.Reopen})
	spec.MemoryLimit = 0
	size := fmt.Sprintf("%.2g GB", float64(bytes)/1e9)
	clean := benchCase{
		name: size + ", closed", spec: spec, bound: 3 * time.Minute, engines: engines, rounds: 2,
		need: preparedNeed(bytes, int64(len(engines))),
	}
	killed := clean
	killed.name, killed.crash, killed.spec.Ops = size+", kill -9", work.Touch, min(100_000, int64(spec.Keys))
	return []benchCase{clean, killed}
}
