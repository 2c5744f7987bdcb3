package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/dyngo-cli/internal/rows"
	"github.com/dyngodb/dyngo/cmd/dyngo-cli/internal/sample"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
)

const weatherBatch = 500

func tourWeather(t *tour) (chapterResult, error) {
	all, err := sampleRows(sample.Weather)
	if err != nil {
		return chapterResult{}, err
	}
	weather, err := t.db.CreateDataset("weather", nil)
	if err != nil {
		return chapterResult{}, err
	}
	start := time.Now()
	batch := t.db.NewBatch()
	for i, row := range all {
		date, err := rows.Text(row.JSON, rows.Path{"date"})
		if err != nil {
			return chapterResult{}, err
		}
		batch.Put(weather, date, row.JSON)
		if batch.Len() == weatherBatch || i == len(all)-1 {
			if _, err := batch.Commit(); err != nil {
				return chapterResult{}, err
			}
			batch.Reset()
		}
	}
	t.say("%s hourly normals of Seattle, key = time, %d to a batch: durable after %s.",
		cli.FormatCount(int64(len(all))), weatherBatch, took(start))
	t.say("Mean temperature of each month, from twelve scans by key prefix:")
	t.say("")
	start = time.Now()
	readings := 0
	for month := time.January; month <= time.December; month++ {
		mean, n, err := meanTemperature(weather, fmt.Sprintf("2010-%02d", month))
		if err != nil {
			return chapterResult{}, err
		}
		readings += n
		bar := strings.Repeat("█", int(mean*2)) + []string{"", "▌"}[int(mean*4)%2]
		t.line(fmt.Sprintf("%s  %4.1f °C  %s", month.String()[:3], mean, t.paint("33", bar)))
	}
	t.say("")
	if readings != len(all) {
		return chapterResult{}, fmt.Errorf("the scans found %d readings of %d", readings, len(all))
	}
	t.good("the scans read each of the %s readings once, in %s", cli.FormatCount(int64(readings)), took(start))
	return chapterResult{int64(len(all)), int64(len(all)), "mean temperature of each month"}, nil
}

// meanTemperature averages the readings whose key begins with prefix.
func meanTemperature(weather *dyngo.Dataset, prefix string) (mean float64, n int, err error) {
	sum := 0.0
	for kv, err := range weather.Scan(dyngo.Prefix([]byte(prefix))) {
		if err != nil {
			return 0, 0, err
		}
		text, err := rows.Text(kv.Value, rows.Path{"temperature"})
		if err != nil {
			return 0, 0, err
		}
		v, err := strconv.ParseFloat(string(text), 64)
		if err != nil {
			return 0, 0, err
		}
		sum += v
		n++
	}
	if n == 0 {
		return 0, 0, fmt.Errorf("no readings under %s", prefix)
	}
	return sum / float64(n), n, nil
}
