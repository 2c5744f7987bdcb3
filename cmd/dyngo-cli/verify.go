package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

func newVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check every byte of the store",
		Long: `Check every byte of the store: file headers and how they follow each other, CRC
and chain of each frame, the encoding of each event, the pieces of large values,
and the end. What a crash left behind the end is told and is no damage.

Damage is listed with file and offset, and the exit code is 6. The command takes
no lock and works beside a process that writes.`,
		Example: `  dyngo-cli verify
  dyngo-cli verify -d /backup/store -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runVerify(cmd) },
	}
}

func runVerify(cmd *cobra.Command) error {
	dir, err := walDir(cmd)
	if err != nil {
		return err
	}
	p := newProgress(cmd, "verify", 0, "bytes")
	report, err := wal.Verify(cmd.Context(), vfs.OS, dir, func(done, total int64) {
		p.SetTotal(total)
		p.Set(done)
	})
	p.Done()
	if err != nil {
		return err
	}
	if len(report.Defects) > 0 {
		return showDefects(cmd, &report)
	}
	return showSound(cmd, &report)
}

// showSound prints what was checked.
func showSound(cmd *cobra.Command, report *wal.VerifyReport) error {
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
	r := newRenderer(cmd, oneSheet, column{name: "dir"}, column{name: "ok", title: "OK"}, column{name: "damaged"},
		column{name: "files"}, column{name: "bytes"}, column{name: "frames"}, column{name: "events"},
		column{name: "first_lsn"}, column{name: "last_lsn"}, column{name: "ending"},
		column{name: "torn_bytes"}, column{name: "torn_offset"}, column{name: "data_frames"},
		column{name: "unreferenced_data_frames"})
	err := r.Row(globalsOf(cmd).dir, true, 0, countCell(report.Files), byteCell(report.Bytes), countCell(report.Frames),
		countCell(report.Events), report.FirstLSN, tail.NextLSN-min(tail.NextLSN, 1), ending,
		torn, tornAt, countCell(report.DataFrames), countCell(report.Unreferenced))
	if err != nil {
		return err
	}
	return r.Close()
}

// showDefects lists the damage and fails.
func showDefects(cmd *cobra.Command, report *wal.VerifyReport) error {
	r := newRenderer(cmd, manyRows, column{name: "file"}, column{name: "offset"}, column{name: "what"})
	for _, defect := range report.Defects {
		var file, offset any
		what := defect.Error()
		var damage *dyngo.CorruptionError
		if errors.As(defect, &damage) {
			file, offset = damage.File, damage.Offset
			_, what, _ = strings.Cut(what, "corrupt: ")
		}
		if err := r.Row(file, offset, what); err != nil {
			return err
		}
	}
	if err := r.Close(); err != nil {
		return err
	}
	n := len(report.Defects) + report.MoreDefects
	more := ""
	if n > 1 {
		more = fmt.Sprintf(" (%s defects in all)", formatCount(int64(n)))
	}
	return fail(exitCorrupt, "restore the files named from a backup; reading commands serve what lies before the damage",
		"%w%s", report.Defects[0], more)
}
