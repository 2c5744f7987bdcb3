package chart

import (
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"
)

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
}

func TestChartsAreWellFormed(t *testing.T) {
	h := Head{Title: "a < b & c", Note: "log scale"}
	st := []Style{{Name: "one", Color: "#123456"}, {Name: "two", Color: "#654321", Dashed: true}}
	for name, svg := range map[string]string{
		"bars":      Bars(h, st, []Group{{"g", []Bar{{10, 8, 12}, {}}}, {"h", []Bar{{1e6, 1e6, 1e6}, {3, 0, 5}}}}, true, Short),
		"no bars":   Bars(h, nil, nil, false, Short),
		"log empty": Bars(h, st, []Group{{"g", []Bar{{}}}}, true, Short),
		"lines":     Lines(h, []Line{{st[0], []float64{1, 2}, []float64{3, 4}}, {Style: st[1]}}, []Mark{{"reference", 5}}, Short),
		"no lines":  Lines(h, nil, nil, Short),
		"histogram": Histogram(h, []Steps{{st[0], []float64{1e3, 1e4, 1e5}, []float64{40, 60}}, {Style: st[1]}}),
		"nothing":   Histogram(h, nil),
	} {
		t.Run(name, func(t *testing.T) {
			wellFormed(t, svg)
			if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
				t.Fatalf("a number is missing:\n%s", svg)
			}
		})
	}
}

func TestScales(t *testing.T) {
	for _, hi := range []float64{0.003, 1, 7, 12, 99, 100, 101, 5e6} {
		s := linear(hi, 0, 100)
		if s.hi < hi || len(s.ticks) < 3 || len(s.ticks) > 8 || s.at(0) != 0 || math.Abs(s.at(s.hi)-100) > 1e-9 {
			t.Errorf("linear(%v): %+v", hi, s)
		}
	}
	s := logarithmic(20, 3000, 0, 100)
	if s.lo != 10 || s.hi != 10000 || len(s.ticks) != 4 || math.Abs(s.at(100)-100./3) > 1e-9 || s.at(1) != 0 {
		t.Errorf("logarithmic: %+v", s)
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 7: "7", 999: "999", 999.9: "1 k", 1234: "1.23 k", 12_000: "12 k", 2_500_000: "2.5 M",
		3e9: "3 G", 0.25: "0.25", 100: "100",
	} {
		if got := Short(v); got != want {
			t.Errorf("Short(%v) = %q, want %q", v, got, want)
		}
	}
	for v, want := range map[float64]string{350: "350 ns", 1500: "1.5 µs", 999_990: "1 ms", 2.5e9: "2.5 s"} {
		if got := Nanos(v); got != want {
			t.Errorf("Nanos(%v) = %q, want %q", v, got, want)
		}
	}
}
