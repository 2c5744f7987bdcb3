// Package chart draws the benchmark's charts as SVG files that look the same wherever they are shown:
// plain shapes and text, no scripts, no fonts but the viewer's own.
package chart

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// Frame of every chart, in pixels.
const (
	width, height         = 820, 420
	left, right           = 72, 24
	top, bottom           = 100, 52
	plotW, plotH          = width - left - right, height - top - bottom
	legendStep            = 26 // between two entries, beside their text
	charWidth             = 6.6
	ink, faint, gridColor = "#1c2733", "#64707d", "#e4e8ec"
)

// Head is what every chart has above its plot.
type Head struct {
	Title string
	Note  string // one line: unit, scale, conditions
}

// Style is how a series looks: its name in the legend and its color.
type Style struct {
	Name, Color string
	Dashed      bool
}

// canvas collects the elements of one chart.
type canvas struct{ b strings.Builder }

func newCanvas(h Head) *canvas {
	c := &canvas{}
	fmt.Fprintf(&c.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" `+
		`font-family="system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif">`+"\n", width, height, width, height)
	fmt.Fprintf(&c.b, `<rect width="%d" height="%d" rx="8" fill="#ffffff"/>`+"\n", width, height)
	c.text(24, 32, "start", 17, ink, "600", h.Title)
	c.text(24, 52, "start", 12, faint, "400", h.Note)
	return c
}

func (c *canvas) text(x, y float64, anchor string, size int, color, weight, s string) {
	fmt.Fprintf(&c.b, `<text x="%s" y="%s" text-anchor="%s" font-size="%d" fill="%s" font-weight="%s">%s</text>`+"\n",
		num(x), num(y), anchor, size, color, weight, html.EscapeString(s))
}

// textOver is text with a white rim, readable where it reaches over a neighbour's bar.
func (c *canvas) textOver(x, y float64, size int, s string) {
	fmt.Fprintf(&c.b, `<text x="%s" y="%s" text-anchor="middle" font-size="%d" fill="%s" stroke="#ffffff" `+
		`stroke-width="3" paint-order="stroke">%s</text>`+"\n", num(x), num(y), size, ink, html.EscapeString(s))
}

func (c *canvas) line(x1, y1, x2, y2 float64, color string, w float64, dash string) {
	if dash != "" {
		dash = fmt.Sprintf(` stroke-dasharray="%s"`, dash)
	}
	fmt.Fprintf(&c.b, `<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="%s" stroke-width="%s"%s/>`+"\n",
		num(x1), num(y1), num(x2), num(y2), color, num(w), dash)
}

func (c *canvas) rect(x, y, w, h float64, color string) {
	fmt.Fprintf(&c.b, `<rect x="%s" y="%s" width="%s" height="%s" fill="%s"/>`+"\n", num(x), num(y), num(w), num(h), color)
}

func (c *canvas) path(points [][2]float64, s Style, fill bool) {
	var d strings.Builder
	for i, p := range points {
		d.WriteString(map[bool]string{true: "M", false: "L"}[i == 0])
		d.WriteString(num(p[0]) + " " + num(p[1]))
	}
	if fill && len(points) > 0 {
		base := num(top + plotH)
		fmt.Fprintf(&c.b, `<path d="%sL%s %sL%s %sZ" fill="%s" fill-opacity="0.12"/>`+"\n",
			d.String(), num(points[len(points)-1][0]), base, num(points[0][0]), base, s.Color)
	}
	dash := ""
	if s.Dashed {
		dash = ` stroke-dasharray="5 4"`
	}
	fmt.Fprintf(&c.b, `<path d="%s" fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round"%s/>`+"\n",
		d.String(), s.Color, dash)
}

func (c *canvas) legend(styles []Style) {
	x := 24.0
	for _, s := range styles {
		if s.Dashed {
			c.line(x, 68, x+14, 68, s.Color, 2.5, "4 3")
		} else {
			c.rect(x, 63, 14, 10, s.Color)
		}
		c.text(x+19, 72.5, "start", 12, ink, "400", s.Name)
		x += 19 + charWidth*float64(len([]rune(s.Name))) + legendStep
	}
}

func (c *canvas) done() string { return c.b.String() + "</svg>\n" }

// scale maps values to pixels; y grows downwards.
type scale struct {
	lo, hi   float64
	from, to float64 // pixels of lo and hi
	log      bool
	ticks    []float64
}

// linear is a scale from 0 to a round number at or above hi.
func linear(hi, from, to float64) scale {
	if hi <= 0 || math.IsNaN(hi) || math.IsInf(hi, 0) {
		hi = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(hi)))
	for _, f := range []float64{0.1, 0.2, 0.25, 0.5, 1, 2} {
		if hi/(step*f) <= 6 {
			step *= f
			break
		}
	}
	s := scale{from: from, to: to, hi: step * math.Ceil(hi/step-1e-9)}
	for i := 0; float64(i)*step <= s.hi*(1+1e-9); i++ {
		s.ticks = append(s.ticks, float64(i)*step)
	}
	return s
}

// logarithmic is a scale over whole decades that hold lo and hi.
func logarithmic(lo, hi, from, to float64) scale {
	if lo <= 0 || hi <= 0 || math.IsNaN(lo+hi) {
		lo, hi = 1, 10
	}
	a, b := math.Floor(math.Log10(lo)), math.Ceil(math.Log10(hi))
	if a == b {
		b++
	}
	s := scale{lo: math.Pow(10, a), hi: math.Pow(10, b), from: from, to: to, log: true}
	for e := a; e <= b; e++ {
		s.ticks = append(s.ticks, math.Pow(10, e))
	}
	return s
}

func (s scale) at(v float64) float64 {
	f := 0.0
	switch {
	case s.log:
		f = (math.Log10(max(v, s.lo)) - math.Log10(s.lo)) / (math.Log10(s.hi) - math.Log10(s.lo))
	case s.hi > s.lo:
		f = (v - s.lo) / (s.hi - s.lo)
	}
	return s.from + (s.to-s.from)*min(max(f, 0), 1)
}

// gridY draws the horizontal lines and their labels.
func (c *canvas) gridY(s scale, label func(float64) string) {
	for _, t := range s.ticks {
		y := s.at(t)
		c.line(left, y, left+plotW, y, gridColor, 1, "")
		c.text(left-8, y+4, "end", 11, faint, "400", label(t))
	}
}

// Short prints a number with three digits at most and k, M or G.
func Short(v float64) string {
	a := math.Abs(v)
	for _, u := range []struct {
		size float64
		unit string
	}{{1e9, " G"}, {1e6, " M"}, {1e3, " k"}} {
		if a >= u.size*0.9995 {
			return digits(v/u.size) + u.unit
		}
	}
	return digits(v)
}

// Nanos prints a time given in nanoseconds with its unit.
func Nanos(ns float64) string {
	switch {
	case ns >= 1e9*0.9995:
		return digits(ns/1e9) + " s"
	case ns >= 1e6*0.9995:
		return digits(ns/1e6) + " ms"
	case ns >= 1e3*0.9995:
		return digits(ns/1e3) + " µs"
	}
	return digits(ns) + " ns"
}

// digits prints v with three significant digits and no zeros at the end of a fraction.
func digits(v float64) string {
	if v == 0 {
		return "0"
	}
	after := max(0, 2-int(math.Floor(math.Log10(math.Abs(v))+1e-9)))
	s := strconv.FormatFloat(v, 'f', min(after, 6), 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

func num(v float64) string { return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64) }
