package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/manifest"
	"github.com/dyngodb/dyngo/wal"
)

// What the doctor takes for too much.
const (
	slowOpen         = 5 * time.Second
	muchUnflushed    = 2 << 30 // bytes of log that Open reads
	oldView          = 1_000_000
	manyRuns         = 12
	denseTombstones  = 0.5 // of a segment's entries
	tombstoneShare   = 0.1 // of the bytes of all segments
	budgetShare      = 0.5 // of the machine's memory
	usedOverBudget   = 1.1
	freeWarning      = 0.10 // of the disk
	freeUrgent       = 0.03
	soonFull         = 14 // days
	rateFiles        = 20 // newest log files that the rate of growth is taken from
	leastRateSeconds = 3600
)

// checkLog looks at the end of the log and at what the next open has to read.
func (p *patient) checkLog() {
	if r := p.report; r != nil {
		if r.Damage != nil {
			p.say(urgent, "damage", "stop writing, "+p.command("verify")+" lists all damage, and restore a backup",
				"The log is damaged; only what lies before that is served: %s", sentence(r.Damage))
		}
		if r.Missing != nil {
			p.say(urgent, "damage", p.putBack(),
				"For want of a log file nothing can be written, nor the past be read that needs it: %s", sentence(r.Missing))
		}
		if t := r.TornTail; t != nil && p.owner == 0 {
			p.say(note, "crash", "", "The store was not closed. %s ends at offset %d with an incomplete write of %s, "+
				"which is left out. %s", t.File, t.Offset, cli.FormatBytes(t.Bytes), t.Doubt)
		}
		if r.Duration > slowOpen {
			p.say(warning, "open", p.command("compact")+" writes what is in the log alone as segments",
				"Opening the store takes %s: it reads %s of log.", r.Duration.Round(time.Second/10), cli.FormatBytes(r.Bytes))
		}
	}
	if p.live {
		if gap := p.gap(); gap != nil && p.gap() != nil { // twice: retention may have removed files while they were listed
			p.say(urgent, "damage", p.putBack(), "The store won't open for writing again for want of a log file: %s", sentence(gap))
		}
	}
	if n := p.unflushedBytes(); p.live && n > muchUnflushed {
		p.say(warning, "open", "see whether flushes fail ("+p.command("stats")+"), or a smaller MemoryBudget",
			"After a crash opening the store would read more than %s of log, which no segment holds yet.", cli.FormatBytes(n))
	}
}

// putBack says what to do about a log file that is missing.
func (p *patient) putBack() string {
	return "put that log file back from a backup, or restore the store; " + p.command("verify") + " lists all damage"
}

// gap is the error for a log file that is missing between others, nil if none is or that can't be told.
func (p *patient) gap() error {
	dir := filepath.ToSlash(filepath.Join(p.dir, "wal"))
	infos, err := wal.ListFiles(vfs.OS, dir)
	if err != nil {
		return nil
	}
	for i := 1; i < len(infos); i++ {
		if gap := wal.Gap(dir, infos[i-1], infos[i]); gap != nil {
			return gap
		}
	}
	return nil
}

// unflushedBytes is the size of the log files whose first event no segment holds.
func (p *patient) unflushedBytes() (n int64) {
	infos, err := wal.ListFiles(vfs.OS, filepath.ToSlash(filepath.Join(p.dir, "wal")))
	if err != nil {
		return 0
	}
	for _, f := range infos {
		if f.FirstLSN > p.m.FlushedLSN {
			n += f.Size
		}
	}
	return n
}

