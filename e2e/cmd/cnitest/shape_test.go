package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// The limits of units of code. The limit of lines is in .golangci.yml.
const (
	maxFileLines     = 450
	maxFunctionLines = 60 // without tables and texts
	maxFields        = 12 // of a struct that hides some; the others are data
	maxColumns       = 120
)

// isTable names structs that hide fields and are data nevertheless.
var isTable = map[string]bool{
	"Requirement": true, // a row of contract's tables, with the check that only its package calls
}

// TestShape keeps files, functions and structs small, and lines of Markdown short. Generated files are exempt.
func TestShape(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "bin" || d.Name() == "reports" || d.Name()[0] == '_'):
			return filepath.SkipDir
		case filepath.Ext(path) == ".md":
			text, err := os.ReadFile(path)
			for _, problem := range wide(path, string(text)) {
				t.Error(problem)
			}
			return err
		case filepath.Ext(path) != ".go":
			return nil
		}
		files++
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		if !ast.IsGenerated(file) {
			for _, problem := range misshapen(set, file) {
				t.Error(problem)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Errorf("got %d files, want all of the repository", files)
	}
}

func TestWide(t *testing.T) {
	long := strings.Repeat("a", maxColumns+1)
	text := long + "\n| " + long + " |\n```\n" + long + "\n```\n    " + long + "\nshort\n"
	got := strings.Join(wide("x.md", text), "\n")
	if want := "x.md:1: the line has 121 columns, want at most 120"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMisshapen(t *testing.T) {
	long := strings.Repeat("\n", maxFunctionLines)
	for _, tt := range []struct{ name, source, want string }{
		{"short", "func f() {}", ""},
		{"a long function", "func f() {" + long + "}", "x.go:2: function f has 61 lines, want at most 60"},
		{"a long text", "func f() { g(`" + long + "`) }", ""},
		{"a long table", "func f() { g([]int{" + long + "}) }", ""},
		{"a long file", strings.Repeat("\n", maxFileLines), "x.go:1: the file has 452 lines, want at most 450"},
		{"data", "type s struct { A, B, C, D, E, F, G, H, I, J, K, L, M int }", ""},
		{
			"a struct of everything", "type s struct { A, B, C, D, E, F, G, H, I, J, K, L, m int }",
			"x.go:2: struct s has 13 fields, want at most 12",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, "x.go", "package x\n"+tt.source+"\n", 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(misshapen(set, file), "\n"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// misshapen lists what is too large in a file.
func misshapen(set *token.FileSet, file *ast.File) []string {
	var problems []string
	tooLarge := func(at ast.Node, what, unit string, got, want int) {
		if got > want {
			p := set.Position(at.Pos())
			problems = append(problems,
				fmt.Sprintf("%s:%d: %s has %d %s, want at most %d", p.Filename, p.Line, what, got, unit, want))
		}
	}
	lines := func(n ast.Node) int { return set.Position(n.End()).Line - set.Position(n.Pos()).Line + 1 }
	tooLarge(file, "the file", "lines", set.Position(file.FileEnd).Line, maxFileLines)
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			tooLarge(f, "function "+f.Name.Name, "lines", lines(f)-dataLines(f, lines), maxFunctionLines)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, _ := n.(*ast.TypeSpec)
		if spec == nil {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok && hides(s) && !isTable[spec.Name.Name] {
			tooLarge(spec, "struct "+spec.Name.Name, "fields", s.Fields.NumFields(), maxFields)
		}
		return true
	})
	return problems
}

// wide lists the lines of a Markdown text that are too long; tables and code blocks are exempt.
func wide(file, text string) []string {
	var problems []string
	code := false
	for i, line := range strings.Split(text, "\n") {
		isTable, isBlock := strings.HasPrefix(line, "|"), strings.HasPrefix(line, "    ")
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
		}
		if n := utf8.RuneCountInString(line); n > maxColumns && !code && !isTable && !isBlock {
			problems = append(problems,
				fmt.Sprintf("%s:%d: the line has %d columns, want at most %d", file, i+1, n, maxColumns))
		}
	}
	return problems
}

// dataLines counts the lines of slices, maps and texts in a function.
func dataLines(f *ast.FuncDecl, lines func(ast.Node) int) int {
	n := 0
	ast.Inspect(f, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.BasicLit:
			n += lines(node) - 1
		case *ast.CompositeLit:
			switch node.Type.(type) {
			case *ast.ArrayType, *ast.MapType:
				n += lines(node) - 1
				return false
			}
		}
		return true
	})
	return n
}

// hides reports whether a struct has unexported fields.
func hides(s *ast.StructType) bool {
	for _, f := range s.Fields.List {
		for _, name := range f.Names {
			if !name.IsExported() {
				return true
			}
		}
	}
	return false
}
