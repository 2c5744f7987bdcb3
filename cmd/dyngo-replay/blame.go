package main

import (
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

The log files that hold such events are read once for each 100,000 keys.

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

// blameChunk bounds the keys in memory.
const blameChunk = 100_000

// blamed is a key and the event that it has its value from.
type blamed struct {
	key  []byte
	lsn  event.LSN
	time time.Time

	who                         event.Session
	reason, ticket, correlation string
	tx                          event.LSN // 0 = the event was not found
}

func runBlame(cmd *cobra.Command, dataset string, rng dyngo.Range, at string, long bool) (err error) {
	log, err := cli.StoreLog(cmd)
	if err != nil {
		return err
	}
	db, end, err := cli.OpenAny(cmd)
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
	var chunk []*blamed
	print := func() error {
		if err := findEvents(cmd, log, chunk); err != nil {
			return err
		}
		for _, b := range chunk {
			if err := b.row(r); err != nil {
				return err
			}
		}
		chunk = chunk[:0]
		return nil
	}
	if !cli.Empty(rng) {
		for kv, err := range view.Scan(ds, rng) {
			if err != nil {
				return cli.Flushed(r, err)
			}
			chunk = append(chunk, &blamed{key: append([]byte{}, kv.Key...), lsn: kv.LSN, time: kv.Time})
			if len(chunk) == blameChunk {
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
	return r.Row(cli.KeyCell(b.key), b.lsn, b.time, text(b.who.Actor), text(b.reason), text(b.who.Address), text(b.who.Client),
		text(b.ticket), text(b.correlation), tx)
}

// findEvents looks for the events of keys in the log files that hold them.
func findEvents(cmd *cobra.Command, log *cli.LogSource, keys []*blamed) error {
	wanted := map[event.LSN][]*blamed{}
	for _, b := range keys {
		wanted[b.lsn] = append(wanted[b.lsn], b)
	}
	infos, err := log.Files()
	if err != nil {
		return err
	}
	files, err := log.OpenFiles()
	if err != nil {
		return err
	}
	defer files.Close() // only read from
	for i, info := range infos {
		next := event.LSN(event.MaxLSN)
		if i+1 < len(infos) {
			next = infos[i+1].FirstLSN
		}
		f := cli.LogFilter{}
		for lsn := range wanted {
			if lsn < info.FirstLSN || lsn >= next {
				continue
			}
			if f.To = max(f.To, lsn); f.From == 0 || lsn < f.From {
				f.From = lsn
			}
		}
		if f.To == 0 {
			continue
		}
		v := cli.NewLogView(files, f)
		err := log.EachOf(cmd.Context(), v, info.Seq, func(fr *wal.Frame) error {
			return v.Events(fr, func(e *cli.LogEvent) error {
				for _, b := range wanted[e.LSN] {
					b.who, b.tx = e.Who, e.Tx
					b.reason, b.ticket, b.correlation = e.Annotation("reason"), e.Annotation("ticket"), e.Annotation("correlation")
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
