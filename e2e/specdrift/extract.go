package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
)

// found is a sentence of a document.
type found struct {
	// section is the number of its section and a word of the heading above it: "2.ADD".
	section string
	// line is that of the paragraph that it is in.
	line int
	text string
	// hash identifies the sentence, whatever its line breaks and its emphasis.
	hash string
	// normative says that it has a word by which specifications demand, recommend or allow something.
	normative bool
}

// demanding are the words of RFC 2119 and those that the CNI specification uses in their place. Examples, which the
// specification prints as code, have none.
var demanding = regexp.MustCompile(`(?i)\b(must|shall|should|required|recommended|may not|is an error|are errors)\b`)

// extract returns the sentences of a Markdown document in their order: of paragraphs, of items of lists and of cells of
// tables, without code blocks.
func extract(markdown []byte) []found {
	parser := goldmark.New(goldmark.WithExtensions(extension.Table)).Parser()
	document := parser.Parse(text.NewReader(markdown))
	var all []found
	at := place{number: "0"}
	_ = ast.Walk(document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			at.enter(n.Level, plain(n, markdown))
			return ast.WalkSkipChildren, nil
		case *ast.Paragraph, *ast.TextBlock, *extast.TableCell:
			line := 1 + bytes.Count(markdown[:start(n)], []byte("\n"))
			for _, s := range split(plain(n, markdown)) {
				all = append(all, found{at.section(), line, s, hash(s), demanding.MatchString(s)})
			}
			return ast.WalkSkipChildren, nil
		}
		return ast.WalkContinue, nil
	})
	return all
}

// place is where in a document a sentence stands.
type place struct{ number, name string }

var numbered = regexp.MustCompile(`^Section (\d+)`)

// names are the short names of headings, by how they begin. Other headings keep their first word.
var names = []struct{ heading, name string }{
	{"Configuration format", "format"},
	{"Plugin configuration objects", "plugins"},
	{"Version considerations", "versions"},
	{"Overview", "overview"},
	{"Parameters", "parameters"},
	{"Errors", "errors"},
	{"Lifecycle", "lifecycle"},
	{"Attachment Parameters", "parameters"},
	{"Adding an attachment", "ADD"},
	{"Deleting an attachment", "DEL"},
	{"Checking an attachment", "CHECK"},
	{"Garbage-collecting", "GC"},
	{"Deriving request", "request"},
	{"Deriving runtimeConfig", "runtimeConfig"},
	{"Delegated Plugin protocol", "protocol"},
	{"Delegated plugin execution", "procedure"},
	{"Delegated plugins (IPAM)", "IPAM"},
	{"VERSION Success", "VERSION"},
	{"Version", "VERSION"},
	{"Error", "error"},
	{"Plugins", "plugins"},
	{"Runtimes", "runtimes"},
	{"Dynamic Plugin", "capabilities"},
	{"Well-known Capabilities", "capabilities"},
	{`"args"`, "args"},
	{"Chained Plugins", "chained"},
}

// enter goes to a heading.
func (p *place) enter(level int, heading string) {
	match := numbered.FindStringSubmatch(heading)
	switch {
	case match != nil:
		p.number, p.name = match[1], ""
		return
	case heading == "Extension conventions":
		p.number, p.name = "C", ""
		return
	case level == 2 && strings.HasPrefix(heading, "Appendix"):
		p.number = "A"
	}
	p.name, _, _ = strings.Cut(heading, " ")
	p.name = strings.TrimSuffix(p.name, ":")
	for _, n := range names {
		if strings.HasPrefix(heading, n.heading) {
			p.name = n.name
			break
		}
	}
}

func (p *place) section() string {
	switch {
	case p.number == "0" || p.name == "" || p.name == "Current":
		return p.number
	}
	return p.number + "." + p.name
}

// start returns where a block begins in the document.
func start(n ast.Node) int {
	if lines := n.Lines(); lines != nil && lines.Len() > 0 {
		return lines.At(0).Start
	}
	at := 0
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			at = t.Segment.Start
			return ast.WalkStop, nil
		}
		return ast.WalkContinue, nil
	})
	return at
}

// plain returns the text of a block on one line, without emphasis, links and quotes of code.
func plain(n ast.Node, markdown []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.Text:
			if entering {
				b.Write(n.Segment.Value(markdown))
				if n.SoftLineBreak() || n.HardLineBreak() {
					b.WriteByte(' ')
				}
			}
		case *ast.String:
			if entering {
				b.Write(n.Value)
			}
		}
		return ast.WalkContinue, nil
	})
	return strings.Join(strings.Fields(b.String()), " ")
}

// end is where a sentence ends: at a full stop before a capital letter. abbreviated are full stops that end none.
var (
	end         = regexp.MustCompile(`([A-Za-z0-9)\]"'_][.!?]|\.\)) +([A-Z"(])`)
	abbreviated = regexp.MustCompile(`\b(e\.g|i\.e|etc|[A-Z])\. `)
)

// split splits the text of a block into sentences.
func split(block string) []string {
	const mark = "\x00"
	const stop = "\x01"
	marked := abbreviated.ReplaceAllString(block, "${1}"+stop)
	marked = end.ReplaceAllString(marked, "${1}"+mark+"${2}")
	var sentences []string
	for _, s := range strings.Split(marked, mark) {
		if s = strings.TrimSpace(strings.ReplaceAll(s, stop, ". ")); s != "" {
			sentences = append(sentences, s)
		}
	}
	return sentences
}

// hash returns the first 12 hexadecimal digits of the SHA-256 of a sentence in lower case, without blanks and
// punctuation.
func hash(sentence string) string {
	letters := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\n.,;:!?()[]'\"`*_-", r) {
			return -1
		}
		return r
	}, strings.ToLower(sentence))
	sum := sha256.Sum256([]byte(letters))
	return hex.EncodeToString(sum[:])[:12]
}
