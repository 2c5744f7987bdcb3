package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/internal/vfs"
	"github.com/dyngodb/dyngo/wal"
)

// patient is a store with all that the doctor learns of it.
type patient struct {
	ctx context.Context
	dir string
	now time.Time

	owner  int           // process that has it open for writing, 0 = none
	live   bool          // that process serves figures, which are in m and levels
	m      dyngo.Metrics // of the owner, or of the files
	found  dyngo.Levels  // the same
	opened bool          // m and found are known
	report *dyngo.RecoveryReport
	memory int64 // bytes that this machine, or the group that this process is in, has; 0 = not known

	findings []finding
}

func newPatient(ctx context.Context, dir string) *patient {
	return &patient{ctx: ctx, dir: dir, now: time.Now(), memory: machineMemory()}
}

// say notes a finding: what to try (may be empty), and what is wrong, in sentences.
func (p *patient) say(s severity, topic, try, format string, args ...any) {
	p.findings = append(p.findings, finding{s, topic, fmt.Sprintf(format, args...), try})
}

// command is a dyngo-cli command line for this store.
func (p *patient) command(args string) string {
	return "dyngo-cli " + args + " -d " + cli.ShellQuote(p.dir)
}

// examine makes all findings. An error means that the doctor could not look.
func (p *patient) examine() error {
	p.owner = lockHolder(filepath.Join(p.dir, "LOCK"))
	if err := p.askOwner(); err != nil {
		return err
	}
	if !p.live {
		p.openFiles()
	}
	p.checkPermissions()
	if p.opened {
		p.checkLog()
		p.checkService()
		p.checkMemory()
		p.checkSegments()
	}
	p.checkClock()
	p.checkDisk()
	p.checkLeftovers()
	return p.ctx.Err()
}

// lockHolder is the process that a LOCK file names, if it lives. It blanks the file when it gives the lock back.
func lockHolder(name string) int {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return 0
	}
	if err := process.Signal(syscall.Signal(0)); err != nil && !errors.Is(err, os.ErrPermission) {
		return 0
	}
	return pid
}

// askOwner gets figures from the process that has the store open, if it serves them.
func (p *patient) askOwner() error {
	m, err := ownerAnswer[dyngo.Metrics](p.ctx, p.dir, "stats", nil)
	switch {
	case p.ctx.Err() != nil:
		return p.ctx.Err()
	case errors.Is(err, errNotLive) && p.owner != 0:
		p.say(note, "owner", "have it open the store with the option Live, then look again",
			"Process %d has the store open for writing and serves no figures of it.", p.owner)
		return nil
	case errors.Is(err, errNotLive):
		return nil
	case err != nil:
		p.say(urgent, "owner", "look at its log, and restart it",
			"The process that has the store open does not answer: %s", sentence(err))
		return nil
	}
	levels, err := ownerAnswer[dyngo.Levels](p.ctx, p.dir, "levels", nil)
	if err != nil {
		return err
	}
	p.m, p.found, p.live, p.opened = m, levels, true, true
	who := "A process"
	if p.owner != 0 {
		who = "Process " + strconv.Itoa(p.owner)
	}
	p.say(note, "owner", "", "%s has the store open for writing and serves its figures.", who)
	return nil
}

// openFiles opens the store for reading.
func (p *patient) openFiles() {
	db, err := dyngo.Open(p.dir, &dyngo.Options{ReadOnly: true})
	switch {
	case errors.Is(err, dyngo.ErrCorrupt):
		try := p.command("repair --dry-run") + " tells whether the log can replace it; else restore a backup"
		var damage *dyngo.CorruptionError
		if errors.As(err, &damage) && strings.HasSuffix(damage.File, ".log") { // nothing can replace the log
			try = p.putBack()
		}
		p.say(urgent, "damage", try, "The store can't be opened: %s", sentence(err))
		return
	case errors.Is(err, dyngo.ErrUnsupported):
		p.say(urgent, "format", "a newer dyngo-cli", "The store was written by a newer DynGO: %s", sentence(err))
		return
	case errors.Is(err, os.ErrPermission):
		p.say(urgent, "permissions", "run as the user who owns "+p.dir, "The store can't be read: %s", sentence(err))
		return
	case err != nil:
		p.say(urgent, "open", "", "The store can't be opened: %s", sentence(err))
		return
	}
	defer db.Close() // only read from
	report := db.Recovery()
	p.m, p.report, p.opened = db.Metrics(), &report, true
	if p.found, err = db.Levels(); err != nil {
		p.opened = false
	}
}

// sentence is an error as one.
func sentence(err error) string {
	return strings.TrimSuffix(strings.TrimPrefix(err.Error(), "dyngo: "), ".") + "."
}

// newestLogTime is the log time of the newest event, 0 if it can't be told. It reads the newest log file.
func newestLogTime(dir string) int64 {
	walDir := filepath.ToSlash(filepath.Join(dir, "wal"))
	infos, err := wal.ListFiles(vfs.OS, walDir)
	if err != nil || len(infos) == 0 {
		return 0
	}
	sc, err := wal.NewScanner(vfs.OS, walDir, wal.ScanOptions{ReadOnly: true, FromFile: infos[len(infos)-1].Seq})
	if err != nil {
		return 0
	}
	defer sc.Close() // only read from
	for {
		if _, err := sc.Next(); errors.Is(err, io.EOF) {
			return sc.Tail().LastTime
		} else if err != nil {
			return 0
		}
	}
}
