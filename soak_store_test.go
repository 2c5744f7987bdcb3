package dyngo_test

import (
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// soakEnv makes this binary the process that TestSoak kills.
const soakEnv = "DYNGO_TEST_SOAK"

// soakCall is what the observer asks of the process that has the store open.
type soakCall struct {
	ID int
	Do string

	Open soakOptions // open

	Changes []soakChange // write
	Batch   bool
	Ack     dyngo.Ack

	View     int // of get, scan and unview; 0 = none
	Dataset  int // of get and scan
	Keys     [][]byte
	Range    dyngo.Range
	Streamed bool // get reads values as streams

	Quota int64 // quota: bytes; 0 = the last one that was positive, negative = what is used and so much less
}

type soakOptions struct {
	Dir                                    string
	Quota, Retention, LogFileBytes, Memory int64
	SpillBatch, SpillPiece                 int64
}

// soakChange is one event of a write.
type soakChange struct {
	Kind    string // put, reader, del, range
	Dataset int
	Key, To []byte
	ID      uint64 // names the value
	Size    int
	TTL     time.Duration
}

// soakReply is the answer to the call with the same ID.
type soakReply struct {
	ID           int
	Err          string
	LSN, Durable dyngo.LSN // of the last event; of the store
	View         int
	Pairs        []soakPair
	Count        int64
	Lines        []string
	Recovery     soakRecovery
	Stats        soakStats
}

type soakPair struct {
	Key  []byte
	LSN  dyngo.LSN
	ID   uint64 // of the value, 0 = absent
	Size int
}

type soakRecovery struct {
	LastLSN dyngo.LSN
	Damage  string
}

type soakStats struct {
	dyngo.Metrics
	Used     int64 // bytes that count against the quota
	Resident int64
	Waited   time.Duration // how long writes have waited for space
	Full     bool          // they wait now
	Errors   []string      // that the engine logged, those of a full disk not among them
}

// soakDatasets are those of the store; a space says which it lies in.
var soakDatasets = []struct {
	name string
	dyngo.DatasetOptions
}{
	{"main", dyngo.DatasetOptions{}},
	{"quick", dyngo.DatasetOptions{Consistency: dyngo.Causal}},
	{"late", dyngo.DatasetOptions{Consistency: dyngo.Eventual}},
	{"blobs", dyngo.DatasetOptions{LargeValue: 16 << 10}},
	{"sessions", dyngo.DatasetOptions{Consistency: dyngo.Causal, TTL: 3 * time.Second}},
}

// soakStore serves calls until it is killed.
type soakStore struct {
	fs    *vfs.Fault
	quota int64
	db    *dyngo.DB
	ds    []*dyngo.Dataset

	waited atomic.Int64 // ns
	full   atomic.Int64 // since when, Unix ns; 0 = there is space

	mu     sync.Mutex // guards the fields below
	views  map[int]*dyngo.View
	opened int
	errors []string
}

// serveSoak answers calls, each in a goroutine of its own, until the last one was close or nobody calls any more.
func serveSoak(in io.Reader, out io.Writer) error {
	s := &soakStore{views: map[int]*dyngo.View{}}
	calls, replies := gob.NewDecoder(in), gob.NewEncoder(out)
	var mu sync.Mutex
	for {
		var c soakCall
		if err := calls.Decode(&c); err != nil {
			return fmt.Errorf("the observer has gone: %w", err)
		}
		serve := func() {
			r := soakReply{ID: c.ID}
			if err := s.serve(&c, &r); err != nil {
				r.Err = err.Error()
			}
			if s.db != nil {
				r.Durable = s.db.DurableLSN()
			}
			mu.Lock()
			defer mu.Unlock()
			if err := replies.Encode(&r); err != nil {
				fmt.Fprintln(os.Stderr, "soak: answer a call:", err)
			}
		}
		switch c.Do {
		case "open":
			serve()
		case "close":
			serve()
			return nil
		default:
			go serve()
		}
	}
}

func (s *soakStore) serve(c *soakCall, r *soakReply) (err error) {
	switch c.Do {
	case "open":
		return s.open(&c.Open, r)
	case "close":
		return s.db.Close()
	case "write":
		r.LSN, err = s.write(c)
	case "get":
		err = s.get(c, r)
	case "scan":
		err = s.scan(c, r)
	case "view":
		err = s.view(r)
	case "unview":
		s.mu.Lock()
		defer s.mu.Unlock()
		err = s.views[c.View].Close()
		delete(s.views, c.View)
	case "stats":
		s.stats(&r.Stats)
	case "quota":
		switch q := c.Quota; {
		case q == 0:
			s.fs.SetQuota(s.quota)
		case q < 0:
			s.fs.SetQuota(max(0, s.fs.Used()+q))
		default:
			s.quota = q
			s.fs.SetQuota(q)
		}
	case "flush":
		if err = s.db.WaitDurable(context.Background(), s.db.LSN()); err == nil {
			err = s.db.Flush(context.Background())
		}
	case "gc":
		_, err = s.db.GC(context.Background())
	case "explain":
		r.Lines, err = s.explain()
	default:
		err = fmt.Errorf("no such call: %q", c.Do)
	}
	return err
}

func (s *soakStore) open(o *soakOptions, r *soakReply) (err error) {
	s.fs, s.quota = vfs.NewFault(vfs.OS), o.Quota
	if err := s.fs.Count(o.Dir); err != nil {
		return err
	}
	s.fs.SetQuota(o.Quota)
	options := &dyngo.Options{
		FS: s.fs, MemoryBudget: o.Memory, LogFileBytes: o.LogFileBytes, Retention: dyngo.Retention{Bytes: o.Retention},
		Logger: slog.New(soakLog{s}), Listener: &dyngo.Listener{DiskFull: s.diskFull},
	}
	options.SpillFrom(o.SpillBatch, o.SpillPiece)
	if s.db, err = dyngo.Open(o.Dir, options); err != nil {
		return err
	}
	report := s.db.Recovery()
	if r.Recovery.LastLSN = report.LastLSN; report.Damage != nil {
		r.Recovery.Damage = report.Damage.Error()
	}
	for _, d := range soakDatasets {
		ds, err := s.db.CreateDataset(d.name, &d.DatasetOptions)
		if err != nil {
			return err
		}
		s.ds = append(s.ds, ds)
	}
	return nil
}

func (s *soakStore) diskFull(full bool) {
	now := time.Now().UnixNano()
	if full {
		s.full.Store(now)
	} else if since := s.full.Swap(0); since != 0 {
		s.waited.Add(now - since)
	}
}

func (s *soakStore) write(c *soakCall) (dyngo.LSN, error) {
	if !c.Batch {
		ch := &c.Changes[0]
		ds, wo := s.ds[ch.Dataset], dyngo.WriteOptions{TTL: ch.TTL, Ack: c.Ack}
		switch ch.Kind {
		case "put":
			return ds.PutWith(ch.Key, soakValue(nil, ch.ID, ch.Size), wo)
		case "reader":
			return ds.PutReaderWith(ch.Key, int64(ch.Size), &soakReader{left: soakValue(nil, ch.ID, ch.Size)}, wo)
		case "del":
			return ds.DeleteWith(ch.Key, wo)
		default:
			return ds.DeleteRange(ch.Key, ch.To)
		}
	}
	b := s.db.NewBatch()
	var value []byte
	for i := range c.Changes {
		switch ch := &c.Changes[i]; ch.Kind {
		case "put", "reader":
			value = soakValue(value[:0], ch.ID, ch.Size)
			b.PutWith(s.ds[ch.Dataset], ch.Key, value, dyngo.WriteOptions{TTL: ch.TTL})
		case "del":
			b.Delete(s.ds[ch.Dataset], ch.Key)
		default:
			b.DeleteRange(s.ds[ch.Dataset], ch.Key, ch.To)
		}
	}
	return b.CommitWith(dyngo.WriteOptions{Ack: c.Ack})
}

// soakReader gives a value in pieces.
type soakReader struct{ left []byte }

func (r *soakReader) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 10_000)], r.left)
	r.left = r.left[n:]
	return n, nil
}

