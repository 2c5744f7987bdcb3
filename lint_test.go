package dyngo_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/dyngodb/dyngo"

// levels is the import table: a package imports only what stands on a lower level. A directory that is not listed
// belongs to the nearest one above it that is, and the packages of one entry may import each other.
var levels = map[string]int{
	"cmd": 60, "examples": 60, "docs/verifier": 60, "docs/walkthrough": 60,

	"server": 50, "cluster": 50,

	".": 40, // package dyngo, the only place where organs meet

	"recovery": 31, "backup": 31, "compaction": 30, "integrity": 30, "snapshot": 30, "index": 30, "query": 30, "bus": 30,

	"wal": 20, "memtable": 20, "segment": 20, "manifest": 20, "keyring": 20,

	"internal/heat": 12, "internal/clock": 11, "internal/iter": 11, "internal/tail": 11, "event": 10,

	"internal/cache": 1, // of buffers from internal/offheap

	"internal/formattest": 1, "internal/coding": 0, "internal/corruption": 0, "internal/vfs": 0, "internal/invariant": 0,
	"internal/epoch": 0, "internal/offheap": 0, "internal/pacer": 0,
}

// notBelow lists imports that the numbers allow and the table does not.
var notBelow = map[string][]string{
	"recovery": {"compaction", "query", "bus"},
}

// testsOnly are packages that only test files may import.
var testsOnly = []string{"internal/testkit", "cmd/internal/clitest"}

// entryOf returns the entry of the table that a directory belongs to.
func entryOf(dir string) (string, bool) {
	for d := dir; d != "."; d = path.Dir(d) {
		if _, ok := levels[d]; ok {
			return d, true
		}
	}
	return ".", dir == "."
}

// goFile is a parsed Go file of the module.
type goFile struct {
	dir, name string // directory relative to the root, base name
	fset      *token.FileSet
	ast       *ast.File
}

func (f *goFile) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

func (f *goFile) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", path.Join(f.dir, f.name), f.fset.Position(n.Pos()).Line)
}

// under reports whether the file is in one of some directories or below it.
func (f *goFile) under(dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return f.dir == d || strings.HasPrefix(f.dir, d+"/") })
}

// uses lists the uses of functions of a package that is imported by path, such as time.Now.
func (f *goFile) uses(pkg string, names []string) (found []ast.Node) {
	local := ""
	for _, imp := range f.ast.Imports {
		if imp.Path.Value == strconv.Quote(pkg) {
			local = path.Base(pkg)
			if imp.Name != nil {
				local = imp.Name.Name
			}
		}
	}
	if local == "" {
		return nil
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains(names, sel.Sel.Name) {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == local {
				found = append(found, sel)
			}
		}
		return true
	})
	return found
}

