package chart

import "math"

// Bar is one value of a group with the range of its rounds.
type Bar struct {
	Value, Low, High float64 // not drawn if Value is 0; no range if Low equals High
}

// Group is the bars that stand together, in the order of the styles.
type Group struct {
	Label string
	Bars  []Bar
}

// Bars draws groups of bars. With log the value axis is logarithmic, which the note should say.
func Bars(h Head, styles []Style, groups []Group, log bool, label func(float64) string) string {
	c := newCanvas(h)
	c.legend(styles)
	lo, hi := math.Inf(1), 0.0
	for _, g := range groups {
		for _, b := range g.Bars {
			if b.Value > 0 {
				lo, hi = min(lo, b.Value, positive(b.Low, b.Value)), max(hi, b.Value, b.High)
			}
		}
	}
	y := linear(hi*1.08, top+plotH, top)
	if log {
		// Room below the smallest bar, so that it is seen, and above the tallest for its number.
		y = logarithmic(lo/1.5, hi*1.5, top+plotH, top)
	}
	c.gridY(y, label)
	slot := plotW / float64(max(len(groups), 1))
	for i, g := range groups {
		x := left + slot*float64(i)
		c.text(x+slot/2, top+plotH+22, "middle", 12, ink, "500", g.Label)
		w := min(slot*0.9/float64(max(len(g.Bars), 1)), 74)
		start := x + (slot-w*float64(len(g.Bars)))/2
		for j, b := range g.Bars {
			if b.Value > 0 && j < len(styles) {
				c.bar(start+w*float64(j), w, b, y, styles[j].Color, label)
			}
		}
	}
	c.line(left, top+plotH, left+plotW, top+plotH, faint, 1, "")
	return c.done()
}

func positive(v, otherwise float64) float64 {
	if v > 0 {
		return v
	}
	return otherwise
}

func (c *canvas) bar(x, w float64, b Bar, y scale, color string, label func(float64) string) {
	tip, base := y.at(b.Value), y.from
	c.rect(x+1, tip, w-2, max(base-tip, 1), color)
	above := tip
	if b.High > b.Low {
		mid := x + w/2
		c.line(mid, y.at(b.Low), mid, y.at(b.High), ink, 1.2, "")
		c.line(mid-4, y.at(b.Low), mid+4, y.at(b.Low), ink, 1.2, "")
		c.line(mid-4, y.at(b.High), mid+4, y.at(b.High), ink, 1.2, "")
		above = min(above, y.at(b.High))
	}
	size := 11
	if w < 44 {
		size = 10 // narrow bars: numbers side by side must not touch
	}
	c.textOver(x+w/2, above-5, size, label(b.Value))
}

// Line is a series over time.
type Line struct {
	Style
	X, Y []float64
}

// Mark is a horizontal line with a name, such as a figure to compare with.
type Mark struct {
	Name string
	Y    float64
}

// Lines draws series over seconds, from zero.
func Lines(h Head, lines []Line, marks []Mark, label func(float64) string) string {
	c := newCanvas(h)
	var styles []Style
	maxX, maxY := 0.0, 0.0
	for _, l := range lines {
		styles = append(styles, l.Style)
		for i := range l.X {
			maxX, maxY = max(maxX, l.X[i]), max(maxY, l.Y[i])
		}
	}
	for _, m := range marks {
		maxY = max(maxY, m.Y)
	}
	c.legend(styles)
	y := linear(maxY*1.05, top+plotH, top)
	x := linear(maxX, left, left+plotW)
	x.hi = max(maxX, 1e-9) // the plot ends with the data, not at a round number
	c.gridY(y, label)
	for _, t := range x.ticks {
		if t <= x.hi*1.001 {
			c.text(x.at(t), top+plotH+20, "middle", 11, faint, "400", digits(t)+" s")
		}
	}
	for _, m := range marks {
		at := y.at(m.Y)
		c.line(left, at, left+plotW, at, "#b42318", 1.4, "6 4")
		c.text(left+plotW-4, at-5, "end", 11, "#b42318", "500", m.Name)
	}
	for _, l := range lines {
		points := make([][2]float64, len(l.X))
		for i := range l.X {
			points[i] = [2]float64{x.at(l.X[i]), y.at(l.Y[i])}
		}
		if len(points) > 0 {
			c.path(points, l.Style, false)
		}
	}
	c.line(left, top+plotH, left+plotW, top+plotH, faint, 1, "")
	return c.done()
}

// Steps is a histogram over a logarithmic axis: Share[i] lies between Edges[i] and Edges[i+1].
type Steps struct {
	Style
	Edges []float64 // nanoseconds, one more than shares
	Share []float64 // percent
}

// Histogram draws the shares of several distributions over one logarithmic axis of time.
func Histogram(h Head, steps []Steps) string {
	c := newCanvas(h)
	var styles []Style
	lo, hi, peak := math.Inf(1), 0.0, 0.0
	for _, s := range steps {
		styles = append(styles, s.Style)
		if len(s.Share) == 0 {
			continue
		}
		lo, hi = min(lo, s.Edges[0]), max(hi, s.Edges[len(s.Edges)-1])
		for _, v := range s.Share {
			peak = max(peak, v)
		}
	}
	c.legend(styles)
	y := linear(peak*1.05, top+plotH, top)
	x := logarithmic(lo, hi, left, left+plotW)
	c.gridY(y, func(v float64) string { return digits(v) + " %" })
	for _, t := range x.ticks {
		c.line(x.at(t), top, x.at(t), top+plotH, gridColor, 1, "")
		c.text(x.at(t), top+plotH+20, "middle", 11, faint, "400", Nanos(t))
	}
	for _, s := range steps {
		var points [][2]float64
		for i, v := range s.Share {
			points = append(points,
				[2]float64{x.at(s.Edges[i]), y.at(v)}, [2]float64{x.at(s.Edges[i+1]), y.at(v)})
		}
		if len(points) > 0 {
			first := [2]float64{points[0][0], y.from}
			last := [2]float64{points[len(points)-1][0], y.from}
			points = append(append([][2]float64{first}, points...), last)
			c.path(points, s.Style, true)
		}
	}
	c.line(left, top+plotH, left+plotW, top+plotH, faint, 1, "")
	return c.done()
}
