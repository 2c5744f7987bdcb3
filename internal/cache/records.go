package cache

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/dyngodb/dyngo/internal/offheap"
)

// Sizes of Records.
const (
	recordChunk     = 32 << 10         // what is given out and given back at a time
	minRecordShard  = 32 * recordChunk // at the highest limit
	maxRecordShards = 64
	// MaxRecordBytes is what key and content of a record have together at most.
	MaxRecordBytes = 8 << 10
	// placeBytes is about what a record takes in the map of its shard.
	placeBytes = 24
	// maxRounds is how many chunks one Add looks through for room, before it drops the next one whole.
	maxRounds = 4
	// Where less than an eighth of judgeEvery gets hit, or fewer than records were taken out, only one hash in sampleParts counts.
	judgeEvery, sampleParts = 1024, 8
)

// Records keeps records that were read, by dataset and key: far less than the blocks that they come from, so that the same memory has
// more of what is hot.
//
// Each shard is a queue of chunks. A record is written at the end of the newest; where there is no memory for another chunk, the oldest
// one is used again, in which those that were read since they were written move to its beginning (CLOCK of Corbató, "A paging
// experiment with the Multics system", 1968, over a log).
//
// Where that does not pay, the shard only samples: it keeps records of one part of the hashes, now of this, now of that, in a part of
// the memory. So the others cost nothing, and what the sample hits tells what all would (Waldspurger and others,
// "Efficient MRC construction with SHARDS", 2015).
//
// Records are copies, so somebody has to take out what is out of date. Why what Get finds never is:
//
//  1. Who looks for a key asks the place of new versions first, then Get, then the place of old ones. Who adds what he found there has
//     called Begin before all that.
//  2. A version that is about to leave the place of new versions is found in the place of old ones already. Then Advance is called, then
//     Remove for its key, and only then does it leave. So who begins after Advance finds it, or a newer one: in one place or the other.
//  3. Add takes nothing if there was an Advance since its Begin. It looks under the lock that Remove takes: either it comes before, and
//     Remove takes the record out; or it sees the Advance.
//
// Safe for concurrent use; each call holds a shard's lock for a copy, Add at most for some 100 µs.
type Records struct {
	advances atomic.Uint64
	limit    atomic.Int64 // of all shards
	used     atomic.Int64
	shift    int
	shards   []recordShard
}

type recordShard struct {
	mu     sync.Mutex        // guards the fields below
	places map[uint64]uint32 // by hash: where the record begins, number of the chunk << 16 | offset
	chunks []chunk           // by number
	free   []uint16          // numbers of chunks without memory
	queue  []uint16          // numbers of chunks, oldest first
	used   int64

	hits, misses, removed int64
	judged                struct{ gets, hits int64 } // of hashes in the part, since the last look at which share of them hit
	few                   bool                       // few do
	balance               int64                      // hits less what was taken out, counted for all hashes, at most two departures from 0
	departed              int64                      // records of the last departure
	costly                bool                       // more is taken out than hits
	part                  atomic.Uint32              // part of the hashes by which is judged, samples = all others are left out; stored under mu
	_                     [64]byte
}

// samples is in a shard's part where it only samples.
const samples = sampleParts

type chunk struct {
	buf []byte // nil = none
	end int    // of the last record
}

// A record in a chunk is
//
//	hash uint64 | dataset uint32 | length of the key uint16, of the content uint16 | read since it was written, 1 byte | key | content
const recordHead = 8 + 4 + 2 + 2 + 1

// NewRecords returns a cache of at most limit bytes, which SetLimit may lower and raise again; limit > 0.
func NewRecords(limit int64) *Records {
	n := 1
	for n < maxRecordShards && limit/int64(2*n) >= minRecordShard {
		n *= 2
	}
	r := &Records{shift: 64 - bits.TrailingZeros(uint(n)), shards: make([]recordShard, n)}
	for i := range r.shards {
		r.shards[i].places = map[uint64]uint32{}
		r.shards[i].judged.gets = -7 * judgeEvery // at first nothing is there that could hit
	}
	r.limit.Store(limit)
	return r
}

func (r *Records) shardOf(hash uint64) *recordShard { return &r.shards[hash>>r.shift] }

// Begin comes before Add; see there.
func (r *Records) Begin() uint64 { return r.advances.Load() }

// Advance has nothing added that was looked up before.
func (r *Records) Advance() { r.advances.Add(1) }

// Samples says that the hash's shard only samples, so that it is better to ask first whether the key may be anywhere, and whether
// the hash is in the sample: if not, Get and Add are a waste.
func (r *Records) Samples(hash uint64) (only, in bool) {
	part := r.shardOf(hash).part.Load()
	return part&samples != 0, part&samples == 0 || inPart(hash, part)
}

