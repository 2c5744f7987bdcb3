package dyngo

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Hold is something that keeps old state: versions of keys, or log files.
type Hold struct {
	// Name says who holds, Reason why.
	Name, Reason string
	// LSN of the view, 0 = the hold is not one of a view.
	LSN LSN
	// LogFile is the sequence of the oldest log file that is needed, 0 = none is: segments have the versions.
	LogFile uint64
	// Since is when it began; zero = not noted.
	Since time.Time
}

// Holds lists what keeps old state now, those of log files first. Views of the present hold versions, which segments keep for
// them; they keep no log file. Views of the past (ViewAt) keep the log files that there were when they were opened.
func (db *DB) Holds() []Hold {
	list := db.holds.list()
	db.views.mu.Lock()
	for _, lsn := range slices.Sorted(maps.Keys(db.views.held)) {
		list = append(list, Hold{Name: "view", LSN: lsn, Reason: fmt.Sprintf("%d open at this LSN: old versions stay", db.views.held[lsn])})
	}
	db.views.mu.Unlock()
	return list
}

// holdSet knows who needs log files: what is written ahead of its commit, what memory and events that no segment has yet
// refer to, and who is about to read. Each holds a file with all that follow it, since retention drops the oldest first.
type holdSet struct {
	mu     sync.Mutex // guards the fields below; a leaf
	oldest uint64     // log files before it are gone, or about to go
	ahead  map[*hold]bool
	pins   map[uint64]int // readers of values, by log file
	// refs is, by the oldest log file that some event refers to, the LSN of the newest such event: the file is needed at
	// least until segments have the event. stubs is the same until the event has left memory.
	refs, stubs map[uint64]LSN
}

// hold keeps the log files from file on while a write that lies in them is not committed, or while a view reads the past. It
// belongs to one goroutine.
type hold struct {
	set    *holdSet
	file   uint64
	name   string // who holds, empty = a write
	lsn    LSN    // of a view
	reason string
	since  int64
	stubs  bool // events in memory will stand for bytes in the log, not only refer to large values
}

func newHoldSet() holdSet {
	return holdSet{ahead: map[*hold]bool{}, pins: map[uint64]int{}, refs: map[uint64]LSN{}, stubs: map[uint64]LSN{}}
}

// begin holds the newest log file and those to come, before anything is written ahead. The newest is never dropped, so the
// hold is there in time.
func (db *DB) beginHold(reason string) *hold {
	h := &hold{set: &db.holds, reason: reason, since: db.opts.Clock.Wall()}
	h.set.mu.Lock()
	defer h.set.mu.Unlock()
	h.file = db.log.File()
	h.set.ahead[h] = true
	return h
}

// begin holds the log files from file on, unless they are about to go.
func (h *hold) begin(file uint64) bool {
	h.set.mu.Lock()
	defer h.set.mu.Unlock()
	if h.file = file; file < h.set.oldest {
		return false
	}
	h.set.ahead[h] = true
	return true
}

// again holds once more what was released. It fails if the log file is gone. A nil hold holds nothing.
func (h *hold) again() error {
	if h == nil {
		return nil
	}
	h.set.mu.Lock()
	defer h.set.mu.Unlock()
	if h.file < h.set.oldest {
		return fmt.Errorf("dyngo: what the batch has written ahead lies in log file %d, which retention has dropped since; Reset it", h.file)
	}
	h.set.ahead[h] = true
	return nil
}

// setLSN says which LSN the view is at.
func (h *hold) setLSN(lsn LSN) {
	h.set.mu.Lock()
	defer h.set.mu.Unlock()
	h.lsn = lsn
}

// release ends the hold.
func (h *hold) release() {
	if h == nil {
		return
	}
	h.set.mu.Lock()
	defer h.set.mu.Unlock()
	delete(h.set.ahead, h)
}

// referred notes that events up to lsn refer to what was held. It comes before release.
func (h *hold) referred(lsn LSN) {
	if h != nil {
		h.set.refer(h.file, lsn, h.stubs)
	}
}

func (s *holdSet) refer(file uint64, lsn LSN, stubs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs[file] = max(s.refs[file], lsn)
	if stubs {
		s.stubs[file] = max(s.stubs[file], lsn)
	}
}

// pin keeps a log file for a reader that was about to read it when it looked: retention waits for those who look, and then
// for pins.
func (s *holdSet) pin(file uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pins[file]++
}

func (s *holdSet) unpin(file uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pins[file]--; s.pins[file] == 0 {
		delete(s.pins, file)
	}
}

// pinned says whether somebody reads from one of some log files, or from what stands in for them.
func (s *holdSet) pinned(from, to uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for file := range s.pins {
		if from <= file && file <= to {
			return true
		}
	}
	return false
}

// settle forgets references of events that segments have, and of stubs that have left memory.
func (s *holdSet) settle(flushed, left LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.refs, func(_ uint64, lsn LSN) bool { return lsn <= flushed })
	maps.DeleteFunc(s.stubs, func(_ uint64, lsn LSN) bool { return lsn <= left })
}

// needs says up to which LSN events must be in segments, and up to which they must have left memory, before log files up to
// the one given can go.
func (s *holdSet) needs(file uint64) (flushed, left LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f, lsn := range s.refs {
		if f <= file {
			flushed = max(flushed, lsn)
		}
	}
	for f, lsn := range s.stubs {
		if f <= file {
			left = max(left, lsn)
		}
	}
	return flushed, left
}

// raise tells that log files before oldest go.
func (s *holdSet) raise(oldest uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.oldest = max(s.oldest, oldest)
}

// list returns the holds of log files, the oldest file first.
func (s *holdSet) list() []Hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Hold
	for h := range s.ahead {
		list = append(list, Hold{Name: cmp.Or(h.name, "write"), LSN: h.lsn, LogFile: h.file, Reason: h.reason, Since: unixTime(h.since)})
	}
	for file, n := range s.pins {
		list = append(list, Hold{Name: "reader", LogFile: file, Reason: fmt.Sprintf("%d open on large values or batches in it", n)})
	}
	for file, lsn := range s.stubs {
		list = append(list, Hold{Name: "memory", LogFile: file, Reason: fmt.Sprintf("events up to LSN %d in memory have their values in it", lsn)})
	}
	for file, lsn := range s.refs {
		list = append(list, Hold{Name: "flush", LogFile: file, Reason: fmt.Sprintf("events up to LSN %d, which no segment has yet, refer to values in it", lsn)})
	}
	slices.SortFunc(list, func(a, b Hold) int {
		return cmp.Or(cmp.Compare(a.LogFile, b.LogFile), cmp.Compare(a.Name, b.Name), a.Since.Compare(b.Since))
	})
	return list
}
