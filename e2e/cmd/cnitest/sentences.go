package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/cnitest/cnitest/e2e/contract"
)

// sentencesOf returns the sentences of a section; all if it is empty.
func sentencesOf(section string) ([]contract.Sentence, error) {
	if section == "" {
		return contract.Sentences()
	}
	return contract.SentencesOf(section)
}

func listSentences(out io.Writer, section string) error {
	all, err := sentencesOf(section)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SECTION\tORIGINAL\tLEVEL\tBINDS\tASKED BY\tSENTENCE")
	for _, s := range all {
		by, text := strings.Join(s.Asked, ","), s.Text
		if by == "" {
			by, text = "-", text+" ("+s.Why+")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Section, s.Hash, s.Level, s.Who, by, text)
	}
	return w.Flush()
}

// explainSection lists the sentences of a section, each with what asks it.
func explainSection(out io.Writer, section string, all []contract.Sentence) error {
	document := "SPEC.md"
	if all[0].Section[0] == 'C' {
		document = "CONVENTIONS.md"
	}
	fmt.Fprintf(out, "section %s of %s (containernetworking/cni at %s)\n", section, document, contract.Commit)
	for _, s := range all {
		fmt.Fprintf(out, "\n%s (%s, binds %s) %s\n", s.Section, s.Level, s.Who, s.Text)
		if s.Why != "" {
			fmt.Fprintf(out, "  not asked: %s\n", s.Why)
		}
		for _, id := range s.Asked {
			r := contract.Find(id)
			fmt.Fprintf(out, "  %s %s", r.ID, r.Text)
			if r.Unchecked != "" {
				fmt.Fprintf(out, " (%s)", strings.TrimSuffix(r.Unchecked, "."))
			}
			fmt.Fprintln(out)
		}
	}
	_, err := fmt.Fprintf(out, "\ncnitest run CONFLIST --section %s asks plugins for them, and cnitest runtime NAME "+
		"--section %s runtimes\n", section, section)
	return err
}

// sectionFilter returns the label filter for the requirements that ask sentences of a section.
func sectionFilter(section string) (string, error) {
	ids, err := contract.AskedIn(section)
	if err != nil {
		return "", err
	}
	var labels []string
	for _, id := range ids {
		if r := contract.Find(id); r.Checked() {
			labels = append(labels, id)
		}
	}
	if labels == nil {
		return "", fmt.Errorf("section %q binds no plugin; see cnitest list sentences --section %s", section, section)
	}
	return "contract && (" + strings.Join(labels, " || ") + ")", nil
}
