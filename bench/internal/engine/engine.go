// Package engine puts the storage engines of the benchmark behind one small interface, each set up
// as its own documentation advises for the case at hand.
package engine

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
)

// Mode says when a put is acknowledged.
type Mode string

// The modes.
const (
	// Buffered puts are acknowledged when they are applied; a crash may lose the newest.
	Buffered Mode = "buffered"
	// Durable puts are acknowledged when a power loss can no longer take them back.
	Durable Mode = "durable"
)

// Config is what a case asks of an engine.
type Config struct {
	Dir     string
	Mode    Mode
	Writers int // goroutines that will put at the same time, at least 1
	// Unflushed asks for room for about 150 MB of puts that are in the log and in memory but not
	// yet in sorted files, for the case that measures opening after a crash.
	Unflushed bool
	// MemoryBudget is what caches and memtables may take, in bytes, where the engine can be told; 0 leaves them as the
	// engine's documentation advises.
	MemoryBudget int64
}

// Engine is an open store. All methods but Close and Drain are safe for concurrent use.
type Engine interface {
	// Put writes one pair and returns when it is acknowledged as the mode says.
	Put(key, value []byte) error
	// Load writes n pairs in batches of batch as fast as the engine documents, not necessarily
	// durable before Drain. pair fills in the i-th; its slices are valid until its next call, and it may be asked in
	// any order and more than once.
	Load(n, batch int, pair func(i int) (key, value []byte)) error
	// Get appends a copy of the value to dst.
	Get(dst, key []byte) (value []byte, found bool, err error)
	// Scan calls visit for up to limit pairs in key order from the first key >= from.
	Scan(from []byte, limit int, visit func(key, value []byte)) (n int, err error)
	// Drain returns when every acknowledged put is durable.
	Drain() error
	// Flush writes what is only in the log and in memory into sorted files, and merges nothing.
	Flush() error
	// Settle brings a loaded store into the state that it would reach if left alone: background
	// work done, data where reads are served best.
	Settle() error
	// Ready returns when nothing of the recovery that Open started is left to do.
	Ready() error
	// Memory tells what the engine itself accounts for; false if it has no such numbers.
	Memory() (Memory, bool)
	Close() error
}

// Memory is an engine's own account of its memory, in bytes.
type Memory struct {
	Tail   int64 `json:"tail"`   // the records themselves: keys, values and their headers
	Mapped int64 `json:"mapped"` // everything outside of Go's heap, records included
}

// Tables is what an engine can tell whose index is divided into hash tables that grow and shrink with their keys.
type Tables interface {
	Tables() TableFigures
}

// TableFigures are of all tables together since Open.
type TableFigures struct {
	Moves      int64 // to a larger or smaller table
	LongestNs  int64 // that a writer waited at most for a step of such a move
	IndexBytes int64
}

// Info describes an engine and how a case sets it up.
type Info struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Options []string `json:"options"` // one line each, as they differ by mode and case
}

type driver struct {
	module  string
	open    func(Config) (Engine, error)
	options func(Config) []string
}

var drivers = map[string]driver{
	"dyngo":        {"github.com/dyngodb/dyngo", openDyngo(eventual), dyngoOptions(eventual)},
	"dyngo-causal": {"github.com/dyngodb/dyngo", openDyngo(causal), dyngoOptions(causal)},
	"pebble":       {"github.com/cockroachdb/pebble/v2", openPebble, pebbleOptionList},
	"badger":       {"github.com/dgraph-io/badger/v4", openBadger, badgerOptionList},
	"bbolt":        {"go.etcd.io/bbolt", openBolt, boltOptionList},
	"none":         {"", openNone, func(Config) []string { return []string{"does nothing: the cost of the driver"} }},
}

// Names lists the engines in the order in which reports show them.
func Names() []string {
	return []string{"dyngo", "dyngo-causal", "pebble", "badger", "bbolt", "none"}
}

// Known returns an error that lists the engines if name is not one of them.
func Known(name string) error {
	if !slices.Contains(Names(), name) {
		return fmt.Errorf("no engine %q; there are %s", name, strings.Join(Names(), ", "))
	}
	return nil
}

// Open opens the named engine in c.Dir, which exists.
func Open(name string, c Config) (Engine, error) {
	if err := Known(name); err != nil {
		return nil, err
	}
	c.Writers = max(c.Writers, 1)
	e, err := drivers[name].open(c)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return e, nil
}

// Describe tells version and options of the named engine for c.
func Describe(name string, c Config) Info {
	c.Writers = max(c.Writers, 1)
	d := drivers[name]
	return Info{Name: name, Version: version(d.module), Options: d.options(c)}
}

// version of a module in this binary, without the v; empty for the module of the benchmark's own
// repository, whose commit the report names.
func version(module string) string {
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range bi.Deps {
		if m.Path != module {
			continue
		}
		if m.Replace != nil {
			return ""
		}
		return strings.TrimPrefix(m.Version, "v")
	}
	return ""
}

// none is the engine that does nothing. What a case costs with it is what the driver costs.
type none struct{}

func openNone(Config) (Engine, error) { return none{}, nil }

func (none) Put(_, _ []byte) error { return nil }
func (none) Load(n, _ int, pair func(int) ([]byte, []byte)) error {
	return nil
}
func (none) Get(dst, _ []byte) ([]byte, bool, error)                { return dst, false, nil }
func (none) Scan([]byte, int, func(key, value []byte)) (int, error) { return 0, nil }
func (none) Drain() error                                           { return nil }
func (none) Flush() error                                           { return nil }
func (none) Settle() error                                          { return nil }
func (none) Ready() error                                           { return nil }
func (none) Memory() (Memory, bool)                                 { return Memory{}, false }
func (none) Close() error                                           { return nil }
