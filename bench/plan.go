package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/engine"
	"github.com/dyngodb/dyngo/bench/internal/work"
)

// suite is a group of cases that are compared with each other.
type suite struct {
	name    string
	title   string
	rounds  int
	engines []string
	cases   []benchCase
}

// benchCase is one row of a suite; each engine runs it in each round.
type benchCase struct {
	name  string
	spec  work.Spec
	bound time.Duration // the worker is ended after this time
	need  int64         // bytes of disk that it may fill, with all that its suite prepares
	crash work.Kind     // a Fill or Touch that is killed comes first; "" = none

	results []string // names of what the worker returns; nil = as it says itself, or name
	engines []string // those that run it; nil = all of the suite
	rounds  int      // those that it takes part in, from the first on; 0 = all
}

// runs tells whether an engine runs the case in a round.
func (c *benchCase) runs(engine string, round int) bool {
	return (c.engines == nil || slices.Contains(c.engines, engine)) && (c.rounds == 0 || round < c.rounds)
}

const (
	gb      = int64(1) << 30
	minFree = 6 * gb // no case begins or goes on with less room left on the disk

	pairKey, pairValue = 12, 100
)

var allPeers = []string{"dyngo", "pebble", "badger", "bbolt"}

func suiteNames() []string {
	return []string{"durable", "buffered", "get", "mixed", "memory", "records", "clients",
		"large", "scan", "values100k", "amplification", "open", "past", "adaptive", "order", "crowd", "beside"}
}

// newPlan builds the suites that the settings ask for.
func newPlan(set settings) ([]suite, error) {
	var plan []suite
	if set.largeBytes == 0 {
		set.largeBytes = pick(set, int64(2<<30), 200<<20)
	}
	names := strings.Split(set.suites, ",")
	for _, name := range names {
		build, ok := suites[name]
		if !ok {
			return nil, fmt.Errorf("no suite %q; there are %s", name, strings.Join(suiteNames(), ", "))
		}
		s := build(set)
		s.name = name
		if set.engines != "" {
			s.engines = strings.Split(set.engines, ",")
		}
		for _, e := range s.engines {
			if err := engine.Known(e); err != nil {
				return nil, err
			}
		}
		if set.rounds > 0 {
			s.rounds = set.rounds
		}
		var all []string
		s.cases = slices.DeleteFunc(s.cases, func(c benchCase) bool {
			all = append(all, c.name)
			return !strings.Contains(c.name, set.cases)
		})
		if len(s.cases) == 0 {
			return nil, fmt.Errorf("no case of suite %q has %q in its name; there are %s", name, set.cases, strings.Join(all, ", "))
		}
		for i := range s.cases {
			if set.engines != "" {
				s.cases[i].engines = nil
			}
			adjust(&s, &s.cases[i], set)
		}
		plan = append(plan, s)
	}
	return plan, nil
}

// adjust applies the flags that hold for every suite.
func adjust(s *suite, c *benchCase, set settings) {
	sp := &c.spec
	sp.Seed, sp.MinFree = set.seed, minFree
	if sp.Prepared {
		set.keys = 0 // --large-bytes sizes it
	}
	if sp.KeySize == 0 {
		sp.KeySize, sp.ValueSize = pairKey, pairValue
	}
	if set.seconds > 0 && sp.Seconds > 0 {
		c.bound += time.Duration((set.seconds - sp.Seconds) * float64(time.Second))
		sp.Seconds = set.seconds
	}
	if set.keys > 0 && sp.Keys > 0 {
		sp.Keys = set.keys
	}
	if sp.Kind == work.Records {
		sp.MaxBytes = set.recordBytes / int64(len(s.engines)*len(s.cases)*s.rounds)
	}
	if c.bound < time.Minute {
		c.bound = time.Minute
	}
}

// pick chooses by length of the run.
func pick[T any](set settings, full, quick T) T {
	if set.full {
		return full
	}
	return quick
}

