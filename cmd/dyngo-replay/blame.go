package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/wal"
)

func newBlameCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "blame DATASET",
		Short: "List who last changed each key",
		Long: `List the keys of a dataset, or of a range of it, with the event that each has
its value from: who, when and why. Keys that are gone are not listed; history
tells of them. Without an actor are events that lie in log files which retention
has dropped.

The log files that hold such events are read once for each half a million keys.

` + cli.AtHelp,
		Example: `  dyngo-replay blame scores
  dyngo-replay blame scores --prefix al -l
  dyngo-replay blame scores --from a --to c --at -24h -o csv`,
		Args: cli.ExactArgs("DATASET"),
	}
	limit := cmd.Flags().Int("limit", 0, "at most so many rows, 0 = all")
	long := cmd.Flags().BoolP("long", "l", false, "all columns in tables too")
	at := cli.AddAt(cmd)
	keys := addKeys(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *limit < 0 {
			return cli.Usage("--limit 10", "--limit is %d: it can't be negative", *limit)
		}
		r, err := keys()
		if err != nil {
			return err
		}
		r.Limit, r.KeysOnly = *limit, true
		return runBlame(cmd, args[0], r, *at, *long)
	}
	return cmd
}

// blameBytes bounds the memory for keys: about so much, 128 bytes of it for each beside its own.
const blameBytes = 64 << 20

// blamed is a key and the event that it has its value from.
type blamed struct {
	key  []byte
	lsn  event.LSN
	time int64
	why  *blamedWhy // nil = the event was not found
	tx   event.LSN
}

// blamedWhy is who wrote, and why: what many keys have in common.
type blamedWhy struct {
	who                         event.Session
	reason, ticket, correlation string
}

func runBlame(cmd *cobra.Command, dataset string, rng dyngo.Range, at string, long bool) (err error) {
	log, err := cli.StoreLog(cmd)
	if err != nil {
		return err
	}
	target := dyngo.AtEnd()
	if at != "" {
		if target, err = cli.ParseTarget("--at", at, time.Now()); err != nil {
			return err
		}
	}
	db, end, err := cli.OpenAny(cmd, target)
	if err != nil {
		return err
	}
	defer end(&err)
	view, err := cli.OpenView(cmd, db, at)
	if err != nil {
		return err
	}
	defer view.Close()
	ds, err := cli.ViewDataset(cmd, db, view, at, dataset)
	if err != nil {
		return err
	}
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "key"}, cli.Column{Name: "lsn"}, cli.Column{Name: "time"},
		cli.Column{Name: "actor"}, cli.Column{Name: "reason"}, cli.Column{Name: "address", Detail: true},
		cli.Column{Name: "client", Detail: true}, cli.Column{Name: "ticket", Detail: true},
		cli.Column{Name: "correlation", Detail: true}, cli.Column{Name: "tx", Detail: true})
	r.Detail = long
	var chunk []blamed
	bytes := 0
	print := func() error {
		if err := findEvents(cmd, log, chunk); err != nil {
			return err
		}
		for i := range chunk {
			if err := chunk[i].row(r); err != nil {
				return err
			}
		}
		chunk, bytes = chunk[:0], 0
		return nil
	}
	if !cli.Empty(rng) {
		for kv, err := range view.Scan(ds, rng) {
			if err != nil {
				return cli.Flushed(r, err)
			}
			chunk = append(chunk, blamed{key: append([]byte{}, kv.Key...), lsn: kv.LSN, time: kv.Time.UnixNano()})
			if bytes += len(kv.Key) + 128; bytes >= blameBytes {
				if err := print(); err != nil {
					return cli.Flushed(r, err)
				}
			}
		}
	}
	if err := print(); err != nil {
		return cli.Flushed(r, err)
	}
	return r.Close()
}

func (b *blamed) row(r *cli.Renderer) error {
	text := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	var tx any
	if b.tx > 0 {
		tx = b.tx
	}
	why := b.why
	if why == nil {
		why = &blamedWhy{}
	}
	return r.Row(cli.KeyCell(b.key), b.lsn, time.Unix(0, b.time), text(why.who.Actor), text(why.reason), text(why.who.Address),
		text(why.who.Client), text(why.ticket), text(why.correlation), tx)
}

// findEvents looks for the events of keys in the log files that hold them, each of which is read once.
func findEvents(cmd *cobra.Command, log *cli.LogSource, keys []blamed) error {
	if len(keys) == 0 {
		return nil
	}
	order := make([]int32, len(keys)) // by LSN
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(keys[a].lsn, keys[b].lsn) })
	infos, err := log.Files()
	if err != nil {
		return err
	}
	files, err := log.OpenFiles()
	if err != nil {
		return err
	}
	defer files.Close() // only read from
	known := map[blamedWhy]*blamedWhy{}
	for i, info := range infos {
		for len(order) > 0 && keys[order[0]].lsn < info.FirstLSN { // its log file has gone
			order = order[1:]
		}
		end := len(order)
		if i+1 < len(infos) {
			end, _ = slices.BinarySearchFunc(order, infos[i+1].FirstLSN, func(k int32, lsn event.LSN) int { return cmp.Compare(keys[k].lsn, lsn) })
		}
		in := order[:end]
		if order = order[end:]; len(in) == 0 {
			continue
		}
		v := cli.NewLogView(files, cli.LogFilter{From: keys[in[0]].lsn, To: keys[in[len(in)-1]].lsn})
		err := log.EachOf(cmd.Context(), v, info.Seq, func(fr *wal.Frame) error {
			return v.Events(fr, func(e *cli.LogEvent) error {
				for len(in) > 0 && keys[in[0]].lsn < e.LSN {
					in = in[1:]
				}
				for ; len(in) > 0 && keys[in[0]].lsn == e.LSN; in = in[1:] {
					keys[in[0]].tx, keys[in[0]].why = e.Tx, whyOf(known, e)
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// maxWhys bounds the reasons that are kept to be shared.
const maxWhys = 10_000

func whyOf(known map[blamedWhy]*blamedWhy, e *cli.LogEvent) *blamedWhy {
	w := blamedWhy{e.Who, e.Annotation("reason"), e.Annotation("ticket"), e.Annotation("correlation")}
	if k := known[w]; k != nil {
		return k
	}
	if len(known) == maxWhys {
		clear(known)
	}
	known[w] = &w
	return &w
}
