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
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check every byte of the store, and that its past was not changed",
		Long: `Check every byte of the store. Of the log: file headers and how they follow each
other, CRC and chain of each frame, the encoding of each event, the pieces of
large values, and the end; what a crash left behind the end is told and is no
damage. Of what is derived from it: the manifest, that the segments it names are
there and the ones it means, their blocks, order, indexes, filters and hash, and
that they hold nothing newer than the log.

Damage is listed with file and offset, and the exit code is 6. The command takes
no lock and works beside a process that writes.

A level looks at what the levels before it look at:

  files   that files are there, follow each other and have their sizes
  crc     all checksums
  chain   how the frames of the log follow each other; crc finds this too
  decode  every event and what it refers to
  tree    the hash tree over the log, computed anew; logged hashes of segments
  replay  that the store opens; datasets and sessions of all events
  state   that a replay of the log gives the values that the store has

The default is tree for a store that keeps a tree, else decode. Checksums find
accidents. That nobody has changed the past on purpose can be told from a tree
head that was kept elsewhere: --anchor names files with heads, and with a
private --signing-key the head of now is added to them if all is well. Without
an anchor a log that was cut at its end, or forged as a whole, looks sound.

--init-key makes a key, and the store keeps a tree from then on. --prove prints
a bundle that the program in docs/verifier checks: that one event is in the log,
or with "heads", that the log of the last head in --anchor begins this one.`,
		Example: `  dyngo-cli verify
  dyngo-cli verify -d /backup/store -o json
  dyngo-cli verify --init-key /keys/dyngo.key
  dyngo-cli verify --signing-key /keys/dyngo.key --anchor /elsewhere/heads
  dyngo-cli verify --signing-key /keys/dyngo.key.pub --anchor /elsewhere/heads
  dyngo-cli verify --prove 42 --signing-key /keys/dyngo.key > proof.json`,
		Args: cli.NoArgs,
	}
	var o verifyFlags
	flags := cmd.Flags()
	flags.StringVar(&o.level, "level", "", "how deep: files, crc, chain, decode, tree, replay or state")
	flags.StringArrayVar(&o.anchors, "anchor", nil, "file with tree heads to compare with (repeatable)")
	flags.StringVar(&o.key, "signing-key", "", "file with the key of tree heads, private or public")
	flags.StringVar(&o.initKey, "init-key", "", "make a key: FILE and FILE.pub; keep a tree")
	flags.StringVar(&o.prove, "prove", "", `print a proof: of an LSN, or of "heads"`)
	cmd.MarkFlagsMutuallyExclusive("init-key", "level")
	cmd.MarkFlagsMutuallyExclusive("init-key", "anchor")
	cmd.MarkFlagsMutuallyExclusive("init-key", "signing-key")
	cmd.MarkFlagsMutuallyExclusive("init-key", "prove")
	cmd.MarkFlagsMutuallyExclusive("level", "prove")
	cli.MustCompleteFlag(cmd, "level", "files", "crc", "chain", "decode", "tree", "replay", "state")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case o.initKey != "":
			return runInitKey(cmd, o.initKey)
		case o.prove != "":
			return runProve(cmd, &o)
		}
		return runVerify(cmd, &o)
	}
	return cmd
}

func runVerify(cmd *cobra.Command, o *verifyFlags) error {
	dir := cli.GlobalsOf(cmd).Dir
	vo, err := o.options()
	if err != nil {
		return err
	}
	if err := cli.CheckStore(dir); err != nil {
		return err
	}
	p := newProgress(cmd, "verify", 0, "bytes")
	vo.Progress = func(done, total int64) {
		p.SetTotal(total)
		p.Set(done)
	}
	report, err := dyngo.VerifyWith(cmd.Context(), filepath.ToSlash(dir), nil, vo)
	p.Done()
	if err != nil {
		return err
	}
	for _, side := range report.SideDefects {
		fmt.Fprintf(cmd.ErrOrStderr(), "%v: it will be built anew from the log\n", side)
	}
	tellTree(cmd, &report, vo.Key)
	for _, name := range report.Orphans {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: no part of the store: a crash left it, or the owner is writing it\n", name)
	}
	if report.Count() > 0 {
		return showDefects(cmd, &report)
	}
	if err := showSound(cmd, &report); err != nil {
		return err
	}
	return o.addHead(cmd, &report, vo.Key)
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
	columns := []cli.Column{{Name: "dir"}, {Name: "ok", Title: "OK"}, {Name: "damaged"}, {Name: "files"}, {Name: "bytes"},
		{Name: "frames"}, {Name: "events"}, {Name: "first_lsn"}, {Name: "last_lsn"}, {Name: "ending"}, {Name: "torn_bytes"},
		{Name: "torn_offset"}, {Name: "data_frames"}, {Name: "unreferenced_data_frames"}, {Name: "segments"},
		{Name: "segment_bytes"}, {Name: "segment_entries"}, {Name: "orphans"}}
	cells := []any{cli.GlobalsOf(cmd).Dir, true, 0, cli.CountCell(report.Files), cli.ByteCell(report.Bytes),
		cli.CountCell(report.Frames), cli.CountCell(report.Events), report.FirstLSN, tail.NextLSN - min(tail.NextLSN, 1), ending,
		torn, tornAt, cli.CountCell(report.DataFrames), cli.CountCell(report.Unreferenced), cli.CountCell(all.Segments),
		cli.ByteCell(all.Bytes), cli.CountCell(all.Entries), cli.CountCell(len(all.Orphans))}
	if t := all.Tree; t != nil {
		columns = append(columns, cli.Column{Name: "tree_frames"}, cli.Column{Name: "tree_root"}, cli.Column{Name: "heads_agree"},
			cli.Column{Name: "hashes_logged"})
		cells = append(cells, cli.CountCell(t.Head.Size), t.Head.Root.String(), cli.CountCell(t.Outside()), cli.CountCell(t.Sealed))
	}
	r := cli.NewRenderer(cmd, cli.OneSheet, columns...)
	if err := r.Row(cells...); err != nil {
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
	if t := report.Tree; t != nil && t.Defects == len(report.Defects) {
		try = "if only files in the folder integrity are named, remove that folder: it is built anew from the log; else the past " +
			"was changed: restore the store from a backup"
	}
	if len(report.Log.Defects) > 0 {
		try = "restore the files named from a backup; reading commands serve what lies before the damage"
	}
	return cli.Fail(cli.ExitCorrupt, try, "%w%s", report.All()[0], more)
}
