package work

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// meter takes the difference of the process's counters between start and stop.
type meter struct {
	dir    string // its disk is watched
	began  time.Time
	cpu    time.Duration
	mem    runtime.MemStats
	device int64
	disk   int64
}

// startMeter collects garbage left by the preparation, forgets the peak of the resident set and
// reads all counters.
func startMeter(dir string) *meter {
	runtime.GC()
	m := &meter{dir: dir}
	// Writing 5 resets VmHWM; where that is not allowed the peak covers the whole worker.
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	runtime.ReadMemStats(&m.mem)
	m.device, m.disk = deviceBytes(), DiskBytes(dir)
	m.cpu, m.began = cpuTime(), time.Now()
	return m
}

// stop fills in what the measurement cost. ops and the latencies are the caller's.
func (m *meter) stop(r *Result) {
	r.Seconds = time.Since(m.began).Seconds()
	cpu := cpuTime() - m.cpu
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	r.Device = deviceBytes() - m.device
	r.DiskWrite = -1
	if d := DiskBytes(m.dir); d >= 0 && m.disk >= 0 {
		r.DiskWrite = d - m.disk
	}
	r.RSS, r.PeakRSS = statusBytes("VmRSS"), statusBytes("VmHWM")
	if r.Ops > 0 {
		n := float64(r.Ops)
		r.OpsPerSec = n / r.Seconds
		r.CPU = float64(cpu.Nanoseconds()) / 1e3 / n
		r.Allocs = float64(mem.Mallocs-m.mem.Mallocs) / n
		r.AllocBytes = float64(mem.TotalAlloc-m.mem.TotalAlloc) / n
	}
}

// deviceBytes is write_bytes of /proc/self/io: bytes of pages that this process made dirty, which is
// what it causes to be written to the device. -1 where the system does not tell.
func deviceBytes() int64 { return procField("/proc/self/io", "write_bytes") }

// statusBytes reads a field of /proc/self/status that is given in kB. -1 where there is none.
func statusBytes(field string) int64 {
	kb := procField("/proc/self/status", field)
	if kb < 0 {
		return -1
	}
	return kb << 10
}

// procField returns the number after "field:" in a file of such lines, -1 if there is none.
func procField(file, field string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return -1
	}
	return parseField(string(b), field)
}

func parseField(text, field string) int64 {
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		rest, ok := strings.CutPrefix(sc.Text(), field+":")
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		if len(f) == 0 {
			return -1
		}
		n, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	return -1
}

// DiskBytes is what the whole disk that holds dir has written since boot, on behalf of anyone. -1
// where the system does not tell.
func DiskBytes(dir string) int64 {
	major, minor, err := deviceOf(dir)
	if err != nil {
		return -1
	}
	b, err := os.ReadFile(filepath.Join("/sys/dev/block", fmt.Sprintf("%d:%d", major, minor), "stat"))
	if err != nil {
		return -1
	}
	return parseBlockStat(string(b))
}

// parseBlockStat returns field 7 of a block device's stat file, sectors written, in bytes.
func parseBlockStat(text string) int64 {
	const sectorBytes, sectorsWritten = 512, 6
	f := strings.Fields(text)
	if len(f) <= sectorsWritten {
		return -1
	}
	n, err := strconv.ParseInt(f[sectorsWritten], 10, 64)
	if err != nil {
		return -1
	}
	return n * sectorBytes
}
