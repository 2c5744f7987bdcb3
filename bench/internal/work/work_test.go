package work

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"

	"github.com/dyngodb/dyngo/bench/internal/engine"
)

func TestKeysAreDistinctAndSpread(t *testing.T) {
	for _, size := range []int{minKeySize, maxKeySize} {
		seen := map[string]bool{}
		k := newKey(size)
		for i := range uint64(10_000) {
			putKey(k, i)
			seen[string(k)] = true
		}
		if len(seen) != 10_000 {
			t.Fatalf("%d keys of 10000 numbers", len(seen))
		}
	}
	if checkKeySize(13) == nil {
		t.Fatal("a key size without a prefix was accepted")
	}
}

func TestValueIsChecked(t *testing.T) {
	v := newValue(100)
	putValue(v, 7, 3)
	if err := checkValue(v, 7, 100); err != nil {
		t.Fatal(err)
	}
	if checkValue(v, 8, 100) == nil {
		t.Error("a value of another key passed")
	}
	if checkValue(v[:99], 7, 100) == nil {
		t.Error("a short value passed")
	}
	v[99]++
	if checkValue(v, 7, 100) == nil {
		t.Error("a changed last byte passed")
	}
}

// TestValuesDontGetSmaller compresses what a block of a sorted file would hold: values of neighbours in key order.
func TestValuesDontGetSmaller(t *testing.T) {
	const keys, block = 200_000, 32 << 10
	numbers := make([]uint64, keys)
	for i := range numbers {
		numbers[i] = uint64(i)
	}
	slices.SortFunc(numbers, func(a, b uint64) int { return cmp.Compare(a*golden, b*golden) })
	v := newValue(100)
	var raw []byte
	for _, i := range numbers[:block/len(v)] {
		putValue(v, i, 0)
		raw = append(raw, v[valueHeader:]...)
	}
	if n := len(s2.Encode(nil, raw)); n < len(raw)*95/100 {
		t.Errorf("%d bytes of neighbours' values become %d", len(raw), n)
	}
}

func TestRecordIsChecked(t *testing.T) {
	r := appendRecord(nil, 9, 2)
	if len(r) != recordSize || math.Abs(float64(recordSize-102_800)) > 100 {
		t.Fatalf("a record has %d bytes, recordSize %d, asked for about 102800", len(r), recordSize)
	}
	if err := checkRecord(r, 9); err != nil {
		t.Fatal(err)
	}
	if checkRecord(r, 10) == nil {
		t.Error("a record of another key passed")
	}
	for _, at := range []int{9, 21, 30, len(r) - recordString} {
		bad := bytes.Clone(r)
		bad[at] ^= 0xff
		if checkRecord(bad, 9) == nil {
			t.Errorf("a record with byte %d changed passed", at)
		}
	}
}

func TestPickers(t *testing.T) {
	const n, draws = 10_000, 400_000
	for _, d := range []Dist{Zipf, Uniform, Missing} {
		t.Run(string(d), func(t *testing.T) {
			p := newPicker(d, n, 1)
			r, pos := rng(1), uint32(0)
			count := map[uint64]int{}
			for range draws {
				count[p.pick(&r, &pos)]++
			}
			var counts []int
			for i, c := range count {
				if (i < n) == (d == Missing) {
					t.Fatalf("picked %d", i)
				}
				counts = append(counts, c)
			}
			slices.Sort(counts)
			slices.Reverse(counts)
			share := float64(counts[0]) / draws
			switch d {
			case Zipf:
				// With theta 0.99 the first of 10,000 gets 1 / sum(1/i^0.99), about a tenth.
				if share < 0.08 || share > 0.12 {
					t.Errorf("the most popular key gets %.3f of the draws", share)
				}
			case Uniform:
				if share > 0.001 || len(count) < n*99/100 {
					t.Errorf("%d keys, the most frequent gets %.4f", len(count), share)
				}
			}
		})
	}
}

