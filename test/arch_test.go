package test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

type pkg struct {
	ImportPath string
	Dir        string
	Doc        string
	Imports    []string
	GoFiles    []string
	CgoFiles   []string
}

// packages lists the module's packages with their imports.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,GoFiles,CgoFiles", "./...")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

const module = "quorate/"

// pure are the packages that decide, with what they may import beside the
// standard library.
var pure = map[string][]string{
	"quorum":     nil,
	"resources":  nil,
	"migration":  nil,
	"csv":        nil,
	"csv/volume": {"quorate/csv", "quorate/disk"},
	"cluster":    {"quorate/quorum", "quorate/resources", "quorate/migration", "quorate/csv", "quorate/disk", "quorate/cluster/clusterpb", "google.golang.org/protobuf/"},
}

// impure are the packages of the standard library that bring in the world.
var impure = []string{"os", "os/exec", "net", "net/http", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "syscall", "sync", "unsafe"}

func TestWhatDecidesIsPure(t *testing.T) {
	for _, p := range packages(t) {
		may, ok := pure[strings.TrimPrefix(p.ImportPath, module)]
		if !ok {
			continue
		}
		for _, imp := range p.Imports {
			for _, bad := range impure {
				if imp != bad {
					continue
				}
				if !strings.HasSuffix(p.ImportPath, "csv/volume") || bad != "sync" && (bad != "syscall" || !onlyNames(t, p)) {
					t.Errorf("%s imports %s: what decides is pure", p.ImportPath, imp)
				}
			}
			if strings.Contains(imp, ".") || strings.HasPrefix(imp, module) {
				allowed := imp == module+"internal/mutant" // nothing, but in the simulator
				for _, prefix := range may {
					allowed = allowed || imp == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(imp, prefix)
				}
				if !allowed {
					t.Errorf("%s imports %s, which it may not", p.ImportPath, imp)
				}
			}
		}
	}
}

// onlyNames tells whether a package takes nothing from syscall but the numbers
// that POSIX gives to errors and kinds of file. It reports what else it takes.
func onlyNames(t *testing.T, p pkg) bool {
	t.Helper()
	only := true
	for _, name := range p.GoFiles {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "syscall" && !posixName.MatchString(sel.Sel.Name) {
				t.Errorf("%s takes syscall.%s", fset.Position(n.Pos()), sel.Sel.Name)
				only = false
			}
			return true
		})
	}
	return only
}

var posixName = regexp.MustCompile(`^(E[A-Z0-9]+|S_I[A-Z]+|Errno)$`)

// TestNoClockInPurePackages looks for calls that read the clock, wait or begin a
// goroutine.
func TestNoClockInPurePackages(t *testing.T) {
	forbidden := map[string]bool{"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "Tick": true, "NewTimer": true, "NewTicker": true, "AfterFunc": true}
	for _, p := range packages(t) {
		if _, ok := pure[strings.TrimPrefix(p.ImportPath, module)]; !ok {
			continue
		}
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s begins a goroutine", fset.Position(n.Pos()))
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && forbidden[n.Sel.Name] {
						t.Errorf("%s reads the clock or waits: time comes in as an argument", fset.Position(n.Pos()))
					}
				}
				return true
			})
		}
	}
}

// parents of adapters: an adapter imports its parent, disk and what lies below
// it, generated code, and internal/qmp; never another adapter. Composition roots
// see more.
var roots = map[string]bool{"cluster/node": true, "cluster/keeper": true}

func TestAdaptersKnowNoOtherAdapter(t *testing.T) {
	everyones := func(rel, imp string) bool {
		return imp == "disk" || strings.HasPrefix(imp, "disk/") || imp == "internal/qmp" || imp == "internal/mutant" || strings.HasSuffix(imp, "pb") ||
			strings.HasSuffix(imp, "connect") || strings.HasPrefix(imp, rel+"/")
	}
	for _, p := range packages(t) {
		rel := strings.TrimPrefix(p.ImportPath, module)
		top, _, below := strings.Cut(rel, "/")
		if !below || roots[rel] || top == "cmd" || top == "test" || top == "internal" || pure[rel] != nil {
			continue
		}
		for _, imp := range p.Imports {
			imp, ours := strings.CutPrefix(imp, module)
			if !ours || everyones(rel, imp) {
				continue
			}
			parent := filepath.Dir(rel)
			if imp == parent || strings.HasPrefix(parent+"/", imp+"/") {
				continue
			}
			if _, isPure := pure[imp]; isPure && strings.HasPrefix(rel, "cluster/") {
				continue // cluster joins the pure packages, and so may what lies below it
			}
			if top == "csv" && imp == "csv/volume" {
				continue // the format, which is pure
			}
			t.Errorf("%s imports %s: adapters know their parent, disk and internal/qmp alone", rel, imp)
		}
	}
}

func TestProductKnowsNothingOfTheLab(t *testing.T) {
	for _, p := range packages(t) {
		rel := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(rel, "test") || rel == "cmd/clusterlab" {
			continue
		}
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, module+"test") {
				t.Errorf("%s imports %s", rel, imp)
			}
		}
	}
}

// TestEveryPackageHasOneDoc leaves out a package that is generated altogether,
// for nobody can write one there.
func TestEveryPackageHasOneDoc(t *testing.T) {
	for _, p := range packages(t) {
		docs, written := 0, 0
		for _, name := range append(p.GoFiles, p.CgoFiles...) {
			if strings.HasSuffix(name, ".pb.go") || strings.HasSuffix(name, ".connect.go") {
				continue
			}
			written++
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				docs++
			}
		}
		if written > 0 && docs != 1 {
			t.Errorf("%s has %d package docs, want 1", p.ImportPath, docs)
		}
	}
}

func TestNoCatchAllPackages(t *testing.T) {
	for _, p := range packages(t) {
		switch filepath.Base(p.ImportPath) {
		case "util", "utils", "common", "helpers", "misc":
			t.Errorf("%s: name the room by what lives in it", p.ImportPath)
		}
	}
}
