package work

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// TestAdapt runs each case of the adaptive suite with little data.
func TestAdapt(t *testing.T) {
	for _, name := range append(slices.Sorted(maps.Keys(adaptCases)), firstScanCase, unscannedCase) {
		t.Run(name, func(t *testing.T) {
			s := Spec{Kind: Adapt, Engine: "dyngo", Case: name, Dir: t.TempDir(), Keys: 2000, KeySize: 12, ValueSize: 100, Pairs: 2, Seed: 1,
				Seconds: 0.02, WarmUp: 0.02, MemoryBudget: 32 << 20}
			out := Run(s, nil)
			if out.Error != "" {
				t.Fatal(out.Error)
			}
			if len(out.Results) != 2 || out.Results[0].Ops == 0 || out.Results[1].Ops == 0 || out.Results[0].Extra["ratio"] <= 0 {
				t.Errorf("%+v", out.Results)
			}
		})
	}
	if out := Run(Spec{Kind: Adapt, Engine: "dyngo", Case: "nothing", Dir: t.TempDir(), KeySize: 12}, nil); out.Error == "" {
		t.Error("a case that there isn't was measured")
	}
}

// TestCrowd has up to 16 clients come and go.
func TestCrowd(t *testing.T) {
	s := Spec{Kind: Crowd, Engine: "dyngo", Mode: "buffered", Dir: t.TempDir(), Keys: 2000, KeySize: 12, ValueSize: 100, Writers: 16, Seed: 1,
		Seconds: 0.2, Interval: 10 * time.Millisecond, MemoryBudget: 32 << 20}
	out := Run(s, nil)
	if out.Error != "" {
		t.Fatal(out.Error)
	}
	if len(out.Results) != 5 || len(out.Results[0].Series["slowest"]) != 5 || len(out.Results[0].Series["all"]) == 0 {
		t.Fatalf("%+v", out.Results)
	}
	for i, n := range []float64{1, 4, 16, 4, 1} {
		if r := out.Results[i]; r.Ops == 0 || r.Extra["clients"] != n || r.Extra["first_p999"] == 0 || r.Latency["operation"].P999 == 0 {
			t.Errorf("phase %d: %+v", i, r)
		}
	}
}

// TestBeside measures both cases, and sees more jobs beside one half of the gets than beside the other.
func TestBeside(t *testing.T) {
	for name, bytes := range map[string]int64{"get": 64 << 20, "durable put": 8 << 20} {
		t.Run(name, func(t *testing.T) {
			s := Spec{Kind: Beside, Engine: "dyngo", Case: name, Dir: t.TempDir(), Keys: 20_000, KeySize: 12, ValueSize: 100, Readers: 1, Pairs: 2,
				Seed: 1, MaxBytes: bytes, Seconds: 0.2, MemoryBudget: 32 << 20}
			out := Run(s, nil)
			if out.Error != "" {
				t.Fatal(out.Error)
			}
			with, without := out.Results[0], out.Results[1]
			if with.Ops == 0 || without.Ops == 0 || with.Extra["ratio"] <= 0 || with.Latency["operation"].P99 == 0 {
				t.Errorf("%+v", out.Results)
			}
			// Durable puts themselves bring about flushes.
			if name == "get" && with.Extra["jobs"] <= without.Extra["jobs"] {
				t.Errorf("jobs ran %.2f of the time beside %.2f", with.Extra["jobs"], without.Extra["jobs"])
			}
		})
	}
	if out := Run(Spec{Kind: Beside, Engine: "dyngo", Case: "nothing", Dir: t.TempDir(), KeySize: 12}, nil); out.Error == "" {
		t.Error("a case that there isn't was measured")
	}
}
