package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/wal"
)

// statFields are what events can be grouped by.
var statFields = []string{"dataset", "op", "actor", "address", "client", "ticket", "file", "hour", "day"}

// maxStatGroups bounds the memory for groups.
const maxStatGroups = 100_000

func newStatCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stat [FILE]",
		Short: "Count the events of the log",
		Long: `Count the events of the log, or of one log FILE alone, in groups. Bytes are
those of events as they stand in the log, large values apart from them included.`,
		Example: `  dyngo-replay stat
  dyngo-replay stat --by actor,op --since -24h
  dyngo-replay stat --by day --dataset scores -o csv`,
		Args: cli.MaybeArg("FILE"),
	}
	by := cmd.Flags().StringSlice("by", []string{"dataset", "op"}, "`fields` to group by: "+strings.Join(statFields, ", "))
	filter := cli.AddLogChoice(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		fl, err := filter()
		if err != nil {
			return err
		}
		for i, field := range *by {
			if !slices.Contains(statFields, field) || slices.Contains((*by)[:i], field) {
				return cli.Usage("some of: "+strings.Join(statFields, ", ")+", each once", "--by: field %q", field)
			}
		}
		return stat(cmd, args, fl, *by)
	}
	return cmd
}

// statGroup is what some events have in common, and how many they are.
type statGroup struct {
	fields              []string
	events, bytes       int64
	first, last         event.LSN
	firstTime, lastTime int64
}

func stat(cmd *cobra.Command, args []string, filter cli.LogFilter, by []string) error {
	log, err := openLog(cmd, args)
	if err != nil {
		return err
	}
	files, err := log.OpenFiles()
	if err != nil {
		return err
	}
	defer files.Close() // only read from
	v := cli.NewLogView(files, filter)
	v.Lost = cli.TellLost(cmd)
	groups := map[string]*statGroup{}
	fields := make([]string, len(by))
	_, err = log.Each(cmd.Context(), v, func(f *wal.Frame) error {
		return v.Events(f, func(e *cli.LogEvent) error {
			for i, field := range by {
				fields[i] = statField(e, field)
			}
			name := strings.Join(fields, "\x00")
			g := groups[name]
			if g == nil {
				if len(groups) == maxStatGroups {
					return cli.Fail(cli.ExitFailure, "fewer fields, or a filter", "there are more than %d groups", maxStatGroups)
				}
				g = &statGroup{fields: slices.Clone(fields), first: e.LSN, firstTime: e.Time}
				groups[name] = g
			}
			g.events++
			g.bytes += int64(len(e.Wire))
			if e.Flags&event.FlagValueRef != 0 {
				size, err := event.ValueRefSize(e.Value)
				if err != nil {
					return cli.LocateIn(err, f.Name, f.Offset)
				}
				g.bytes += size
			}
			g.last, g.lastTime = e.LSN, e.Time
			return nil
		})
	})
	if err != nil {
		return err
	}
	var cols []cli.Column
	for _, field := range by {
		cols = append(cols, cli.Column{Name: field})
	}
	r := cli.NewRenderer(cmd, cli.ManyRows, append(cols, cli.Column{Name: "events"}, cli.Column{Name: "bytes"},
		cli.Column{Name: "first_lsn"}, cli.Column{Name: "last_lsn"}, cli.Column{Name: "first_time"}, cli.Column{Name: "last_time"})...)
	sorted := make([]*statGroup, 0, len(groups))
	for _, g := range groups {
		sorted = append(sorted, g)
	}
	slices.SortFunc(sorted, func(a, b *statGroup) int {
		return cmp.Or(slices.CompareFunc(a.fields, b.fields, compareFields), cmp.Compare(a.first, b.first))
	})
	for _, g := range sorted {
		var row []any
		for _, field := range g.fields {
			if field == "" {
				row = append(row, nil)
			} else {
				row = append(row, field)
			}
		}
		row = append(row, cli.CountCell(g.events), cli.ByteCell(g.bytes), g.first, g.last, time.Unix(0, g.firstTime), time.Unix(0, g.lastTime))
		if err := r.Row(row...); err != nil {
			return err
		}
	}
	return r.Close()
}

// compareFields puts log files in the order of their numbers; what is no number follows in that of its bytes.
func compareFields(a, b string) int {
	m, aerr := strconv.ParseUint(a, 10, 64)
	n, berr := strconv.ParseUint(b, 10, 64)
	switch {
	case aerr == nil && berr == nil:
		return cmp.Or(cmp.Compare(m, n), strings.Compare(a, b))
	case aerr == nil && b != "":
		return -1
	case berr == nil && a != "":
		return 1
	}
	return strings.Compare(a, b)
}

func statField(e *cli.LogEvent, field string) string {
	switch field {
	case "dataset":
		return e.DatasetName
	case "op":
		return e.Op.String()
	case "actor":
		return e.Who.Actor
	case "address":
		return e.Who.Address
	case "client":
		return e.Who.Client
	case "ticket":
		return e.Annotation("ticket")
	case "file":
		return strconv.FormatUint(e.Frame.File, 10)
	case "hour":
		return time.Unix(0, e.Time).UTC().Format("2006-01-02T15Z")
	}
	return time.Unix(0, e.Time).UTC().Format(time.DateOnly)
}
