package work

import (
	"maps"
	"slices"
	"testing"
)

// TestAdapt runs each case of the adaptive suite with little data.
func TestAdapt(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(adaptCases)) {
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
