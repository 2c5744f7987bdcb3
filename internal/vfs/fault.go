package vfs

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Fault is a file system that passes calls on to another, counts them, and lets chosen ones fail. It can also leave out
// chosen syncs, as a program with a bug would, limit the space, and show the last calls.
//
// A test of every possible failure of a script:
//
//	for k := int64(1); ; k++ {
//		fsys := vfs.NewFault(vfs.NewMem())
//		fsys.Inject(vfs.Plan{K: k, Kind: vfs.FailSync})
//		... // run the script, check its promises
//		if fsys.Fired() == 0 {
//			break // the script makes fewer calls
//		}
//	}
type Fault struct {
	fs FS
	mu struct {
		sync.Mutex // guards the fields below; never held during a call of fs or of a hook

		calls   int64
		trace   []Call // ring of the last maxTrace, the newest at (calls-1)%maxTrace
		hook    func(Call) error
		plans   []*plan
		fired   []Call
		open    map[*faultFile]bool
		skips   []func(Call) bool
		skipped int64
		sites   map[string]Site
		space   space
	}
}

var _ FS = (*Fault)(nil)

// NewFault returns a Fault over fsys with no failures planned.
func NewFault(fsys FS) *Fault {
	f := &Fault{fs: fsys}
	f.mu.sites = map[string]Site{}
	f.mu.open = map[*faultFile]bool{}
	f.mu.space.init()
	return f
}

// Op is a set of kinds of calls.
type Op uint32

const (
	OpCreate Op = 1 << iota
	OpOpen
	OpOpenRW
	OpRemove
	OpRename
	OpLink
	OpMkdirAll
	OpList
	OpStat
	OpSyncDir
	OpLock
	OpReadFile
	OpFree
	OpRead
	OpWrite
	OpSync
	OpSyncData
	OpTruncate
	OpSize
	OpClose
	opEnd

	OpAny     = opEnd - 1
	OpSyncs   = OpSync | OpSyncData | OpSyncDir
	OpChanges = OpCreate | OpRemove | OpRename | OpLink | OpMkdirAll | OpWrite | OpTruncate | OpSyncs
)

var opNames = [...]string{"create", "open", "openrw", "remove", "rename", "link", "mkdirall", "list", "stat", "syncdir",
	"lock", "readfile", "free", "read", "write", "sync", "syncdata", "truncate", "size", "close"}

func (o Op) String() string {
	var names []string
	for i, name := range opNames {
		if o>>i&1 != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// Call is one call of a file system or file.
type Call struct {
	N       int64 // from 1
	Op      Op
	Name    string
	NewName string // of rename and link
	Off     int64  // of read and write; of truncate, the new size
	Len     int    // of read and write
	Site    string // of syncs: the line that makes the call, see Site

	// Known only after the call, so not in a hook.
	Err  error
	Note string // what Fault did
}

func (c Call) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d %s %s", c.N, c.Op, c.Name)
	switch c.Op {
	case OpRename, OpLink:
		fmt.Fprintf(&b, " -> %s", c.NewName)
	case OpRead, OpWrite:
		fmt.Fprintf(&b, " [%d, +%d)", c.Off, c.Len)
	case OpTruncate:
		fmt.Fprintf(&b, " to %d", c.Off)
	}
	if c.Note != "" {
		fmt.Fprintf(&b, " (%s)", c.Note)
	}
	if c.Err != nil {
		fmt.Fprintf(&b, ": %v", c.Err)
	}
	return b.String()
}

// Kind is a way to fail.
type Kind uint8

const (
	FailError   Kind = iota // EIO, and nothing has happened
	FailAfter               // EIO, though the call has taken effect in full
	FailShort               // a write or read stops half-way with EIO; other calls as FailError
	FailNoSpace             // a write stops half-way with ENOSPC, a call that makes a name fails with it
	FailSync                // EIO from a sync; on a Crash the bytes stay readable but no later sync writes them
)

// ops returns the calls that a kind can hit.
func (k Kind) ops() Op {
	switch k {
	case FailNoSpace:
		return OpWrite | OpCreate | OpRename | OpLink | OpMkdirAll | OpLock | OpSyncs
	case FailSync:
		return OpSyncs
	case FailShort:
		return OpWrite | OpRead
	}
	return OpAny
}

// Plan says which calls fail, and how.
type Plan struct {
	K     int64 // the first to fail is the K-th that matches, counted from 1 since Inject; 0 means 1
	Count int64 // how many that match fail from then on: 0 means 1, negative means all
	Kind  Kind
	Ops   Op     // kinds of calls that match; 0 means all that Kind can hit
	Name  string // pattern, see Match; empty matches all
	Err   error  // instead of EIO or ENOSPC
}

type plan struct {
	Plan
	seen int64
}

// Inject adds a plan.
func (f *Fault) Inject(p Plan) {
	p.K, p.Ops = max(p.K, 1), p.Ops&OpAny
	if p.Ops == 0 {
		p.Ops = p.Kind.ops()
	}
	if p.Count == 0 {
		p.Count = 1
	}
	if p.Err == nil {
		p.Err = syscall.EIO
		if p.Kind == FailNoSpace {
			p.Err = ErrNoSpace
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.plans = append(f.mu.plans, &plan{Plan: p})
}

// Heal drops all plans and skips; a quota stays.
func (f *Fault) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.plans, f.mu.skips = nil, nil
}

// Fired returns how many calls have failed by plan.
func (f *Fault) Fired() int64 { return int64(len(f.Failed())) }

// Failed returns the calls that have failed by plan, in their order.
func (f *Fault) Failed() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.mu.fired)
}

