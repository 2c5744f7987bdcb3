package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

// The datasets of the crash: the same matches and table as before, loaded by a process that is killed.
const (
	crashMatches = "crash.matches"
	crashTable   = "crash.table"
)

const (
	// crashAfter is the match day whose acknowledgement is the child's last one to be heard.
	crashAfter = 220
	// crashAhead is how many days the child may store beyond those that the parent has heard of, so that the kill
	// always comes in the middle of the load, however slow the parent is.
	crashAhead = 32
)

// runCrashChild is the process that is killed: it stores match day after match day and says so on stdout behind each
// commit. A byte on stdin lets it go on by a day.
func runCrashChild(cmd *cobra.Command) error {
	db, err := dyngo.Open(cli.GlobalsOf(cmd).Dir, &dyngo.Options{Session: cli.Session(cmd)})
	if err != nil {
		return err
	}
	l, err := openLeague(db, crashMatches, crashTable)
	if err != nil {
		return err
	}
	days, err := matchDays()
	if err != nil {
		return err
	}
	credit := make([]byte, 1)
	for i, day := range days {
		if i >= crashAhead {
			if _, err := io.ReadFull(cmd.InOrStdin(), credit); err != nil {
				return fmt.Errorf("the parent is gone: %w", err)
			}
		}
		lsn, err := l.play(day)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%d %d\n", i, lsn); err != nil {
			return err
		}
	}
	return errors.New("all matches were stored before the kill came")
}

func tourCrash(t *tour) (chapterResult, error) {
	days, err := matchDays()
	if err != nil {
		return chapterResult{}, err
	}
	t.say("A second process loads the same matches again, into other datasets of the store. It says over a pipe which " +
		"days are stored. In the middle of it we kill it: SIGKILL, no goodbye.")
	t.say("")
	from := t.db.LSN()
	if err := t.db.Close(); err != nil {
		return chapterResult{}, err
	}
	t.db = nil
	acked, pid, err := t.killChild(days)
	if err != nil {
		return chapterResult{}, err
	}
	acknowledged := 0
	for _, day := range days[:acked] {
		acknowledged += len(day)
	}
	t.say("Killed process %d after it had acknowledged %s matches of %d days.", pid, cli.FormatCount(int64(acknowledged)),
		acked)
	start := time.Now()
	if t.db, err = dyngo.Open(t.dir, &dyngo.Options{Session: cli.Session(t.cmd)}); err != nil {
		return chapterResult{}, err
	}
	l, err := openLeague(t.db, crashMatches, crashTable)
	if err != nil {
		return chapterResult{}, err
	}
	t.recovered(start)
	t.say("")
	stored, err := l.survived(days)
	switch {
	case err != nil:
		return chapterResult{}, err
	case stored < acked:
		return chapterResult{}, fmt.Errorf("%d days were acknowledged, only %d are there", acked, stored)
	}
	t.good("each of the %s acknowledged matches is there", cli.FormatCount(int64(acknowledged)))
	if n := stored - acked; n > 0 {
		t.good("%s more became durable before we heard of it, and no day is there in part", countNoun(int64(n), "day"))
	} else {
		t.good("no day is there in part")
	}
	_, teams, err := l.check()
	if err != nil {
		return chapterResult{}, err
	}
	t.good("the %d rows of the table agree with the stored matches", teams)
	for _, day := range days[stored:] {
		if err := t.cmd.Context().Err(); err != nil {
			return chapterResult{}, err
		}
		if _, err := l.play(day); err != nil {
			return chapterResult{}, err
		}
	}
	if err := t.sameAsBefore(l); err != nil {
		return chapterResult{}, err
	}
	t.good("the load goes on where it broke off, and ends with the same table as above")
	return chapterResult{int64(acknowledged), int64(t.db.LSN() - from),
		fmt.Sprintf("killed after %d acknowledged matches, none lost", acknowledged)}, nil
}

