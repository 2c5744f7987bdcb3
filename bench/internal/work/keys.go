package work

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
)

// golden scrambles key numbers: neighbours in number are far apart in key order, and no two numbers
// share a key.
const golden = 0x9E3779B97F4A7C15

// ordered times a number is the number of which the key is in the order of numbers: the inverse of golden.
const ordered = 0xF1DE83E19937733D

// Keys are a fixed prefix and eight scrambled bytes: 12 bytes with "user", 16 with "customer", 40 with one as long as that of a table
// within a tenant.
const (
	minKeySize  = 12
	maxKeySize  = 16
	longKeySize = 40
)

func checkKeySize(n int) error {
	if n != minKeySize && n != maxKeySize && n != longKeySize {
		return fmt.Errorf("key size %d: keys have %d, %d or %d bytes", n, minKeySize, maxKeySize, longKeySize)
	}
	return nil
}

// newKey returns a buffer for putKey.
func newKey(size int) []byte {
	k := make([]byte, size)
	switch size {
	case minKeySize:
		copy(k, "user")
	case longKeySize:
		copy(k, "tenant/00000042/orders/by-customer/")
	default:
		copy(k, "customer")
	}
	return k
}

// putKey makes k, from newKey, the key of number i.
func putKey(k []byte, i uint64) {
	binary.BigEndian.PutUint64(k[len(k)-8:], i*golden)
}

// Values start with the key's number and a version, so that a read can be checked, and go on with
// random bytes that no codec makes smaller, also not those of a block of neighbours.
const valueHeader = 16

var noise = func() []byte {
	b := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{'d', 'y', 'n', 'g', 'o'})
	_, _ = r.Read(b) // never fails
	return b
}()

// newValue returns a buffer for putValue. Sizes below valueHeader hold the number alone.
func newValue(size int) []byte { return make([]byte, max(size, 8)) }

// putValue makes v the value of key i in the given version.
func putValue(v []byte, i, version uint64) {
	binary.LittleEndian.PutUint64(v, i)
	if len(v) < valueHeader {
		return
	}
	binary.LittleEndian.PutUint64(v[8:], version)
	copy(v[valueHeader:], noise[noiseAt(i, len(v)):])
}

// noiseAt is where the random bytes of key i's value of n bytes begin. It follows no order of the keys:
// values of neighbours would overlap, and a codec make their block much smaller.
func noiseAt(i uint64, n int) int {
	r := rng(i)
	return int(r.next()>>32) % (len(noise) - n)
}

// checkValue tells whether v is a value of key i of the given size, in any version.
func checkValue(v []byte, i uint64, size int) error {
	if len(v) != max(size, 8) || binary.LittleEndian.Uint64(v) != i {
		return fmt.Errorf("wrong value for key %d: %d bytes, starts with %x", i, len(v), v[:min(8, len(v))])
	}
	if len(v) > valueHeader {
		at := noiseAt(i, len(v))
		// The last byte stands for the rest: reading it proves that the copy reached the end.
		if last := len(v) - 1; v[last] != noise[at+last-valueHeader] {
			return fmt.Errorf("wrong value for key %d: last byte %x", i, v[last])
		}
	}
	return nil
}

// picker chooses key numbers in [0, n). It is made once per case and shared; each goroutine draws
// through its own rng.
type picker struct {
	dist  Dist
	n     uint64
	table []uint32 // drawn in advance for Zipf, whose formula would cost as much as a get
	live  *Ranks   // instead of the table, where the same draws again and again would all stay in caches
	step  uint64   // spreads live's ranks
}

// zipfTableSize draws fit in 4 MiB, so that reading them in order does not push the engine's data
// out of the processor's caches.
const zipfTableSize = 1 << 20

func newPicker(d Dist, n int, seed uint64) *picker {
	p := &picker{dist: d, n: uint64(n)}
	if d != Zipf {
		return p
	}
	r := rand.New(rand.NewPCG(seed, 1))
	z := NewRanks(n, 0.99)
	p.step = coprime(uint64(n))
	p.table = make([]uint32, zipfTableSize)
	for i := range p.table {
		// The rank is spread, so that popular keys are not those that were written first.
		p.table[i] = uint32(z.Draw(r) * p.step % uint64(n))
	}
	return p
}

// newLivePicker is newPicker for stores so large that a get costs more than a draw.
func newLivePicker(d Dist, n int) *picker {
	p := &picker{dist: d, n: uint64(n), step: coprime(uint64(n))}
	if d == Zipf {
		p.live = NewRanks(n, 0.99)
	}
	return p
}

// coprime returns a step that visits every number below n once.
func coprime(n uint64) uint64 {
	for s := n*618/1000 | 1; ; s += 2 {
		if gcd(s, n) == 1 {
			return s
		}
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// rng is a splitmix64 generator: one multiplication chain, no lock, no allocation.
type rng uint64

func (r *rng) next() uint64 {
	*r += golden
	z := uint64(*r)
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// pick returns the next key number for the goroutine that owns r and pos.
func (p *picker) pick(r *rng, pos *uint32) uint64 {
	switch p.dist {
	case Zipf:
		if p.live != nil {
			return p.live.at(float64(r.next()>>11)/(1<<53)) * p.step % p.n
		}
		*pos = (*pos + 1) % zipfTableSize
		return uint64(p.table[*pos])
	case Missing:
		return p.n + r.next()>>1
	default:
		return (r.next() >> 32) * p.n >> 32
	}
}

// Ranks draws ranks with P(rank) ~ 1/(rank+1)^theta, theta < 1, which math/rand does not offer: the
// method of Gray et al., "Quickly Generating Billion-Record Synthetic Databases", as in YCSB.
type Ranks struct {
	n                       float64
	theta, alpha, zeta, eta float64
}

// NewRanks returns a source of ranks in [0, n). It adds up n terms.
func NewRanks(n int, theta float64) *Ranks {
	z := &Ranks{n: float64(n), theta: theta, alpha: 1 / (1 - theta)}
	for i := 1; i <= n; i++ {
		z.zeta += 1 / math.Pow(float64(i), theta)
	}
	zeta2 := 1 + math.Pow(0.5, theta)
	z.eta = (1 - math.Pow(2/z.n, 1-theta)) / (1 - zeta2/z.zeta)
	return z
}

// Draw returns a rank; each goroutine draws through its own r.
func (z *Ranks) Draw(r *rand.Rand) uint64 { return z.at(r.Float64()) }

// at makes of u, which is even in [0, 1), a rank.
func (z *Ranks) at(u float64) uint64 {
	uz := u * z.zeta
	switch {
	case uz < 1:
		return 0
	case uz < 1+math.Pow(0.5, z.theta):
		return 1
	}
	rank := uint64(z.n * math.Pow(z.eta*u-z.eta+1, z.alpha))
	return min(rank, uint64(z.n)-1)
}
