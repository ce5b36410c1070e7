// Package lint holds the rules of the house that a compiler does not check: who may import whom, how long a file and a
// function may grow, and which calls have no place here. It is a test, so that it runs wherever tests run.
package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

const module = "github.com/leatstream/leat"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is one parsed Go file.
type source struct {
	path  string // slash-separated, from the module's root
	pkg   string // folder, "" for the root
	test  bool
	lines int
	file  *ast.File
	fset  *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var all []source
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(p, root+string(filepath.Separator)))
		if d.IsDir() {
			if name := d.Name(); name != ".." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, rel, src, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := path.Dir(rel)
		if dir == "." {
			dir = ""
		}
		all = append(all, source{rel, dir, strings.HasSuffix(rel, "_test.go"), strings.Count(string(src), "\n"), f, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 3 {
		t.Fatalf("found %d Go files from %s: the walk is broken", len(all), root)
	}
	return all
}

// within reports whether pkg is dir or lies below it.
func within(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// rooms says, for each top-level folder, which of our own packages its code may import besides its own. Tests may wire
// whole systems together and are not held to it. internal/ packages are open to all rooms but import only each other.
var rooms = map[string][]string{
	"serde":    {},
	"state":    {"serde", "internal"},
	"registry": {"serde", "internal"},
	"streams":  {"serde", "state", "internal"},
	"broker":   {"internal"},
	"console":  {"internal"},
	"internal": {"internal"},
	"cmd":      {"broker", "registry", "streams", "state", "serde", "console", "internal"},
	"examples": {"broker", "registry", "streams", "state", "serde", "console"},
	"bench":    {"broker", "registry", "streams", "state", "serde", "internal"},
	"interop":  {"broker", "registry", "streams", "state", "serde", "internal"},
}

// exceptions are packages with a reason of their own. streams/streamstest/cluster simulates a whole cluster.
var exceptions = map[string][]string{
	"streams/streamstest/cluster": {"broker", "registry"},
}

func TestImportsRunOneWay(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		room, _, _ := strings.Cut(s.pkg, "/")
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s: folder %q is not a room of the house: give it a row in rooms, with what it may import", s.path, room)
			continue
		}
		allowed = append(slices.Clone(allowed), exceptions[s.pkg]...)
		for _, im := range s.file.Imports {
			p, _ := strconv.Unquote(im.Path.Value)
			p, ours := strings.CutPrefix(p, module+"/")
			if !ours || within(p, room) {
				continue
			}
			if !slices.ContainsFunc(allowed, func(a string) bool { return within(p, a) }) {
				t.Errorf("%s imports %s: %s may import only %v", s.path, p, room, allowed)
			}
		}
	}
}

func TestSerdeImportsOnlyTheStandardLibrary(t *testing.T) {
	for _, s := range sources(t) {
		if s.pkg != "serde" || s.test {
			continue
		}
		for _, im := range s.file.Imports {
			p, _ := strconv.Unquote(im.Path.Value)
			if first, _, _ := strings.Cut(p, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s", s.path, p)
			}
		}
	}
}

const (
	maxFileLines     = 1000
	maxFunctionLines = 70
)

// longFunctions may be longer than the limit; each says why.
var longFunctions = map[string]string{}

func TestFilesAndFunctionsStayShort(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		if s.lines > maxFileLines {
			t.Errorf("%s has %d lines, at most %d: split it by what is done there", s.path, s.lines, maxFileLines)
		}
		if s.test {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			name := s.path + ":" + f.Name.Name
			n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			if n <= maxFunctionLines {
				continue
			}
			if longFunctions[name] == "" {
				t.Errorf("%s has %d lines, at most %d: split it, or list it in longFunctions with the reason", name, n, maxFunctionLines)
			}
			used[name] = true
		}
	}
	for name := range longFunctions {
		if !used[name] {
			t.Errorf("longFunctions lists %s, which is no longer long: delete the row", name)
		}
	}
}

// banned calls, and what to do instead. Programs (cmd, examples, bench, interop) may print; nobody sleeps.
var banned = []struct {
	call, instead string
	programsToo   bool
}{
	{"time.Sleep", "wait for what you wait for: a channel, a timer with a context", true},
	{"fmt.Print", "return it, or log it through Config.Logger", false},
	{"fmt.Printf", "return it, or log it through Config.Logger", false},
	{"fmt.Println", "return it, or log it through Config.Logger", false},
	{"log.Print", "log through Config.Logger", true},
	{"log.Printf", "log through Config.Logger", true},
	{"log.Println", "log through Config.Logger", true},
	{"log.Fatal", "return the error", true},
	{"log.Fatalf", "return the error", true},
	{"slog.SetDefault", "pass the logger", true},
	{"slog.Default", "take Config.Logger; nil discards", false},
}

// allowedCalls are banned ones, by file, with the reason.
var allowedCalls = map[string]string{
	"streams/config.go slog.Default": "an application without a Logger that waits for its brokers must not do so in silence",
}

func isProgram(pkg string) bool {
	return within(pkg, "cmd") || within(pkg, "examples") || within(pkg, "bench") || within(pkg, "interop")
}

func TestBannedCalls(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		std := standardNames(s.file)
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok || !std[x.Name] {
				return true
			}
			name := x.Name + "." + sel.Sel.Name
			for _, b := range banned {
				if b.call == name && (b.programsToo || !isProgram(s.pkg)) && allowedCalls[s.path+" "+name] == "" {
					t.Errorf("%s: %s: %s", s.fset.Position(call.Pos()), name, b.instead)
				}
			}
			return true
		})
	}
}

// A client's own EndTransaction can say that all is well and commit nothing; see internal/txnclient.
func TestTransactionsAreEndedInOneRoom(t *testing.T) {
	const room = "internal/txnclient"
	for _, s := range sources(t) {
		if s.test || s.pkg == room {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "EndTransaction" {
				t.Errorf("%s: EndTransaction: call %s.End", s.fset.Position(sel.Pos()), path.Base(room))
			}
			return true
		})
	}
}

// standardNames are the names under which a file imports the packages that TestBannedCalls knows.
func standardNames(f *ast.File) map[string]bool {
	names := map[string]bool{}
	for _, im := range f.Imports {
		p, _ := strconv.Unquote(im.Path.Value)
		if im.Name == nil && (p == "time" || p == "fmt" || p == "log" || p == "log/slog") {
			names[path.Base(p)] = true
		}
	}
	return names
}

func TestNoInitFunctions(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: init: do it where it is needed, by name", s.fset.Position(f.Pos()))
			}
		}
	}
}

func TestEveryTestedPackageWatchesForLeaks(t *testing.T) {
	tested, watched := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		tested[s.pkg] = true
		for _, im := range s.file.Imports {
			if p, _ := strconv.Unquote(im.Path.Value); p == "go.uber.org/goleak" {
				watched[s.pkg] = true
			}
		}
	}
	for pkg := range tested {
		if !watched[pkg] {
			t.Errorf("%s has tests but no TestMain with goleak.VerifyTestMain", pkg)
		}
	}
}

func TestExportedNamesHaveDocs(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || isProgram(s.pkg) || strings.Contains(s.pkg, "internal") {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && receiverExported(d) && d.Doc == nil {
					t.Errorf("%s: %s has no doc comment", s.fset.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if ts, ok := spec.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: type %s has no doc comment", s.fset.Position(ts.Pos()), ts.Name.Name)
					}
				}
			}
		}
	}
}

// receiverExported reports whether d is a function, or a method of an exported type.
func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}
