package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The test binary is the worker of the runs that tests start.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(dispatch(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// TestRunOfLargeSuites is a tiny run of the suites that prepare stores, from the flags to the report.
func TestRunOfLargeSuites(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	set, flags := runFlags()
	err := flags.Parse(strings.Fields("--suite large,scan,values100k,amplification,open --engines dyngo,bbolt " +
		"--large-bytes 1000000 --keys 2000 --seconds 0.1 --rounds 1 --cgroup off"))
	if err != nil {
		t.Fatal(err)
	}
	set.out, set.tmp, set.patience = out, t.TempDir(), 0
	set.probe.seconds, set.probe.bytes = 0.01, 1<<20
	plan, err := newPlan(*set)
	if err != nil {
		t.Fatal(err)
	}
	for i := range plan {
		for j := range plan[i].cases {
			plan[i].cases[j].need = 0
		}
	}
	d, err := newDriver(*set, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.runAll(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(d.tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("stores are left when all is measured: %v, %v", left, err)
	}
	d.cleanUp()
	for _, s := range d.run.Suites {
		for _, c := range s.Cases {
			for _, e := range []string{"dyngo", "bbolt"} {
				w := d.run.row(s.Name, c, e)
				if w == nil || len(w.Results) != 1 {
					t.Errorf("%s, %s: no result of %s", s.Name, c, e)
				}
			}
		}
	}
	for _, w := range d.run.Rows {
		for _, e := range w.Errors {
			t.Errorf("%s, %s, %s: %s", w.Suite, w.Case, w.Engine, e)
		}
	}
	if err := writeReport(out, &d.run); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(out, reportFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"get, data 8× memory, uniform", "scan, full, 8× memory", "device bytes ÷ user bytes",
		"Memory was limited by", "memory while overwriting, zipf", "put at twice the sustained rate",
		"open to the first read", "(overload-slowest.svg)"} {
		if !strings.Contains(string(b), part) {
			t.Errorf("the report lacks %q", part)
		}
	}
	for suite, names := range chartOrder {
		for _, name := range names {
			_, err := os.Stat(filepath.Join(out, name))
			if d.run.has(suite) != (err == nil) {
				t.Errorf("chart %s of suite %s: %v", name, suite, err)
			}
		}
	}
}

func (r *benchRun) has(suite string) bool {
	for _, s := range r.Suites {
		if s.Name == suite {
			return true
		}
	}
	return false
}

func TestOwnGroups(t *testing.T) {
	mounts := "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n31 24 0:27 / /x rw - tmpfs tmpfs rw\n"
	for _, tc := range []struct {
		name, own, mounts, want string
	}{
		{"a session", "0::/user.slice/session-1.scope\n", mounts,
			"/sys/fs/cgroup/user.slice/session-1.scope /sys/fs/cgroup/user.slice"},
		{"the root", "0::/\n", mounts, "/sys/fs/cgroup"},
		{"version 1 alone", "4:memory:/a\n", mounts, ""},
		{"not mounted", "0::/a\n", "", ""},
	} {
		if got := strings.Join(ownGroups(tc.own, tc.mounts), " "); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestFindGroups(t *testing.T) {
	dir := t.TempDir()
	if g, reason, err := findGroups(cgroupOff); g != nil || reason == "" || err != nil {
		t.Errorf("off: %v, %q, %v", g, reason, err)
	}
	// A folder that is no cgroup gets no files for limits.
	if _, _, err := findGroups(dir); err == nil || !strings.Contains(err.Error(), "limit the memory") {
		t.Errorf("an ordinary folder: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("cpu io\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := findGroups(dir); err == nil || !strings.Contains(err.Error(), "does not give memory") {
		t.Errorf("a cgroup without memory: %v", err)
	}
	if g, reason, err := findGroups(cgroupAuto); err != nil || (g == nil) == (reason == "") {
		t.Errorf("auto: %v, %q, %v", g, reason, err)
	}
}
