package conflist

import (
	"encoding/json"
	"strings"

	"go.yaml.in/yaml/v3"
)

// networksAnnotation is the annotation in which a pod lists its networks besides the default one, and the interfaces
// for them.
const networksAnnotation = "k8s.v1.cni.cncf.io/networks"

// attachmentWish is one network of a pod's annotation.
type attachmentWish struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Interface string `json:"interface"`
}

// wishes returns the networks in the annotation of a pod, or of an object's pod template: a JSON list, or
// "NAMESPACE/NAME@INTERFACE" separated by commas.
func wishes(object *yaml.Node) []attachmentWish {
	template := child(child(object, "spec"), "template")
	var all []attachmentWish
	for _, of := range []*yaml.Node{object, template} {
		text := strings.TrimSpace(scalar(child(child(child(of, "metadata"), "annotations"), networksAnnotation)))
		if text == "" {
			continue
		}
		var listed []attachmentWish
		if json.Unmarshal([]byte(text), &listed) == nil {
			all = append(all, listed...)
			continue
		}
		for _, part := range strings.Split(text, ",") {
			name, ifName, _ := strings.Cut(strings.TrimSpace(part), "@")
			w := attachmentWish{Name: name, Interface: ifName}
			if namespace, short, found := strings.Cut(name, "/"); found {
				w.Namespace, w.Name = namespace, short
			}
			all = append(all, w)
		}
	}
	return all
}

// interfaces returns the names of the interfaces that pods use for a definition, in their order.
func (d definition) interfaces(all []attachmentWish) []string {
	var names []string
	for _, w := range all {
		of := w.Namespace == "" || d.namespace == "" || w.Namespace == d.namespace
		if w.Name == d.name && of && w.Interface != "" && validLinkName(w.Interface) == nil {
			names = append(names, w.Interface)
		}
	}
	return names
}
