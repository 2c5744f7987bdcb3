package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/dyngo-cli/internal/rows"
	"github.com/dyngodb/dyngo/cmd/dyngo-cli/internal/sample"
)

// A match is one row of the football data.
type match struct {
	Date      string `json:"date"` // YYYY-MM-DD
	Division  string `json:"division"`
	Home      string `json:"home_team"`
	Away      string `json:"away_team"`
	HomeScore *int   `json:"home_score"` // nil if the match has no score
	AwayScore *int   `json:"away_score"`

	key, row []byte // as stored
}

func (m *match) counts() bool { return m.HomeScore != nil && m.AwayScore != nil }

// season is the one that a match belongs to: it begins in July.
func (m *match) season() string {
	year, err := strconv.Atoi(m.Date[:4])
	if err != nil {
		panic("dyngo: bug: match on " + m.Date)
	}
	if m.Date[5:] < "07" {
		year--
	}
	return fmt.Sprintf("%d/%02d", year, (year+1)%100)
}

// matchDays returns the matches of each day, in date order; matches of one day keep the file's order.
func matchDays() ([][]match, error) {
	all, err := sampleRows(sample.Football)
	if err != nil {
		return nil, err
	}
	key, err := rows.ParseKey("date,division,home_team,away_team")
	if err != nil {
		return nil, err
	}
	matches := make([]match, len(all))
	for i, row := range all {
		m := &matches[i]
		if err := json.Unmarshal(row.JSON, m); err != nil {
			return nil, err
		}
		if m.key, err = key.Append(nil, row); err != nil {
			return nil, err
		}
		var line bytes.Buffer
		if err := json.Compact(&line, row.JSON); err != nil {
			return nil, err
		}
		m.row = line.Bytes()
	}
	slices.SortStableFunc(matches, func(a, b match) int { return cmp.Compare(a.Date, b.Date) })
	var days [][]match
	for from, i := 0, 1; i <= len(matches); i++ {
		if i == len(matches) || matches[i].Date != matches[from].Date {
			days = append(days, matches[from:i])
			from = i
		}
	}
	return days, nil
}

// A standing is a team's row in the table of one season.
type standing struct {
	Team           string `json:"team"`
	Played         int    `json:"played"`
	Won            int    `json:"won"`
	Drawn          int    `json:"drawn"`
	Lost           int    `json:"lost"`
	GoalsFor       int    `json:"goals_for"`
	GoalsAgainst   int    `json:"goals_against"`
	GoalDifference int    `json:"goal_difference"`
	Points         int    `json:"points"`
}

// add counts a match in which the team scored gf goals against ga.
func (s *standing) add(gf, ga int) {
	s.Played++
	s.GoalsFor += gf
	s.GoalsAgainst += ga
	s.GoalDifference = s.GoalsFor - s.GoalsAgainst
	switch {
	case gf > ga:
		s.Won++
		s.Points += 3
	case gf == ga:
		s.Drawn++
		s.Points++
	default:
		s.Lost++
	}
}

func tablePrefix(season, division string) string { return season + "|" + division + "|" }

func tableKey(season, division, team string) string { return tablePrefix(season, division) + team }

// A league keeps two datasets: the matches, and the table that follows from them. A match and the rows of the table
// that it changes are committed in one batch, so that no reader and no crash ever sees one without the other.
type league struct {
	matches, table *dyngo.Dataset
	batch          *dyngo.Batch
	buf            []byte
}

func openLeague(db *dyngo.DB, matches, table string) (l *league, err error) {
	l = &league{batch: db.NewBatch()}
	if l.matches, err = db.CreateDataset(matches, nil); err != nil {
		return nil, err
	}
	l.table, err = db.CreateDataset(table, nil)
	return l, err
}

// play stores the matches of a day and brings the table up to date.
func (l *league) play(day []match) (dyngo.LSN, error) {
	l.batch.Reset()
	changed := map[string]*standing{}
	for i := range day {
		m := &day[i]
		l.batch.Put(l.matches, m.key, m.row)
		if err := l.count(changed, m); err != nil {
			return 0, err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(changed)) {
		row, err := json.Marshal(changed[key])
		if err != nil {
			return 0, err
		}
		l.batch.Put(l.table, []byte(key), row)
	}
	return l.batch.Commit()
}

// count adds a match to the table's rows in changed, which begin as the stored ones.
func (l *league) count(changed map[string]*standing, m *match) error {
	if !m.counts() {
		return nil
	}
	for _, side := range []struct {
		team   string
		gf, ga int
	}{{m.Home, *m.HomeScore, *m.AwayScore}, {m.Away, *m.AwayScore, *m.HomeScore}} {
		key := tableKey(m.season(), m.Division, side.team)
		s := changed[key]
		if s == nil {
			var err error
			if s, err = l.stored(key, side.team); err != nil {
				return err
			}
			changed[key] = s
		}
		s.add(side.gf, side.ga)
	}
	return nil
}

// stored reads a row of the table; one that is not there has no matches yet.
func (l *league) stored(key, team string) (*standing, error) {
	s := &standing{Team: team}
	value, err := l.table.AppendGet(l.buf[:0], []byte(key))
	if errors.Is(err, dyngo.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	l.buf = value
	return s, json.Unmarshal(value, s)
}

// standings reads the table of a season: most points first, then goal difference, goals, name.
func (l *league) standings(season, division string) ([]standing, error) {
	var all []standing
	for kv, err := range l.table.Scan(dyngo.Prefix([]byte(tablePrefix(season, division)))) {
		if err != nil {
			return nil, err
		}
		var s standing
		if err := json.Unmarshal(kv.Value, &s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b standing) int {
		return cmp.Or(cmp.Compare(b.Points, a.Points), cmp.Compare(b.GoalDifference, a.GoalDifference),
			cmp.Compare(b.GoalsFor, a.GoalsFor), cmp.Compare(a.Team, b.Team))
	})
	return all, nil
}

// check recomputes the table from the stored matches and compares it with the stored one. It returns how many matches
// and rows of the table there are.
func (l *league) check() (matches, teams int, err error) {
	want := map[string]*standing{}
	for kv, err := range l.matches.Scan(dyngo.Range{}) {
		if err != nil {
			return 0, 0, err
		}
		var m match
		if err := json.Unmarshal(kv.Value, &m); err != nil {
			return 0, 0, err
		}
		matches++
		if !m.counts() {
			continue
		}
		for _, team := range []string{m.Home, m.Away} {
			if key := tableKey(m.season(), m.Division, team); want[key] == nil {
				want[key] = &standing{Team: team}
			}
		}
		want[tableKey(m.season(), m.Division, m.Home)].add(*m.HomeScore, *m.AwayScore)
		want[tableKey(m.season(), m.Division, m.Away)].add(*m.AwayScore, *m.HomeScore)
	}
	for kv, err := range l.table.Scan(dyngo.Range{}) {
		if err != nil {
			return 0, 0, err
		}
		var got standing
		if err := json.Unmarshal(kv.Value, &got); err != nil {
			return 0, 0, err
		}
		if w := want[string(kv.Key)]; w == nil || *w != got {
			return 0, 0, fmt.Errorf("the table says %+v of %s, the stored matches say %+v", got, kv.Key, w)
		}
		teams++
	}
	if teams != len(want) {
		return 0, 0, fmt.Errorf("the table has %d rows, the stored matches give %d", teams, len(want))
	}
	return matches, teams, nil
}
