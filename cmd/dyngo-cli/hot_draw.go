package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

var hotKinds = []string{"all", "reads", "misses", "scans", "writes"}

// hotDrawing is a heat map of key range against time for each dataset, with its hottest keys.
type hotDrawing struct {
	hot   *dyngo.Hot
	kind  string // of hotKinds
	width int    // of the terminal, 0: 80 columns
	color bool
}

// Lines of a drawing: of all maps, and of all lists of keys.
const (
	hotMapLines = 16
	hotKeyLines = 10
	minHotLines = 3 // of each dataset
	minHotWidth = 64
)

// hotMarks are the densities of a map, each for rates from a quarter of those of the next one on; hotColors are theirs.
var (
	hotMarks  = []rune(" ·░▒▓█")
	hotColors = []string{"", "38;5;244", "38;5;33", "38;5;43", "38;5;214", "38;5;196"}
)

func (d *hotDrawing) lines() (lines []string) {
	if d.width == 0 {
		d.width = 80
	}
	d.width = max(d.width, minHotWidth)
	var known []*dyngo.HotDataset
	for i := range d.hot.Datasets {
		if ds := &d.hot.Datasets[i]; len(ds.Ranges) > 0 {
			known = append(known, ds)
		}
	}
	if len(known) == 0 {
		return []string{"nothing was read or written since " + d.hot.Since.UTC().Format("2006-01-02 15:04:05Z")}
	}
	share := func(all int) int { return max(all/len(known), minHotLines) }
	columns, most := 32, 0.0
	if d.width >= 112 {
		columns = 64
	}
	maps := make([][]*hotRow, len(known))
	for i, ds := range known { // one scale for all, so that datasets can be compared
		maps[i] = foldRanges(ds.Ranges, share(hotMapLines), d.kind, d.hot.Steps)
		for _, row := range maps[i] {
			row.past = squeeze(row.past, columns)
			most = max(most, slices.Max(row.past))
		}
	}
	label := d.width - columns - 25
	for i, ds := range known {
		lines = append(lines, cli.TruncateText(fmt.Sprintf("%s: %s", cli.EscapeBytes([]byte(ds.Name)), describeRates(ds.Rates)), d.width),
			d.line("KEYS FROM", label, columns, d.axis(columns), []string{"READS", "MISS", "SCANS", "WRITE"}))
		for _, row := range maps[i] {
			from := "(first)"
			if len(row.from) > 0 {
				from = cli.EscapeBytes(row.from)
			}
			lines = append(lines, d.line(from, label, columns, d.bar(row.past, most), ratesColumns(row.rates)))
		}
		for n, key := range ds.Keys {
			if n == share(hotKeyLines) {
				break
			}
			if n == 0 {
				lines = append(lines, "HOTTEST KEYS")
			}
			text := cli.EscapeBytes(key.Key)
			if key.Cut {
				text += "…"
			}
			columnsOf := ratesColumns(key.Rates)
			columnsOf[2] = "" // scans are not counted for keys
			lines = append(lines, d.line(text, label+1+columns, 0, "", columnsOf))
		}
		lines = append(lines, "")
	}
	return append(lines, d.legend(most))
}

// line joins a label, a map as wide as columns, and figures.
func (d *hotDrawing) line(label string, labelWidth, columns int, bar string, figures []string) string {
	var b strings.Builder
	label = cli.TruncateText(label, labelWidth)
	b.WriteString(label + strings.Repeat(" ", labelWidth-cli.TextWidth(label)))
	if columns > 0 {
		b.WriteString(" " + bar)
	}
	for _, f := range figures {
		fmt.Fprintf(&b, " %5s", f)
	}
	return strings.TrimRight(b.String(), " ")
}

// axis is what stands above a map.
func (d *hotDrawing) axis(columns int) string {
	ago := fmt.Sprintf("%s ago", (hotSteps * d.hot.Step).Round(time.Second))
	return fmt.Sprintf("%-*s%s", columns-len("now"), ago, "now")
}

// hotSteps is how much of the past a map shows.
const hotSteps = 64

