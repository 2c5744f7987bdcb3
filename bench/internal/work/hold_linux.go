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

// holder keeps the page cache of a store small.
type holder struct {
	dir    string
	limit  int64
	files  []*heldFile
	looked time.Time
	rng    rng
}

type heldFile struct {
	f       *os.File
	info    os.FileInfo
	size    int64
	present bool // still in the directory
	maps    []mapping
}

// mapping is a part of the process's memory that shows a part of a file.
type mapping struct {
	from, to uintptr
	offset   int64
}

// holdCache holds the page cache of dir's files until release. Errors say that the system can't.
func holdCache(dir string, limit int64) (release func(), err error) {
	probe, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	_, err = cachedBytes(probe, 0, 0)
	_ = probe.Close()
	if err != nil {
		return nil, fmt.Errorf("the system does not tell what is in its page cache: %w", err)
	}
	h := &holder{dir: dir, limit: limit, rng: 1}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		h.run(stop)
	})
	return func() { close(stop); wg.Wait() }, nil
}

func (h *holder) run(stop <-chan struct{}) {
	defer h.close()
	tick := time.NewTicker(holdEvery)
	defer tick.Stop()
	began := threadCPU()
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
		now := threadCPU()
		holderCPU.Add(int64(now - began))
		began = now
	}
}

func (h *holder) close() {
	for _, f := range h.files {
		_ = f.f.Close() // it was only read
	}
}

// look finds new files, forgets those that are gone, and reads anew where files are mapped.
func (h *holder) look() {
	for _, f := range h.files {
		f.present, f.maps = false, nil
	}
	byName := map[string]*heldFile{}
	for _, name := range storeFiles(h.dir) {
		if f := h.hold(name); f != nil {
			byName[name] = f
		}
	}
	kept := h.files[:0]
	for _, f := range h.files {
		if !f.present {
			_ = f.f.Close() // it was only read
			continue
		}
		kept = append(kept, f)
	}
	h.files = kept
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for name, m := range parseMaps(string(b)) {
		if f := byName[name]; f != nil {
			f.maps = m
		}
	}
}

func (h *holder) hold(name string) *heldFile {
	info, err := os.Stat(name)
	if err != nil {
		return nil // gone since it was listed
	}
	for _, f := range h.files {
		if os.SameFile(f.info, info) {
			f.present, f.size = true, info.Size()
			return f
		}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	held := &heldFile{f: f, info: info, size: info.Size(), present: true}
	h.files = append(h.files, held)
	return held
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
	anon := statusBytes("RssAnon")
	anonPeak.Store(max(anonPeak.Load(), anon))
	allowed := max(h.limit-anon, minHold)
	cached, size := int64(0), int64(0)
	for _, f := range h.files {
		n, err := cachedBytes(f.f, 0, 0)
		if err == nil {
			cached += n
		}
		size += f.size
	}
	if cached <= allowed || size == 0 {
		return
	}
	target := allowed - h.limit/holdSlack
	for i := 0; i < holdRounds && cached > target; i++ {
		at := int64(h.rng.next()>>1) % size
		for _, f := range h.files {
			if at < f.size {
				cached -= f.drop(at &^ (holdPiece - 1))
				break
			}
			at -= f.size
		}
	}
}

// drop takes a piece out of the page cache and returns how many bytes of it were there.
func (f *heldFile) drop(at int64) int64 {
	n, err := cachedBytes(f.f, at, holdPiece)
	if err != nil || n == 0 {
		return 0
	}
	for _, m := range f.maps {
		from := max(at, m.offset)
		to := min(at+holdPiece, m.offset+int64(m.to-m.from))
		if from < to {
			// Unlike MADV_DONTNEED this destroys nothing, should the engine have mapped something else there since.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from+uintptr(from-m.offset), uintptr(to-from), unix.MADV_PAGEOUT)
		}
	}
	if err := unix.Fadvise(int(f.f.Fd()), at, holdPiece, unix.FADV_DONTNEED); err != nil {
		return 0
	}
	left, err := cachedBytes(f.f, at, holdPiece)
	if err != nil {
		return 0
	}
	return n - left
}

// cachedBytes asks how much of n bytes from at on is in the page cache; n = 0 means to the end.
func cachedBytes(f *os.File, at, n int64) (int64, error) {
	var st unix.Cachestat_t
	r := unix.CachestatRange{Off: uint64(at), Len: uint64(n)}
	if err := unix.Cachestat(uint(f.Fd()), &r, &st, 0); err != nil {
		return 0, err
	}
	return int64(st.Cache) * int64(os.Getpagesize()), nil
}

// threadCPU is the processor time of the calling thread.
func threadCPU() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
