package work

import (
	"maps"
	"slices"
	"testing"
)

// TestPast runs each case of the past suite with little data.
func TestPast(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(pastCases)) {
		t.Run(name, func(t *testing.T) {
			s := Spec{Kind: Past, Engine: "dyngo", Case: name, Dir: t.TempDir(), Keys: 2000, KeySize: 12, ValueSize: 100, Pairs: 2, Seed: 1}
			s.Ops, s.Writers, s.Seconds = 10_000, 4, 0.05
			out := Run(s, nil)
			if out.Error != "" {
				t.Fatal(out.Error)
			}
			for _, r := range out.Results {
				if r.Ops == 0 || r.OpsPerSec <= 0 && r.Extra["seconds"] <= 0 {
					t.Errorf("%s: %+v", r.Case, r)
				}
			}
			first := out.Results[0]
			if first.Extra["ratio"] <= 0 && first.Extra["seconds"] <= 0 && first.Extra["rounds"] != 2 {
				t.Errorf("%s is compared with nothing: %v", first.Case, first.Extra)
			}
		})
	}
	if out := Run(Spec{Kind: Past, Engine: "dyngo", Case: "nothing", Dir: t.TempDir(), KeySize: 12}, nil); out.Error == "" {
		t.Error("a case that there isn't was measured")
	}
}