// soakValue appends the value that an id names: the id itself, then bytes that no codec makes smaller.
func soakValue(dst []byte, id uint64, size int) []byte {
	end := len(dst) + size
	dst = binary.LittleEndian.AppendUint64(slices.Grow(dst, size+8), id)
	for x := mix(id); len(dst) < end; {
		x += 0x9e3779b97f4a7c15
		dst = binary.LittleEndian.AppendUint64(dst, mix(x))
	}
	return dst[:end]
}

// soakMinValue is the size of the smallest value: its id.
const soakMinValue = 8

// soakID is the id of a value, all bytes of which are looked at.
func soakID(v []byte) (uint64, error) {
	if len(v) < soakMinValue {
		return 0, fmt.Errorf("value of %d bytes was never written", len(v))
	}
	id := binary.LittleEndian.Uint64(v)
	if want := soakValue(nil, id, len(v)); !slices.Equal(v, want) {
		i := 0
		for v[i] == want[i] {
			i++
		}
		return 0, fmt.Errorf("value %x of %d bytes has a wrong byte at %d", id, len(v), i)
	}
	return id, nil
}

func (s *soakStore) get(c *soakCall, r *soakReply) error {
	ds, v := s.ds[c.Dataset], s.viewOf(c.View)
	for _, key := range c.Keys {
		p := soakPair{Key: key}
		var value []byte
		var err error
		switch {
		case v != nil:
			value, err = v.Get(ds, key)
		case c.Streamed:
			var in io.ReadSeekCloser
			if in, err = ds.Open(key); err == nil {
				value, err = io.ReadAll(in)
				err = errors.Join(err, in.Close())
			}
		default:
			var kv dyngo.KV
			kv, err = ds.Lookup(key)
			value, p.LSN = kv.Value, kv.LSN
		}
		switch {
		case err == nil:
			if p.ID, err = soakID(value); err != nil {
				return fmt.Errorf("get of %q: %w", key, err)
			}
			p.Size = len(value)
		case !errors.Is(err, dyngo.ErrNotFound):
			return fmt.Errorf("get of %q: %w", key, err)
		}
		r.Pairs = append(r.Pairs, p)
	}
	return nil
}

