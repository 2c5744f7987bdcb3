package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dyngodb/dyngo/backup"
	"github.com/dyngodb/dyngo/cmd/internal/cli"
	"github.com/dyngodb/dyngo/internal/clock"
	"github.com/dyngodb/dyngo/internal/vfs"
)

// backupFollow is backup create --follow.
type backupFollow struct {
	cmd     *cobra.Command
	dir     string // of the store
	folder  string
	r       *cli.Renderer
	p       *cli.Progress
	clock   clock.Clock
	waiting string // what is wrong, as it was told last
	begun   bool   // something was archived behind the newest backup
}

func followBackup(cmd *cobra.Command, folder string) error {
	f := backupFollow{cmd: cmd, dir: cli.GlobalsOf(cmd).Dir, folder: folder, clock: clock.NewSystem(), p: cli.NewProgress(cmd, "archived", 0, "bytes"),
		r: cli.NewRenderer(cmd, cli.ManyRows, cli.Column{Name: "action"}, cli.Column{Name: "from_lsn"}, cli.Column{Name: "lsn"},
			cli.Column{Name: "time"}, cli.Column{Name: "what"})}
	defer f.p.Done()
	return cli.Flushed(f.r, f.run())
}

// run goes on from one backup to the next: a new one is needed when the log can't be followed from the last.
func (f *backupFollow) run() error {
	to := backup.NewDir(vfs.OS, filepath.ToSlash(f.folder))
	for first := true; ; first = false {
		err := backup.Follow(f.cmd.Context(), to, vfs.OS, filepath.ToSlash(f.dir), backup.FollowOptions{Clock: f.clock, Done: f.done, Failed: f.failed})
		var need *backup.NoBaseError
		if !errors.As(err, &need) {
			return err
		}
		if need.To == 0 && !first && !f.begun { // another one would be of no more use
			return cli.Fail(cli.ExitConflict, "another folder", "the backup that was just made does not help: %w", need)
		}
		if need.To > 0 {
			if err := f.row("gap", need.From, need.To, nil, need.Why); err != nil {
				return err
			}
		}
		f.p.Notef("%v", need)
		if err := f.makeBackup(first); err != nil {
			return err
		}
	}
}

func (f *backupFollow) row(cells ...any) error {
	f.p.Hide()
	if err := f.r.Row(cells...); err != nil {
		return err
	}
	return f.r.Flush()
}

func (f *backupFollow) done(d backup.Followed) {
	f.waiting, f.begun = "", true
	if !d.Sealed {
		f.p.SetLabel(fmt.Sprintf("archived up to LSN %d", d.LSN))
	}
	f.p.Set(d.Bytes)
	if d.Sealed {
		_ = f.row("sealed", nil, d.LSN, d.Time, d.File) // a closed pipe ends the command by its own signal
	}
}

func (f *backupFollow) failed(err error, again time.Duration) {
	if s := err.Error(); s != f.waiting {
		f.waiting = s
		f.p.Notef("%s: %v; it is tried again in %v, and then less often", f.cmd.Root().Name(), err, again)
	}
}

// makeBackup makes a backup to follow the log from. The first one must succeed; later, the store may be held for a while by a process
// that can't be asked, or the place of backups be out of reach.
func (f *backupFollow) makeBackup(first bool) error {
	for again := time.Second; ; again = min(2*again, time.Minute) {
		made, err := makeBackup(f.cmd, f.folder)
		if err == nil {
			f.begun = false
			return f.row("backup", made.Floor, made.LSN, made.Time, made.ID)
		}
		if ctx := f.cmd.Context(); first || ctx.Err() != nil || errors.Is(err, backup.ErrAnotherCopy) {
			return err
		}
		f.failed(err, again)
		t := f.clock.NewTimer(again)
		select {
		case <-t.C():
		case <-f.cmd.Context().Done():
			t.Stop()
			return context.Cause(f.cmd.Context())
		}
	}
}