func inPart(hash uint64, part uint32) bool { return hash%sampleParts == uint64(part%sampleParts) }

// Get appends the content of a record to dst. hash is of dataset and key, evenly spread.
func (r *Records) Get(dst []byte, hash uint64, dataset uint32, key []byte) (content []byte, ok bool) {
	s := r.shardOf(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.find(hash, dataset, key)
	part := s.part.Load()
	if rec == nil {
		s.misses++
	} else {
		s.hits++
		weight := int64(1)
		if part&samples != 0 {
			weight = sampleParts
		}
		s.balance = min(s.balance+weight, 2*s.departed)
		rec[recordHead-1] = 1
		dst = append(dst, rec[recordHead+len(key):]...)
	}
	if inPart(hash, part) {
		s.judge(r, rec != nil)
	}
	return dst, rec != nil
}

// judge looks now and then at which share of gets hit lately. It goes by one part of the hashes also where none is left out: what others
// would hit is not known when a shard has just left off sampling. s.mu is held.
func (s *recordShard) judge(r *Records, hit bool) {
	s.judged.gets++
	if hit {
		s.judged.hits++
	}
	if s.judged.gets == judgeEvery {
		s.few = s.judged.hits < judgeEvery/8
		s.judged.gets, s.judged.hits = 0, 0
		s.sample(r)
	}
}

// Departed says that so many records were looked for with Remove, whether they were there or not, since versions left the place of new
// ones. Where that is more than hits, records cost more than they bring.
func (r *Records) Departed(records int) {
	n := int64(records / len(r.shards))
	if n == 0 {
		return
	}
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		s.departed = n
		s.balance = max(s.balance-n, -2*n)
		if s.balance == -2*n {
			s.costly = true
			s.sample(r)
		}
		s.mu.Unlock()
	}
}

// sample begins to sample or ends it. s.mu is held.
func (s *recordShard) sample(r *Records) {
	s.costly = s.costly && s.balance < 0
	if part := s.part.Load() % sampleParts; s.few || s.costly {
		s.part.Store(part | samples)
		s.fit(r)
	} else {
		s.part.Store(part)
	}
}

// NextPart goes on to the next part of the hashes. Who calls it every second has keys that became hot found in some seconds, whichever
// part they are in.
func (r *Records) NextPart() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		part := s.part.Load()
		s.part.Store(part&samples | (part+1)%sampleParts)
		s.mu.Unlock()
	}
}

// Add keeps a copy of a record, if there is room and there was no Advance since Begin returned begun.
func (r *Records) Add(begun, hash uint64, dataset uint32, key, content []byte) {
	size := recordHead + len(key) + len(content)
	if size > MaxRecordBytes {
		return
	}
	s := r.shardOf(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.advances.Load() != begun || s.find(hash, dataset, key) != nil {
		return
	}
	c, number := s.roomFor(r, size)
	if c == nil {
		return
	}
	rec := binary.LittleEndian.AppendUint64(c.buf[:c.end], hash)
	rec = binary.LittleEndian.AppendUint32(rec, dataset)
	rec = binary.LittleEndian.AppendUint16(rec, uint16(len(key)))
	rec = binary.LittleEndian.AppendUint16(rec, uint16(len(content)))
	rec = append(append(append(rec, 0), key...), content...)
	r.place(s, hash, uint32(number)<<16|uint32(c.end))
	c.end = len(rec)
}

// Remove takes a record out.
func (r *Records) Remove(hash uint64, dataset uint32, key []byte) {
	s := r.shardOf(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(hash, dataset, key) != nil {
		s.removed++
		r.unplace(s, hash)
	}
}

// Empty says that there is no record, nor will there be one that was looked up before the last Advance: after that, Remove can be left out.
func (r *Records) Empty() bool {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock() // an Add that saw no Advance is done
		n := len(s.places)
		s.mu.Unlock()
		if n > 0 {
			return false
		}
	}
	return true
}

// Clear takes all records out, those too that were looked up before and would be added.
func (r *Records) Clear() {
	r.Advance()
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for len(s.queue) > 0 {
			s.dropOldest(r)
		}
		s.places = map[uint64]uint32{}
		s.mu.Unlock()
	}
}

// SetLimit changes how many bytes all records may take. What is too much goes at once.
func (r *Records) SetLimit(limit int64) {
	r.limit.Store(limit)
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		s.fit(r)
		s.mu.Unlock()
	}
}

// fit gives back what is more than the shard's share. s.mu is held.
func (s *recordShard) fit(r *Records) {
	for len(s.queue) > 0 && s.used > s.share(r) {
		s.dropOldest(r)
	}
}