func TestStepVisitsAll(t *testing.T) {
	for _, n := range []uint64{1, 2, 10, 1000, 1 << 10, 9973} {
		seen := map[uint64]bool{}
		s := coprime(n)
		for i := range n {
			seen[i*s%n] = true
		}
		if len(seen) != int(n) {
			t.Errorf("n %d, step %d: %d numbers visited", n, s, len(seen))
		}
	}
}

func TestParseProc(t *testing.T) {
	io := "rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n"
	status := "Name:\tbench\nVmHWM:\t   20480 kB\nVmRSS:\t 1024 kB\n"
	for _, tc := range []struct {
		text, field string
		want        int64
	}{
		{io, "write_bytes", 4096},
		{io, "cancelled_write_bytes", 0},
		{status, "VmHWM", 20480},
		{status, "VmSwap", -1},
		{"write_bytes: many\n", "write_bytes", -1},
		{"write_bytes:\n", "write_bytes", -1},
		{"", "write_bytes", -1},
	} {
		if got := parseField(tc.text, tc.field); got != tc.want {
			t.Errorf("%s = %d, want %d", tc.field, got, tc.want)
		}
	}
	if got := parseBlockStat("  1 2 3 4 5 6 7 8 9\n"); got != 7*512 {
		t.Errorf("sectors written = %d bytes, want 3584", got)
	}
	if text, busy := parseActivity("1 2 3 4 5 6 7 8 2 10 11 12 13"); text != "1 5 12 " || !busy {
		t.Errorf("activity %q, busy %v", text, busy)
	}
	if text, busy := parseActivity("1 2 3 4 5 6 7 8 0"); text != "1 5 " || busy {
		t.Errorf("activity %q, busy %v", text, busy)
	}
	if got := parseBlockStat("1 2 3"); got != -1 {
		t.Errorf("a short line gives %d", got)
	}
}

func TestRecorder(t *testing.T) {
	r := newRecorder(40)
	for i := range 1000 {
		r.record(i, time.Duration(i+1)*time.Microsecond)
	}
	r.record(3, -time.Second)     // a clock that went back
	r.record(4, 2000*time.Second) // beyond the range
	l := r.latency()
	if l.Samples != 1002 || l.P50 < 495_000 || l.P50 > 505_000 || l.P99 < 985_000 || l.P99 > 995_000 {
		t.Fatalf("%+v", l)
	}
	total := int64(0)
	for i, b := range r.buckets() {
		if b.To <= b.From {
			t.Fatalf("bucket %d: %+v", i, b)
		}
		total += b.Count
	}
	if total != 1002 {
		t.Fatalf("buckets hold %d of 1002 latencies", total)
	}
}