// checkService looks at what failed in the process that has the store open.
func (p *patient) checkService() {
	if !p.live {
		return
	}
	const seeLog = "look into the log of that process for the reason"
	m := &p.m
	if m.Log.Failed {
		p.say(urgent, "log", "check the device, then restart the process that has the store open",
			"A write or sync of the log failed: nothing more is acknowledged, reads go on.")
	}
	if m.Log.DiskFull {
		p.say(urgent, "disk", "free space on the device", "The disk is full: writes wait, deletes and reads go on.")
	}
	if m.FlushErrors > 0 {
		p.say(warning, "flush", seeLog, "%s flushes failed since the store was opened; recent events stay in memory "+
			"and in the log until one succeeds.", cli.FormatCount(m.FlushErrors))
	}
	if m.CompactionErrors > 0 {
		p.say(warning, "compaction", seeLog, "%s merges of segments failed since the store was opened.",
			cli.FormatCount(m.CompactionErrors))
	}
	if behind := int64(m.DurableLSN) - int64(m.OldestView); m.OpenViews > 0 && behind > oldView {
		p.say(warning, "views", "close views as soon as they are not read any more", "The oldest of the open views (%d) "+
			"is at LSN %d, %s events ago: all that it can see is kept, in memory and on disk.",
			m.OpenViews, m.OldestView, cli.FormatCount(behind))
	}
}

// checkMemory holds the budget against the machine, and what is used against the budget.
func (p *patient) checkMemory() {
	if !p.live {
		return
	}
	m := &p.m
	if p.memory > 0 && float64(m.MemoryBudgetBytes) > budgetShare*float64(p.memory) {
		p.say(warning, "memory", "a MemoryBudget of at most half of the memory", "MemoryBudget is %s, the machine has %s. "+
			"The process takes up to a quarter more than its budget, and the system needs room to cache files.",
			cli.FormatBytes(m.MemoryBudgetBytes), cli.FormatBytes(p.memory))
	}
	used := m.TailBytes + m.IndexBytes + m.CacheBytes + m.ReaderBytes + m.HotRangeBytes + m.RecordBytes
	if float64(used) > usedOverBudget*float64(m.MemoryBudgetBytes) {
		p.say(warning, "memory", p.command("stats")+" shows by what; close old views, or a larger MemoryBudget",
			"%s of memory are used, the budget is %s: events come faster than they leave memory, or something keeps "+
				"them there.", cli.FormatBytes(used), cli.FormatBytes(m.MemoryBudgetBytes))
	}
}

// checkSegments looks at the shape of the runs.
func (p *patient) checkSegments() {
	var all, dense int64
	for i := range p.found.Runs {
		for j := range p.found.Runs[i].Segments {
			s := &p.found.Runs[i].Segments[j]
			if s.Damage != "" {
				p.say(urgent, "damage", "stop the process that has the store open, then "+p.command("repair"),
					"%s is damaged: %s. What is sound in it is served, the rest is an error.", s.File, s.Damage)
			}
			all += s.SizeBytes
			if s.Entries >= 1000 && float64(s.Tombstones) > denseTombstones*float64(s.Entries) {
				dense += s.SizeBytes
			}
		}
	}
	if n := len(p.found.Runs); n > manyRuns {
		p.say(warning, "runs", p.command("compact"), "There are %d runs of segments, and a read may look into each: "+
			"merging does not keep up, or the store is never open for long.", n)
	}
	if float64(dense) > tombstoneShare*float64(all) {
		p.say(warning, "deletes", p.command("compact")+"; if that changes nothing, close old views", "Deletes take more "+
			"than half of the entries in %s of segments, of %s in all. Scans step over each.",
			cli.FormatBytes(dense), cli.FormatBytes(all))
	}
}

// checkClock holds the newest event against the clock of this machine.
func (p *patient) checkClock() {
	newest := newestLogTime(p.dir)
	if ahead := time.Unix(0, newest).Sub(p.now); newest > 0 && ahead > time.Second {
		p.say(warning, "clock", "set the clock, and see that it is kept in time", "The clock of this machine is %s behind "+
			"the newest event. Log time goes on from there, and what is to expire does so later.", ahead.Round(time.Second))
	}
}

// checkDisk looks at the space that is left, and at what keeps the files.
func (p *patient) checkDisk() {
	free, total, err := vfs.OS.Free(p.dir)
	if err == nil && total > 0 {
		share := float64(free) / float64(total)
		days, known := p.daysToFull(free)
		left := ""
		if known {
			left = fmt.Sprintf(" At the rate of late it is full in %.1f days.", days)
		}
		const try = "free space, or a larger disk"
		switch {
		case share < freeWarning:
			s := warning
			if share < freeUrgent {
				s = urgent
			}
			p.say(s, "disk", try, "%s of %s are free on the disk (%.1f %%).%s",
				cli.FormatBytes(free), cli.FormatBytes(total), 100*share, left)
		case known && days < soonFull:
			p.say(warning, "disk", try, "The disk has %s free.%s", cli.FormatBytes(free), left)
		}
	}
	if kind := volatileFS(p.dir); kind != "" {
		p.say(warning, "disk", "a directory on a disk",
			"The store lies on %s, which is gone with the power: nothing there is durable.", kind)
	}
}

