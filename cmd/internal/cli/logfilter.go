package cli

import (
	"bytes"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/keyring"
)

// LogFilter says which events to show. The zero value is all of them.
type LogFilter struct {
	From, To     event.LSN // both included; To 0 = the log's last
	Since, Until int64     // log time, Unix nanoseconds, both included; 0 = none
	Dataset      string
	Key, Prefix  []byte // range deletes that cover one such key are shown too
	Ops          []string
	Actor        string
	Tx           event.LSN     // the batch that begins with it
	Where        Where         // only puts of values that meet it
	Values       bool          // read values that lie apart from their events
	Keys         *keyring.Ring // of encrypted values, nil = none: they are not shown
}

// AddLogFilter gives cmd the flags that select events, and the one that shows large values of them.
func AddLogFilter(cmd *cobra.Command) func() (LogFilter, error) {
	values := cmd.Flags().Bool("large", false, "show large values too, not only their size")
	get := AddLogChoice(cmd)
	return func() (LogFilter, error) {
		filter, err := get()
		filter.Values = *values
		return filter, err
	}
}

// AddLogChoice gives cmd, which shows no values, the flags that select events.
func AddLogChoice(cmd *cobra.Command) func() (LogFilter, error) {
	f := cmd.Flags()
	dataset := f.String("dataset", "", "only events of this dataset")
	key := f.String("key", "", "only events of this key, and range deletes that cover it")
	prefix := f.String("prefix", "", "only events of keys that begin with this, range deletes too")
	ops := f.StringSlice("op", nil, "only these `operations`, as put,delete,delete-range,expire")
	actor := f.String("actor", "", "only events of this actor")
	tx := f.Uint64("tx", 0, "only the batch that begins with this `LSN`")
	since := f.String("since", "", "only events from this `time` on, 2026-11-20T14:31:59Z or -10m")
	until := f.String("until", "", "only events up to this `time`")
	where := AddWhere(cmd)
	escaped := AddEscaped(cmd)
	return func() (LogFilter, error) {
		filter := LogFilter{Dataset: *dataset, Actor: *actor, Tx: event.LSN(*tx), Keys: OpenKeys(cmd)}
		var err error
		if *key != "" {
			if filter.Key, err = ParseKey("--key", *key, *escaped); err != nil {
				return filter, err
			}
		}
		if filter.Prefix, err = ParseBytes("--prefix", *prefix, *escaped); err != nil {
			return filter, err
		}
		for _, op := range *ops {
			if !knownOp(op) {
				return filter, Usage("put, delete, delete-range or expire, or another operation that the log shows", "--op: unknown operation %q", op)
			}
		}
		filter.Ops = *ops
		if filter.Where, err = where(); err != nil {
			return filter, err
		}
		now := time.Now()
		if filter.Since, err = ParseNanos("--since", *since, now); err != nil {
			return filter, err
		}
		filter.Until, err = ParseNanos("--until", *until, now)
		return filter, err
	}
}

func knownOp(name string) bool {
	for op := range event.Op(64) {
		if op.Known() && op.String() == name {
			return true
		}
	}
	return false
}

// wants says whether an event is to be shown.
func (f *LogFilter) wants(e *LogEvent) bool {
	return e.LSN >= f.From && e.LSN <= f.To && e.Time >= f.Since && (f.Until == 0 || e.Time <= f.Until) &&
		(f.Dataset == "" || e.DatasetName == f.Dataset) &&
		(f.Actor == "" || e.Who.Actor == f.Actor) &&
		(f.Tx == 0 || e.Tx == f.Tx) &&
		(len(f.Ops) == 0 || contains(f.Ops, e.Op.String())) &&
		(f.Key == nil || Touches(e, dyngo.Range{From: f.Key, To: append(bytes.Clone(f.Key), 0)})) &&
		(len(f.Prefix) == 0 || Touches(e, dyngo.Prefix(f.Prefix)))
}

// past says that no event of a frame with this base, or of a later one, is to be shown.
func (f *LogFilter) past(base event.LSN, time int64) bool {
	return f.To != 0 && base > f.To || f.Until != 0 && time > f.Until || f.Tx != 0 && base > f.Tx
}

// Touches says whether an event is about keys in a range.
func Touches(e *LogEvent, r dyngo.Range) bool {
	switch {
	case e.Op.System():
		return false
	case e.Op == event.OpDeleteRange:
		return (r.To == nil || bytes.Compare(e.Key, r.To) < 0) && (len(e.Value) == 0 || bytes.Compare(r.From, e.Value) < 0)
	}
	return bytes.Compare(e.Key, r.From) >= 0 && (r.To == nil || bytes.Compare(e.Key, r.To) < 0)
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
