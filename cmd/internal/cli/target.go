package cli

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
)

// AtHelp is what commands with --at say about it.
const AtHelp = `--at reads the past: as of an LSN (1234), a time (2026-11-20T14:31:59Z, or -10m
for ten minutes ago), after or before a batch that is named by its first LSN
(tx:1234, before-tx:1234), or of a snapshot (snapshot:NAME). Datasets that were
dropped since are found too.`

// targetForms are the spellings of a target, for advice.
const targetForms = "an LSN (1234), a time (2026-11-20T14:31:59Z or -10m), tx:1234, before-tx:1234 or snapshot:NAME"

// AddAt gives cmd the flag that names a state of the past.
func AddAt(cmd *cobra.Command) *string {
	return cmd.Flags().String("at", "", "read as of an LSN, a time, tx:N, before-tx:N, snapshot:NAME")
}

// ParseTarget reads a target; what names it in errors. now is what relative times count from.
func ParseTarget(what, s string, now time.Time) (dyngo.Target, error) {
	if name, ok := strings.CutPrefix(s, "snapshot:"); ok {
		return dyngo.AtSnapshot(name), nil
	}
	form, number := dyngo.AtLSN, s
	if rest, ok := strings.CutPrefix(s, "before-tx:"); ok {
		form, number = dyngo.BeforeTx, rest
	} else if rest, ok := strings.CutPrefix(s, "tx:"); ok {
		form, number = dyngo.AfterTx, rest
	}
	n, err := strconv.ParseUint(number, 10, 63)
	switch {
	case err == nil:
		return form(dyngo.LSN(n)), nil
	case errors.Is(err, strconv.ErrRange):
		return dyngo.Target{}, Usage(targetForms, "%s: %s is no LSN: it is too large", what, number)
	case number != s:
		return dyngo.Target{}, Usage(targetForms, "%s: %q is no LSN", what, number)
	}
	t, err := parseMoment(what, s, now, targetForms)
	return dyngo.AtTime(t), err
}

// ParseTime reads a time; what names it in errors. now is what relative times count from.
func ParseTime(what, s string, now time.Time) (time.Time, error) {
	return parseMoment(what, s, now, timeForms)
}

// parseMoment reads a time, or a time span before now; forms is what to try instead.
func parseMoment(what, s string, now time.Time, forms string) (time.Time, error) {
	if strings.HasPrefix(s, "-") {
		d, err := time.ParseDuration(s)
		if err != nil {
			return now, Usage("-90s, -10m or -36h", "%s: %q is no time span", what, s)
		}
		return now.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		kind := "target"
		if forms == timeForms {
			kind = "time"
		}
		if _, err := time.Parse("2006-01-02T15:04:05", strings.Replace(s, " ", "T", 1)); err == nil {
			forms = strings.Replace(s, " ", "T", 1) + "Z for UTC, or with another time zone, as +02:00"
		}
		return now, Usage(forms, "%s: %q is no %s", what, s, kind)
	}
	return t, nil
}

const timeForms = "2026-11-20T14:31:59Z, or -10m for ten minutes ago"

// ParseNanos reads a time as Unix nanoseconds; empty is 0.
func ParseNanos(what, s string, now time.Time) (int64, error) {
	if s == "" {
		return 0, nil
	}
	t, err := parseMoment(what, s, now, timeForms)
	if err == nil && (t.Year() < 1970 || t.Year() > 2261) {
		err = Usage(timeForms, "%s: %s is not between the years 1970 and 2261", what, s)
	}
	return t.UnixNano(), err
}

// OpenView opens a view at the target that --at names, or of the present if at is empty.
func OpenView(cmd *cobra.Command, db *dyngo.DB, at string) (*dyngo.View, error) {
	if at == "" {
		return db.View()
	}
	target, err := ParseTarget("--at", at, time.Now())
	if err != nil {
		return nil, err
	}
	return db.ViewAt(cmd.Context(), target)
}

// ViewDataset finds a dataset of a view; at is as for openView.
func ViewDataset(cmd *cobra.Command, db *dyngo.DB, view *dyngo.View, at, name string) (*dyngo.Dataset, error) {
	if at == "" {
		return ReadDataset(cmd, db, name)
	}
	ds, err := view.Dataset(name)
	if errors.Is(err, dyngo.ErrNoDataset) {
		return nil, Fail(ExitNotFound, "a later --at", "no dataset %q in %s at LSN %d", name, GlobalsOf(cmd).Dir, view.LSN())
	}
	return ds, err
}
