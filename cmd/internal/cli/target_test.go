package cli

import (
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
)

func TestParseTarget(t *testing.T) {
	now := time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)
	for s, want := range map[string]dyngo.Target{
		"0":                         dyngo.AtLSN(0),
		"1234":                      dyngo.AtLSN(1234),
		"tx:5":                      dyngo.AfterTx(5),
		"before-tx:5":               dyngo.BeforeTx(5),
		"-10m":                      dyngo.AtTime(now.Add(-10 * time.Minute)),
		"-1h30m":                    dyngo.AtTime(now.Add(-90 * time.Minute)),
		"2026-11-20T14:31:59Z":      dyngo.AtTime(time.Date(2026, 11, 20, 14, 31, 59, 0, time.UTC)),
		"2026-11-20T14:31:59.5Z":    dyngo.AtTime(time.Date(2026, 11, 20, 14, 31, 59, 5e8, time.UTC)),
		"2026-11-20T16:31:59+02:00": dyngo.AtTime(time.Date(2026, 11, 20, 14, 31, 59, 0, time.UTC)),
	} {
		if got, err := ParseTarget("--at", s, now); err != nil || got != want {
			t.Errorf("%s is %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", " ", "now", "+5", "0x10", "1.5", "tx:", "tx:-1", "before-tx:x", "tx:9223372036854775808", "-", "-10", "10m", "2026-11-20"} {
		if got, err := ParseTarget("--at", s, now); err == nil || exitCodeOf(err) != ExitUsage {
			t.Errorf("%q is %v, %v", s, got, err)
		}
	}
}
