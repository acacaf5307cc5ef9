package cni

import (
	"encoding/json"
	"fmt"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
)

// Result is the result of ADD in the newest format.
type Result = current.Result

// Interface is one interface of a result.
type Interface = current.Interface

// IPConfig is one address of a result.
type IPConfig = current.IPConfig

// ParseResult reads a result of any version.
func ParseResult(data json.RawMessage) (*Result, error) {
	var head struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, err
	}
	if head.CNIVersion == "" {
		head.CNIVersion = "0.1.0" // the only version whose results may omit it
	}
	result, err := create.Create(head.CNIVersion, data)
	if err != nil {
		return nil, fmt.Errorf("result of CNI %q: %w", head.CNIVersion, err)
	}
	return current.NewResultFromResult(result)
}
