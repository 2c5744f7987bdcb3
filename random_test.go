package dyngo_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

var (
	randomSeed = flag.Uint64("random.seed", 0, "seed of TestRandomOperations, 0 = random")
	randomOps  = flag.Int("random.ops", 4000, "operations of TestRandomOperations")
)

// heldView is a view with what it must show for ever.
type heldView struct {
	*dyngo.View
	want map[string]map[string]string
}

// Random operations on a store whose memory holds a fraction of its data, with views kept open while events leave memory
// and versions expire, with batches that spill, with reopening and with crashes, against a model of a few maps.
func TestRandomOperations(t *testing.T) {
	t.Parallel()
	seed := *randomSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -run TestRandomOperations -random.seed %d -random.ops %d", seed, *randomOps)
	rng := rand.New(rand.NewPCG(seed, 3))
	fs := vfs.NewCrash(seed)
	r, err := newRig(fs)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"strong", "causal", "packed"}
	for i, o := range []dyngo.DatasetOptions{{LargeValue: 64 << 10}, {Consistency: dyngo.Causal, LargeValue: 64 << 10}, {Compression: dyngo.Zstd, LargeValue: 2 << 10}} {
		if err := r.create(names[i], &o); err != nil {
			t.Fatal(err)
		}
	}
	var views []heldView
	evicted := int64(0)
	drop := func(i int) {
		views[i].Close()
		views = slices.Delete(views, i, i+1)
	}
	reopen := func() {
		for len(views) > 0 {
			drop(0)
		}
		evicted += r.db.Metrics().Evictions
		if err := r.reopen(time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	key := func() string { return fmt.Sprintf("key-%04d", rng.IntN(3000)) }
	value := func(i int) string {
		n := rng.IntN(14_000)
		if rng.IntN(200) == 0 {
			n = 70_000 + rng.IntN(40_000)
		}
		if rng.IntN(3) == 0 {
			return strings.Repeat(fmt.Sprintf("%d ", i), n/7)
		}
		return fmt.Sprint(i, ":", big(n, byte(i)))
	}
	ops := *randomOps
	if testing.Short() {
		ops /= 3
	}
	for i := 0; i < ops || ops >= 4000 && i < 3*ops && evicted+r.db.Metrics().Evictions == 0; i++ { // what leaves memory is to be tested
		name := names[rng.IntN(len(names))]
		var err error
		ttl := time.Duration(1+rng.IntN(1000))*time.Millisecond + time.Duration(i) // no two end together
		switch n := rng.IntN(1000); {
		case n < 450:
			err = r.put(name, key(), value(i))
		case n < 490:
			err = r.putTTL(name, key(), value(i), ttl)
		case n < 500:
			err = r.advance(time.Duration(rng.IntN(100)) * time.Millisecond)
		case n < 600:
			err = r.del(name, key())
		case n < 700:
			if rng.IntN(4) > 0 {
				ttl = 0
			}
			err = r.newestTTL(name, key(), value(i), int64(rng.IntN(1000)), ttl)
		case n < 705:
			from := rng.IntN(3000)
			err = r.delRange(name, fmt.Sprintf("key-%04d", from), fmt.Sprintf("key-%04d", from+rng.IntN(60)))
		case n < 800:
			var cs []change
			for range 1 + rng.IntN(6) {
				kind := []string{"put", "put", "newest", "del"}[rng.IntN(4)]
				cs = append(cs, change{kind: kind, ds: names[rng.IntN(len(names))], key: key(), value: value(i), time: int64(rng.IntN(1000))})
			}
			if cs[0].kind == "put" {
				cs[0].ttl = ttl
			}
			err = r.batch(cs...)
		case n < 810 && len(views) < 4:
			if err = r.db.WaitDurable(t.Context(), r.db.LSN()); err != nil {
				break
			}
			var v *dyngo.View
			if v, err = r.db.View(); err == nil {
				want, werr := r.m.at(v.LSN(), r.clock.Now())
				views, err = append(views, heldView{v, want}), werr
			}
		case n < 812 && len(views) > 0:
			drop(rng.IntN(len(views)))
		case n < 831:
			reopen()
		case n < 832:
			if err = r.flush(); err == nil {
				err = r.m.recovered(fs.PowerLoss(vfs.CrashOptions{Seed: uint64(i)}), r.clock.Now())
			}
		case n < 990 && len(views) > 0:
			v, k := views[rng.IntN(len(views))], key()
			got, gerr := v.Get(r.ds[name], []byte(k))
			want, there := v.want[name][k]
			if there != (gerr == nil) || there && string(got) != want || !there && !errors.Is(gerr, dyngo.ErrNotFound) {
				t.Fatalf("op %d: view at %d: %s/%s is %.40q, %v; want %.40q (there: %v)", i, v.LSN(), name, k, got, gerr, want, there)
			}
		case n < 993 && len(views) > 0:
			v, from, got := views[rng.IntN(len(views))], key(), []string{}
			for kv, err := range v.Scan(r.ds[name], dyngo.Range{From: []byte(from), Limit: 50}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(kv.Key)+"="+string(kv.Value))
			}
			var want []string
			for _, k := range slices.Sorted(maps.Keys(v.want[name])) {
				if k >= from && len(want) < 50 {
					want = append(want, k+"="+v.want[name][k])
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("op %d: scan of a view at %d from %s gives %d pairs, want %d", i, v.LSN(), from, len(got), len(want))
			}
		case n < 996:
			if err = r.flush(); err == nil {
				err = r.m.check(r.db, r.db.DurableLSN(), r.clock.Now())
			}
		}
		if err != nil {
			t.Fatalf("op %d: %v", i, err)
		}
	}
	reopen()
	if err := r.m.check(r.db, r.db.DurableLSN(), r.clock.Now()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d evictions, log of %d bytes", evicted, r.db.Recovery().Bytes)
	if ops >= 4000 && evicted == 0 {
		t.Fatal("nothing left memory: the test does not test that")
	}
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
}

// A batch far above the limit of a frame, read back before and after reopening.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrash(1)
	r, err := newRig(fs)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.create("d", nil), r.newest("d", "key-00007", "newer", 100), r.newest("d", "key-00008", "older", 1),
		r.put("d", "deleted", "x"), r.newest("d", "deleted newest", "x", 50)); err != nil {
		t.Fatal(err)
	}
	var cs []change
	for i := range 20_000 {
		k := fmt.Sprintf("key-%05d", i)
		switch {
		case i == 7 || i == 8:
			cs = append(cs, change{kind: "newest", ds: "d", key: k, value: "batch", time: 10})
		case i%1000 == 0:
			cs = append(cs, change{kind: "put", ds: "d", key: k, value: big(10<<10, byte(i))})
		default:
			cs = append(cs, change{kind: "put", ds: "d", key: k, value: big(i%2000, byte(i))})
		}
	}
	cs = append(cs, change{kind: "del", ds: "d", key: "deleted"}, change{kind: "del", ds: "d", key: "deleted newest"},
		change{kind: "range", ds: "d", key: "key-00100", to: "key-00110"}, change{kind: "put", ds: "d", key: "key-00105", value: "after the range"})
	if err := r.batch(cs...); err != nil {
		t.Fatal(err)
	}
	if err := r.m.check(r.db, r.db.DurableLSN(), r.clock.Now()); err != nil {
		t.Fatal(err)
	}
	if err := r.m.recovered(fs.KillProcess(), r.clock.Now()); err != nil {
		t.Fatal(err)
	}
	if err := r.reopen(1); err != nil {
		t.Fatal(err)
	}
	defer r.db.Close()
	if err := r.m.check(r.db, r.db.DurableLSN(), r.clock.Now()); err != nil {
		t.Fatal(err)
	}
	// The delete kept the record time, though it was written ahead of its decision.
	if applied, _, err := r.ds["d"].PutNewest([]byte("deleted newest"), []byte("stale"), time.Unix(0, 40)); applied || err != nil {
		t.Fatalf("a put older than the deleted version: applied %v, %v", applied, err)
	}
}
