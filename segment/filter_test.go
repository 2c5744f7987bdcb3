package segment

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/zeebo/xxh3"

	"github.com/dyngodb/dyngo/event"
)

// TestFilterIsAsDrawn sets bits as the package comment says, with numbers of any size.
func TestFilterIsAsDrawn(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	hashes := make([]uint64, 500)
	for i := range hashes {
		hashes[i] = rnd.Uint64()
	}
	page := appendFilter(nil, hashes, 10)
	lines := (len(hashes)*10 + 511) / 512
	want := make([]byte, filterHead+64*lines)
	want[0], want[4] = 3, byte(lines)
	two64 := new(big.Int).Lsh(big.NewInt(1), 64)
	for _, h := range hashes {
		hash := new(big.Int).SetUint64(h)
		line := new(big.Int).Mul(hash, big.NewInt(int64(lines)))
		line.Div(line, two64)
		g := new(big.Int).Mul(hash, new(big.Int).SetUint64(0x9e3779b97f4a7c15))
		g.Mod(g, two64).Rsh(g, 16)
		for w := range 8 {
			bit := new(big.Int).Rsh(g, uint(6*w)).Uint64() % 64
			want[filterHead+64*int(line.Int64())+8*w+int(bit/8)] |= 1 << (bit % 8)
		}
		if !filterHas(page, h) {
			t.Fatalf("hash %x is not in its filter", h)
		}
	}
	if string(page) != string(want) {
		t.Fatalf("page\n%x\nwant\n%x", page, want)
	}
	if err := checkFilter(page); err != nil {
		t.Fatal(err)
	}
}

// TestHashIsXXH3 holds the hash against values that another implementation gave: it is on disk.
func TestHashIsXXH3(t *testing.T) {
	for _, c := range []struct {
		seed uint64
		ds   event.DatasetID
		key  string
		want uint64
	}{
		{0, 0, "", 0x2d06800538d394c2},                                    // the empty input of XXH3-64
		{0x9e3779b185ebca8d, 0, "", 0xa8a6b918b2f0364a},                   // with the prime seed of its test vectors
		{1, 2, "key", xxh3.HashSeed([]byte("key"), 1+0x3c6ef372fe94f82a)}, // the dataset is in the seed
	} {
		if got := Hash(c.seed, c.ds, []byte(c.key)); got != c.want {
			t.Errorf("%x, %d, %q: %x, want %x", c.seed, c.ds, c.key, got, c.want)
		}
	}
}
