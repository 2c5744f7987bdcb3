package blockcache

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/dyngodb/dyngo/internal/cache"
)

// record makes a small trace of a workload and returns its file.
func record(t *testing.T, load Workload) (string, Recording) {
	t.Helper()
	var trace bytes.Buffer
	rec, err := Record(&trace, load, 20_000, 1<<14, 1)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(name, trace.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name, rec
}

func TestEveryWorkloadOnEveryCache(t *testing.T) {
	for _, load := range Workloads() {
		t.Run(load.Name, func(t *testing.T) {
			name, rec := record(t, load)
			trace, err := readTrace(name)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(trace)) != rec.Accesses || rec.Accesses < 20_000 || rec.FileBytes < 1<<21 {
				t.Fatalf("%d accesses read, %+v", len(trace), rec)
			}
			sizes := map[cache.Key]uint32{}
			for _, a := range trace {
				if before, ok := sizes[a.key]; a.size == 0 || ok && before != a.size {
					t.Fatalf("%+v, before %d bytes", a, before)
				}
				sizes[a.key] = a.size
			}
			for _, kind := range append(Names(), None) {
				for _, s := range []Spec{
					{Cache: kind, Trace: name, CapacityBytes: rec.FileBytes / 8, Goroutines: 8},
					{Cache: kind, Trace: name, CapacityBytes: 4 * rec.FileBytes, Goroutines: 1, Again: true},
				} {
					r, err := Replay(s)
					if err != nil {
						t.Fatalf("%s: %v", kind, err)
					}
					ratio := float64(r.Hits) / float64(r.Accesses)
					switch {
					case kind == None:
						if r.Hits != 0 || r.Accesses == 0 {
							t.Errorf("nothing: %+v", r)
						}
					case s.Again:
						if ratio < 0.99 || r.Accesses != 10*rec.Accesses || r.Metrics.Hits < r.Hits {
							t.Errorf("%s, which all fits into: %+v", kind, r)
						}
					case kind != "ristretto-open" && r.PeakBytes > s.CapacityBytes+300*16<<10:
						t.Errorf("%s takes %d bytes of %d", kind, r.PeakBytes, s.CapacityBytes)
					case ratio < 0.2 || r.Blocks == 0:
						t.Errorf("%s: %+v", kind, r)
					}
				}
			}
		})
	}
}

func TestRecordingsRepeat(t *testing.T) {
	for _, load := range Workloads() {
		first, _ := record(t, load)
		second, _ := record(t, load)
		a, _ := os.ReadFile(first)
		b, _ := os.ReadFile(second)
		if len(a) == 0 || !bytes.Equal(a, b) {
			t.Errorf("%s: two recordings with the same seed differ, %d and %d bytes", load.Name, len(a), len(b))
		}
	}
}

func TestReplayRefuses(t *testing.T) {
	name := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(name, []byte("dyngobt\x01"), 0o644); err != nil {
		t.Fatal(err)
	}
	for what, s := range map[string]Spec{
		"no file":         {Cache: "s3fifo", Trace: name + "x", CapacityBytes: 1 << 20, Goroutines: 1},
		"an empty trace":  {Cache: "s3fifo", Trace: name, CapacityBytes: 1 << 20, Goroutines: 1},
		"an unknown kind": {Cache: "lru", Trace: name, CapacityBytes: 1 << 20, Goroutines: 1},
	} {
		if _, err := Replay(s); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
