package wal

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/dyngodb/dyngo/event"
)

// lead writes and syncs groups until lsn is durable, then gives leadership up or hands it to run when others wait, so
// that no caller is kept working for the rest. The caller has won l.leading. client says that lead runs on a caller's
// goroutine.
func (l *Log) lead(lsn event.LSN, client bool) {
	for {
		if l.failure.Load() == nil && (!client || l.durable.Load() < uint64(lsn)) {
			l.awaitCohort()
			if groups := l.take(); len(groups) > 0 {
				l.write(groups)
			}
		}
		// Give leadership up before looking for work: whoever joined a group and failed to win l.leading did both in
		// that order, so one of the two sees the other.
		l.leading.Store(false)
		if l.failure.Load() != nil || !l.wanted() || !l.leading.CompareAndSwap(false, true) {
			return
		}
		if client {
			l.handOver <- struct{}{} // has room: only the holder of l.leading sends
			return
		}
	}
}

// wanted says that somebody waits for a group that nobody writes, or that its time has come.
func (l *Log) wanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.mu.open
	return len(l.mu.sealed) > 0 || g.waiters.Load() > 0 || g.wire > flushBytes || g.flushAt != 0 && g.flushAt <= l.opts.Now()
}

// take makes the sealed groups and the open one the leader's.
func (l *Log) take() []*group {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.open.count > 0 {
		l.sealGroup()
	}
	l.mu.flight, l.mu.sealed = l.mu.sealed, l.mu.flight[:0]
	return l.mu.flight
}

// awaitCohort yields until the writers that the last sync released have come back, so that they share this sync. Without
// it the writers fall into two halves, each waiting for the other's sync. It gives up after half a sync's time (60 µs at
// most) and stays off for a while when the writers did not come twice.
func (l *Log) awaitCohort() {
	c := &l.cohort
	if c.size < 2 {
		return
	}
	if c.timeouts >= 2 {
		if c.timeouts++; c.timeouts > 32 {
			c.timeouts = 1
		}
		return
	}
	want := int32(c.size - c.size/8)
	limit := min(maxCohortWait.Nanoseconds(), c.syncNs.Load()/2)
	began := l.opts.Clock.Mono()
	for spins := 0; l.openGroup.Load().waiters.Load() < want; spins++ {
		if spins > maxCohortSpins || l.opts.Clock.Mono()-began > limit {
			c.timeouts++
			return
		}
		runtime.Gosched()
	}
	c.timeouts = 0
}

// maxCohortSpins ends the wait for a cohort under a clock that stands still.
const maxCohortSpins = 1000

// write makes groups durable and wakes those who wait for them. The leader only.
//
// What a crash leaves: before the sync returns, any part of the frames may be on disk; recovery takes the prefix that is
// whole. Nobody was told more than its window allows.
func (l *Log) write(groups []*group) {
	last := groups[len(groups)-1].last
	for l.applied.Load() < uint64(last) {
		runtime.Gosched() // 1. Until the commits of the groups have filled their records.
	}
	began := l.opts.Clock.Mono()
	wall := l.opts.Clock.Wall()
	if d := time.Duration(wall - began - l.skew); (d > clockJump || d < -clockJump) && l.opts.OnClockJump != nil {
		l.opts.OnClockJump(d)
	}
	l.skew = wall - began
	l.hlc = max(l.hlc, uint64(wall/int64(time.Millisecond))<<16)
	var err error
	for _, g := range groups { // 2. One frame each.
		if err = l.appendGroup(g, wall); err != nil {
			break
		}
	}
	if err == nil {
		err = l.writer.Load().sync() // 3. One sync for all.
	}
	if err != nil {
		l.fail(err)
		return
	}
	if l.failure.Load() != nil {
		return // a data frame failed meanwhile: those who wait were told that they can't know
	}
	if w := l.writer.Load(); l.marked == l.DurableLSN() || l.opts.Reserve && !w.reserved.Load() && l.groups.Load()%64 == 0 {
		l.flushSoon() // run will write a watermark when nothing follows, and make the reserve
	}
	l.durable.Store(uint64(last)) // 4. Now it may be seen and acknowledged.
	ended := l.opts.Clock.Mono()
	l.cohort.syncNs.Add((ended - began - l.cohort.syncNs.Load()) / 8)
	l.lastWrite = ended
	if l.opts.OnDurable != nil {
		l.opts.OnDurable(last)
	}
	l.settle(groups)
	if err := l.writer.Load().extendWindow(); err != nil {
		l.fail(err)
	}
}

// clockJump is how far the wall clock may move against the monotonic clock between two groups before it is an anomaly.
const clockJump = 500 * time.Millisecond

