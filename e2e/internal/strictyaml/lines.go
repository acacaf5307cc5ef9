package strictyaml

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Lines gives the line of each value of a file by its path, e.g. "steps[3].probe.from".
type Lines map[string]int

func (l Lines) add(at string, n *yaml.Node) {
	if _, seen := l[at]; !seen {
		l[at] = n.Line
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := strings.TrimPrefix(at+"."+n.Content[i].Value, ".")
			l[key] = n.Content[i].Line
			l.add(key, n.Content[i+1])
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			l.add(fmt.Sprintf("%s[%d]", at, i), item)
		}
	}
}

// Has reports whether the file has a value at the path.
func (l Lines) Has(path string) bool {
	_, found := l[path]
	return found
}

// Of returns the line of the path, or of the nearest enclosing part that the file has.
func (l Lines) Of(path string) int {
	for path != "" && !l.Has(path) {
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return l[path]
}
