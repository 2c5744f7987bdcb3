package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dyngodb/dyngo/bench/internal/work"
)

// machine is what a result depends on besides the code.
type machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Memory     int64  `json:"memory_bytes"`
	OS         string `json:"os"`
	FileSystem string `json:"file_system"` // type and mount options
	ReadAhead  int64  `json:"read_ahead_bytes"`
	Go         string `json:"go"`
	GOMAXPROCS int    `json:"gomaxprocs"`
}

// readMachine describes this machine; dir is on the disk that is measured. What the system does not
// tell is left empty.
func readMachine(dir string) machine {
	m := machine{
		Cores: runtime.NumCPU(), Go: runtime.Version(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		OS: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = field(string(b), "model name")
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		kb, _ := strconv.ParseInt(strings.TrimSuffix(field(string(b), "MemTotal"), " kB"), 10, 64)
		m.Memory = kb << 10
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.OS = "Linux " + strings.TrimSpace(string(b)) + " " + runtime.GOARCH
	}
	m.ReadAhead = work.ReadAhead(dir)
	if b, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		if abs, err := filepath.Abs(dir); err == nil {
			m.FileSystem = fileSystemOf(string(b), abs)
		}
	}
	return m
}

// field returns the value of the first line "name : value".
func field(text, name string) string {
	for line := range strings.Lines(text) {
		k, v, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// fileSystemOf finds in the text of mountinfo the mount that holds the absolute path dir and returns
// its type and options.
func fileSystemOf(text, dir string) string {
	best, found := -1, ""
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if !ok || len(b) < 6 || len(a) < 1 {
			continue
		}
		point := b[4]
		inside := point == "/" || dir == point || strings.HasPrefix(dir, point+"/")
		if inside && len(point) >= best {
			best, found = len(point), a[0]+" ("+mountOptions(b[5], a)+")"
		}
	}
	return found
}

// mountOptions joins the options of a mount with those of its file system, which come after type and
// device, each once.
func mountOptions(mount string, after []string) string {
	options := strings.Split(mount, ",")
	if len(after) > 2 {
		for _, o := range strings.Split(after[2], ",") {
			if !slices.Contains(options, o) {
				options = append(options, o)
			}
		}
	}
	return strings.Join(options, ",")
}

// checkout tells the commit of the working directory and whether files differ from it. Results and
// other untracked files don't count.
func checkout() (commit string, changed bool) {
	out, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown", false
	}
	status, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no", "--", "..").Output()
	return strings.TrimSpace(string(out)), err != nil || len(status) > 0
}

// cpuTimes are the machine's processor times since boot, in ticks.
type cpuTimes struct{ total, steal int64 }

func readCPUTimes() cpuTimes {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTimes{}
	}
	return parseCPUTimes(string(b))
}

// parseCPUTimes reads the first line of /proc/stat: cpu user nice system idle iowait irq softirq
// steal, then times of guests, which are counted in user already.
func parseCPUTimes(text string) cpuTimes {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return cpuTimes{}
	}
	var t cpuTimes
	for i, s := range f[1:9] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return cpuTimes{}
		}
		t.total += n
		if i == 7 {
			t.steal = n
		}
	}
	return t
}

func stealShare(from, to cpuTimes) float64 {
	if to.total <= from.total {
		return 0
	}
	return float64(to.steal-from.steal) / float64(to.total-from.total)
}

// awaitIdle makes the deletion of the last store final and waits until the disk of dir stands still for
// a moment, so that one case's end (discards of its files above all) does not disturb the next one's
// beginning; no longer than atMost, since others may use the disk too.
func awaitIdle(ctx context.Context, dir string, atMost time.Duration) error {
	const step, quiet = 100 * time.Millisecond, 3
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync() // on file systems that can't, waiting has to do
		_ = d.Close()
	}
	tick := time.NewTicker(step)
	defer tick.Stop()
	last, still := "", 0
	for began := time.Now(); time.Since(began) < atMost && still < quiet; {
		select {
		case <-ctx.Done():
			return context.Canceled
		case <-tick.C:
		}
		now, busy := work.DiskActivity(dir)
		if still++; busy || now != last {
			still = 0
		}
		last = now
	}
	return nil
}

const resultsFile = "results.json"

func saveRun(dir string, r *benchRun) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, resultsFile), append(b, '\n'), 0o644)
}

func loadRun(dir string) (*benchRun, error) {
	b, err := os.ReadFile(filepath.Join(dir, resultsFile))
	if err != nil {
		return nil, err
	}
	r := &benchRun{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", resultsFile, err)
	}
	return r, nil
}
