// Package chain reads what a runtime hands to a chained CNI plugin: its configuration, and the result of the plugins
// before it at any version of the spec. It also builds the errors that such a plugin answers with.
//
// It is not a plugin skeleton (that is pkg/skel of containernetworking/cni) and it never changes anything.
//
// Tests: go test ./plugin/internal/chain
package chain

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/cnitest/cnitest/plugin/internal/record"
)

// Config is the part of a plugin's configuration that the spec defines. A plugin embeds it beside its own keys.
type Config struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`

	// RawPrevResult is kept as text: DEL has to work even if a damaged cache has made it unreadable.
	RawPrevResult json.RawMessage `json:"prevResult"`

	// ValidAttachments is set for GC only. A missing key means none, as libcni sends it when its caller names none.
	ValidAttachments []types.GCAttachment `json:"cni.dev/valid-attachments"`
}

// Version returns the version of the spec that the answer has to have; an empty cniVersion means 0.1.0, as in skel.
func (c *Config) Version() string {
	if c.CNIVersion == "" {
		return "0.1.0"
	}
	return c.CNIVersion
}

// Attachment returns the attachment that the call is about.
func (c *Config) Attachment(args *skel.CmdArgs) record.Attachment {
	return record.Attachment{Network: c.Name, ContainerID: args.ContainerID, IfName: args.IfName}
}

// IsValid reports whether GC has to leave an attachment alone: it is valid, or it belongs to another network.
func (c *Config) IsValid(a record.Attachment) bool {
	return a.Network != c.Name ||
		slices.Contains(c.ValidAttachments, types.GCAttachment{ContainerID: a.ContainerID, IfName: a.IfName})
}

type versioned struct {
	CNIVersion string `json:"cniVersion"`
}

// PrevResult returns the result of the plugins before this one, converted to the current types, or nil when there is
// none. The version that the result names counts; one that names none has the version of the configuration.
func (c *Config) PrevResult() (*current.Result, error) {
	if len(c.RawPrevResult) == 0 || string(c.RawPrevResult) == "null" {
		return nil, nil
	}
	var named versioned
	if err := json.Unmarshal(c.RawPrevResult, &named); err != nil {
		return nil, fmt.Errorf("prevResult: %w", err)
	}
	if err := refuseNull(c.RawPrevResult); err != nil {
		return nil, fmt.Errorf("prevResult: %w", err)
	}
	raw := c.RawPrevResult
	if named.CNIVersion == "" {
		// Results before 1.0.0 may leave their version out, and the types of 1.0.0 insist on it.
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, fmt.Errorf("prevResult: %w", err)
		}
		named.CNIVersion = c.Version()
		fields["cniVersion"] = json.RawMessage(fmt.Sprintf("%q", named.CNIVersion))
		var err error
		if raw, err = json.Marshal(fields); err != nil {
			return nil, fmt.Errorf("prevResult: %w", err)
		}
	}
	result, err := create.Create(named.CNIVersion, raw)
	if err != nil {
		return nil, fmt.Errorf("prevResult: %w", err)
	}
	converted, err := current.NewResultFromResult(result)
	if err != nil {
		return nil, fmt.Errorf("prevResult: %w", err)
	}
	for _, ip := range converted.IPs {
		if ip.Address.IP == nil {
			return nil, errors.New("prevResult: an entry of ips has no address")
		}
		if i := ip.Interface; i != nil && (*i < 0 || *i >= len(converted.Interfaces)) {
			return nil, fmt.Errorf("prevResult: address %s is on interface %d, and there are %d interfaces",
				&ip.Address, *i, len(converted.Interfaces))
		}
	}
	return converted, nil
}

// refuseNull returns an error if a list of a result has a null in it: the library keeps it as a nil pointer, and its
// conversion from CNI 0.4.0 follows that (pkg/types/100, convertFrom04x of v1.3).
func refuseNull(result json.RawMessage) error {
	var lists struct {
		Interfaces []*json.RawMessage `json:"interfaces"`
		IPs        []*json.RawMessage `json:"ips"`
		Routes     []*json.RawMessage `json:"routes"`
	}
	_ = json.Unmarshal(result, &lists) // the library says what else is wrong
	for key, list := range map[string][]*json.RawMessage{
		"interfaces": lists.Interfaces, "ips": lists.IPs, "routes": lists.Routes,
	} {
		if i := slices.Index(list, nil); i >= 0 {
			return fmt.Errorf("%s[%d] is null", key, i)
		}
	}
	return nil
}

// RequirePrevResult is PrevResult for ADD and CHECK, where a chained plugin cannot work without one: a missing or
// unreadable result is an error with code 7.
func (c *Config) RequirePrevResult() (*current.Result, error) {
	result, err := c.PrevResult()
	if err != nil {
		return nil, BadConfig("%w", err)
	}
	if result == nil {
		return nil, BadConfig("prevResult is missing: %q works on the interface of a plugin before it; list it after "+
			"that plugin", c.Type)
	}
	return result, nil
}