var suites = map[string]func(settings) suite{
	"large": largeSuite, "scan": scanSuite, "values100k": valuesSuite, "amplification": amplificationSuite,
	"past": pastSuite, "adaptive": adaptiveSuite, "order": orderSuite, "crowd": crowdSuite, "beside": besideSuite,

	"durable": func(set settings) suite {
		s := suite{title: "Durable puts", rounds: pick(set, 5, 1), engines: allPeers}
		for _, writers := range []int{1, 16, 64, 1024} {
			s.cases = append(s.cases, benchCase{
				name: plural(writers, "writer"), bound: time.Minute, need: 4 * gb,
				spec: work.Spec{Kind: work.Put, Mode: engine.Durable, Writers: writers, Seconds: pick(set, 2.5, 1)},
			})
		}
		return s
	},
	"buffered": func(set settings) suite {
		seconds := pick(set, 60.0, 5)
		return suite{title: "Buffered puts, drain included", rounds: 1, engines: allPeers, cases: []benchCase{{
			name: "8 writers", bound: 3 * time.Minute, need: pick(set, 30*gb, 4*gb),
			spec: work.Spec{Kind: work.Put, Mode: engine.Buffered, Writers: 8, Seconds: seconds,
				Keys: pick(set, 10_000_000, 2_000_000), Interval: pick(set, time.Second, 250*time.Millisecond)},
		}}}
	},
	"get": func(set settings) suite {
		return suite{title: "Gets in memory", rounds: pick(set, 3, 1), engines: allPeers, cases: []benchCase{{
			name: "2 readers", bound: 2 * time.Minute, need: 2 * gb,
			spec: work.Spec{Kind: work.Get, Mode: engine.Buffered, Readers: 2, Keys: 1_000_000,
				Seconds: pick(set, 2.5, 1), Dists: []work.Dist{work.Zipf, work.Uniform, work.Missing}},
		}}}
	},
	"mixed": func(set settings) suite {
		return suite{title: "Half reads, half updates", rounds: pick(set, 3, 1), engines: allPeers, cases: []benchCase{{
			name: "zipf, 8 clients", bound: 2 * time.Minute, need: 6 * gb,
			spec: work.Spec{Kind: work.Mixed, Mode: engine.Buffered, Writers: 8, Keys: 1_000_000, Seconds: pick(set, 4.0, 1.5)},
		}}}
	},
	"open": func(set settings) suite {
		s := suite{title: "Open", rounds: pick(set, 3, 1), engines: allPeers, cases: []benchCase{{
			name: "1 M unflushed events", bound: time.Minute, need: 2 * gb, crash: work.Fill,
			spec: work.Spec{Kind: work.Reopen, Mode: engine.Buffered, Keys: 1_000_000},
		}}}
		s.cases = append(s.cases, openCases(set.largeBytes, allPeers)...)
		if set.openGB > 0 {
			s.cases = append(s.cases, openCases(int64(set.openGB*1e9), []string{"dyngo", "pebble"})...)
		}
		return s
	},
	"memory": func(set settings) suite {
		spec := work.Spec{Kind: work.Memory, Mode: engine.Buffered, Writers: 2,
			Keys: pick(set, 10_000_000, 1_000_000), KeySize: 16, ValueSize: 100}
		all := spec
		all.MemoryBudget = pick(set, 8*gb, gb)
		return suite{title: "Memory per key", rounds: 1, engines: []string{"dyngo"}, cases: []benchCase{
			{name: "all in memory", spec: all, bound: 3 * time.Minute, need: 6 * gb},
			{name: "default budget", spec: spec, bound: 3 * time.Minute, need: 6 * gb},
		}}
	},
	"records": func(set settings) suite {
		s := suite{title: "Field test: records", rounds: 1, engines: []string{"dyngo"}}
		for _, mode := range []engine.Mode{engine.Durable, engine.Buffered} {
			s.cases = append(s.cases, benchCase{
				name: string(mode), bound: 3 * time.Minute, need: 16 * gb,
				spec: work.Spec{Kind: work.Records, Mode: mode, Writers: 40, Readers: 40, Keys: pick(set, 10_000, 5_000),
					Seconds: pick(set, 40.0, 4), KeySize: pairKey, ValueSize: pairValue, Interval: 500 * time.Millisecond},
			})
		}
		return s
	},
	"clients": func(set settings) suite {
		s := suite{title: "Field test: clients", rounds: 1, engines: []string{"dyngo", "pebble"}}
		for _, mode := range []engine.Mode{engine.Buffered, engine.Durable} {
			s.cases = append(s.cases, benchCase{
				name: string(mode), bound: 3 * time.Minute, need: 12 * gb,
				spec: work.Spec{Kind: work.Clients, Mode: mode, Writers: 100, Keys: 1_000_000,
					Ops: 21_000_000, Seconds: pick(set, 60.0, 4), Interval: pick(set, 500*time.Millisecond, 200*time.Millisecond)},
			})
		}
		return s
	},
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// rotated starts the list at another engine in each round, so that none always follows the same one.
func rotated(engines []string, round int) []string {
	n := round % len(engines)
	return slices.Concat(engines[n:], engines[:n])
}