// OpenFiles returns the names of the files that were opened or created and not closed since, sorted.
func (f *Fault) OpenFiles() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for file := range f.mu.open {
		names = append(names, file.name)
	}
	slices.Sort(names)
	return names
}

// Calls returns the number of calls so far, those of files included.
func (f *Fault) Calls() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.calls
}

// OnCall sets a function that is called before each call, in the goroutine that makes it and without locks. An error
// from it is the call's result, and nothing happens. In it, a Crash below is as it would be if power failed before the
// call: the place to try that out.
func (f *Fault) OnCall(hook func(Call) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.hook = hook
}

// maxTrace bounds the calls kept for Trace.
const maxTrace = 256

// Trace returns the last calls, one a line.
func (f *Fault) Trace() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	oldest := 0
	if len(f.mu.trace) == maxTrace {
		oldest = int(f.mu.calls % maxTrace)
	}
	for i := range f.mu.trace {
		fmt.Fprintln(&b, f.mu.trace[(oldest+i)%maxTrace])
	}
	return b.String()
}

// Match reports whether a file name matches a pattern of path.Match. The pattern is held against as many last elements
// of the name as it has itself: "*.log" matches any name that ends in .log, "wal/*" whatever is in a directory wal. A
// malformed pattern panics: it is a bug of the test.
func Match(pattern, name string) bool {
	parts := strings.Split(path.Clean("/"+name), "/")
	n := min(strings.Count(pattern, "/")+1, len(parts))
	ok, err := path.Match(pattern, strings.Join(parts[len(parts)-n:], "/"))
	if err != nil {
		panic(fmt.Sprintf("dyngo: bug: pattern %q: %v", pattern, err))
	}
	return ok
}

func (c *Call) matches(ops Op, pattern string) bool {
	return c.Op&ops != 0 && (pattern == "" || Match(pattern, c.Name) || c.NewName != "" && Match(pattern, c.NewName))
}

// verdict is what is to become of a call.
type verdict struct {
	fail bool
	kind Kind
	err  error
	skip bool
}

// judge numbers a call and decides about it.
func (f *Fault) judge(c *Call) verdict {
	if c.Op&OpSyncs != 0 {
		c.Site = callSite()
	}
	f.mu.Lock()
	f.mu.calls++
	c.N = f.mu.calls
	v := f.planLocked(c)
	if c.Op&OpSyncs != 0 {
		f.siteLocked(c)
		if !v.fail && slices.ContainsFunc(f.mu.skips, func(skip func(Call) bool) bool { return skip(*c) }) {
			f.mu.skipped++
			v.skip = true
		}
	}
	if len(f.mu.trace) < maxTrace {
		f.mu.trace = append(f.mu.trace, Call{})
	}
	f.mu.trace[(c.N-1)%maxTrace] = *c
	hook := f.mu.hook
	f.mu.Unlock()
	if hook != nil {
		if err := hook(*c); err != nil {
			return verdict{fail: true, err: err}
		}
	}
	return v
}

func (f *Fault) planLocked(c *Call) (v verdict) {
	for _, p := range f.mu.plans {
		if !c.matches(p.Ops, p.Name) {
			continue
		}
		p.seen++
		if p.seen >= p.K && (p.Count < 0 || p.seen < p.K+p.Count) && !v.fail {
			f.mu.fired = append(f.mu.fired, *c)
			v = verdict{fail: true, kind: p.Kind, err: p.Err}
		}
	}
	return v
}

