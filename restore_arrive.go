package dyngo

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"sync"

	"github.com/dyngodb/dyngo/internal/vfs"
)

// arriving is the file system of a store whose log files are still being copied: all are listed, and who opens one waits until its copy
// is durable. So the log is applied while what follows is copied: one is bound by the processors, the other by the disk.
type arriving struct {
	vfs.FS
	dir    string     // of the log
	copies []*arrival // immutable
	wg     sync.WaitGroup

	mu      sync.Mutex
	stopped bool  // nothing more is copied
	err     error // the first of a copy
}

// arrival is a file that is being copied.
type arrival struct {
	RestoreFile
	done chan struct{} // closed when the copy is durable, or never will be
	err  error         // why not; valid once done is closed
}

// copiesAtOnce is how many files are copied at a time: while one is made durable, another is read and written.
const copiesAtOnce = 2

// begin begins to copy files that don't change, in their order.
func (r *restoring) begin(files []RestoreFile) *arriving {
	a := &arriving{FS: r.opts.FS, dir: path.Join(r.dst, "wal")}
	todo := make(chan *arrival, len(files))
	for _, f := range files {
		c := &arrival{RestoreFile: f, done: make(chan struct{})}
		a.copies = append(a.copies, c)
		todo <- c
	}
	close(todo)
	n := copiesAtOnce
	if r.link {
		n = 1 // names are given in no time
	}
	for range n {
		a.wg.Go(func() {
			for c := range todo {
				if c.err = a.failed(); c.err == nil {
					c.err = r.copy(c.RestoreFile)
					a.note(c)
				}
				close(c.done)
			}
		})
	}
	return a
}

// failed is why nothing more is copied; nil = it is.
func (a *arriving) failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil && a.stopped {
		return ErrClosed
	}
	return a.err
}

// note notes how a copy ended.
func (a *arriving) note(c *arrival) {
	if c.err == nil {
		return
	}
	c.err = fmt.Errorf("restore %s: %w", c.Name, c.err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = cmp.Or(a.err, c.err)
}

// wait returns when all files are there, or none will come any more, with the first error of a copy.
func (a *arriving) wait() error {
	a.wg.Wait()
	return a.err
}

// stop is wait for a store that needs no more files: it could not be opened, perhaps for want of them.
func (a *arriving) stop() error {
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	return a.wait()
}

// arrival returns the copy of a log file, nil if it is none of those that are copied.
func (a *arriving) arrival(name string) *arrival {
	if path.Dir(name) != a.dir {
		return nil
	}
	i := slices.IndexFunc(a.copies, func(c *arrival) bool { return path.Base(c.Name) == path.Base(name) })
	if i < 0 {
		return nil
	}
	return a.copies[i]
}

func (a *arriving) Open(name string) (vfs.File, error) {
	if c := a.arrival(name); c != nil {
		if <-c.done; c.err != nil {
			return nil, c.err
		}
	}
	return a.FS.Open(name)
}

func (a *arriving) Stat(name string) (vfs.Info, error) {
	if c := a.arrival(name); c != nil {
		return vfs.Info{Size: c.Bytes}, nil
	}
	return a.FS.Stat(name)
}

func (a *arriving) List(dir string) ([]string, error) {
	names, err := a.FS.List(dir)
	if err != nil || dir != a.dir {
		return names, err
	}
	for _, c := range a.copies {
		names = append(names, path.Base(c.Name))
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
