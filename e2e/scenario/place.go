package scenario

import (
	"fmt"
	"regexp"
	"strings"
)

// The kinds of places.
const (
	NodePlace = "node"
	PodPlace  = "pod"
	HostPlace = "host"
)

// DefaultInterface is CNI_IFNAME where a step does not say "as".
const DefaultInterface = "eth0"

// Place is where a step acts: a node, a pod or a host.
type Place struct {
	Kind string // NodePlace, PodPlace or HostPlace
	Name string
}

// String is the place as steps write it, e.g. "pod/server".
func (p Place) String() string { return p.Kind + "/" + p.Name }

// ParsePlace reads "node/NAME", "pod/NAME" or "host/NAME". It does not know whether such a place exists.
func ParsePlace(text string) (Place, error) {
	kind, name, found := strings.Cut(text, "/")
	if !found || !nameForm.MatchString(name) || (kind != NodePlace && kind != PodPlace && kind != HostPlace) {
		return Place{}, fmt.Errorf("want a place, got %q; write node/NAME, pod/NAME or host/NAME", text)
	}
	return Place{Kind: kind, Name: name}, nil
}

// nameForm is kebab-case, what Kubernetes calls a DNS label but for its length.
var nameForm = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// HostNames are the hosts of every lab.
func HostNames() []string { return []string{"external", "lan", "router"} }