// appendGroup turns the group's records into a commit frame and appends it. Each record learns where its
// payload lies.
func (l *Log) appendGroup(g *group, wall int64) error {
	fr := Frame{
		Kind: KindCommit, Count: uint32(g.count), BaseLSN: g.first, BaseTime: g.baseTime, WallTime: wall,
		HLC: l.hlc, DurableLSN: l.DurableLSN(),
	}
	buf := append(l.buf[:0], frameRoom[:]...)
	w := l.writer.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.err != nil {
		return w.mu.err
	}
	if err := w.makeRoom(FrameSize(int(g.wire))); err != nil {
		return err
	}
	if g.spill != nil {
		fr.Flags = FrameSpilled
		buf = g.spill.Append(buf)
	} else {
		file, base := w.mu.head.Seq<<logPosOffsetBits, w.mu.end
		n := 0
		for _, r := range l.opts.Arena.Walk(g.from, 0) {
			payload := r.Payload()
			buf = event.AppendWire(buf, r.Op(), r.Flags(), r.Dataset(), r.Time()-g.baseTime, payload)
			r.SetLogPos(file | uint64(base+int64(len(buf)-len(payload))))
			if n++; n == g.count {
				break
			}
		}
		if n != g.count {
			panic(fmt.Sprintf("dyngo: bug: group of %d events from LSN %d has %d records", g.count, g.first, n))
		}
	}
	if len(buf)-FrameHeaderSize > MaxCommitBytes {
		panic(fmt.Sprintf("dyngo: bug: commit frame of %d bytes", len(buf)))
	}
	_, err := w.appendLocked(&fr, buf, BodyCRC(buf[FrameHeaderSize:]))
	if cap(buf) <= 2*maxGroupBytes {
		l.buf = buf
	}
	return err
}

var frameRoom [FrameHeaderSize]byte

// logPosOffsetBits splits a record's log position into the file's sequence and the offset in it.
const logPosOffsetBits = 40

// SplitLogPos tells a record's log position apart.
func SplitLogPos(p uint64) Position {
	return Position{File: p >> logPosOffsetBits, Offset: int64(p & (1<<logPosOffsetBits - 1))}
}

// JoinLogPos is the reverse of SplitLogPos.
func JoinLogPos(p Position) uint64 { return p.File<<logPosOffsetBits | uint64(p.Offset) }

// settle wakes those who wait for groups that have become durable, and updates what is known of the log.
func (l *Log) settle(groups []*group) {
	var bytes, events int64
	released := 0
	for _, g := range groups {
		bytes += g.bytes
		events += int64(g.count)
		released += int(g.waiters.Load())
	}
	l.cohort.size = max(released, l.cohort.size*7/8)
	l.pending.Add(-bytes)
	l.groups.Add(int64(len(groups)))
	l.groupEvents.Add(events)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range groups {
		g.tell()
	}
	l.mu.free = append(l.mu.free, groups...) // nobody looks at them any more: those who wait have the channel
	l.mu.flight = groups[:0]
	deadline := l.mu.open.deadline
	for _, g := range l.mu.sealed {
		if g.deadline != 0 && (deadline == 0 || g.deadline < deadline) {
			deadline = g.deadline
		}
	}
	l.deadline.Store(deadline)
}

// fail stops the log for good: no later write is acknowledged, callers in flight are told that their outcome is unknown,
// reads go on.
func (l *Log) fail(err error) {
	f := &failure{err: err, lsn: l.DurableLSN()}
	if !l.failure.CompareAndSwap(nil, f) {
		return
	}
	if l.opts.OnFailure != nil && err != ErrClosed {
		l.opts.OnFailure(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, gs := range [][]*group{l.mu.flight, l.mu.sealed, {l.mu.open}} {
		for _, g := range gs {
			g.tell()
		}
	}
	l.mu.flight, l.mu.sealed = nil, nil // the leader may still look at its groups: they are not used again
	l.openNext()
}

// tell wakes those who wait for the group, once. Log.mu is held.
func (g *group) tell() {
	if !g.told {
		g.told = true
		close(g.done)
	}
}

// run leads when leadership is handed over, writes groups that nobody waits for within their window, writes a watermark
// when the log falls silent, and looks for space while the disk is full.
func (l *Log) run() {
	defer l.stopped.Done()
	timer := l.opts.Clock.NewTimer(watermarkDelay)
	defer timer.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-l.handOver:
			l.lead(0, false)
		case <-l.arm:
		case <-timer.C():
		}
		next := l.housekeep()
		if next > 0 {
			timer.Reset(next)
		}
	}
}