func (s *soakStore) viewOf(n int) *dyngo.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.views[n]
}

func (s *soakStore) view(r *soakReply) error {
	if err := s.db.WaitDurable(context.Background(), s.db.LSN()); err != nil {
		return err
	}
	v, err := s.db.View()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	r.View = s.opened
	s.views[r.View] = v
	return nil
}

// scan gives the pairs of a range; a range without limit it only counts.
func (s *soakStore) scan(c *soakCall, r *soakReply) error {
	pairs := s.ds[c.Dataset].Scan(c.Range)
	if v := s.viewOf(c.View); v != nil {
		pairs = v.Scan(s.ds[c.Dataset], c.Range)
	}
	for kv, err := range pairs {
		if err != nil {
			return fmt.Errorf("scan after %d pairs: %w", r.Count, err)
		}
		if r.Count++; c.Range.Limit == 0 {
			continue
		}
		p := soakPair{Key: slices.Clone(kv.Key), LSN: kv.LSN, Size: len(kv.Value)}
		if !c.Range.KeysOnly {
			if p.ID, err = soakID(kv.Value); err != nil {
				return fmt.Errorf("scan at %q: %w", kv.Key, err)
			}
		}
		r.Pairs = append(r.Pairs, p)
	}
	return nil
}

func (s *soakStore) stats(st *soakStats) {
	st.Metrics, st.Used, st.Resident = s.db.Metrics(), s.fs.Used(), residentSet()
	st.Waited = time.Duration(s.waited.Load())
	if since := s.full.Load(); since != 0 {
		st.Full = true
		st.Waited += time.Duration(time.Now().UnixNano() - since)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Errors = slices.Clone(s.errors)
}

// explain tells what the engine says of its files.
func (s *soakStore) explain() (lines []string, err error) {
	p, err := s.db.GCPlan(context.Background())
	if err != nil {
		return nil, err
	}
	for _, f := range p.Files {
		if f.Kind == "log" {
			lines = append(lines, fmt.Sprintf("oldest log file %s, %d bytes: %s", f.File, f.Bytes, f.Reason))
			break
		}
	}
	for _, h := range p.Holds {
		lines = append(lines, fmt.Sprintf("hold: %+v", h))
	}
	levels, err := s.db.Levels()
	for _, r := range levels.Runs {
		var entries, keys, tombstones, ranges int64
		for _, seg := range r.Segments {
			entries, keys = entries+seg.Entries, keys+seg.Keys
			tombstones, ranges = tombstones+seg.Tombstones, ranges+seg.RangeDeletes
		}
		lines = append(lines, fmt.Sprintf("run %d: %d bytes in %d segments, "+
			"%d entries of %d keys, %d tombstones, %d range deletes",
			r.ID, r.SizeBytes, len(r.Segments), entries, keys, tombstones, ranges))
	}
	return append(lines, "running: "+levels.Running), err
}

// soakLog keeps what the engine logs as an error, unless it says that the disk is full.
type soakLog struct{ s *soakStore }

func (l soakLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (l soakLog) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l soakLog) WithGroup(string) slog.Handler                    { return l }

func (l soakLog) Handle(_ context.Context, r slog.Record) error {
	text, full := r.Message, strings.Contains(r.Message, "the disk is full")
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && vfs.IsNoSpace(err) {
			full = true
		}
		text += " " + a.String()
		return true
	})
	if full {
		return nil
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.errors = append(l.s.errors, text)
	return nil
}
