package report

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
)

// These are the names of the documents in a report's directory. Ginkgo writes JUnitName.
const (
	JSONName     = "report.json"
	HTMLName     = "report.html"
	MarkdownName = "report.md"
	JUnitName    = "junit.xml"
)

// WriteDir writes the document and its renderings into a directory, which it makes if it does not exist.
func (r *Report) WriteDir(dir string) error {
	err := r.WriteFile(filepath.Join(dir, JSONName))
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		return err
	}
	return errors.Join(err,
		writeWhole(filepath.Join(dir, HTMLName), page.Bytes()),
		writeWhole(filepath.Join(dir, MarkdownName), []byte(r.Markdown())))
}

func writeWhole(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(path, data, 0o644)
}

// WriteFile writes the document, replacing an earlier one as a whole, with its digest. An empty list is written as a
// list, never as null.
func (r *Report) WriteFile(path string) error {
	whole := r.withLists()
	whole.Digest = r.Sum()
	document, err := format().Marshal(whole)
	if err != nil {
		return err
	}
	return writeWhole(path, document)
}

// withLists returns a copy without nil lists.
func (r *Report) withLists() *Report {
	c := *r
	c.Implementation.Plugins = list(r.Implementation.Plugins)
	c.FailureModes = list(r.FailureModes)
	c.Results, c.Residue, c.Notes, c.Scores = list(slices.Clone(r.Results)), list(r.Residue), list(r.Notes),
		list(slices.Clone(r.Scores))
	if r.Inputs != nil {
		inputs := *r.Inputs
		inputs.Files = list(inputs.Files)
		c.Inputs = &inputs
	}
	if r.Lab != nil {
		lab := *r.Lab
		lab.Networks, lab.Nodes, lab.Hosts = list(lab.Networks), list(slices.Clone(lab.Nodes)),
			list(slices.Clone(lab.Hosts))
		for i := range lab.Nodes {
			lab.Nodes[i].Addresses = list(lab.Nodes[i].Addresses)
		}
		for i := range lab.Hosts {
			lab.Hosts[i].Addresses = list(lab.Hosts[i].Addresses)
		}
		c.Lab = &lab
	}
	for i := range c.Scores {
		c.Scores[i].Missed = list(c.Scores[i].Missed)
	}
	for i := range c.Results {
		c.Results[i].Covers = list(c.Results[i].Covers)
	}
	return &c
}

func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}
