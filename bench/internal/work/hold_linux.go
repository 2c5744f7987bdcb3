package work

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dropCache writes the files of dir back and takes them out of the page cache.
func dropCache(dir string) error {
	for _, name := range storeFiles(dir) {
		f, err := os.Open(name)
		if err != nil {
			continue // gone since it was listed
		}
		err = f.Sync()
		if err == nil {
			err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		}
		if end := f.Close(); err == nil {
			err = end
		}
		if err != nil {
			return fmt.Errorf("drop the page cache: %w", err)
		}
	}
	return nil
}

// diskUsage adds up the blocks of the files in and below dir.
func diskUsage(dir string) (bytes int64) {
	for _, name := range storeFiles(dir) {
		var st syscall.Stat_t
		if err := syscall.Stat(name, &st); err == nil {
			bytes += st.Blocks * 512
		}
	}
	return bytes
}

// holder keeps the page cache of a store small. One goroutine looks and decides, several drop, since
// that waits where pages are being read.
type holder struct {
	dir    string
	limit  int64
	files  []*heldFile // those that went stay, open, until close
	looked time.Time
	rng    rng
	drop   func(p piece) bool // false = not now
}

type heldFile struct {
	f       *os.File
	name    string
	info    os.FileInfo
	size    int64
	cached  int64
	present bool      // still in the directory
	maps    []mapping // replaced, never changed
}

// piece is a part of a file that is to leave the page cache.
type piece struct {
	f    *os.File
	at   int64
	maps []mapping
}

// deleted follows the names of files in /proc/self/maps that are mapped and in no directory.
const deleted = " (deleted)"

// mapping is a part of the process's memory that shows a part of a file.
type mapping struct {
	from, to uintptr
	offset   int64
}

// holdCache holds the page cache of dir's files until release. Errors say that the system can't.
func holdCache(dir string, limit int64) (release func(), err error) {
	// Mapped files go by the name that the system knows them by.
	if dir, err = filepath.Abs(dir); err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, err
	}
	probe, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	_, err = cachedBytes(probe, 0, 0)
	_ = probe.Close()
	if err != nil {
		return nil, fmt.Errorf("the system does not tell what is in its page cache: %w", err)
	}
	pieces := make(chan piece, holdQueue)
	h := &holder{dir: dir, limit: limit, rng: 1}
	h.drop = func(p piece) bool {
		select {
		case pieces <- p:
			return true
		default:
			return false
		}
	}
	stop := make(chan struct{})
	var looks, drops sync.WaitGroup
	looks.Go(func() {
		counted(func(count func()) { h.run(stop, count) })
		close(pieces)
	})
	for range holdDroppers {
		drops.Go(func() {
			counted(func(count func()) {
				for p := range pieces {
					p.drop()
					count()
				}
			})
		})
	}
	return func() {
		close(stop)
		looks.Wait()
		drops.Wait()
		h.close()
	}, nil
}

// counted calls do on a thread of its own, whose processor time so far count adds to holderCPU.
func counted(do func(count func())) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	last := threadCPU()
	do(func() {
		now := threadCPU()
		holderCPU.Add(int64(now - last))
		last = now
	})
}

func (h *holder) run(stop <-chan struct{}, count func()) {
	tick := time.NewTicker(holdEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			if now.Sub(h.looked) > holdFiles {
				h.look()
				h.looked = now
			}
			h.round()
		}
		count()
	}
}

func (h *holder) close() {
	for _, f := range h.files {
		_ = f.f.Close() // it was only read
	}
}

// look finds new files and those that are gone, and reads anew where files are mapped.
func (h *holder) look() {
	for _, f := range h.files {
		f.present = false
	}
	for _, name := range storeFiles(h.dir) {
		h.hold(name)
	}
	b, _ := os.ReadFile("/proc/self/maps") // without it mapped pages stay
	maps := parseMaps(string(b))
	for _, f := range h.files {
		name := f.name
		if !f.present {
			name += deleted
		}
		f.maps = maps[name]
	}
}

