package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

func newQuickstartCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quickstart",
		Short: "Show in a few seconds what DynGO does, on real data",
		Long: `Show what DynGO does on real data that is inside this program: a feed of
earthquakes where the newest version wins, a year of weather, four seasons of
football with a league table that is kept up to date, and a process that is
killed in the middle of a load and loses nothing that was acknowledged.

The store is made in a fresh temporary folder, or in the folder of -d, which
must be new or empty (DYNGO_DIR is not used). It stays there to be tried out;
the last lines say how, and how to remove it.`,
		Example: `  dyngo-cli quickstart
  dyngo-cli quickstart -d ./try-it
  dyngo-cli quickstart -o json`,
		Args: cli.NoArgs,
	}
	child := cmd.Flags().Bool("child", false, "")
	if err := cmd.Flags().MarkHidden("child"); err != nil {
		panic("dyngo: bug: " + err.Error())
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *child {
			return runCrashChild(cmd)
		}
		return runQuickstart(cmd)
	}
	return cmd
}

// A tour is one quickstart under way.
type tour struct {
	*narrator
	cmd     *cobra.Command
	dir     string
	ours    bool // dir is temporary and made by the tour
	db      *dyngo.DB
	summary *cli.Renderer // nil unless a format for programs was asked for
}

// A chapter is one part of the tour.
type chapter struct {
	name  string
	title string
	run   func(t *tour) (chapterResult, error)
}

// A chapterResult is what a chapter did, for programs.
type chapterResult struct {
	rows   int64 // read from the data
	events int64 // logged
	what   string
}

var chapters = []chapter{
	{"earthquakes", "Earthquakes: the newest version wins", tourQuakes},
	{"weather", "Weather: a year of telemetry, found by time", tourWeather},
	{"football", "Football: a league table that is always up to date", tourFootball},
	{"crash", "kill -9 in the middle of a load", tourCrash},
}

func runQuickstart(cmd *cobra.Command) (err error) {
	t := &tour{cmd: cmd, narrator: newNarrator(cmd)}
	if err := t.makeDir(); err != nil {
		return err
	}
	if f := cli.GlobalsOf(cmd).Output; f == "json" || f == "jsonl" || f == "csv" {
		t.narrator.quiet = true
		t.summary = cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "chapter"}, cli.Column{Name: "rows"}, cli.Column{Name: "events"},
			cli.Column{Name: "seconds"}, cli.Column{Name: "what"}, cli.Column{Name: "dir"})
	}
	if t.db, err = dyngo.Open(t.dir, &dyngo.Options{Session: cli.Session(cmd)}); err != nil {
		return err
	}
	defer func() {
		if t.db != nil {
			cli.CloseStore(t.db, &err)
		}
		if t.ours && (cmd.Context().Err() != nil || errors.Is(err, context.Canceled)) {
			os.RemoveAll(t.dir) // nobody was told of it
		}
	}()
	began := time.Now()
	t.title("DynGO quickstart")
	t.say("Real data, one store, one log. The store is in %s", t.dir)
	for i, c := range chapters {
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		t.chapter(i+1, c.title)
		start := time.Now()
		result, err := c.run(t)
		t.endStatus()
		if err != nil {
			return fmt.Errorf("quickstart, %s: %w", c.name, err)
		}
		if t.summary != nil {
			err := t.summary.Row(c.name, cli.CountCell(result.rows), cli.CountCell(result.events),
				cli.Round3(time.Since(start).Seconds()), result.what, t.dir)
			if err != nil {
				return err
			}
		}
	}
	err = t.db.Close()
	t.db = nil
	if err != nil {
		return err
	}
	if t.summary != nil {
		return t.summary.Close()
	}
	t.tryNext(time.Since(began))
	return t.narrator.err
}

// makeDir makes the store's folder: temporary, unless -d names one that is new or empty.
func (t *tour) makeDir() (err error) {
	if !t.cmd.Flags().Changed("dir") {
		t.ours = true
		if t.dir, err = os.MkdirTemp("", "dyngo-"); err != nil {
			return cli.Fail(cli.ExitFailure, "-d with a new folder, or TMPDIR with one that exists and can be written to",
				"quickstart can't make a temporary folder: %w", err)
		}
		return nil
	}
	t.dir = filepath.Clean(cli.GlobalsOf(t.cmd).Dir)
	entries, err := os.ReadDir(t.dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return os.MkdirAll(t.dir, 0o755)
	case err != nil:
		return err
	case len(entries) > 0:
		return cli.Usage("a new folder, or no -d for a temporary one",
			"quickstart wants an empty folder: %s has something in it", t.dir)
	}
	return nil
}

// tryNext says what can be done with the store. The lines are a shell script: comments and commands.
func (t *tour) tryNext(took time.Duration) {
	t.chapter(0, "Try next")
	self := selfCommand()
	next := func(why string, args ...string) {
		t.line("# " + why)
		line := self + " -d " + cli.ShellQuote(t.dir)
		words := ""
		for _, a := range args {
			words += " " + cli.ShellQuote(a)
		}
		if cli.TextWidth(line)+cli.TextWidth(words) > t.width-1 {
			line += " \\\n    "
		}
		t.line(line + words)
	}
	next("one earthquake, as it came in", "get", "quakes", quakeShown)
	next("a summer's day, hour by hour", "scan", "weather", "--prefix", "2010-07-04")
	next("a league table as it is stored", "scan", "table", "--prefix", tablePrefix(shownSeason, shownDivision))
	next("everything back as CSV", "export", "weather", "-o", "csv")
	next("what is in the store, and its log", "datasets")
	next("", "log", "list")
	next("check every byte of it", "verify")
	next("a value of your own", "put", "scores", "alice", "42")
	t.line("# remove the store")
	t.line("rm -r " + cli.ShellQuote(t.dir))
	t.say("")
	t.say("This took %.1f s.", took.Seconds())
}

// selfCommand is how the user can call this program.
func selfCommand() string {
	name := os.Args[0]
	if strings.Contains(filepath.ToSlash(name), "/go-build") {
		return "go run ./cmd/dyngo-cli" // the program will be gone
	}
	return cli.ShellQuote(name)
}
