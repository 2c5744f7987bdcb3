// Package walkthrough has no code: its test runs the commands of README.md and compares what they print.
package walkthrough

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the commands print into README.md")

// A step is a command of a console block and the lines that it prints.
type step struct {
	line    int    // of README.md, from 1
	command string // with its continuation lines
	want    []string
	end     int // line behind what it prints
}

// steps returns the commands of all console blocks. A command begins with "$ " and goes on while lines end with a backslash.
func steps(page []string) (all []step) {
	inside := false
	for i := 0; i < len(page); i++ {
		switch {
		case page[i] == "```console":
			inside = true
		case page[i] == "```":
			inside = false
		case inside && strings.HasPrefix(page[i], "$ "):
			s := step{line: i + 1, command: page[i][2:]}
			for strings.HasSuffix(s.command, `\`) {
				i++
				s.command += "\n" + page[i]
			}
			for i+1 < len(page) && page[i+1] != "```" && !strings.HasPrefix(page[i+1], "$ ") {
				i++
				s.want = append(s.want, page[i])
			}
			s.end = i + 1
			all = append(all, s)
		}
	}
	return all
}

// matches says whether lines are as wanted, where … stands for anything within a line, and alone for any lines.
func matches(want, lines []string) bool {
	if len(want) == 0 {
		return len(lines) == 0
	}
	if want[0] == "…" {
		for n := 0; n <= len(lines); n++ {
			if matches(want[1:], lines[n:]) {
				return true
			}
		}
		return false
	}
	if len(lines) == 0 {
		return false
	}
	parts := strings.Split(want[0], "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	ok, err := regexp.MatchString("^"+strings.Join(parts, ".*")+"$", lines[0])
	return err == nil && ok && matches(want[1:], lines[1:])
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		want, lines string
		ok          bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a…c", "abbc", true}, {"a…c", "abb", false}, {"a.c", "abc", false},
		{"…", "a|b", true}, {"a|…|c", "a|c", true}, {"a|…|c", "a|b|b|c", true}, {"a|…|c", "a|b", false}, {"a", "a|b", false},
	} {
		if got := matches(strings.Split(c.want, "|"), strings.Split(c.lines, "|")); got != c.ok {
			t.Errorf("%q for %q: %v", c.lines, c.want, got)
		}
	}
}

// TestWalkthrough runs the page in one shell, as a reader would who has built the programs in a clone.
func TestWalkthrough(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Split(string(text), "\n")
	all := steps(page)
	if len(all) < 15 {
		t.Fatalf("README.md has %d commands", len(all))
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	bin, work := t.TempDir(), t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "./cmd/dyngo-cli", "./cmd/dyngo-replay", "./docs/verifier")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	// What stands between two commands' outputs.
	const mark = "\n--- end of a command, exit code "
	script := &strings.Builder{}
	for _, s := range all {
		fmt.Fprintf(script, "{ %s\n} 2>&1\nprintf '%s%%d\\n' $?\n", s.command, strings.ReplaceAll(mark, "\n", `\n`))
	}
	cmd := exec.Command("sh")
	cmd.Dir, cmd.Stdin = work, strings.NewReader(script.String())
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "NO_COLOR=1", "DYNGO_DIR=", "CLONE="+root)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	parts := strings.Split(out.String(), mark)
	if len(parts) != len(all)+1 {
		t.Fatalf("%d of %d commands ran:\n%s", len(parts)-1, len(all), out.String())
	}
	got := make([][]string, len(all))
	for i := range all {
		text := parts[i]
		if i > 0 {
			_, text, _ = strings.Cut(text, "\n") // behind the exit code
		}
		if text = strings.TrimSuffix(text, "\n"); text != "" {
			got[i] = strings.Split(text, "\n")
		}
		code, _, _ := strings.Cut(parts[i+1], "\n")
		if n, err := strconv.Atoi(code); err != nil || n != 0 {
			got[i] = append(got[i], "(exit code "+code+")")
		}
	}
	for i := len(all) - 1; i >= 0; i-- {
		if s := all[i]; !matches(s.want, got[i]) {
			t.Errorf("README.md:%d: $ %s\nprinted:\n%s\nthe page says:\n%s", s.line, s.command, strings.Join(got[i], "\n"),
				strings.Join(s.want, "\n"))
			page = append(page[:s.end-len(s.want):s.end-len(s.want)], append(got[i], page[s.end:]...)...)
		}
	}
	if *update && t.Failed() {
		if err := os.WriteFile("README.md", []byte(strings.Join(page, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
