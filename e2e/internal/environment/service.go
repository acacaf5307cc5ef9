package environment

import (
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Service is a service of the scenario in this cluster. Its Place has no agent; its cluster addresses are on the
// interface "uplink".
type Service struct {
	cluster.Place
	Spec scenario.Service
	// Endpoints are the places that are its endpoints at present.
	Endpoints []string
}

// Endpoint is a place that a service forwards to, with its present addresses.
type Endpoint struct {
	Place     *cluster.Place
	Addresses []netip.Addr
}

// EndpointsOf returns the endpoints of a service that exist.
func (e *Environment) EndpointsOf(s *Service) []Endpoint {
	var endpoints []Endpoint
	for _, name := range s.Endpoints {
		places, err := e.Places(name)
		if err != nil {
			continue
		}
		for _, place := range places {
			endpoints = append(endpoints, Endpoint{place, e.Addresses(place, TargetInterface(scenario.Probe{}, place))})
		}
	}
	return endpoints
}

// Addresses returns the present addresses of a place on an interface.
func (e *Environment) Addresses(place *cluster.Place, ifName string) []netip.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(place.Interfaces[ifName])
}