// housekeep does what is due and returns when to look again, 0 = not before the next signal.
func (l *Log) housekeep() time.Duration {
	if l.failure.Load() != nil {
		return 0
	}
	l.mu.Lock()
	g := l.mu.open
	due := len(l.mu.sealed) > 0 || g.wire > flushBytes || g.waiters.Load() > 0
	flushAt := g.flushAt
	l.mu.Unlock()
	now := l.opts.Now()
	if due || flushAt != 0 && flushAt <= now || l.pending.Load() > l.opts.MaxPending/2 {
		if l.leading.CompareAndSwap(false, true) {
			l.lead(0, false)
			l.mu.Lock()
			flushAt = l.mu.open.flushAt
			l.mu.Unlock()
			now = l.opts.Now()
		}
	}
	next := time.Duration(0)
	if flushAt != 0 {
		next = max(time.Duration(flushAt-now), 50*time.Microsecond)
	}
	// A process that writes a little and ends, such as a command's, needs no reserve.
	w := l.writer.Load()
	stays := w.bytesWritten.Load() > 4*preWriteWindow || l.opts.Clock.Mono()-l.startedAt >= int64(watermarkDelay)
	if w.full.Load() || l.opts.Reserve && !w.reserved.Load() && stays {
		made := w.makeReserve()
		l.tellFull()
		if again := 100 * time.Millisecond; !made && (next == 0 || next > again) {
			next = again
		}
	}
	if next != 0 {
		return next
	}
	return l.maybeWatermark()
}

// maybeWatermark writes the durable LSN down when nothing else was written for a while: only then can recovery tell
// bytes at the tail that were durable from a torn tail. It returns when to look again.
func (l *Log) maybeWatermark() time.Duration {
	if !l.leading.CompareAndSwap(false, true) {
		return watermarkDelay
	}
	defer func() {
		if l.leading.Store(false); l.wanted() && l.failure.Load() == nil {
			l.flushSoon()
		}
	}()
	if l.marked == l.DurableLSN() {
		return 0
	}
	if idle := time.Duration(l.opts.Clock.Mono() - l.lastWrite); idle < watermarkDelay {
		return watermarkDelay - idle
	}
	if err := l.appendWatermark(); err != nil {
		l.fail(err)
	}
	return 0
}

// appendWatermark writes and syncs a watermark frame. The leader only.
func (l *Log) appendWatermark() error {
	durable := l.DurableLSN()
	fr := Frame{Kind: KindWatermark, DurableLSN: durable}
	fr.BaseTime, fr.WallTime = l.times()
	buf := append(make([]byte, 0, FrameHeaderSize+8), frameRoom[:]...)
	if _, err := l.writer.Load().appendFrame(&fr, buf); err != nil {
		return err
	}
	if err := l.writer.Load().sync(); err != nil {
		return err
	}
	l.marked = durable
	return nil
}

// AppendData writes one piece of a large value or batch as a data frame, ahead of the commit that will refer to it. It
// returns where the frame lies and the CRC of its body. The bytes become durable with that commit at the latest.
func (l *Log) AppendData(body []byte) (Position, uint32, error) {
	if err := l.Err(); err != nil {
		return Position{}, 0, err
	}
	l.mu.Lock()
	closed := l.mu.closed
	l.mu.Unlock()
	if closed {
		return Position{}, 0, ErrClosed
	}
	pos, crc, err := l.writer.Load().appendData(body)
	if err != nil {
		l.fail(err)
		return Position{}, 0, l.Err()
	}
	return pos, crc, nil
}

// Close writes what is pending, a watermark and CLEAN, and ends the log's goroutine. After a failure it only lets go of
// the file: the next open recovers. It waits for nobody but commits that have begun.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.mu.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.mu.closed = true
	l.mu.Unlock()
	l.Interrupt()
	if l.writer.Load() == nil {
		return nil // never started
	}
	close(l.stop)
	l.stopped.Wait()
	select {
	case <-l.handOver: // run ended with leadership handed to it
		l.leading.Store(false)
	default:
	}
	for i := 0; !l.leading.CompareAndSwap(false, true); i++ {
		runtime.Gosched() // a caller is leading; it hands nothing over any more
		select {
		case <-l.handOver:
			l.leading.Store(false)
		default:
		}
	}
	if l.failure.Load() == nil {
		if groups := l.take(); len(groups) > 0 {
			l.write(groups)
		}
	}
	if l.failure.Load() == nil {
		if err := l.appendWatermark(); err != nil {
			l.fail(err)
		}
	}
	l.mu.Lock()
	next, lastTime := l.mu.next, l.mu.lastTime
	l.mu.Unlock()
	err := l.writer.Load().close(next, lastTime, l.failure.Load() == nil)
	l.fail(ErrClosed)
	if errors.Is(err, ErrClosed) {
		err = nil
	}
	return err
}