func (h *holder) hold(name string) {
	info, err := os.Stat(name)
	if err != nil {
		return // gone since it was listed
	}
	for _, f := range h.files {
		if os.SameFile(f.info, info) {
			f.name, f.present, f.size = name, true, info.Size()
			return
		}
	}
	if f, err := os.Open(name); err == nil {
		h.files = append(h.files, &heldFile{f: f, name: name, info: info, size: info.Size(), present: true})
	}
}

// parseMaps reads the text of /proc/self/maps: where files are mapped and shared, by their names.
func parseMaps(text string) map[string][]mapping {
	out := map[string][]mapping{}
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 6 || !filepath.IsAbs(f[5]) || len(f[1]) < 4 || f[1][3] != 's' {
			continue // a private mapping may hold bytes that are in no file
		}
		var m mapping
		var offset uint64
		if _, err := fmt.Sscanf(f[0]+" "+f[2], "%x-%x %x", &m.from, &m.to, &offset); err != nil {
			continue
		}
		m.offset = int64(offset)
		name := strings.Join(f[5:], " ")
		out[name] = append(out[name], m)
	}
	return out
}

// round drops pieces if more is cached than the limit leaves.
func (h *holder) round() {
	anon, cached := statusBytes("RssAnon"), int64(0)
	for _, f := range h.files {
		f.cached, _ = cachedBytes(f.f, 0, 0) // 0 if it can't be told
		cached += f.cached
	}
	heldSoFar.add(anon, cached)
	allowed := max(h.limit-anon, minHold)
	if cached <= allowed {
		return
	}
	target := max(allowed-h.limit/holdSlack, 0)
	for i := 0; i < holdRounds && cached > target; i++ {
		// A file is picked by what is cached of it, a piece of it at random: files may have long holes.
		f := h.pick(int64(h.rng.next()>>1) % cached)
		p := piece{f.f, int64(h.rng.next()>>1) % max(f.size, 1) &^ (holdPiece - 1), f.maps}
		n, err := cachedBytes(p.f, p.at, holdPiece)
		if err != nil || n == 0 {
			continue
		}
		if !h.drop(p) {
			return
		}
		n = min(n, f.cached)
		f.cached -= n
		cached -= n
	}
}

// pick returns the file that holds the at-th cached byte of all.
func (h *holder) pick(at int64) *heldFile {
	for _, f := range h.files {
		if at < f.cached {
			return f
		}
		at -= f.cached
	}
	return h.files[len(h.files)-1]
}

// drop takes a piece out of the page cache, after writing back what of it is dirty.
func (p piece) drop() {
	if st, err := cacheState(p.f, p.at, holdPiece); err != nil || st.Dirty+st.Writeback > 0 {
		const flags = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
		_ = unix.SyncFileRange(int(p.f.Fd()), p.at, holdPiece, flags) // what stays is seen in the next round
	}
	for _, m := range p.maps {
		from := max(p.at, m.offset)
		to := min(p.at+holdPiece, m.offset+int64(m.to-m.from))
		if from < to {
			// Unlike MADV_DONTNEED this destroys nothing, should the engine have mapped something else there since.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from+uintptr(from-m.offset), uintptr(to-from), unix.MADV_PAGEOUT)
		}
	}
	_ = unix.Fadvise(int(p.f.Fd()), p.at, holdPiece, unix.FADV_DONTNEED) // as above
}

// cachedBytes asks how much of n bytes from at on is in the page cache; n = 0 means to the end.
func cachedBytes(f *os.File, at, n int64) (int64, error) {
	st, err := cacheState(f, at, n)
	return int64(st.Cache) * int64(os.Getpagesize()), err
}

func cacheState(f *os.File, at, n int64) (st unix.Cachestat_t, err error) {
	r := unix.CachestatRange{Off: uint64(at), Len: uint64(n)}
	err = unix.Cachestat(uint(f.Fd()), &r, &st, 0)
	return st, err
}

// threadCPU is the processor time of the calling thread.
func threadCPU() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
