package vfs

import (
	"cmp"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
)

// Site is a line of the program that syncs something. Skipping one is the bug "forgot to sync" planted there.
type Site struct {
	At    string // function and line, such as "wal.(*Writer).rotate writer.go:210"
	Op    Op
	Name  string // of the file or directory, in the first call
	Calls int64
}

// SyncSites returns all lines that have called Sync, SyncData or SyncDir through this Fault, sorted by At.
func (f *Fault) SyncSites() []Site {
	f.mu.Lock()
	defer f.mu.Unlock()
	var sites []Site
	for _, s := range f.mu.sites {
		sites = append(sites, s)
	}
	slices.SortFunc(sites, func(a, b Site) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Op, b.Op)) })
	return sites
}

// SkipSite makes the syncs of one line do nothing and report success. At is that of a Site.
func (f *Fault) SkipSite(at string) {
	f.skip(func(c Call) bool { return c.Site == at })
}

// SkipSync makes all syncs of the given kinds, of names that match a pattern (see Match; empty matches all), do nothing
// and report success.
func (f *Fault) SkipSync(ops Op, pattern string) {
	f.skip(func(c Call) bool { return c.matches(ops&OpSyncs, pattern) })
}

func (f *Fault) skip(rule func(Call) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.skips = append(f.mu.skips, rule)
}

// Skipped returns how many syncs were left out.
func (f *Fault) Skipped() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.skipped
}

func (f *Fault) siteLocked(c *Call) {
	s, ok := f.mu.sites[c.Site]
	if !ok {
		s = Site{At: c.Site, Op: c.Op, Name: c.Name}
	}
	s.Calls++
	f.mu.sites[c.Site] = s
}

// callSite names the line that called into a Fault or a file of one.
func callSite() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		frame, more := frames.Next()
		name := path.Base(frame.Function) // package and function, without the module's path
		if !strings.HasPrefix(name, "vfs.(*Fault).") && !strings.HasPrefix(name, "vfs.(*faultFile).") || !more {
			return fmt.Sprintf("%s %s:%d", name, path.Base(frame.File), frame.Line)
		}
	}
}