// eachFile calls visit with the files of the module and of those nested in it, in the order of their names.
func eachFile(t *testing.T, visit func(name string, nested bool)) {
	t.Helper()
	nested := map[string]bool{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d.IsDir() {
			if base := path.Base(name); name != "." && (base == ".git" || base == "dyngo-data" || base == "bin") {
				return filepath.SkipDir
			}
			_, err := os.Stat(path.Join(name, "go.mod"))
			nested[name] = nested[path.Dir(name)] || name != "." && err == nil
			return nil
		}
		if d.Type().IsRegular() {
			visit(name, nested[path.Dir(name)])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// moduleFiles parses the Go files of this module.
func moduleFiles(t *testing.T) (files []*goFile) {
	t.Helper()
	eachFile(t, func(name string, nested bool) {
		if nested || path.Ext(name) != ".go" || strings.Contains("/"+name, "/testdata/") {
			return
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, parse(t, name, string(src)))
	})
	return files
}

func parse(t *testing.T, name, src string) *goFile {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return &goFile{path.Dir(name), path.Base(name), fset, file}
}

// rule finds what is wrong in one file.
type rule func(f *goFile) []string

func TestLint(t *testing.T) {
	files := moduleFiles(t)
	for _, r := range []struct {
		name string
		rule rule
	}{
		{"imports", checkImports}, {"clock", checkClock}, {"files", checkFiles}, {"sleeps", checkSleeps}, {"skips", checkSkips},
	} {
		t.Run(r.name, func(t *testing.T) {
			for _, f := range files {
				for _, problem := range r.rule(f) {
					t.Error(problem)
				}
			}
		})
	}
	t.Run("package comments", func(t *testing.T) {
		for _, problem := range checkPackageComments(files) {
			t.Error(problem)
		}
	})
}

func checkImports(f *goFile) (problems []string) {
	from, known := entryOf(f.dir)
	if !known && !f.under(testsOnly...) {
		return []string{fmt.Sprintf("%s: directory %s is not in the import table of lint_test.go: give it a level", f.at(f.ast), f.dir)}
	}
	if f.isTest() || f.under(testsOnly...) {
		return nil // a test may stand on anything
	}
	for _, imp := range f.ast.Imports {
		name, err := strconv.Unquote(imp.Path.Value)
		dir, ok := strings.CutPrefix(name+"/", modulePath+"/")
		if err != nil || !ok {
			continue
		}
		dir = path.Clean(dir)
		to, _ := entryOf(dir)
		switch {
		case slices.Contains(testsOnly, dir):
			problems = append(problems, fmt.Sprintf("%s: %s is for tests only", f.at(imp), dir))
		case from == to:
		case levels[to] >= levels[from] || slices.Contains(notBelow[from], to):
			problems = append(problems, fmt.Sprintf("%s: %s may not import %s: imports go downward only", f.at(imp), f.dir, dir))
		}
	}
	return problems
}

// checkClock lets nobody but internal/clock read the time or set timers below cmd.
func checkClock(f *goFile) (problems []string) {
	if f.isTest() || f.under("internal/clock", "cmd", "examples") {
		return nil
	}
	for _, n := range f.uses("time", []string{"Now", "Since", "Until", "NewTimer", "NewTicker", "After", "AfterFunc", "Tick", "Sleep"}) {
		problems = append(problems, fmt.Sprintf("%s: time comes from internal/clock", f.at(n)))
	}
	return problems
}

// checkFiles lets nobody but internal/vfs touch files below cmd.
func checkFiles(f *goFile) (problems []string) {
	if f.isTest() || f.under("internal/vfs", "internal/formattest", "cmd", "examples", "docs/verifier", "docs/walkthrough") {
		return nil
	}
	for _, n := range f.uses("os", []string{"Open", "Create", "OpenFile", "ReadFile", "WriteFile", "Remove", "RemoveAll",
		"Rename", "Mkdir", "MkdirAll", "MkdirTemp", "CreateTemp", "Stat", "Lstat", "ReadDir", "Link", "Symlink", "Readlink",
		"Truncate", "Chmod", "Chown", "Lchown", "Chtimes", "Chdir", "CopyFS", "DirFS", "NewFile", "OpenRoot", "OpenInRoot"}) {
		problems = append(problems, fmt.Sprintf("%s: files are reached through internal/vfs", f.at(n)))
	}
	for _, imp := range f.ast.Imports {
		if imp.Path.Value == `"io/ioutil"` {
			problems = append(problems, fmt.Sprintf("%s: files are reached through internal/vfs", f.at(imp)))
		}
	}
	return problems
}

// checkSleeps keeps tests from waiting for time to pass.
func checkSleeps(f *goFile) (problems []string) {
	if !f.isTest() {
		return nil
	}
	for _, n := range f.uses("time", []string{"Sleep"}) {
		problems = append(problems, fmt.Sprintf("%s: tests do not sleep: move a clock.Manual, or wait for what is to happen", f.at(n)))
	}
	return problems
}

var flagName = regexp.MustCompile(`(^|[\s('"])-[a-z][a-z0-9.-]*`)

// checkSkips wants the message of each skip to name the flag with which the test would run.
func checkSkips(f *goFile) (problems []string) {
	if !f.isTest() {
		return nil
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); !ok || !slices.Contains([]string{"t", "b", "f", "tb"}, x.Name) {
			return true // Skip of something else
		}
		var text strings.Builder
		for _, arg := range call.Args {
			ast.Inspect(arg, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					s, _ := strconv.Unquote(lit.Value) // what the parser took is a string
					text.WriteString(s + " ")
				}
				return true
			})
		}
		if !flagName.MatchString(text.String()) {
			problems = append(problems, fmt.Sprintf("%s: a skipped test must name the flag that runs it (\"run without -short\")", f.at(n)))
		}
		return true
	})
	return problems
}

func checkPackageComments(files []*goFile) (problems []string) {
	documented := map[string]bool{}
	for _, f := range files {
		if !f.isTest() {
			documented[f.dir] = documented[f.dir] || f.ast.Doc != nil
		}
	}
	for dir, ok := range documented {
		if !ok {
			problems = append(problems, fmt.Sprintf("%s: no package comment: say in %s/doc.go what it is and promises", dir, dir))
		}
	}
	slices.Sort(problems)
	return problems
}

