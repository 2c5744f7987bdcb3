package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
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
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runVerify(cmd) },
	}
}

func runVerify(cmd *cobra.Command) error {
	dir := globalsOf(cmd).dir
	if err := checkStore(dir); err != nil {
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
		torn, tornAt = byteCell(tail.CutBytes), tail.End
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: what a crash left behind offset %d (%s) is no part of the log and left out. %s\n",
			name, tail.End, formatBytes(tail.CutBytes), tail.Doubt)
	}
	if m := all.Manifest; m.CutBytes > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: what a crash left behind offset %d (%s) is left out. %s\n",
			m.File, m.End, formatBytes(m.CutBytes), m.Doubt)
	}
	r := newRenderer(cmd, oneSheet, column{name: "dir"}, column{name: "ok", title: "OK"}, column{name: "damaged"},
		column{name: "files"}, column{name: "bytes"}, column{name: "frames"}, column{name: "events"},
		column{name: "first_lsn"}, column{name: "last_lsn"}, column{name: "ending"},
		column{name: "torn_bytes"}, column{name: "torn_offset"}, column{name: "data_frames"},
		column{name: "unreferenced_data_frames"}, column{name: "segments"}, column{name: "segment_bytes"},
		column{name: "segment_entries"}, column{name: "orphans"})
	err := r.Row(globalsOf(cmd).dir, true, 0, countCell(report.Files), byteCell(report.Bytes), countCell(report.Frames),
		countCell(report.Events), report.FirstLSN, tail.NextLSN-min(tail.NextLSN, 1), ending,
		torn, tornAt, countCell(report.DataFrames), countCell(report.Unreferenced), countCell(all.Segments),
		byteCell(all.Bytes), countCell(all.Entries), countCell(len(all.Orphans)))
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
	r := newRenderer(cmd, manyRows, column{name: "file"}, column{name: "offset"}, column{name: "what"})
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
		more = fmt.Sprintf(" (%s defects in all)", formatCount(int64(n)))
	}
	try := "dyngo-cli repair -d " + shellQuote(globalsOf(cmd).dir) +
		" builds manifest and segments anew from the log, which is sound"
	if len(report.Log.Defects) > 0 {
		try = "restore the files named from a backup; reading commands serve what lies before the damage"
	}
	return fail(exitCorrupt, try, "%w%s", report.All()[0], more)
}
