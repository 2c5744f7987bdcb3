package rows

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// The spellings of a time that are read beside numbers. Where no zone is given it is UTC.
var timeLayouts = []string{
	time.RFC3339Nano,
	"2006-01-02T15:04:05.999999999",
	"2006-01-02 15:04:05.999999999Z07:00",
	"2006-01-02 15:04:05.999999999",
	"2006-01-02 15:04",
	"2006-01-02T15:04",
	"2006-01-02",
	"2006/01/02 15:04:05",
	"2006/01/02 15:04",
	"2006/01/02",
}

// ErrTime is returned for a version that is no time.
var ErrTime = errors.New("no time")

// ParseTime reads a version: RFC 3339 (also without zone, which then is UTC, and a date alone), or a number counted
// from 1970-01-01 UTC. A number's size tells its unit, since real ones are far apart: below 10^11 seconds (to the
// year 5138), below 10^14 milliseconds (from March 1973), below 10^17 microseconds, above nanoseconds. The time must
// lie in the years 1678 to 2261, whose nanoseconds fit 64 bits.
func ParseTime(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return time.Time{}, fmt.Errorf("%w: empty", ErrTime)
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			if y := t.UTC().Year(); y < 1678 || y > 2261 {
				return time.Time{}, fmt.Errorf("%w: year %d is outside 1678 to 2261", ErrTime, y)
			}
			return t.UTC(), nil
		}
	}
	const longest = 64
	if len(s) > longest || strings.Trim(s, "+-.0123456789eE") != "" {
		return time.Time{}, fmt.Errorf("%w: %.64q", ErrTime, s)
	}
	return parseEpoch(s)
}

func parseEpoch(s string) (time.Time, error) {
	if i := strings.IndexAny(s, "eE"); i >= 0 && len(s)-i > 4 {
		return time.Time{}, fmt.Errorf("%w: %q", ErrTime, s) // keeps numbers small
	}
	v, ok := new(big.Rat).SetString(s)
	if !ok {
		return time.Time{}, fmt.Errorf("%w: %q", ErrTime, s)
	}
	for _, u := range epochUnits {
		if new(big.Rat).Abs(v).Cmp(u.below) < 0 {
			v.Mul(v, u.nanos)
			break
		}
	}
	ns := new(big.Int).Div(v.Num(), v.Denom())
	if !ns.IsInt64() {
		return time.Time{}, fmt.Errorf("%w: %q is outside the years 1678 to 2261", ErrTime, s)
	}
	return time.Unix(0, ns.Int64()).UTC(), nil
}

var epochUnits = []struct{ below, nanos *big.Rat }{
	{big.NewRat(1e11, 1), big.NewRat(1e9, 1)},
	{big.NewRat(1e14, 1), big.NewRat(1e6, 1)},
	{big.NewRat(1e17, 1), big.NewRat(1e3, 1)},
}

// Version returns the time that a field of the row holds.
func Version(row []byte, p Path) (time.Time, error) {
	text, err := Text(row, p)
	if err != nil {
		return time.Time{}, err
	}
	t, err := ParseTime(string(text))
	if err != nil {
		return time.Time{}, fmt.Errorf("field %q is %w; wanted: RFC 3339, or a number of s, ms, µs or ns since 1970", p, err)
	}
	return t, nil
}
