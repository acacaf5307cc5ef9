package conflist

import (
	"encoding/json"
	"slices"
	"strings"
)

// Kubeconfigs returns the absolute paths in a conflist that are values of a key kubeconfig, anywhere in it: the file
// with which a plugin finds the Kubernetes API (whereabouts has it in ipam.kubernetes, Multus in its own object). Each
// is returned once, in the order of the alphabet.
func Kubeconfigs(list []byte) []string {
	var document any
	if json.Unmarshal(list, &document) != nil {
		return nil
	}
	var found []string
	var search func(any)
	search = func(value any) {
		switch v := value.(type) {
		case map[string]any:
			for key, inner := range v {
				if path, ok := inner.(string); ok && strings.EqualFold(key, "kubeconfig") && strings.HasPrefix(path,
					"/") {
					found = append(found, path)
				}
				search(inner)
			}
		case []any:
			for _, inner := range v {
				search(inner)
			}
		}
	}
	search(document)
	slices.Sort(found)
	return slices.Compact(found)
}
