package work

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
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
	read   int64
	reads  int64

	profile *os.File // nil = none
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
	m.read, m.reads = deviceRead(), diskReads(dir)
	m.profile = startProfile()
	m.cpu, m.began = ownCPU(), time.Now()
	return m
}

// profile names the file for the processor profile of what is measured; nil = none. A worker that
// measures several things keeps the last.
var profile *string

func startProfile() *os.File {
	if profile == nil {
		return nil
	}
	f, err := os.Create(*profile)
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: profile:", err)
		return nil
	}
	return f
}

// stop fills in what the measurement cost. ops and the latencies are the caller's.
func (m *meter) stop(r *Result) {
	r.Seconds = time.Since(m.began).Seconds()
	cpu := ownCPU() - m.cpu
	if m.profile != nil {
		pprof.StopCPUProfile()
		_ = m.profile.Close() // a profile is a help, not a result
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	r.Device = deviceBytes() - m.device
	r.DeviceRead = deviceRead() - m.read
	r.DiskWrite, r.DiskReads = -1, -1
	if d := DiskBytes(m.dir); d >= 0 && m.disk >= 0 {
		r.DiskWrite = d - m.disk
	}
	if d := diskReads(m.dir); d >= 0 && m.reads >= 0 {
		r.DiskReads = d - m.reads
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

// ownCPU is the processor time of this process without what holding its page cache took.
func ownCPU() time.Duration { return CPUTime() - time.Duration(holderCPU.Load()) }

// deviceRead is read_bytes of /proc/self/io: what this process had to wait for from the device, reading
// ahead and page faults included. -1 where the system does not tell.
func deviceRead() int64 { return procField("/proc/self/io", "read_bytes") }

// deviceBytes is write_bytes of /proc/self/io: bytes of pages that this process made dirty. It counts
// a whole large folio where a few bytes of it are written again, and no journal; what the disk itself
// counts is closer to the truth where nothing else runs. -1 where the system does not tell.
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
func DiskBytes(dir string) int64 { return parseBlockStat(blockStat(dir)) }

// DiskActivity is a text that stays the same as long as the disk that holds dir does nothing: no
// reads, no writes, no discards of deleted files. busy tells whether requests are under way.
func DiskActivity(dir string) (text string, busy bool) { return parseActivity(blockStat(dir)) }

func blockStat(dir string) string { return blockFile(dir, "stat") }

// ReadAhead is how many bytes the system reads ahead on the disk of dir. 0 where it does not tell.
func ReadAhead(dir string) int64 {
	for _, name := range []string{"queue/read_ahead_kb", "../queue/read_ahead_kb"} { // of a disk, of a partition
		if kb := statField(blockFile(dir, name), 0); kb > 0 {
			return kb << 10
		}
	}
	return 0
}

// blockFile reads a file of the block device that holds dir; empty where there is none.
func blockFile(dir, name string) string {
	major, minor, err := deviceOf(dir)
	if err != nil {
		return ""
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/%s", major, minor, name))
	if err != nil {
		return ""
	}
	return string(b)
}

// Fields of a block device's stat file that are used here. The others are times and sums of them.
const (
	statReads, statWrites, statSectorsWritten, statInFlight, statDiscards = 0, 4, 6, 8, 11
)

// parseBlockStat returns the sectors written in bytes, -1 if the text has no such field.
func parseBlockStat(text string) int64 {
	const sectorBytes = 512
	n := statField(text, statSectorsWritten)
	if n < 0 {
		return -1
	}
	return n * sectorBytes
}

func statField(text string, field int) int64 {
	f := strings.Fields(text)
	if len(f) <= field {
		return -1
	}
	n, err := strconv.ParseInt(f[field], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// diskReads counts the read requests of the whole disk that holds dir since boot. -1 where the system
// does not tell.
func diskReads(dir string) int64 { return statField(blockStat(dir), statReads) }

func parseActivity(text string) (activity string, busy bool) {
	f := strings.Fields(text)
	for _, i := range []int{statReads, statWrites, statDiscards} {
		if i < len(f) {
			activity += f[i] + " "
		}
	}
	return activity, len(f) > statInFlight && f[statInFlight] != "0"
}
