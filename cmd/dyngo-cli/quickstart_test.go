package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestMatchDays(t *testing.T) {
	days, err := matchDays()
	if err != nil {
		t.Fatal(err)
	}
	matches, unscored, last := 0, 0, ""
	for _, day := range days {
		if day[0].Date <= last {
			t.Errorf("%s follows %s", day[0].Date, last)
		}
		last = day[0].Date
		for i := range day {
			matches++
			if day[i].Date != last {
				t.Errorf("a match of %s among those of %s", day[i].Date, last)
			}
			if !day[i].counts() {
				unscored++
			}
		}
	}
	if matches != 6508 || unscored != 4 {
		t.Errorf("%d matches, %d without a score", matches, unscored)
	}
	if len(days) < crashAfter+2*crashAhead {
		t.Errorf("%d days are too few for a kill in the middle", len(days))
	}
}

func TestSeason(t *testing.T) {
	for date, want := range map[string]string{
		"2013-07-20": "2013/14", "2014-06-30": "2013/14", "1999-08-01": "1999/00", "2017-01-01": "2016/17",
	} {
		if got := (&match{Date: date}).season(); got != want {
			t.Errorf("%s is of %s, want %s", date, got, want)
		}
	}
}

func TestStanding(t *testing.T) {
	s := standing{Team: "x"}
	s.add(2, 0)
	s.add(1, 1)
	s.add(0, 3)
	want := standing{"x", 3, 1, 1, 1, 3, 4, -1, 4}
	if s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
}

// The feed shows each outcome: the quake that is told about has an applied and a stale message.
func TestQuakeFeed(t *testing.T) {
	feed, newest, err := quakeFeed()
	if err != nil {
		t.Fatal(err)
	}
	if len(newest) != 1707 || len(feed) < len(newest)+400 {
		t.Errorf("%d quakes in %d messages", len(newest), len(feed))
	}
	stale, applied := 0, 0
	shown := message{}
	for _, m := range feed {
		if m.id != quakeShown {
			continue
		}
		if m.updated.After(shown.updated) {
			shown = m
			applied++
		} else {
			stale++
		}
	}
	if stale == 0 || applied < 2 {
		t.Errorf("%s: %d messages are applied and %d stale, so that the rule does not show: take another one or another seed",
			quakeShown, applied, stale)
	}
	again, _, err := quakeFeed()
	if err != nil || !reflect.DeepEqual(feed, again) {
		t.Errorf("the feed differs from run to run (%v)", err)
	}
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		text  string
		width int
		want  string
	}{
		{"", 10, ""}, {"one two three", 7, "one two/three"}, {"Österreich ist", 10, "Österreich/ist"},
		{"unbreakable", 4, "unbreakable"}, {"a\nb c", 10, "a/b c"},
	} {
		if got := strings.Join(wrap(tt.text, tt.width), "/"); got != tt.want {
			t.Errorf("%q in %d columns: %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
}