// RecordsMetrics are figures of Records.
type RecordsMetrics struct {
	Records, Bytes        int64
	Hits, Misses, Removed int64
}

// Metrics returns the figures.
func (r *Records) Metrics() (m RecordsMetrics) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		m.Records += int64(len(s.places))
		m.Hits, m.Misses, m.Removed = m.Hits+s.hits, m.Misses+s.misses, m.Removed+s.removed
		s.mu.Unlock()
	}
	m.Bytes = r.used.Load()
	return m
}

// Bytes is the memory that all records take.
func (r *Records) Bytes() int64 { return r.used.Load() }

// share is what the shard may take. s.mu is held.
func (s *recordShard) share(r *Records) int64 {
	n := r.limit.Load() / int64(len(r.shards))
	if s.part.Load()&samples != 0 {
		return min(n, max(n/sampleParts, 3*recordChunk))
	}
	return n
}

// account counts bytes that a shard takes more. s.mu is held.
func (r *Records) account(s *recordShard, n int64) {
	s.used += n
	r.used.Add(n)
}

// find returns a record. s.mu is held.
func (s *recordShard) find(hash uint64, dataset uint32, key []byte) []byte {
	at, ok := s.places[hash]
	if !ok {
		return nil
	}
	rec := s.at(at)
	n := int(binary.LittleEndian.Uint16(rec[12:]))
	if binary.LittleEndian.Uint32(rec[8:]) != dataset || !bytes.Equal(rec[recordHead:recordHead+n], key) {
		return nil // another one with this hash
	}
	return rec
}

// at is the record at a place.
func (s *recordShard) at(place uint32) []byte {
	rec := s.chunks[place>>16].buf[place&0xffff:]
	n := recordHead + int(binary.LittleEndian.Uint16(rec[12:])) + int(binary.LittleEndian.Uint16(rec[14:]))
	return rec[:n:n]
}

// place notes where a record lies, for another one with its hash if there was one.
func (r *Records) place(s *recordShard, hash uint64, place uint32) {
	if _, ok := s.places[hash]; !ok {
		r.account(s, placeBytes)
	}
	s.places[hash] = place
}

func (r *Records) unplace(s *recordShard, hash uint64) {
	delete(s.places, hash)
	r.account(s, -placeBytes)
}

// roomFor returns the newest chunk with room for size bytes, nil if there is none to be had. s.mu is held.
func (s *recordShard) roomFor(r *Records, size int) (*chunk, uint16) {
	for round := 0; ; round++ {
		if n := len(s.queue); n > 0 {
			if c := &s.chunks[s.queue[n-1]]; c.end+size <= len(c.buf) {
				return c, s.queue[n-1]
			}
		}
		if s.used+recordChunk <= s.share(r) {
			s.grow(r)
			continue
		}
		if len(s.queue) == 0 {
			return nil, 0
		}
		s.reuse(r, round < maxRounds)
	}
}

// grow adds an empty chunk.
func (s *recordShard) grow(r *Records) {
	var number uint16
	switch n := len(s.free); {
	case n > 0:
		number, s.free = s.free[n-1], s.free[:n-1]
	case len(s.chunks) > 0xffff:
		s.reuse(r, false)
		return
	default:
		number = uint16(len(s.chunks))
		s.chunks = append(s.chunks, chunk{})
	}
	s.chunks[number] = chunk{buf: offheap.Alloc(recordChunk)}
	s.queue = append(s.queue, number)
	r.account(s, recordChunk)
}

// reuse makes the oldest chunk the newest one. With keep, what was read since it was written stays.
func (s *recordShard) reuse(r *Records, keep bool) {
	number := s.queue[0]
	copy(s.queue, s.queue[1:])
	s.queue[len(s.queue)-1] = number
	c := &s.chunks[number]
	end := c.end
	c.end = 0
	for at := 0; at < end; {
		rec := s.at(uint32(number)<<16 | uint32(at))
		hash := binary.LittleEndian.Uint64(rec)
		if place, ok := s.places[hash]; ok && place == uint32(number)<<16|uint32(at) {
			if keep && rec[recordHead-1] != 0 {
				rec[recordHead-1] = 0
				s.places[hash] = uint32(number)<<16 | uint32(c.end)
				c.end += copy(c.buf[c.end:], rec)
			} else {
				r.unplace(s, hash)
			}
		}
		at += len(rec)
	}
}

// dropOldest gives the oldest chunk back.
func (s *recordShard) dropOldest(r *Records) {
	s.reuse(r, false)
	n := len(s.queue) - 1
	number := s.queue[n]
	s.queue = s.queue[:n]
	offheap.Free(s.chunks[number].buf)
	s.chunks[number] = chunk{}
	s.free = append(s.free, number)
	r.account(s, -recordChunk)
}
