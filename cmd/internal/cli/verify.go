package cli

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/integrity"
	"github.com/dyngodb/dyngo/wal"
)

// LevelHelp says what the levels of a verification look at.
const LevelHelp = `A level looks at what the levels before it look at:

  files   that files are there, follow each other and have their sizes
  crc     all checksums
  chain   how the frames of the log follow each other; crc finds this too
  decode  every event and what it refers to
  tree    the hash tree over the log, computed anew; logged hashes of segments
  replay  that the store opens; datasets and sessions of all events
  state   that a replay of the log gives the values that the store has`

// Verification is what its flags say.
type Verification struct {
	level, key string
	anchors    []string

	newest map[string]integrity.Head // in each anchor file; of none, the zero head
	last   string                    // the newest head in the anchor files, as a note
}

// AddVerification gives cmd the flags of a verification.
func AddVerification(cmd *cobra.Command) *Verification {
	o := &Verification{}
	cmd.Flags().StringVar(&o.level, "level", "", "how deep: files, crc, chain, decode, tree, replay or state")
	MustCompleteFlag(cmd, "level", "files", "crc", "chain", "decode", "tree", "replay", "state")
	o.addKeys(cmd)
	return o
}

// AddProof gives cmd the flags of a proof.
func AddProof(cmd *cobra.Command) *Verification {
	o := &Verification{}
	o.addKeys(cmd)
	return o
}

func (o *Verification) addKeys(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&o.anchors, "anchor", nil, "file with tree heads to compare with (repeatable)")
	cmd.Flags().StringVar(&o.key, "signing-key", "", "file with the key of tree heads, private or public")
}

// Run verifies what cmd reads, and prints what was checked or the damage. The head of a sound log goes to the anchor files if the
// key is a private one.
func (o *Verification) Run(cmd *cobra.Command) error {
	vo, err := o.options()
	if err != nil {
		return err
	}
	src, err := OpenSource(cmd)
	if err != nil {
		return err
	}
	p := NewProgress(cmd, "verify", 0, "bytes")
	vo.Progress = func(done, total int64) {
		p.SetTotal(total)
		p.Set(done)
	}
	report, archived, err := src.verify(cmd.Context(), vo)
	p.Done()
	if err != nil {
		return err
	}
	when := ""
	if len(report.Log.Defects) > 0 {
		when = ", once that is sound"
	}
	for _, side := range report.SideDefects {
		fmt.Fprintf(cmd.ErrOrStderr(), "%v: it will be built anew from the log%s\n", side, when)
	}
	tellTree(cmd, &report, vo.Key)
	tellRedactions(cmd, &report.Log)
	for _, name := range report.Orphans {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: no part of the store: a crash left it, or the owner is writing it\n", name)
	}
	if report.Count() > 0 {
		return showDefects(cmd, src, &report)
	}
	if archived != nil {
		if archived.Count() > 0 {
			return showDefects(cmd, src, archived)
		}
		log := &archived.Log
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: with the log of the store, LSN %d to %d are sound to level %s\n", src.Archive, log.FirstLSN,
			log.Tail.NextLSN-min(log.Tail.NextLSN, 1), archived.Level)
	}
	if src.Kind == SourceLogs {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: log files alone were checked, to level %s: %s\n", src.name, report.Level,
			src.beyond(report.Level))
	}
	if err := showSound(cmd, &report); err != nil {
		return err
	}
	return o.addHead(cmd, &report, vo.Key)
}

// beyond says why log files alone can't be verified deeper than to a level.
func (s *Source) beyond(l dyngo.Level) string {
	const rest = "levels replay and state hold a store's segments against its log, and there are none"
	if l >= dyngo.LevelTree {
		return rest
	}
	return "level tree compares them with tree heads that --anchor names; " + rest
}

// verify verifies a source. archived is of the log as a whole if the archive has a part of it.
func (s *Source) verify(ctx context.Context, vo dyngo.VerifyOptions) (report dyngo.VerifyReport, archived *dyngo.VerifyReport, err error) {
	if s.Kind == SourceLogs {
		report, err = s.verifyLogs(ctx, vo)
		return report, nil, err
	}
	report, err = dyngo.VerifyWith(ctx, s.Dir, &dyngo.Options{FS: s.below}, vo)
	if err != nil || s.Archive == "" || report.Count() > 0 {
		return report, nil, err
	}
	vo.Level = min(report.Level, dyngo.LevelTree)
	if whole, err := s.whole(); err != nil {
		return report, nil, err
	} else if !whole {
		vo.Level = min(vo.Level, dyngo.LevelDecode)
	}
	all, err := s.verifyLogs(ctx, vo)
	return report, &all, err
}

// verifyLogs verifies the log alone. Packed files come first: one that is damaged need not have a header that can be read.
func (s *Source) verifyLogs(ctx context.Context, vo dyngo.VerifyOptions) (report dyngo.VerifyReport, err error) {
	if vo.Level != dyngo.LevelFiles {
		if report.Log.Defects, err = s.verifyPacked(ctx); err != nil || len(report.Log.Defects) > 0 {
			return report, err
		}
	}
	first, head, err := s.first()
	if err != nil {
		return report, err
	}
	switch {
	case vo.Level >= dyngo.LevelReplay:
		return report, Usage("--level decode, or tree with --anchor", "--level %s: %s has log files alone: %s", vo.Level, s.name,
			s.beyond(dyngo.LevelTree))
	case vo.Level == dyngo.LevelTree && head.PrevSeq != 0:
		return report, Usage("--level decode", "--level tree: %s begins with LSN %d: the hashes of what lies before are missing, "+
			"which the folder integrity of its store has", s.name, first.FirstLSN)
	case vo.Level == dyngo.LevelDefault:
		vo.Level = dyngo.LevelDecode
	}
	fsys, err := s.logsOnly(ctx)
	if err != nil {
		return report, err
	}
	return dyngo.VerifyWith(ctx, emptyDir, &dyngo.Options{FS: fsys}, vo)
}

