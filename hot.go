package dyngo

import (
	"slices"
	"strings"
	"time"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/heat"
)

// Hot says which keys and key ranges are read, missed, scanned and written how often. All figures are estimates from a sample
// of the operations since Open; see package internal/heat for how good they are. Rates decay: an operation counts half after
// HalfLife, so they are averages over about the last 15 seconds.
type Hot struct {
	Since    time.Time     // of the operations that are counted: when the store was opened
	At       time.Time     // when the picture was taken
	HalfLife time.Duration // after which an operation counts half
	Step     time.Duration // what each entry of HotRange.Past covers
	Steps    int           // how many entries there are; the last one covers the present step, as far as it has gone
	// SampledOneIn says that one operation in so many is looked at, at present: the more there are, the fewer.
	SampledOneIn int
	Datasets     []HotDataset // all there are, by name
}

// HotDataset is what is known of a dataset.
type HotDataset struct {
	Name  string
	Rates HotRates
	// Ranges cover all keys, in key order. There are some hundred for all datasets together. Their boundaries follow the
	// load, so that each has about the same share of it: what makes a range hot is that it is small. Empty when nothing is known.
	Ranges []HotRange
	// Keys are the hottest, at most 32, those with the highest rates first. One with less than about a thousandth of all
	// operations of the store may be missing, and its rate too low.
	Keys []HotKey
}

// HotRates are operations a second: Reads of keys that were there, Misses of keys that were not, Scans that have visited a
// range, Writes (puts and deletes) of single keys, in batches too.
type HotRates = heat.Rates

// HotRange is a key range. The caller owns its slices.
type HotRange struct {
	From, To []byte   // [From, To); From is empty for the first key, To nil for the open end. At most 97 bytes: they may be shortened keys
	Rates    HotRates // a scan counts in each range that it has visited
	// Past has the rates of Steps steps, oldest first. That of a range whose boundaries have moved is an estimate, too.
	Past HotPast
}

// HotPast has rates for each kind of operation, nil where all are 0.
type HotPast = heat.Past

// HotKey is a key with its rates. The caller owns its slice.
type HotKey struct {
	Key   []byte
	Cut   bool // Key is the first 96 bytes of a longer one
	Rates HotRates
}

const hotKeys = 32 // of each dataset

// Hot returns what is hot now. It takes about a millisecond.
func (db *DB) Hot() (Hot, error) {
	if db.closed.Load() {
		return Hot{}, ErrClosed
	}
	p := db.heat.Look(hotKeys)
	now := db.opts.Clock.Now()
	h := Hot{
		Since: unixTime(now - int64(p.Age)), At: unixTime(now), HalfLife: heat.HalfLife, Step: heat.StepTime, Steps: p.Steps,
		SampledOneIn: p.Interval,
	}
	known := map[event.DatasetID]*heat.Dataset{}
	for i := range p.Datasets {
		known[p.Datasets[i].ID] = &p.Datasets[i]
	}
	for name, ds := range *db.catalog.byName.Load() {
		d, hot := known[ds.id], HotDataset{Name: name}
		if d == nil {
			d = &heat.Dataset{}
		}
		hot.Rates = d.Rates
		for _, r := range d.Ranges {
			hot.Ranges = append(hot.Ranges, HotRange{From: r.From, To: r.To, Rates: r.Rates, Past: r.Past})
		}
		for _, k := range d.Keys {
			hot.Keys = append(hot.Keys, HotKey(k))
		}
		h.Datasets = append(h.Datasets, hot)
	}
	slices.SortFunc(h.Datasets, func(a, b HotDataset) int { return strings.Compare(a.Name, b.Name) })
	return h, nil
}
