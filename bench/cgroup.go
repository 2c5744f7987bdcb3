package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Suites on data larger than memory run each worker in a memory cgroup of its own, where the system lets
// the driver make one: the limit then holds for the process and its page cache together. --cgroup says
// in which group the driver may make others: of version 2 with memory in its cgroup.subtree_control, or
// a memory group of version 1. By default it is the driver's own group of version 2 or the one above;
// where neither gives memory away, the worker holds its page cache itself (hold.go of package work).

const (
	cgroupAuto = "auto"
	cgroupOff  = "off"
)

// limitFiles set the limit, in both versions of cgroups.
var limitFiles = []string{"memory.max", "memory.limit_in_bytes"}

// memoryGroups makes groups below a folder.
type memoryGroups struct {
	parent string
	made   int
}

// findGroups returns nil and the reason where no group can be made. A folder that was named and can't
// be used is an error.
func findGroups(flag string) (g *memoryGroups, reason string, err error) {
	if flag == cgroupOff {
		return nil, "--cgroup off", nil
	}
	candidates := []string{flag}
	if flag == cgroupAuto {
		own, _ := os.ReadFile("/proc/self/cgroup")       // empty where there are none
		mounts, _ := os.ReadFile("/proc/self/mountinfo") // as above
		candidates = ownGroups(string(own), string(mounts))
	}
	tried := errors.New("the system has no cgroups of version 2 that the driver is in")
	for _, dir := range candidates {
		g := &memoryGroups{parent: dir}
		name, err := g.add(1 << 30)
		if err == nil {
			err = os.Remove(name)
		}
		if err == nil {
			return g, "", nil
		}
		tried = err
	}
	if flag != cgroupAuto {
		return nil, "", fmt.Errorf("--cgroup: %w", tried)
	}
	return nil, tried.Error(), nil
}

// ownGroups lists the folders of the group of version 2 that the text of /proc/self/cgroup names and of
// the one above it.
func ownGroups(own, mountinfo string) []string {
	mount := ""
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if ok && len(b) > 4 && len(a) > 0 && a[0] == "cgroup2" {
			mount = b[4]
		}
	}
	for line := range strings.Lines(own) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok || mount == "" {
			continue
		}
		dirs := []string{filepath.Join(mount, group)}
		if group != "/" {
			dirs = append(dirs, filepath.Dir(dirs[0]))
		}
		return dirs
	}
	return nil
}

// add makes a group with the limit in bytes and returns its folder.
func (g *memoryGroups) add(limit int64) (dir string, err error) {
	if b, err := os.ReadFile(filepath.Join(g.parent, "cgroup.subtree_control")); err == nil &&
		!slices.Contains(strings.Fields(string(b)), "memory") {
		return "", fmt.Errorf("cgroup %s does not give memory to groups in it", g.parent)
	}
	g.made++
	dir = filepath.Join(g.parent, fmt.Sprintf("dyngo-bench-%d-%d", os.Getpid(), g.made))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if err := setLimit(dir, limit); err != nil {
		return "", errors.Join(fmt.Errorf("limit the memory of a cgroup: %w", err), os.Remove(dir))
	}
	return dir, nil
}

func setLimit(dir string, limit int64) (err error) {
	for _, name := range limitFiles {
		if _, err = os.Stat(filepath.Join(dir, name)); err == nil {
			err = writeGroup(dir, name, limit)
			break
		}
	}
	if _, missing := os.Stat(filepath.Join(dir, "memory.swap.max")); err == nil && missing == nil {
		err = writeGroup(dir, "memory.swap.max", 0)
	}
	return err
}

func writeGroup(dir, name string, value int64) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(strconv.FormatInt(value, 10)), 0o644)
}

// join moves the process into the group.
func join(dir string, pid int) error { return writeGroup(dir, "cgroup.procs", int64(pid)) }
