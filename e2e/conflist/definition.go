package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cnitest/cnitest/e2e/internal/strictyaml"
)

// definitionKind is the kind of the Kubernetes objects in which Multus finds networks.
const definitionKind = "NetworkAttachmentDefinition"

// systemDir is where runtimes look for networks, and Multus for those of definitions without a configuration.
const systemDir = "/etc/cni/net.d"

// definition is one NetworkAttachmentDefinition.
type definition struct {
	name, namespace string
	// line is the line at which the object begins.
	line int
	// config is the scalar of spec.config; nil if there is none.
	config *yaml.Node
	// wanted are the names of its interfaces in pods of the same file.
	wanted []string
}

// String returns the name as kubectl prints it after the kind.
func (d definition) String() string {
	if d.namespace == "" {
		return d.name
	}
	return d.namespace + "/" + d.name
}

// holdsDefinitions reports whether a file contains Kubernetes objects instead of a CNI configuration.
func holdsDefinitions(name string, data []byte) bool {
	if slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(name)) {
		return true
	}
	var object struct {
		APIVersion, Kind *string
	}
	return json.Unmarshal(data, &object) == nil && object.APIVersion != nil && object.Kind != nil
}

// IsDefinitions reports whether a YAML or JSON text contains a NetworkAttachmentDefinition, even one with mistakes.
func IsDefinitions(data []byte) bool { return definitionForm.Match(data) }

var definitionForm = regexp.MustCompile(`(?m)^[ \t-]*"?kind"?:[ \t]*["']?` + definitionKind + `\b`)

// definitions returns the definitions of all documents of a file, including those in Kubernetes' lists.
func definitions(name string, data []byte) ([]definition, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var found []definition
	var errs []error
	var others []string
	var wanted []attachmentWish
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, yamlError(name, data, err)
		}
		for _, object := range objects(document.Content[0]) {
			if kind := scalar(child(object, "kind")); kind != definitionKind {
				others, wanted = append(others, kind), append(wanted, wishes(object)...)
				continue
			}
			// The decoder of nodes takes a key twice; kubectl refuses it.
			var values any
			if err := object.Decode(&values); err != nil {
				return nil, yamlError(name, data, err)
			}
			d, err := readDefinition(name, object)
			if errs = append(errs, err); err == nil {
				found = append(found, d)
			}
		}
	}
	if len(found) == 0 && errors.Join(errs...) == nil {
		return nil, fmt.Errorf("%s:1: no %s in the file%s; write its network into one, or into a .conflist", name,
			definitionKind, otherKinds(others))
	}
	for i := range found {
		found[i].wanted = found[i].interfaces(wanted)
	}
	return found, errors.Join(errs...)
}

func otherKinds(kinds []string) string {
	kinds = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(kinds))), func(kind string) bool {
		return kind == ""
	})
	if len(kinds) == 0 {
		return ""
	}
	return ", which holds " + strings.Join(kinds, ", ")
}

// objects returns the node itself or, if it is a list, its items.
func objects(root *yaml.Node) []*yaml.Node {
	items := child(root, "items")
	if items == nil || !strings.HasSuffix(scalar(child(root, "kind")), "List") {
		return []*yaml.Node{root}
	}
	var all []*yaml.Node
	for _, item := range items.Content {
		all = append(all, objects(resolve(item))...)
	}
	return all
}

func readDefinition(file string, object *yaml.Node) (definition, error) {
	meta, spec := child(object, "metadata"), child(object, "spec")
	d := definition{name: scalar(child(meta, "name")), namespace: scalar(child(meta, "namespace")), line: object.Line}
	config := child(spec, "config")
	switch {
	case d.name == "":
		return d, fmt.Errorf(`%s:%d: the %s has no metadata.name; add one, pods name the network by it`, file,
			object.Line, definitionKind)
	case config == nil, config.Kind == yaml.ScalarNode && strings.TrimSpace(config.Value) == "":
		return d, nil
	case config.Kind != yaml.ScalarNode:
		return d, fmt.Errorf("%s:%d: spec.config of %s is YAML; Kubernetes takes a string, so write config: | and "+
			"the network as JSON below it", file, config.Line, d.name)
	}
	d.config = config
	return d, nil
}

// child returns the value of a key; nil if there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	n = resolve(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}

func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func scalar(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// yamlError adds the place to an error of the library. If the file contains templates, it names them instead.
func yamlError(name string, data []byte, err error) error {
	d := &document{passage: wholeFile(name, data)}
	if d.rejectTemplates(); len(d.problems) > 0 {
		return d.err()
	}
	p := strictyaml.Syntax(data, err)
	return fmt.Errorf("%s:%d: %s", name, p.Line, p.Text)
}

// network reads the configuration of a definition: its own, or that of the file of the same name that a node would
// have.
func (d definition) network(file string, data []byte, dirs []string) (*File, error) {
	if d.config == nil {
		return d.fromDirs(file, dirs)
	}
	f, err := parsePassage(scalarPassage(file, data, d.config), d.name)
	if err != nil {
		return nil, err
	}
	f.Definition, f.Interfaces = d.String(), d.wanted
	return f, nil
}

// fromDirs reads the first file whose network has the definition's name, as Multus does in the node's directory.
func (d definition) fromDirs(file string, dirs []string) (*File, error) {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir) // in the order of their names, in which libcni reads them
		if err != nil {
			continue
		}
		for _, entry := range entries {
			path := filepath.Join(dir, entry.Name())
			if !slices.Contains([]string{".conflist", ".conf", ".json"}, filepath.Ext(path)) || nameOf(path) != d.name {
				continue
			}
			f, err := Load(path)
			if err != nil {
				return nil, err
			}
			f.Definition, f.Interfaces = d.String(), d.wanted
			f.Warnings = append(f.Warnings, fmt.Sprintf("%s:%d: %s has no spec.config; its network is that of %s", file,
				d.line, d.name, path))
			return f, nil
		}
	}
	return nil, fmt.Errorf(`%s:%d: %s has no spec.config, and no .conflist or .conf in %s has "name": %q; add `+
		`spec.config, or put that file beside this one`,
		file, d.line, d.name, strings.Join(dirs, " or "), d.name)
}

// nameOf returns the name of the network of a file; empty if it cannot be read.
func nameOf(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var network struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(data, &network)
	return network.Name
}
