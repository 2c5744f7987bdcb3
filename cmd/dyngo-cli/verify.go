package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/wal"
)

func newVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check every byte of the store",
		Long: `Check every byte of the store. Of the log: file headers and how they follow each
other, CRC and chain of each frame, the encoding of each event, the pieces of
large values, and the end; what a crash left behind the end is told and is no
damage. Of what is derived from it: the manifest, that the segments it names are
there and the ones it means, their blocks, order, indexes, filters and hash, and
that they hold nothing newer than the log.

Damage is listed with file and offset, and the exit code is 6. The command takes
no lock and works beside a process that writes.`,
		Example: `  dyngo-cli verify
  dyngo-cli verify -d /backup/store -o json`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runVerify(cmd) },
	}
}

func runVerify(cmd *cobra.Command) error {
	dir := cli.GlobalsOf(cmd).Dir
	if err := cli.CheckStore(dir); err != nil {
		return err
	}
	p := newProgress(cmd, "verify", 0, "bytes")
	report, err := dyngo.Verify(cmd.Context(), filepath.ToSlash(dir), nil, func(done, total int64) {
		p.SetTotal(total)
		p.Set(done)
	})
	p.Done()
	if err != nil {
		return err
	}
	for _, name := range report.Orphans {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: no part of the store: a crash left it, or the owner is writing it\n", name)
	}
	if report.Count() > 0 {
		return showDefects(cmd, &report)
	}
	return showSound(cmd, &report)
}

// showSound prints what was checked.
func showSound(cmd *cobra.Command, all *dyngo.VerifyReport) error {
	report := &all.Log
	tail := report.Tail
	ending := "open"
	if tail.Clean {
		ending = "closed"
	}
	var torn, tornAt any
	if tail.Cut {
		name := "wal/" + wal.FileName(tail.File, tail.FirstLSN)
		torn, tornAt = cli.ByteCell(tail.CutBytes), tail.End
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: what a crash left behind offset %d (%s) is no part of the log and left out. %s\n",
			name, tail.End, cli.FormatBytes(tail.CutBytes), tail.Doubt)
	}
	if m := all.Manifest; m.CutBytes > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: what a crash left behind offset %d (%s) is left out. %s\n",
			m.File, m.End, cli.FormatBytes(m.CutBytes), m.Doubt)
	}
	r := cli.NewRenderer(cmd, cli.OneSheet, cli.Column{Name: "dir"}, cli.Column{Name: "ok", Title: "OK"}, cli.Column{Name: "damaged"},
		cli.Column{Name: "files"}, cli.Column{Name: "bytes"}, cli.Column{Name: "frames"}, cli.Column{Name: "events"},
		cli.Column{Name: "first_lsn"}, cli.Column{Name: "last_lsn"}, cli.Column{Name: "ending"},
		cli.Column{Name: "torn_bytes"}, cli.Column{Name: "torn_offset"}, cli.Column{Name: "data_frames"},
		cli.Column{Name: "unreferenced_data_frames"}, cli.Column{Name: "segments"}, cli.Column{Name: "segment_bytes"},
		cli.Column{Name: "segment_entries"}, cli.Column{Name: "orphans"})
	err := r.Row(cli.GlobalsOf(cmd).Dir, true, 0, cli.CountCell(report.Files), cli.ByteCell(report.Bytes), cli.CountCell(report.Frames),
		cli.CountCell(report.Events), report.FirstLSN, tail.NextLSN-min(tail.NextLSN, 1), ending,
		torn, tornAt, cli.CountCell(report.DataFrames), cli.CountCell(report.Unreferenced), cli.CountCell(all.Segments),
		cli.ByteCell(all.Bytes), cli.CountCell(all.Entries), cli.CountCell(len(all.Orphans)))
	if err != nil {
		return err
	}
	return r.Close()
}

// placeOfDefect takes a defect apart: file and offset, if it is damage, and what is wrong there.
func placeOfDefect(defect error) (file, offset any, what string) {
	what = defect.Error()
	var damage *dyngo.CorruptionError
	if errors.As(defect, &damage) {
		file, offset = damage.File, damage.Offset
		_, what, _ = strings.Cut(what, "corrupt: ")
	}
	return file, offset, what
}

// showDefects lists the damage and fails.
func showDefects(cmd *cobra.Command, report *dyngo.VerifyReport) error {
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "file"}, cli.Column{Name: "offset"}, cli.Column{Name: "what"})
	for _, defect := range report.All() {
		file, offset, what := placeOfDefect(defect)
		if err := r.Row(file, offset, what); err != nil {
			return err
		}
	}
	if err := r.Close(); err != nil {
		return err
	}
	more := ""
	if n := report.Count(); n > 1 {
		more = fmt.Sprintf(" (%s defects in all)", cli.FormatCount(int64(n)))
	}
	try := "dyngo-cli repair -d " + cli.ShellQuote(cli.GlobalsOf(cmd).Dir) +
		" builds manifest and segments anew from the log, which is sound"
	if len(report.Log.Defects) > 0 {
		try = "restore the files named from a backup; reading commands serve what lies before the damage"
	}
	return cli.Fail(cli.ExitCorrupt, try, "%w%s", report.All()[0], more)
}
