package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newRedactCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "redact LSN --reason REASON",
		Short: "Destroy the value of one event for good",
		Long: `Destroy the value that one event has put, such as a password that was written
by mistake: it goes from the log and from segments. history and dyngo-replay
dump print LSNs. An event says who did it and why; key, time and reason of the
put stay, and so do hash trees and the proofs of all events. verify lists what
was redacted. Redacting twice is no error; the row says when it was done.

The value must not be what its key has now: overwrite or delete the key first.
Snapshots that have it are named, and must be dropped first. With something like
that in the way the exit code is 7: the same works once it is gone. It is 4 if
the event never can be redacted, as it has put no value.

Not reached are backups, archives and other copies from before, what was read
or exported, and processes that have the store open for reading. A backup made
now is without the value: make one, then let those from before go with backup
expire. What is restored from one of those has the value again; redact it there
too. The log keeps a hash of the value: who has the log can confirm a guess
with it, and tell what a value of up to 4 bytes was. So change a password that
was logged.`,
		Example: `  dyngo-cli history users anna
  dyngo-cli redact 4711 --dry-run
  dyngo-cli redact 4711 --reason 'password in a comment, T-882' --yes
  dyngo-cli backup create /backups && dyngo-cli backup expire /backups --keep 1`,
		Args: cli.ExactArgs("LSN"),
	}
	f := cmd.Flags()
	dryRun := f.Bool("dry-run", false, "only say what would go, and what is in the way")
	yes := f.Bool("yes", false, "don't ask")
	why := cli.AddWhy(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		lsn, err := strconv.ParseUint(args[0], 10, 63)
		if err != nil || lsn == 0 {
			return cli.Usage("an LSN, as history and dump print it", "%q is no LSN", args[0])
		}
		o := why()
		if o.Reason == "" && !*dryRun {
			return cli.Usage("--reason TEXT", "redact: --reason is missing, which is kept in the log")
		}
		if err := cli.CheckStore(cli.GlobalsOf(cmd).Dir); err != nil {
			return err
		}
		ro := dyngo.RedactOptions{Reason: o.Reason, Ticket: o.Ticket, Correlation: o.Correlation}
		return runRedact(cmd, dyngo.LSN(lsn), ro, *dryRun, *yes)
	}
	return cmd
}

func runRedact(cmd *cobra.Command, lsn dyngo.LSN, o dyngo.RedactOptions, dryRun, yes bool) (err error) {
	plan, err := planRedaction(cmd, lsn)
	if err != nil {
		return err
	}
	if dryRun || plan.Already {
		return showRedaction(cmd, plan, dryRun)
	}
	if err := cli.Confirm(cmd, yes, "Destroy the value for good: "+ofRedaction(plan)); err != nil {
		return err
	}
	db, err := cli.OpenWrite(cmd)
	if err != nil {
		return err
	}
	defer cli.CloseStore(db, &err)
	done, err := db.Redact(cmd.Context(), lsn, o)
	if err != nil {
		return err
	}
	return showRedaction(cmd, done, false)
}

// planRedaction says what would be redacted, from a read-only open.
func planRedaction(cmd *cobra.Command, lsn dyngo.LSN) (r *dyngo.Redaction, err error) {
	db, err := cli.OpenRead(cmd)
	if err != nil {
		return nil, err
	}
	defer cli.CloseStore(db, &err)
	return db.Redact(cmd.Context(), lsn, dyngo.RedactOptions{DryRun: true})
}

// ofRedaction says what goes, for people.
func ofRedaction(r *dyngo.Redaction) string {
	of := "a dataset that was dropped"
	if r.Dataset != "" {
		of = fmt.Sprintf("dataset %q", r.Dataset)
	}
	return fmt.Sprintf("%s that LSN %d has put under key %s of %s", cli.FormatBytes(r.Bytes), r.LSN, cli.QuoteKey(r.Key), of)
}

// showRedaction prints what was redacted, or would be.
func showRedaction(cmd *cobra.Command, r *dyngo.Redaction, dryRun bool) error {
	status, by, at := "redacted", any(r.By), any(r.Time)
	switch {
	case r.Already:
		status = "redacted before"
	case dryRun:
		status = "would be redacted"
	}
	if r.By == 0 {
		by, at = nil, nil
	}
	text := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	rows := cli.NewRenderer(cmd, cli.OneSheet, cli.Column{Name: "lsn"}, cli.Column{Name: "status"}, cli.Column{Name: "dataset"},
		cli.Column{Name: "key"}, cli.Column{Name: "bytes"}, cli.Column{Name: "written"}, cli.Column{Name: "by_lsn"},
		cli.Column{Name: "time"}, cli.Column{Name: "actor"}, cli.Column{Name: "reason"}, cli.Column{Name: "files"})
	if err := rows.Row(r.LSN, status, text(r.Dataset), cli.KeyCell(r.Key), cli.ByteCell(r.Bytes), r.Written, by, at, text(r.Actor),
		text(r.Reason), text(strings.Join(r.Files, " "))); err != nil {
		return err
	}
	if err := rows.Close(); err != nil {
		return err
	}
	w := cmd.ErrOrStderr()
	switch {
	case r.Already && r.By == 0:
		fmt.Fprintln(w, "the log has no event of its redaction: it was set back or cut since")
	case dryRun && !r.Already:
		fmt.Fprintln(w, "nothing was changed; open views and scans of the owner may be in the way too")
	}
	if !r.Already {
		fmt.Fprintln(w, "not reached are backups, archives and other copies from before: delete those that have it")
	}
	return nil
}
