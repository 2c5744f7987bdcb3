package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newGCCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Drop old log files, or say what keeps them",
		Long: `Drop the oldest log files, as far as --age or --bytes no longer want them and
nothing needs them any more, and say of each file why it goes or stays. What is
dropped is history: keys keep their present values. Large values that are
current move to value files.

The process that has the store open is asked if it serves live.sock (the option
Live). It goes by its own options, so --age, --bytes and --archive are refused
then. With --dry-run nothing is changed. With --archive files are copied there,
packed as zstd, before they go.`,
		Example: `  dyngo-cli gc --dry-run
  dyngo-cli gc --age 720h --bytes 10GiB --archive /backup/log`,
		Args: cli.NoArgs,
	}
	dryRun := cmd.Flags().Bool("dry-run", false, "only say what would be dropped")
	age := cmd.Flags().Duration("age", 0, "drop files whose events are all older")
	size := cmd.Flags().String("bytes", "", "drop files while those after them take this much, like 10GiB")
	archive := cmd.Flags().String("archive", "", "copy files to this `directory` before they are dropped")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *age < 0 {
			return cli.Usage("--age 720h", "--age is %v: it can't be negative", *age)
		}
		keep := dyngo.Retention{Age: *age}
		if *size != "" {
			var ok bool
			if keep.Bytes, ok = parseSize(*size); !ok {
				return cli.Usage("--bytes 512MiB", "--bytes: %q is not a size", *size)
			}
		}
		if err := cli.CheckStore(cli.GlobalsOf(cmd).Dir); err != nil {
			return err
		}
		return runGC(cmd, keep, *archive, *dryRun)
	}
	return cmd
}

// parseSize reads a number of bytes, or of KiB, MiB, GiB or TiB.
func parseSize(s string) (int64, bool) {
	shift := 0
	if i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(s[i:])), "B"), "I")
		n := strings.Index("KMGT", unit)
		if len(unit) > 1 || n < 0 {
			return 0, false
		}
		if s = s[:i]; unit != "" {
			shift = 10 * (n + 1)
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n << shift, err == nil && n<<shift>>shift == n
}

func runGC(cmd *cobra.Command, keep dyngo.Retention, archive string, dry bool) error {
	dir := cli.GlobalsOf(cmd).Dir
	if archive != "" {
		if err := cli.CheckFolder("--archive", archive, dir); err != nil {
			return err
		}
	}
	request := "gc"
	if dry {
		request = "gcplan"
	}
	if _, err := askOwner(cmd.Context(), dir, "stats", nil); err == nil && (keep != (dyngo.Retention{}) || archive != "") {
		return cli.Usage("dyngo-cli gc without --age, --bytes and --archive",
			"the process that has %s open goes by its own options Retention and Archive", dir)
	}
	plan, err := ownerAnswer[dyngo.GCPlan](cmd.Context(), dir, request, func(dyngo.Metrics) {})
	if errors.Is(err, errNotLive) {
		plan, err = gcAlone(cmd, keep, archive, dry)
	}
	if err != nil {
		return err
	}
	return showGC(cmd, &plan, dry)
}

// gcAlone opens the store itself; for --dry-run without taking its lock.
func gcAlone(cmd *cobra.Command, keep dyngo.Retention, archive string, dry bool) (plan dyngo.GCPlan, err error) {
	set := func(o *dyngo.Options) { o.Retention, o.Archive = keep, filepath.ToSlash(archive) }
	var db *dyngo.DB
	if dry {
		db, err = cli.OpenRead(cmd, set)
	} else {
		db, err = cli.OpenWrite(cmd, set)
	}
	if err != nil {
		return plan, explainLocked(err)
	}
	defer cli.CloseStore(db, &err)
	if dry {
		return db.GCPlan(cmd.Context())
	}
	return db.GC(cmd.Context())
}

var byteCounts = regexp.MustCompile(`\b[0-9]+ bytes\b`)

// readable gives the sizes in a text the form that they have in the columns of tables.
func readable(text string) string {
	return byteCounts.ReplaceAllStringFunc(text, func(s string) string {
		n, err := strconv.ParseInt(strings.TrimSuffix(s, " bytes"), 10, 64)
		if err != nil { // too large to be a size
			return s
		}
		return cli.FormatBytes(n)
	})
}

// showGC prints what becomes of each file.
func showGC(cmd *cobra.Command, plan *dyngo.GCPlan, dry bool) error {
	r := cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "action"}, cli.Column{Name: "file"}, cli.Column{Name: "kind"},
		cli.Column{Name: "bytes"}, cli.Column{Name: "first_lsn"}, cli.Column{Name: "last_lsn"}, cli.Column{Name: "reason"})
	removed := 0
	for _, f := range plan.Files {
		action := "keep"
		if f.Remove {
			action = "remove"
			removed++
		}
		reason := f.Reason
		if r.Format == "table" {
			reason = readable(reason)
		}
		if err := r.Row(action, f.File, f.Kind, cli.ByteCell(f.Bytes), f.FirstLSN, f.LastLSN, reason); err != nil {
			return err
		}
	}
	if err := r.Close(); err != nil {
		return err
	}
	what := "dropped"
	if dry {
		what = "would be dropped"
	}
	moved := ""
	if plan.MoveBytes > 0 {
		moved = fmt.Sprintf(", of which %s move to value files", cli.FormatBytes(plan.MoveBytes))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d files, %s, %s%s; floor: LSN %d\n", removed, cli.FormatBytes(plan.RemoveBytes), what, moved, plan.FloorLSN)
	for _, h := range plan.Holds {
		since := ""
		if !h.Since.IsZero() {
			since = ", since " + h.Since.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "hold of a %s%s: %s\n", h.Name, since, h.Reason)
	}
	return nil
}
