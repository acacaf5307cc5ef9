package contract

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

// Sentence is a sentence of SPEC.md or CONVENTIONS.md that demands, recommends or allows something, at Commit.
type Sentence struct {
	// Section is the number of its section, "C" for CONVENTIONS.md, and a word of its heading: "2.ADD".
	Section string `yaml:"section"`
	// Hash identifies the original sentence (command specdrift).
	Hash  string `yaml:"hash"`
	Level Level  `yaml:"level"`
	// Who is whom it binds: "plugin", "runtime", or "nobody" that a machine could ask.
	Who string `yaml:"who"`
	// Text says it in other words.
	Text string `yaml:"text"`
	// Asked are the ids of the requirements that ask it.
	Asked []string `yaml:"asked"`
	// Why says why none does; empty if one does.
	Why string `yaml:"why"`
}

//go:embed sentences.yaml
var sentences []byte

// Sentences returns the sentences in the order of the documents. Its error is a mistake in the table.
func Sentences() ([]Sentence, error) {
	return readTable[Sentence]("sentences", sentences)
}

// SentencesOf returns the sentences of a section: "2" has those of "2.ADD", too. Upper and lower case are the same.
// The error lists the sections.
func SentencesOf(section string) ([]Sentence, error) {
	all, err := Sentences()
	if err != nil {
		return nil, err
	}
	var found []Sentence
	var sections []string
	for _, s := range all {
		if s.in(section) {
			found = append(found, s)
		}
		if !slices.Contains(sections, s.Section) {
			sections = append(sections, s.Section)
		}
	}
	if found == nil {
		return nil, fmt.Errorf("section %q: want a number, or one of %s", section, strings.Join(sections, ", "))
	}
	return found, nil
}

func (s Sentence) in(section string) bool {
	own, asked := strings.ToLower(s.Section), strings.ToLower(section)
	return own == asked || strings.HasPrefix(own, asked+".")
}

// AskedIn returns the ids of the requirements that ask sentences of a section, each once.
func AskedIn(section string) ([]string, error) {
	found, err := SentencesOf(section)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, s := range found {
		for _, id := range s.Asked {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}
