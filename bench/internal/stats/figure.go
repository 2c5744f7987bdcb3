package stats

import (
	"fmt"
	"math"
)

// VoidBelow is the share of its earlier figure below which a peer voids the run: an engine that is
// so much slower than it was found to be on the same kind of machine was either set up badly or
// disturbed, and a comparison with it says nothing.
const VoidBelow = 0.7

// Figure is what a peer reached earlier in one case on the same kind of machine: 2 virtual cores,
// ext4, Go 1.26. The figures were taken while other jobs used the machine, so each is a range and
// its low end is the yardstick; the quiet ones were taken on a machine without neighbours.
type Figure struct {
	Suite, Case, Engine string
	Metric              Metric
	Low, High           float64 // in the metric's unit; High is 0 if there was one value only
	Quiet               float64 // 0 if not measured
	// Other names conditions under which the figure was taken and that this benchmark does not
	// share. Such a figure is shown but never voids the run.
	Other string
}

// Metric says which number of a case is compared, and which direction is good.
type Metric string

// The metrics that figures exist for.
const (
	OpsPerSecond Metric = "ops/s"
	Seconds      Metric = "s" // less is better
)

// Check is the comparison of one figure with what was measured.
type Check struct {
	Figure
	Measured float64
	Ratio    float64 // 1 = as good as the low end of the figure, more is better
	Void     bool
}

// Against compares measured with the figure. A figure taken under other conditions never voids.
func (f Figure) Against(measured float64) Check {
	c := Check{Figure: f, Measured: measured}
	switch {
	case measured <= 0 || math.IsNaN(measured) || f.Low <= 0:
		c.Ratio = 0
	case f.Metric == Seconds:
		// The yardstick is the slow end of the range: the one that is easiest to reach.
		c.Ratio = max(f.Low, f.High) / measured
	default:
		c.Ratio = measured / f.Low
	}
	c.Void = f.Other == "" && c.Ratio < VoidBelow
	return c
}

// String says in one line what the check found.
func (c Check) String() string {
	verdict := "holds"
	switch {
	case c.Other != "":
		verdict = "shown only: " + c.Other
	case c.Void:
		verdict = fmt.Sprintf("VOID: below %.1f", VoidBelow)
	}
	return fmt.Sprintf("%s %s/%s: measured %.4g %s, earlier %s, ratio %.2f, %s",
		c.Engine, c.Suite, c.Case, c.Measured, c.Metric, c.Range(), c.Ratio, verdict)
}

// Range prints the figure's range.
func (f Figure) Range() string {
	if f.High == 0 || f.High == f.Low {
		return fmt.Sprintf("%.4g", f.Low)
	}
	return fmt.Sprintf("%.4g–%.4g", f.Low, f.High)
}
