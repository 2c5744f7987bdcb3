package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo"
	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// wanted is the state that a restore is to make, with what tells which backups have it.
type wanted struct {
	target dyngo.Target
	from   dyngo.LSN // history must go back to here
	to     dyngo.LSN // and reach here; 0 = the target is no LSN
	time   time.Time // zero = the target is no time
	named  bool      // the target is a snapshot
}

// has says whether a backup can have the state.
func (w *wanted) has(b *backup.Backup) bool {
	lsn, at := b.Reach()
	switch {
	case w.to > 0:
		return b.Floor <= w.from && w.to <= lsn
	case !w.time.IsZero():
		return !w.time.After(at)
	}
	return true
}

// after says whether a backup was made of a later state, which is turned back then.
func (w *wanted) after(b *backup.Backup) bool {
	return w.to > 0 && b.LSN > w.to || !w.time.IsZero() && b.Time.After(w.time)
}

// chooser picks a backup for a state.
type chooser struct {
	cmd     *cobra.Command
	folder  string
	objects backup.Objects
	want    wanted
}

// choose finds the backup to restore from: the one with the id, or that which takes the least time of those that have the state in the
// timeline of the newest.
func (c *chooser) choose(id string) (*backup.Backup, error) {
	c.objects = backup.NewDir(vfs.OS, filepath.ToSlash(c.folder))
	list, damage, err := backup.List(c.cmd.Context(), c.objects)
	if err != nil {
		return nil, err
	}
	for _, d := range damage {
		fmt.Fprintf(c.cmd.ErrOrStderr(), "%s: passed over: %v\n", c.cmd.Root().Name(), d)
	}
	if id == "" && len(list) > 0 {
		id = list[len(list)-1].ID
		b := &list[len(list)-1]
		if i := slices.IndexFunc(list, func(o backup.Backup) bool { return o.Log != b.Log }); i >= 0 {
			fmt.Fprintf(c.cmd.ErrOrStderr(), "%s: %s has backups of several stores; of the newest, with log %s, one is taken\n",
				c.cmd.Root().Name(), c.folder, b.Log)
		}
		list = slices.DeleteFunc(list, func(o backup.Backup) bool { return o.Log != b.Log || o.Timeline != b.Timeline })
	} else {
		list = slices.DeleteFunc(list, func(o backup.Backup) bool { return o.ID != id })
	}
	if len(list) == 0 {
		return nil, errors.Join(append([]error{fmt.Errorf("%w: %q", backup.ErrNoBackup, id)}, damage...)...)
	}
	if c.want.named {
		return c.withSnapshot(list)
	}
	if c.want.to == 0 && c.want.time.IsZero() { // the end
		for i := range list {
			lsn, _ := list[i].Reach()
			c.want.to = max(c.want.to, lsn)
		}
		c.want.from = c.want.to
	}
	// The newest made before the state, and the oldest made after it.
	var before, after *backup.Backup
	for i := range list {
		switch b := &list[i]; {
		case !c.want.has(b):
		case !c.want.after(b):
			before = b
		case after == nil:
			after = b
		}
	}
	return c.faster(before, after, list)
}

// withSnapshot finds the newest backup whose log tells of a snapshot.
func (c *chooser) withSnapshot(list []backup.Backup) (*backup.Backup, error) {
	var err error
	for i := len(list) - 1; i >= 0; i-- {
		if _, err = c.plan(&list[i]); err == nil {
			return &list[i], nil
		}
		if !errors.Is(err, dyngo.ErrNoSnapshot) && !errors.Is(err, dyngo.ErrOutsideWindow) {
			return nil, err
		}
	}
	return nil, err
}

func (c *chooser) plan(b *backup.Backup) (dyngo.RestorePlan, error) {
	return dyngo.PlanRestore(c.cmd.Context(), ".", c.want.target, &dyngo.RestoreOptions{From: backup.FS(c.cmd.Context(), c.objects, b)})
}

// faster is the backup of two, either of which may be nil, from which the restore takes less time.
func (c *chooser) faster(a, b *backup.Backup, list []backup.Backup) (*backup.Backup, error) {
	var best *backup.Backup
	var least time.Duration
	for _, one := range []*backup.Backup{a, b} {
		if one == nil {
			continue
		}
		p, err := c.plan(one)
		if errors.Is(err, dyngo.ErrOutsideWindow) { // a time before its floor
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("backup %s: %w", one.ID, err)
		}
		if took := restoreTime(&p); best == nil || took < least {
			best, least = one, took
		}
	}
	if best == nil {
		return nil, cli.Fail(cli.ExitNotFound, "a target within it; dyngo-cli backup list "+cli.ShellQuote(c.folder), "%v is not in the backups; %s",
			c.want.target, window(list))
	}
	return best, nil
}

// window says which states the backups of a timeline have.
func window(list []backup.Backup) string {
	type span struct {
		from, to dyngo.LSN
		at       time.Time
	}
	var spans []span
	for i := range list {
		lsn, at := list[i].Reach()
		s := span{list[i].Floor, lsn, at}
		if n := len(spans); n > 0 && s.from <= spans[n-1].to+1 {
			if s.to > spans[n-1].to {
				spans[n-1].to, spans[n-1].at = s.to, s.at
			}
			continue
		}
		spans = append(spans, s)
	}
	var texts []string
	for _, s := range spans {
		texts = append(texts, fmt.Sprintf("LSN %d to %d, until %s", s.from, s.to, s.at.UTC().Format(time.RFC3339Nano)))
	}
	text := "the window is " + strings.Join(texts, ", and ")
	for _, g := range backup.Gaps(list) {
		text += fmt.Sprintf("; LSN %d to %d, between the backups %s and %s, are a gap", g.From, g.To, g.Before, g.After)
	}
	return text
}

// The rates that a plan counts with, in bytes a second. They are not measured on this machine: see docs/ARCHITECTURE.md for what they
// were on another.
const (
	copyRate   = 300e6
	replayRate = 100e6
)

// restoreTime says about how long a restore takes at these rates. A log that is applied as a whole is copied meanwhile, any other before.
func restoreTime(p *dyngo.RestorePlan) time.Duration {
	log := int64(0)
	for _, f := range p.Files {
		if strings.HasPrefix(f.Name, "wal/") {
			log += f.Bytes
		}
	}
	first, replay := float64(p.Bytes)/copyRate, float64(p.ReplayBytes)/replayRate
	if p.ReplayBytes == log {
		beside := float64(log) / copyRate
		first, replay = first-beside, max(beside, replay)
	}
	return time.Duration((first + replay) * float64(time.Second))
}

// rates says what restoreTime counts with.
func rates() string {
	return fmt.Sprintf("about, at %d MB/s copied and %d MB/s replayed: figures of another machine", int(copyRate/1e6), int(replayRate/1e6))
}

// room says how much of the disk a restore takes, and how much the disk of dst has.
func room(p *dyngo.RestorePlan, dst string) (need, free int64) {
	need = p.Bytes
	for _, f := range p.Files {
		if f.Use == "base" { // written anew, as at most so much
			need += f.Bytes
		}
	}
	for dir := filepath.Clean(dst); ; dir = filepath.Dir(dir) {
		if free, _, err := vfs.OS.Free(dir); err == nil {
			return need, free
		}
		if dir == filepath.Dir(dir) {
			return need, -1
		}
	}
}
