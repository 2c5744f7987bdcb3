package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/dyngodb/dyngo/event"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// dueSorter puts the entries of the due index in order: due time, dataset, key ascending, LSN descending. They arrive
// in key order. What does not fit into limit bytes goes to a temporary file in sorted runs, which are merged at the
// end.
type dueSorter struct {
	fs    vfs.FS
	name  string // of the temporary file
	limit int

	bytes int64  // of all that was added, without what blocks add and save
	arena []byte // records, see add
	refs  []dueRef
	file  vfs.File // nil while there are no runs
	end   int64
	runs  []dueRun
}

// dueRef is a record in the arena: its due time as in its key, and where it is.
type dueRef struct {
	due uint64
	at  int
}

// dueRun is where a sorted run lies in the temporary file.
type dueRun struct{ from, to int64 }

const (
	// A record is the length of the key (u32), the LSN (u64) and the key: due time with the top bit flipped (big-endian),
	// dataset (big-endian), key.
	dueRecordHead = 12
	maxDueRecord  = dueRecordHead + dueLen + datasetLen + event.MaxKeyBytes
	runReadBytes  = 32 << 10
)

// dueKey appends what the due index is sorted by. The key comes behind its dataset.
func dueKey(dst []byte, due int64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(dst, uint64(due)^signBit), key...)
}

// add adds an entry. The key comes behind its dataset.
func (d *dueSorter) add(due int64, key []byte, lsn event.LSN) error {
	size := dueRecordHead + dueLen + len(key)
	if len(d.arena)+size+(len(d.refs)+1)*16 > d.limit && len(d.refs) > 0 {
		if err := d.spill(); err != nil {
			return err
		}
	}
	d.bytes += int64(size)
	d.refs = append(d.refs, dueRef{due: uint64(due) ^ signBit, at: len(d.arena)})
	d.arena = binary.LittleEndian.AppendUint32(d.arena, uint32(dueLen+len(key)))
	d.arena = binary.LittleEndian.AppendUint64(d.arena, uint64(lsn))
	d.arena = dueKey(d.arena, due, key)
	return nil
}

// dueRecord takes the record at the start of b apart.
func dueRecord(b []byte) (key []byte, lsn event.LSN, n int) {
	n = dueRecordHead + int(binary.LittleEndian.Uint32(b))
	return b[dueRecordHead:n], event.LSN(binary.LittleEndian.Uint64(b[4:])), n
}

func compareDues(key []byte, lsn event.LSN, key2 []byte, lsn2 event.LSN) int {
	if c := bytes.Compare(key, key2); c != 0 {
		return c
	}
	return cmp.Compare(lsn2, lsn)
}

// sort puts refs in order.
func (d *dueSorter) sort() {
	slices.SortFunc(d.refs, func(x, y dueRef) int {
		if x.due != y.due {
			return cmp.Compare(x.due, y.due)
		}
		// Records came in key order, and records of one key in the order of falling LSNs.
		return cmp.Compare(x.at, y.at)
	})
}

// spill writes what is in memory as a run.
func (d *dueSorter) spill() (err error) {
	if d.file == nil {
		if d.file, err = d.fs.Create(d.name); err != nil {
			d.file = nil
			return fmt.Errorf("create the due index's runs: %w", err)
		}
	}
	d.sort()
	run := dueRun{from: d.end}
	out := make([]byte, 0, writeBytes)
	flush := func() error {
		if _, err := d.file.WriteAt(out, d.end); err != nil {
			return fmt.Errorf("write the due index's runs: %w", err)
		}
		d.end += int64(len(out))
		out = out[:0]
		return nil
	}
	for _, ref := range d.refs {
		_, _, n := dueRecord(d.arena[ref.at:])
		if len(out) > 0 && len(out)+n > writeBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		out = append(out, d.arena[ref.at:ref.at+n]...)
	}
	if err := flush(); err != nil {
		return err
	}
	run.to = d.end
	d.runs = append(d.runs, run)
	d.arena, d.refs = d.arena[:0], d.refs[:0]
	return nil
}

// each calls do with all entries in order. The key is valid during the call.
func (d *dueSorter) each(do func(key []byte, lsn event.LSN) error) error {
	if len(d.runs) == 0 {
		d.sort()
		for _, ref := range d.refs {
			key, lsn, _ := dueRecord(d.arena[ref.at:])
			if err := do(key, lsn); err != nil {
				return err
			}
		}
		return nil
	}
	if len(d.refs) > 0 {
		if err := d.spill(); err != nil {
			return err
		}
	}
	d.arena, d.refs = nil, nil
	var heap []*runReader // a binary heap, the least first
	for _, run := range d.runs {
		r := &runReader{file: d.file, run: run}
		if err := r.next(); err != nil {
			return err
		}
		heap = append(heap, r)
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		sink(heap, i)
	}
	for len(heap) > 0 {
		r := heap[0]
		if err := do(r.key, r.lsn); err != nil {
			return err
		}
		if err := r.next(); err != nil {
			return err
		}
		if r.key == nil {
			heap[0] = heap[len(heap)-1]
			heap = heap[:len(heap)-1]
		}
		sink(heap, 0)
	}
	return nil
}

// sink moves element i of a heap down to its place.
func sink(heap []*runReader, i int) {
	for {
		least := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < len(heap) && compareDues(heap[c].key, heap[c].lsn, heap[least].key, heap[least].lsn) < 0 {
				least = c
			}
		}
		if least == i {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}

// runReader reads a run front to back.
type runReader struct {
	file vfs.File
	run  dueRun // what is not yet in buf
	buf  []byte // what was read and not yet returned
	mem  []byte
	key  []byte // of the present record, nil at the end
	lsn  event.LSN
}

// next goes to the next record.
func (r *runReader) next() error {
	for {
		if len(r.buf) >= dueRecordHead {
			n := dueRecordHead + int64(binary.LittleEndian.Uint32(r.buf))
			if n > maxDueRecord {
				return errors.New("the due index's runs changed while they were read")
			}
			if int64(len(r.buf)) >= n {
				r.key, r.lsn, _ = dueRecord(r.buf)
				r.buf = r.buf[n:]
				return nil
			}
		}
		if r.run.from == r.run.to {
			r.key = nil
			if len(r.buf) > 0 {
				return errors.New("the due index's runs changed while they were read")
			}
			return nil
		}
		if err := r.fill(); err != nil {
			return err
		}
	}
}

// fill reads on behind what is left in buf.
func (r *runReader) fill() error {
	have := len(r.buf)
	n := int(min(runReadBytes, r.run.to-r.run.from))
	if cap(r.mem) < have+n {
		r.mem = make([]byte, have+n)
	}
	r.mem = r.mem[:cap(r.mem)]
	copy(r.mem, r.buf)
	if _, err := r.file.ReadAt(r.mem[have:have+n], r.run.from); err != nil {
		return fmt.Errorf("read the due index's runs: %w", err)
	}
	r.run.from += int64(n)
	r.buf = r.mem[:have+n]
	return nil
}

// close removes the temporary file.
func (d *dueSorter) close() {
	if d.file != nil {
		_ = d.file.Close() // what is in it does not matter
		_ = d.fs.Remove(d.name)
		d.file = nil
	}
}
