package cni

import (
	"encoding/json"
	"fmt"
	"slices"

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
	if err := refuseNull(data); err != nil {
		return nil, fmt.Errorf("result of CNI %q: %w", head.CNIVersion, err)
	}
	result, err := create.Create(head.CNIVersion, data)
	if err != nil {
		return nil, fmt.Errorf("result of CNI %q: %w", head.CNIVersion, err)
	}
	return current.NewResultFromResult(result)
}

// refuseNull returns an error if a list of a result has a null in it: the library keeps it as a nil pointer, and its
// conversion from CNI 0.4.0 follows that (pkg/types/100, convertFrom04x of v1.3).
func refuseNull(data json.RawMessage) error {
	var lists struct {
		Interfaces []*json.RawMessage `json:"interfaces"`
		IPs        []*json.RawMessage `json:"ips"`
		Routes     []*json.RawMessage `json:"routes"`
	}
	_ = json.Unmarshal(data, &lists) // the library says what else is wrong
	for key, list := range map[string][]*json.RawMessage{
		"interfaces": lists.Interfaces, "ips": lists.IPs, "routes": lists.Routes,
	} {
		if i := slices.Index(list, nil); i >= 0 {
			return fmt.Errorf("%s[%d] is null", key, i)
		}
	}
	return nil
}