// TestCases runs every kind of work for a moment with the engine that does nothing, and the ones
// that need one with bbolt, the smallest.
func TestCases(t *testing.T) {
	base := Spec{Engine: "none", Mode: engine.Buffered, KeySize: 12, ValueSize: 100, Keys: 1000,
		Writers: 2, Readers: 2, Seconds: 0.02, Interval: 5 * time.Millisecond, Seed: 1, MaxBytes: 1 << 20}
	for _, tc := range []struct {
		kind    Kind
		engine  string
		change  func(*Spec)
		results int
	}{
		{Put, "none", nil, 1},
		{Put, "bbolt", func(s *Spec) { s.Keys = 0 }, 1},
		{Get, "none", func(s *Spec) { s.Dists = []Dist{Zipf, Uniform, Missing} }, 3},
		{Get, "bbolt", func(s *Spec) { s.Dists = []Dist{Zipf, Uniform, Missing} }, 3},
		{Mixed, "bbolt", nil, 1},
		{Clients, "bbolt", func(s *Spec) { s.Ops = 2000; s.Seconds = 20; s.Writers = 10 }, 1},
		{Memory, "bbolt", func(s *Spec) { s.Keys = 50 }, 1},
		{Records, "bbolt", func(s *Spec) { s.Keys = 20; s.MaxBytes = 4 << 20; s.Seconds = 5 }, 1},
		{Scan, "bbolt", nil, 2},
		{Scan, "none", nil, 2},
		{Values, "bbolt", func(s *Spec) { s.ValueSize = 100_000; s.Ops = 40 }, 2},
		{Amplify, "bbolt", func(s *Spec) { s.Dists = []Dist{Zipf}; s.Ops = 100 }, 1},
		{Offer, "bbolt", func(s *Spec) { s.Seconds = 0.1 }, 1},
		{Probe, "none", nil, 1},
	} {
		t.Run(string(tc.kind)+"/"+tc.engine, func(t *testing.T) {
			s := base
			s.Kind, s.Engine, s.Dir = tc.kind, tc.engine, t.TempDir()
			if tc.change != nil {
				tc.change(&s)
			}
			out := Run(s, nil)
			if out.Error != "" {
				t.Fatal(out.Error)
			}
			if len(out.Results) != tc.results {
				t.Fatalf("%d results, want %d", len(out.Results), tc.results)
			}
			for _, r := range out.Results {
				if r.Ops <= 0 || r.Seconds <= 0 {
					t.Errorf("%+v", r)
				}
			}
			if tc.engine == "none" && tc.kind == Get && out.Results[0].Allocs > 0.01 {
				t.Errorf("the loop allocates %.3f times in each operation", out.Results[0].Allocs)
			}
			if tc.kind == Clients && out.Results[0].Ops != s.Ops {
				t.Errorf("%d operations, want %d", out.Results[0].Ops, s.Ops)
			}
		})
	}
	if out := Run(Spec{Kind: Records, Engine: "none", Keys: 100, MaxBytes: 1 << 20}, nil); out.Error == "" {
		t.Error("a load beyond the bytes allowed was begun")
	}
	if out := Run(Spec{Kind: "dance", Engine: "none"}, nil); out.Error == "" {
		t.Error("an unknown kind of work was accepted")
	}
}

func TestPreparedStoreIsMeasured(t *testing.T) {
	s := Spec{Kind: Prepare, Engine: "bbolt", Mode: engine.Buffered, Dir: t.TempDir(), Prepared: true, KeySize: 12, ValueSize: 100,
		Keys: 2000, Writers: 2, Readers: 2, Seconds: 0.05, WarmUp: 0.01, Seed: 1, Dists: []Dist{Zipf, Missing}}
	if out := Run(s, nil); out.Error != "" {
		t.Fatal(out.Error)
	}
	for _, kind := range []Kind{Reopen, Get, Scan} {
		s.Kind, s.MemoryLimit = kind, 64<<20
		out := Run(s, nil)
		if out.Error != "" {
			t.Fatalf("%s: %s", kind, out.Error)
		}
		for _, r := range out.Results {
			if r.Extra["first_read_s"] <= 0 || (r.Limit == "") != (kind == Reopen) {
				t.Errorf("%s: limit %q, %v", kind, r.Limit, r.Extra)
			}
		}
	}
	// A scan finds what is missing.
	s.Keys++
	if out := Run(s, nil); out.Error == "" {
		t.Errorf("%s of %d keys in a store of %d passed", s.Kind, s.Keys, s.Keys-1)
	}
}

func TestPairSumReadsEveryLine(t *testing.T) {
	k, v := newKey(minKeySize), newValue(200)
	putKey(k, 5)
	putValue(v, 5, 0)
	sum := pairSum(k, v)
	for _, at := range []int{0, 64, 128, 192, 199} {
		v[at]++
		if pairSum(k, v) == sum {
			t.Errorf("a change of byte %d does not change the sum", at)
		}
		v[at]--
	}
	putKey(k, 6)
	if pairSum(k, v) == sum {
		t.Error("another key gives the same sum")
	}
}

func TestLivePickerIsZipf(t *testing.T) {
	const n, draws = 10_000, 200_000
	p := newLivePicker(Zipf, n)
	r, pos, count := rng(1), uint32(0), map[uint64]int{}
	for range draws {
		count[p.pick(&r, &pos)]++
	}
	most := 0
	for i, c := range count {
		if i >= n {
			t.Fatalf("picked %d", i)
		}
		most = max(most, c)
	}
	if share := float64(most) / draws; share < 0.08 || share > 0.12 {
		t.Errorf("the most popular key gets %.3f of the draws", share)
	}
}
