package kubernetes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"
)

// Definition is a CustomResourceDefinition as an API server takes it.
type Definition map[string]any

// Name returns metadata.name.
func (d Definition) Name() string {
	metadata, _ := d["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	return name
}

// ReadDefinitions reads the custom resource definitions of a manifest, in YAML or JSON, with one or several documents.
// Documents of other kinds, such as those of a DaemonSet's manifest, are left out; none at all is an error.
func ReadDefinitions(file string) ([]Definition, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list []Definition
	for documents := yaml.NewDecoder(bytes.NewReader(data)); ; {
		// With the named type, the maps below would have it, too.
		var d map[string]any
		err := documents.Decode(&d)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if d["kind"] != "CustomResourceDefinition" {
			continue
		}
		if Definition(d).Name() == "" {
			return nil, fmt.Errorf("%s: a CustomResourceDefinition has no metadata.name", file)
		}
		list = append(list, d)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: no CustomResourceDefinition in it", file)
	}
	return list, nil
}
