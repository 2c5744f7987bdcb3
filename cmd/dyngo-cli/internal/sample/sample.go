// Package sample holds the data of the quickstart inside the program: a week of earthquakes, a year of weather and four
// seasons of football. data/README.md says where they come from.
//
// It promises that the files are those of their sources, byte for byte. It does not promise a stable API: it serves
// dyngo-cli.
package sample

import (
	"compress/gzip"
	"embed"
	"fmt"
	"io"
)

//go:embed data/*.gz
var files embed.FS

// The files.
const (
	Earthquakes = "earthquakes.json"
	Football    = "football.json"
	Weather     = "seattle-weather-hourly-normals.csv"
)

// Read returns one of the files. It fails only if the program itself is damaged.
func Read(name string) ([]byte, error) {
	f, err := files.Open("data/" + name + ".gz")
	if err != nil {
		return nil, fmt.Errorf("embedded data: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("embedded %s: %w", name, err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("embedded %s: %w", name, err)
	}
	return b, nil
}