// daysToFull is how long the free space lasts if the log grows as it did, if that can be told.
func (p *patient) daysToFull(free int64) (days float64, known bool) {
	dir := filepath.ToSlash(filepath.Join(p.dir, "wal"))
	infos, err := wal.ListFiles(vfs.OS, dir)
	if err != nil || len(infos) == 0 {
		return 0, false
	}
	infos = infos[max(0, len(infos)-rateFiles):]
	head, err := readHeader(filepath.Join(dir, infos[0].Name))
	if err != nil {
		return 0, false
	}
	size := int64(0)
	for _, f := range infos {
		size += f.Size
	}
	seconds := p.now.Sub(time.Unix(0, head.Created)).Seconds()
	if seconds < leastRateSeconds || size == 0 {
		return 0, false
	}
	return float64(free) / (float64(size) / seconds) / 86400, true
}

// checkPermissions looks whether this user may read and write, and whether everybody may.
func (p *patient) checkPermissions() {
	for _, name := range []string{"", "wal", "manifest", manifest.Dir} {
		name = filepath.Join(p.dir, name)
		info, err := os.Stat(name)
		if err == nil && info.Mode().Perm()&0o002 != 0 {
			p.say(warning, "permissions", "chmod o-w "+cli.ShellQuote(name),
				"Everybody on this machine may change files in %s.", name)
		}
	}
	f, err := os.OpenFile(filepath.Join(p.dir, "LOCK"), os.O_RDWR, 0)
	switch {
	case err == nil:
		f.Close() // nothing was written
	case errors.Is(err, os.ErrPermission):
		p.say(note, "permissions", "", "This user may not write to the store: %s", sentence(err))
	}
}

// checkLeftovers names files that are no part of the store.
func (p *patient) checkLeftovers() {
	if exists(filepath.Join(p.dir, "repair.old")) {
		p.say(warning, "leftovers", p.command("repair")+" ends it",
			"A repair was interrupted: repair.old holds files that it has put aside.")
	}
	if names, err := filepath.Glob(filepath.Join(p.dir, "dyngo-bench-*")); err == nil && len(names) > 0 {
		p.say(warning, "leftovers", "rm -r "+cli.ShellQuote(names[0]),
			"A benchmark that was killed left %s.", strings.Join(names, ", "))
	}
	if p.owner != 0 || p.live {
		return // what follows may be at work
	}
	var left []string
	for _, name := range []string{"wal/new.tmp", "manifest/new.tmp", "live.sock"} {
		if exists(filepath.Join(p.dir, name)) {
			left = append(left, name)
		}
	}
	left = append(left, p.orphans()...)
	if len(left) > 0 {
		more := ""
		if len(left) > 5 {
			left, more = left[:5], fmt.Sprintf(" and %d more", len(left)-5)
		}
		p.say(note, "leftovers", "", "A crash left %s%s. They are no part of the store; the next process that writes "+
			"removes them.", strings.Join(left, ", "), more)
	}
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// orphans are segments and value files that the manifest does not name.
func (p *patient) orphans() (names []string) {
	set, err := manifest.Open(vfs.OS, filepath.ToSlash(filepath.Join(p.dir, "manifest")), manifest.Options{ReadOnly: true})
	if err != nil || !set.Found() {
		return nil
	}
	defer set.Close() // only read from
	known := map[manifest.FileNum]bool{}
	set.Current().AddNums(known)
	entries, err := os.ReadDir(filepath.Join(p.dir, manifest.Dir))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if num, _, ok := manifest.ParseName(e.Name()); ok && !known[num] {
			names = append(names, manifest.Dir+"/"+e.Name())
		}
	}
	return names
}