// killChild starts the child, hears its acknowledgements, kills it, and hears what it still said. It returns how many
// days were acknowledged.
func (t *tour) killChild(days [][]match) (acked, pid int, err error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	child := exec.CommandContext(t.cmd.Context(), exe, "quickstart", "--child", "-d", t.dir)
	child.Args[0] = os.Args[0]
	var trouble bytes.Buffer
	child.Stderr = &trouble
	credits, err := child.StdinPipe()
	if err != nil {
		return 0, 0, err
	}
	acks, err := child.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := child.Start(); err != nil {
		return 0, 0, err
	}
	lines := bufio.NewScanner(acks)
	for lines.Scan() {
		number, _, _ := strings.Cut(lines.Text(), " ")
		if day, err := strconv.Atoi(number); err != nil || day != acked {
			child.Process.Kill()
			child.Wait()
			return 0, 0, fmt.Errorf("the child said %q, day %d was to come", lines.Text(), acked)
		}
		t.now("acknowledged: %s, day %d of %d", days[acked][0].Date, acked+1, len(days))
		acked++
		if acked == crashAfter {
			if err := child.Process.Kill(); err != nil {
				return 0, 0, err
			}
		}
		if acked < crashAfter {
			if _, err := credits.Write([]byte{1}); err != nil {
				break // it is gone, and Wait says why
			}
		}
	}
	t.endStatus()
	err = child.Wait()
	switch {
	case t.cmd.Context().Err() != nil:
		return 0, 0, t.cmd.Context().Err()
	case acked < crashAfter:
		return 0, 0, fmt.Errorf("the child ended by itself: %w: %s", err, strings.TrimSpace(trouble.String()))
	case child.ProcessState.Exited():
		return 0, 0, fmt.Errorf("the child ended before the kill came: %v", child.ProcessState)
	}
	return acked, child.Process.Pid, nil
}

// recovered says what opening the store after the kill has found.
func (t *tour) recovered(start time.Time) {
	r := t.db.Recovery()
	t.say("Opened again in %s: %s of %s read, up to LSN %s.", took(start), countNoun(r.Events, "event"),
		countNoun(int64(r.Files), "log file"), cli.FormatCount(int64(r.LastLSN)))
	if r.TornTail != nil {
		t.say("Torn tail left out: %s at %d, %s. It was never acknowledged.", r.TornTail.File, r.TornTail.Offset,
			countNoun(r.TornTail.Bytes, "byte"))
	}
}

// survived returns how many days are stored, from the first one on. A day that is there in part, a wrong row, or a day
// behind a missing one is an error.
func (l *league) survived(days [][]match) (stored int, err error) {
	found := 0
	for i, day := range days {
		here := 0
		for j := range day {
			row, err := l.matches.Get(day[j].key)
			switch {
			case errors.Is(err, dyngo.ErrNotFound):
				continue
			case err != nil:
				return 0, err
			case !bytes.Equal(row, day[j].row):
				return 0, fmt.Errorf("match %s holds other bytes than were stored", day[j].key)
			}
			here++
		}
		found += here
		switch {
		case here == len(day) && stored == i:
			stored++
		case here > 0:
			return 0, fmt.Errorf("%d of the %d matches of %s are there, days before it are missing: %v", here, len(day),
				day[0].Date, stored < i)
		}
	}
	invented := -found
	for _, err := range l.matches.Scan(dyngo.Range{KeysOnly: true}) {
		if err != nil {
			return 0, err
		}
		invented++
	}
	if invented != 0 {
		return 0, fmt.Errorf("%d matches are there that were never stored", invented)
	}
	return stored, nil
}

// sameAsBefore compares both tables row by row.
func (t *tour) sameAsBefore(l *league) error {
	before, err := t.db.Dataset("table")
	if err != nil {
		return err
	}
	n := 0
	for kv, err := range before.Scan(dyngo.Range{}) {
		if err != nil {
			return err
		}
		got, err := l.table.Get(kv.Key)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, kv.Value) {
			return fmt.Errorf("the tables differ in %s: %s and %s", kv.Key, kv.Value, got)
		}
		n++
	}
	if _, teams, err := l.check(); err != nil || teams != n {
		return fmt.Errorf("the tables have %d and %d rows (%v)", n, teams, err)
	}
	return nil
}
