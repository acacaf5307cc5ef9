package cluster_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/cluster"
)

const importPath = `"github.com/cnitest/cnitest/e2e/cluster"`

// asserted returns the interfaces to which a file asserts values that can be backends or clusters: those of package
// cluster by name, and "interface{…}" for one without a name.
func asserted(file *ast.File) []string {
	own := file.Name.Name == "cluster"
	imports := slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == importPath })
	if !own && !imports {
		return nil
	}
	var names []string
	ast.Inspect(file, func(n ast.Node) bool {
		assertion, ok := n.(*ast.TypeAssertExpr)
		if !ok {
			return true
		}
		switch t := assertion.Type.(type) {
		case *ast.InterfaceType:
			names = append(names, "interface{…}")
		case *ast.Ident:
			if own && t.IsExported() {
				names = append(names, t.Name)
			}
		case *ast.SelectorExpr:
			// Cluster itself is no ability.
			if x, ok := t.X.(*ast.Ident); ok && x.Name == "cluster" && t.Sel.Name != "Cluster" {
				names = append(names, t.Sel.Name)
			}
		}
		return true
	})
	return names
}

// TestAbilities finds optional abilities of backends that are not listed.
func TestAbilities(t *testing.T) {
	unused := map[string]bool{}
	for _, a := range cluster.Abilities() {
		unused[a.Interface] = true
	}
	listed := func(name string) bool {
		return slices.ContainsFunc(cluster.Abilities(), func(a cluster.Ability) bool { return a.Interface == name })
	}
	err := fs.WalkDir(os.DirFS(".."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", path), nil, 0)
		if err != nil {
			return err
		}
		for _, name := range asserted(file) {
			if delete(unused, name); !listed(name) {
				t.Errorf("%s asks a backend or a cluster for %s, which is no ability: name it in package cluster and "+
					"add it to Abilities", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range unused {
		t.Errorf("%s is listed, and nobody asks for it; remove it from Abilities", name)
	}
}