// hostText returns texts that only stand in a file because of the machine it was written on: this one.
func hostText(t *testing.T) (texts []string) {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if parent := filepath.Dir(wd); parent != filepath.Dir(parent) && parent != filepath.Clean(os.TempDir()) {
		texts = append(texts, parent+string(filepath.Separator))
	}
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 {
		texts = append(texts, home+string(filepath.Separator))
	}
	proxies, err := exec.Command("go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	return append(texts, hostsOf(string(proxies))...)
}

var urlHost = regexp.MustCompile(`https?://(?:[^/@,|\s]*@)?([^/,|\s]+)`)

func hostsOf(urls string) (hosts []string) {
	for _, m := range urlHost.FindAllStringSubmatch(urls, -1) {
		hosts = append(hosts, m[1])
	}
	return hosts
}

func TestLintHostPaths(t *testing.T) {
	texts := hostText(t)
	eachFile(t, func(name string, _ bool) {
		if path.Base(name) == "go.sum" || strings.HasPrefix(name, ".git") {
			return
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(b, 0) >= 0 {
			return
		}
		for _, text := range texts {
			if i := bytes.Index(b, []byte(text)); i >= 0 {
				t.Errorf("%s:%d: %q belongs to one machine", name, 1+bytes.Count(b[:i], []byte("\n")), text)
			}
		}
	})
}

// TestLintFindsWhatItShould holds each rule against code that breaks it, and code that does not.
func TestLintFindsWhatItShould(t *testing.T) {
	for _, c := range []struct {
		rule      rule
		name, src string
		want      int
	}{
		{checkImports, "wal/a.go", `import "github.com/dyngodb/dyngo/event"`, 0},
		{checkImports, "wal/a.go", `import "github.com/dyngodb/dyngo"`, 1},
		{checkImports, "wal/a.go", `import "github.com/dyngodb/dyngo/memtable"`, 1},
		{checkImports, "wal/a_test.go", `import "github.com/dyngodb/dyngo/memtable"`, 0},
		{checkImports, "recovery/a.go", `import "github.com/dyngodb/dyngo/snapshot"`, 0},
		{checkImports, "recovery/a.go", `import "github.com/dyngodb/dyngo/compaction"`, 1},
		{checkImports, "snapshot/a.go", `import "github.com/dyngodb/dyngo/recovery"`, 1},
		{checkImports, "internal/tail/a.go", `import "github.com/dyngodb/dyngo/event"`, 0},
		{checkImports, "event/a.go", `import "github.com/dyngodb/dyngo/internal/tail"`, 1},
		{checkImports, "internal/vfs/a.go", `import "github.com/dyngodb/dyngo/internal/coding"`, 1},
		{checkImports, "internal/vfs/sub/a.go", `import "github.com/dyngodb/dyngo/internal/vfs"`, 0},
		{checkImports, "server/a.go", `import "github.com/dyngodb/dyngo/server/resp"`, 0},
		{checkImports, "server/a.go", `import "github.com/dyngodb/dyngo/cluster/core"`, 1},
		{checkImports, "cmd/x/a.go", `import "github.com/dyngodb/dyngo/cmd/x/internal/rows"`, 0},
		{checkImports, "a.go", `import "github.com/dyngodb/dyngo/cmd/x"`, 1},
		{checkImports, "a.go", `import "github.com/dyngodb/dyngo/internal/testkit"`, 1},
		{checkImports, "a_test.go", `import "github.com/dyngodb/dyngo/internal/testkit"`, 0},
		{checkImports, "internal/newcomer/a.go", ``, 1},

		{checkClock, "wal/a.go", `import "time"; var x = time.Now()`, 1},
		{checkClock, "wal/a.go", `import clock "time"; var x = clock.NewTimer(1)`, 1},
		{checkClock, "wal/a.go", `import "time"; var x = time.Unix(1, 2)`, 0},
		{checkClock, "wal/a.go", `import time "example.org/time"; var x = time.Now()`, 0},
		{checkClock, "internal/clock/a.go", `import "time"; var x = time.Now()`, 0},

		{checkFiles, "a.go", `import "os"; var x, y = os.Open("f")`, 1},
		{checkFiles, "a.go", `import "os"; var x = os.Getpid()`, 0},
		{checkFiles, "a.go", `import "io/ioutil"`, 1},
		{checkFiles, "cmd/x/a.go", `import "os"; var x, y = os.Open("f")`, 0},

		{checkSleeps, "a_test.go", `import "time"; func f() { time.Sleep(1) }`, 1},

		{checkSkips, "a_test.go", `func f() { t.Skip("slow: run with -kill.rounds=1000") }`, 0},
		{checkSkips, "a_test.go", `func f() { t.Skipf("slow: " + "see -%s", name) }`, 1},
		{checkSkips, "a_test.go", `func f() { t.Skip("non-unix system") }`, 1},
		{checkSkips, "a_test.go", `func f() { t.SkipNow() }`, 1},
		{checkSkips, "a_test.go", `func f() { reader.Skip(3) }`, 0},
	} {
		if got := c.rule(parse(t, c.name, "package p\n"+c.src)); len(got) != c.want {
			t.Errorf("%s: %s: found %q, want %d", c.name, c.src, got, c.want)
		}
	}
	bare := parse(t, "p/a.go", "package p")
	if got := checkPackageComments([]*goFile{bare, parse(t, "p/a_test.go", "// Package p.\npackage p")}); len(got) != 1 {
		t.Errorf("a package without comment: %q", got)
	}
	if got := checkPackageComments([]*goFile{bare, parse(t, "p/doc.go", "// Package p.\npackage p")}); len(got) != 0 {
		t.Errorf("a package with comment: %q", got)
	}
	if got := hostsOf("https://user:word@one.example/x,http://two.example|direct"); !slices.Equal(got, []string{"one.example", "two.example"}) {
		t.Errorf("hosts %q", got)
	}
}
