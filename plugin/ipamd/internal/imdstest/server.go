// Package imdstest is an instance metadata service for tests. It serves the ENIs that it is given, with tokens
// (IMDSv2), without tokens (IMDSv1), or not at all.
package imdstest

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
)

// Mode says how the service answers.
type Mode int

const (
	// Tokens requires a token for every request, as IMDSv2 does if tokens are required.
	Tokens Mode = iota
	// NoTokens answers without tokens and issues none.
	NoTokens
	// Unavailable answers 503 to everything.
	Unavailable
)

const token = "token-of-the-test"

// Service is an http.Handler. The zero value serves no ENIs. It is safe for concurrent use.
type Service struct {
	mu        sync.Mutex
	inventory cloud.Inventory
	mode      Mode
	requests  map[string]int
}

// Set replaces the inventory that the service serves.
func (s *Service) Set(inv cloud.Inventory) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inventory = inv
}

// Answer sets how the service answers.
func (s *Service) Answer(mode Mode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode = mode
}

// Requests returns how often a path below /latest was requested.
func (s *Service) Requests(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[path]
}

// ServeHTTP answers a request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/latest")
	if s.requests == nil {
		s.requests = map[string]int{}
	}
	s.requests[path]++
	switch {
	case s.mode == Unavailable:
		http.Error(w, "not now", http.StatusServiceUnavailable)
	case path == "/api/token" && (s.mode == NoTokens || r.Method != http.MethodPut):
		http.Error(w, "", http.StatusNotFound)
	case path == "/api/token":
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
		fmt.Fprint(w, token)
	case s.mode == Tokens && r.Header.Get("X-Aws-Ec2-Metadata-Token") != token:
		http.Error(w, "", http.StatusUnauthorized)
	default:
		text := s.tree()[strings.Trim(strings.TrimPrefix(path, "/meta-data/"), "/")]
		if text == "" {
			http.Error(w, "", http.StatusNotFound)
			return
		}
		fmt.Fprint(w, text)
	}
}

// tree returns all values by path.
func (s *Service) tree() map[string]string {
	inv := s.inventory
	tree := map[string]string{
		"instance-id": inv.InstanceID, "instance-type": inv.InstanceType, "placement/region": inv.Region,
	}
	var macs []string
	for _, eni := range inv.ENIs {
		if eni.Primary() {
			tree["mac"] = eni.MAC
		}
		macs = append(macs, eni.MAC+"/")
		vpc4, vpc6 := byFamily(inv.VPC, func(p netip.Prefix) bool { return p.Addr().Is4() })
		second4, second6 := byFamily(eni.Secondary, netip.Addr.Is4)
		prefix4, prefix6 := byFamily(eni.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() })
		for key, value := range map[string]string{
			"interface-id": eni.ID, "device-number": fmt.Sprint(eni.Device), "network-card": fmt.Sprint(eni.Card),
			"subnet-id":          eni.SubnetID,
			"security-group-ids": strings.Join(eni.SecurityGroups, "\n"), "vpc-ipv4-cidr-blocks": lines(vpc4),
			"vpc-ipv6-cidr-blocks": lines(vpc6),
			"local-ipv4s":          lines(slices.Concat([]netip.Addr{eni.Address}, second4)), "ipv6s": lines(second6),
			"ipv4-prefix": lines(prefix4), "ipv6-prefix": lines(prefix6),
			"subnet-ipv4-cidr-block": lines([]netip.Prefix{eni.Subnet}),
		} {
			tree["network/interfaces/macs/"+eni.MAC+"/"+key] = value
		}
	}
	tree["network/interfaces/macs"] = strings.Join(macs, "\n")
	return tree
}

func byFamily[T any](all []T, is4 func(T) bool) (four, six []T) {
	for _, element := range all {
		if is4(element) {
			four = append(four, element)
		} else {
			six = append(six, element)
		}
	}
	return four, six
}

// lines returns the valid elements of all, one per line.
func lines[T interface {
	comparable
	fmt.Stringer
}](all []T) string {
	var none T
	var text []string
	for _, element := range all {
		if element != none {
			text = append(text, element.String())
		}
	}
	return strings.Join(text, "\n")
}