// done notes the end of a call in the trace.
func (f *Fault) done(c *Call, v verdict, err error) {
	c.Err = err
	switch {
	case v.skip:
		c.Note = "skipped"
	case v.fail:
		c.Note = "planned"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.calls-c.N < maxTrace {
		f.mu.trace[(c.N-1)%maxTrace] = *c
	}
}

// do makes a call that moves no data. failed is what a FailSync does, nil for nothing.
func (f *Fault) do(c Call, call func() error, failed func()) error {
	v := f.judge(&c)
	var err error
	switch {
	case v.skip:
	case v.fail:
		if v.kind == FailAfter {
			_ = call() // takes effect, and then the planned error is told
		}
		if v.kind == FailSync && failed != nil {
			failed()
		}
		err = pathError(c.Op.String(), c.Name, v.err)
	default:
		err = call()
	}
	f.done(&c, v, err)
	return err
}

func (f *Fault) Create(name string) (File, error) {
	return f.open(OpCreate, name, f.fs.Create)
}
func (f *Fault) Open(name string) (File, error)   { return f.open(OpOpen, name, f.fs.Open) }
func (f *Fault) OpenRW(name string) (File, error) { return f.open(OpOpenRW, name, f.fs.OpenRW) }

func (f *Fault) open(op Op, name string, open func(string) (File, error)) (File, error) {
	var file File
	err := f.do(Call{Op: op, Name: name}, func() (err error) {
		file, err = open(name)
		return err
	}, nil)
	if err != nil {
		if file != nil {
			_ = file.Close() // FailAfter: the caller has no handle to close
		}
		return nil, err
	}
	var size int64
	if op != OpCreate {
		if size, err = file.Size(); err != nil {
			_ = file.Close() // the first error is the one to tell
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	opened := &faultFile{fs: f, file: file, name: name, usage: f.mu.space.opened(name, size)}
	f.mu.open[opened] = true
	return opened, nil
}

func (f *Fault) Remove(name string) error {
	return f.do(Call{Op: OpRemove, Name: name}, func() error {
		return f.thenAccount(f.fs.Remove(name), func(s *space) { s.removed(name) })
	}, nil)
}

func (f *Fault) Rename(oldName, newName string) error {
	return f.do(Call{Op: OpRename, Name: oldName, NewName: newName}, func() error {
		return f.thenAccount(f.fs.Rename(oldName, newName), func(s *space) { s.renamed(oldName, newName) })
	}, nil)
}

func (f *Fault) Link(oldName, newName string) error {
	return f.do(Call{Op: OpLink, Name: oldName, NewName: newName}, func() error {
		return f.thenAccount(f.fs.Link(oldName, newName), func(s *space) { s.linked(oldName, newName) })
	}, nil)
}

func (f *Fault) thenAccount(err error, account func(*space)) error {
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		account(&f.mu.space)
	}
	return err
}

func (f *Fault) MkdirAll(name string) error {
	return f.do(Call{Op: OpMkdirAll, Name: name}, func() error { return f.fs.MkdirAll(name) }, nil)
}

func (f *Fault) List(dir string) (names []string, err error) {
	err = f.do(Call{Op: OpList, Name: dir}, func() (err error) {
		names, err = f.fs.List(dir)
		return err
	}, nil)
	return names, err
}

func (f *Fault) Stat(name string) (info Info, err error) {
	err = f.do(Call{Op: OpStat, Name: name}, func() (err error) {
		info, err = f.fs.Stat(name)
		return err
	}, nil)
	return info, err
}

func (f *Fault) SyncDir(dir string) error {
	return f.do(Call{Op: OpSyncDir, Name: dir}, func() error { return f.fs.SyncDir(dir) }, nil)
}

func (f *Fault) Lock(name string) (lock io.Closer, err error) {
	err = f.do(Call{Op: OpLock, Name: name}, func() (err error) {
		lock, err = f.fs.Lock(name)
		return err
	}, nil)
	if err != nil && lock != nil {
		_ = lock.Close() // FailAfter: the caller has nothing to close
		lock = nil
	}
	return lock, err
}

func (f *Fault) ReadFile(name string, limit int64) (b []byte, err error) {
	err = f.do(Call{Op: OpReadFile, Name: name}, func() (err error) {
		b, err = f.fs.ReadFile(name, limit)
		return err
	}, nil)
	if err != nil {
		b = nil
	}
	return b, err
}

// Free returns what is left of the quota, if there is one.
func (f *Fault) Free(dir string) (available, total int64, err error) {
	err = f.do(Call{Op: OpFree, Name: dir}, func() (err error) {
		available, total, err = f.fs.Free(dir)
		return err
	}, nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := &f.mu.space; err == nil && s.quota >= 0 {
		total = min(total, s.quota)
		available = min(available, max(0, s.quota-s.used))
	}
	return available, total, err
}