// bar draws rates, 0 to most.
func (d *hotDrawing) bar(rates []float64, most float64) string {
	var b strings.Builder
	last := 0
	for _, x := range rates {
		level := hotLevel(x, most)
		if d.color && level != last {
			fmt.Fprintf(&b, "\x1b[%sm", cmp.Or(hotColors[level], "0"))
		}
		b.WriteRune(hotMarks[level])
		last = level
	}
	if d.color && last != 0 {
		b.WriteString("\x1b[0m")
	}
	return b.String()
}

// hotLevel is the index of the mark for a rate.
func hotLevel(x, most float64) int {
	if x <= 0 {
		return 0
	}
	level := len(hotMarks) - 1
	for least := most / 2; level > 1 && x < least; least /= 4 {
		level--
	}
	return level
}

func (d *hotDrawing) legend(most float64) string {
	text, least := d.kind, most/2
	if d.kind == "all" {
		text = "all kinds"
	}
	text += "/s:"
	for level := len(hotMarks) - 1; level > 1; level-- {
		text += fmt.Sprintf(" %c ≥ %s ", hotMarks[level], formatRate(least))
		least /= 4
	}
	text += " · less; 1 in " + cli.FormatCount(int64(d.hot.SampledOneIn)) + " sampled"
	return cli.TruncateText(text, d.width)
}

// hotRow is neighbouring ranges that are drawn together.
type hotRow struct {
	from  []byte
	rates dyngo.HotRates
	past  []float64 // of what is drawn
	sum   float64   // of past
}

// foldRanges joins neighbours, those with the least to draw first, until no more than so many are left.
func foldRanges(ranges []dyngo.HotRange, most int, kind string, steps int) (rows []*hotRow) {
	for i := range ranges {
		row := &hotRow{from: ranges[i].From, rates: ranges[i].Rates, past: make([]float64, steps)}
		past := &ranges[i].Past
		for _, k := range []struct {
			kind  string
			rates []float64
		}{{"reads", past.Reads}, {"misses", past.Misses}, {"scans", past.Scans}, {"writes", past.Writes}} {
			if kind != "all" && kind != k.kind {
				continue
			}
			for j, x := range k.rates[:min(len(k.rates), steps)] {
				row.past[j] += x
				row.sum += x
			}
		}
		rows = append(rows, row)
	}
	for len(rows) > most {
		least := 0
		for i := range len(rows) - 1 {
			if rows[i].sum+rows[i+1].sum < rows[least].sum+rows[least+1].sum {
				least = i
			}
		}
		a, b := rows[least], rows[least+1]
		for j := range a.past {
			a.past[j] += b.past[j]
		}
		a.sum += b.sum
		a.rates.Reads, a.rates.Misses, a.rates.Writes = a.rates.Reads+b.rates.Reads, a.rates.Misses+b.rates.Misses, a.rates.Writes+b.rates.Writes
		a.rates.Scans = max(a.rates.Scans, b.rates.Scans) // most of those of one have visited the other, too
		rows = slices.Delete(rows, least+1, least+2)
	}
	return rows
}

// squeeze averages steps, the last of hotSteps, into so many columns.
func squeeze(past []float64, columns int) []float64 {
	per := hotSteps / columns
	out := make([]float64, columns)
	for i, x := range past {
		out[columns-1-(len(past)-1-i)/per] += x
	}
	for c := range out { // the first one may have fewer steps
		steps := min(per, max(len(past)-(columns-1-c)*per, 1))
		out[c] /= float64(steps)
	}
	return out
}

func ratesColumns(r dyngo.HotRates) []string {
	return []string{formatRate(r.Reads), formatRate(r.Misses), formatRate(r.Scans), formatRate(r.Writes)}
}

func describeRates(r dyngo.HotRates) string {
	var parts []string
	for _, p := range []struct {
		rate float64
		what string
	}{{r.Reads, "reads"}, {r.Misses, "misses"}, {r.Scans, "scans"}, {r.Writes, "writes"}} {
		if p.rate > 0 {
			parts = append(parts, formatRate(p.rate)+" "+p.what)
		}
	}
	if len(parts) == 0 {
		return "nothing at present"
	}
	return strings.Join(parts, ", ") + " a second"
}
