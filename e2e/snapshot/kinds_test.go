package snapshot

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"
)

// constantKinds returns the constants of snapshot.go that name kinds.
func constantKinds(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "snapshot.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	ast.Inspect(file, func(n ast.Node) bool {
		decl, ok := n.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			return true
		}
		for _, spec := range decl.Specs {
			if literal, ok := spec.(*ast.ValueSpec).Values[0].(*ast.BasicLit); ok {
				kind, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				kinds = append(kinds, kind)
			}
		}
		return false
	})
	return kinds
}

// TestKinds finds a kind that was added in one place and forgotten in others.
func TestKinds(t *testing.T) {
	read := map[string]bool{} // whether a kind that is read belongs to a network
	for _, r := range (network{}).readers() {
		read[r.kind] = true
	}
	for _, r := range nodeReaders(context.Background(), Options{}) {
		read[r.kind] = false
	}
	names := KindsThat(func(Kind) bool { return true })
	for _, name := range constantKinds(t) {
		if name != Namespace && !slices.Contains(names, name) {
			t.Errorf("%s: it is no kind of Kinds; add a row to kind.go", name)
		}
	}
	for _, k := range Kinds() {
		switch network, ok := read[k.Name]; {
		case !ok:
			t.Errorf("%s: nothing reads it; add a reader to network.go or snapshot.go", k.Name)
		case network != k.Network:
			t.Errorf("%s: Network is %t, and its reader is one of a network: %t", k.Name, k.Network, network)
		}
		if !k.Network && k.WithLink {
			t.Errorf("%s: it goes with a link and is not of a network", k.Name)
		}
		delete(read, k.Name)
	}
	for name := range read {
		t.Errorf("%s: it is read and no kind of Kinds; add a row to kind.go", name)
	}
}
