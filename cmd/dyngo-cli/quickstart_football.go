package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

const (
	shownSeason   = "2016/17"
	shownDivision = "English Premier League"
	midSeason     = "2017-01-01" // the table is also read on this day, while matches load
)

var (
	seasons   = []string{"2013/14", "2014/15", "2015/16", "2016/17"}
	divisions = []string{
		"English Premier League", "Primera Division", "Deutsche Bundesliga", "Serie A", "Österreichische Bundesliga",
	}
)

func tourFootball(t *tour) (chapterResult, error) {
	days, err := matchDays()
	if err != nil {
		return chapterResult{}, err
	}
	l, err := openLeague(t.db, "matches", "table")
	if err != nil {
		return chapterResult{}, err
	}
	from := t.db.LSN()
	t.say("Four seasons of five leagues in date order, a batch for each day with matches: the day's matches and the " +
		"rows of the table that they change become durable together.")
	t.say("")
	start := time.Now()
	var atNewYear []standing
	matches, unscored := 0, 0
	for _, day := range days {
		if err := t.cmd.Context().Err(); err != nil {
			return chapterResult{}, err
		}
		if atNewYear == nil && day[0].Date >= midSeason {
			if atNewYear, err = l.standings(shownSeason, shownDivision); err != nil {
				return chapterResult{}, err
			}
		}
		if _, err := l.play(day); err != nil {
			return chapterResult{}, err
		}
		matches += len(day)
		for i := range day {
			if !day[i].counts() {
				unscored++
			}
		}
		if err := t.showTop(l, &day[0]); err != nil {
			return chapterResult{}, err
		}
	}
	t.say("%s matches of %d days in %s. %d have no score and don't count.", cli.FormatCount(int64(matches)), len(days),
		took(start), unscored)
	t.say("Champions, read from the table:")
	t.say("")
	if err := t.champions(l); err != nil {
		return chapterResult{}, err
	}
	final, err := l.standings(shownSeason, shownDivision)
	if err != nil {
		return chapterResult{}, err
	}
	t.say("")
	t.say("%s %s (NY: place at New Year, read while the matches loaded):", shownDivision, shownSeason)
	t.say("")
	t.printTable(final, atNewYear)
	t.say("")
	_, teams, err := l.check()
	if err != nil {
		return chapterResult{}, err
	}
	t.good("all %d rows of the table agree with the stored matches", teams)
	return chapterResult{int64(matches), int64(t.db.LSN() - from),
		fmt.Sprintf("%s %s: %s, %d points", shownDivision, shownSeason, final[0].Team, final[0].Points)}, nil
}

// showTop shows the top of the table of a match's league while matches load.
func (t *tour) showTop(l *league, m *match) error {
	if !t.live || t.quiet || time.Since(t.shown) < 30*time.Millisecond {
		return nil
	}
	table, err := l.standings(m.season(), m.Division)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s  %s:", m.Date, m.Division)
	for i, s := range table[:min(3, len(table))] {
		text += fmt.Sprintf("  %d. %s %d", i+1, s.Team, s.Points)
	}
	t.now("%s", text)
	return nil
}

// champions prints who won each league in each season.
func (t *tour) champions(l *league) error {
	const column = 19
	line := ""
	for _, season := range seasons {
		line += padRight(season, column)
	}
	t.line(t.paint("1", strings.TrimRight(line, " ")))
	for _, division := range divisions {
		t.line(t.paint("2", division))
		line := ""
		for _, season := range seasons {
			table, err := l.standings(season, division)
			if err != nil {
				return err
			}
			if len(table) == 0 {
				return fmt.Errorf("no table of %s %s", division, season)
			}
			line += padRight(table[0].Team, column-1) + " "
		}
		t.line(strings.TrimRight(line, " "))
	}
	return nil
}

// printTable prints a league table with the places at New Year.
func (t *tour) printTable(table, before []standing) {
	then := map[string]int{}
	for i, s := range before {
		then[s.Team] = i + 1
	}
	t.line(t.paint("1", fmt.Sprintf("%3s  %-24s%3s %3s %3s %3s  %7s %4s %4s  %3s", "", "", "P", "W", "D", "L", "goals", "GD",
		"pts", "NY")))
	for i, s := range table {
		line := fmt.Sprintf("%3d  %s%3d %3d %3d %3d  %3d:%-3d %+4d %4d  %3d", i+1, padRight(s.Team, 24), s.Played, s.Won,
			s.Drawn, s.Lost, s.GoalsFor, s.GoalsAgainst, s.GoalDifference, s.Points, then[s.Team])
		if i == 0 {
			line = t.paint("1;32", line)
		}
		t.line(line)
	}
}