// verifyPacked holds packed log files against their SHA-256.
func (s *Source) verifyPacked(ctx context.Context) (defects []error, err error) {
	shown, ok := s.FS.(*logFS)
	if !ok {
		return nil, nil
	}
	for _, l := range shown.layers {
		names, err := l.fs.List(l.dir)
		if err != nil {
			return defects, err
		}
		for _, name := range names {
			plain, ok := logName(name)
			if _, is := l.frozen[plain]; !ok || plain == name || l.frozen != nil && !is {
				continue
			}
			a, err := wal.OpenArchived(l.fs, path.Join(l.dir, name), name)
			if err == nil {
				err = errors.Join(a.Verify(ctx, nil), a.Close())
			}
			switch {
			case errors.Is(err, dyngo.ErrCorrupt):
				defects = append(defects, err)
			case err != nil:
				return defects, err
			}
		}
	}
	return defects, nil
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
		torn, tornAt = ByteCell(tail.CutBytes), tail.End
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: what a crash left behind offset %d (%s) is no part of the log and left out. %s\n",
			name, tail.End, FormatBytes(tail.CutBytes), tail.Doubt)
	}
	if m := all.Manifest; m.CutBytes > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: what a crash left behind offset %d (%s) is left out. %s\n",
			m.File, m.End, FormatBytes(m.CutBytes), m.Doubt)
	}
	columns := []Column{{Name: "dir"}, {Name: "ok", Title: "OK"}, {Name: "level"}, {Name: "damaged"}, {Name: "files"}, {Name: "bytes"},
		{Name: "frames"}, {Name: "events"}, {Name: "first_lsn"}, {Name: "last_lsn"}, {Name: "ending"}, {Name: "torn_bytes"},
		{Name: "torn_offset"}, {Name: "data_frames"}, {Name: "unreferenced_data_frames"}, {Name: "segments"},
		{Name: "segment_bytes"}, {Name: "segment_entries"}, {Name: "orphans"}}
	cells := []any{GlobalsOf(cmd).Dir, true, all.Level.String(), 0, CountCell(report.Files), ByteCell(report.Bytes),
		CountCell(report.Frames), CountCell(report.Events), report.FirstLSN, tail.NextLSN - min(tail.NextLSN, 1), ending,
		torn, tornAt, CountCell(report.DataFrames), CountCell(report.Unreferenced), CountCell(all.Segments),
		ByteCell(all.Bytes), CountCell(all.Entries), CountCell(len(all.Orphans))}
	if all.Level == dyngo.LevelFiles { // nothing in log files was read
		for i, c := range columns {
			switch c.Name {
			case "bytes", "frames", "events", "last_lsn", "ending", "data_frames", "unreferenced_data_frames":
				cells[i] = nil
			}
		}
	}
	if t := all.Tree; t != nil {
		columns = append(columns, Column{Name: "tree_frames"}, Column{Name: "tree_root"}, Column{Name: "heads_agree"},
			Column{Name: "hashes_logged"})
		cells = append(cells, CountCell(t.Head.Size), t.Head.Root.String(), CountCell(t.Outside()), CountCell(t.Sealed))
	}
	r := NewRenderer(cmd, OneSheet, columns...)
	if err := r.Row(cells...); err != nil {
		return err
	}
	return r.Close()
}

// PlaceOfDefect takes a defect apart: file and offset, if it is damage, and what is wrong there.
func PlaceOfDefect(defect error) (file, offset any, what string) {
	what = defect.Error()
	var damage *dyngo.CorruptionError
	if errors.As(defect, &damage) {
		file, offset = damage.File, damage.Offset
		_, what, _ = strings.Cut(what, "corrupt: ")
	}
	return file, offset, what
}

// WhileLogDamaged says what can be read of a store whose log is damaged.
const WhileLogDamaged = "until then commands that read serve what is sound; if a log file is missing, the present or nothing"

// showDefects lists the damage and fails.
func showDefects(cmd *cobra.Command, src *Source, report *dyngo.VerifyReport) error {
	r := NewRenderer(cmd, ManyRows, Column{Name: "file"}, Column{Name: "offset"}, Column{Name: "what"})
	for _, defect := range report.All() {
		file, offset, what := PlaceOfDefect(defect)
		if err := r.Row(file, offset, what); err != nil {
			return err
		}
	}
	if err := r.Close(); err != nil {
		return err
	}
	more := ""
	if n := report.Count(); n > 1 {
		more = fmt.Sprintf(" (%s defects in all)", FormatCount(int64(n)))
	}
	try := "dyngo-cli repair -d " + ShellQuote(GlobalsOf(cmd).Dir) +
		" builds manifest and segments anew from the log, which is sound"
	if t := report.Tree; t != nil && t.Defects == len(report.Defects) {
		try = "if only files in the folder integrity are named, remove that folder: it is built anew from the log; else the past " +
			"was changed: restore the store from a backup"
	}
	if len(report.Log.Defects) > 0 {
		try = "restore the files named from a backup; " + WhileLogDamaged
	}
	if src.Kind != SourceStore {
		try = "another copy of the files named"
	}
	return Fail(ExitCorrupt, try, "%w%s", report.All()[0], more)
}
