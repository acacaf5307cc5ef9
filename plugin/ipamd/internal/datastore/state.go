package datastore

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// State is the part of the store that must survive the process.
type State struct {
	Assignments []*Assignment `json:"assignments"`
	Resting     []Resting     `json:"resting"`
}

// Resting is an address that was released and may not be assigned again until its cooling time has passed.
type Resting struct {
	Address netip.Addr `json:"address"`
	ENI     string     `json:"eni"`
	Device  int        `json:"deviceNumber"`
	Since   time.Time  `json:"since"`
}

// Snapshot returns the state and its version. It contains every change that Assign and Release made up to that version.
// The values that it points to do not change.
func (s *Store) Snapshot() (State, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warm(s.now())
	state := State{Assignments: make([]*Assignment, 0, len(s.byKey))}
	for _, a := range s.byKey {
		state.Assignments = append(state.Assignments, a.held)
	}
	for _, a := range s.resting.items[s.resting.head:] {
		state.Resting = append(state.Resting, Resting{a.ip, a.eni.id, a.eni.device, a.since.UTC().Round(0)})
	}
	return state, s.version
}

// Restore sets the state. Call it before the first Sync, which tells which of its addresses the cloud still lists.
func (s *Store) Restore(state State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, held := range state.Assignments {
		if held == nil {
			return errors.New("an assignment is null")
		}
		if other := s.byKey[held.Key]; other != nil {
			return fmt.Errorf("%s of container %s in network %s has two addresses, %s and %s", held.IfName,
				held.ContainerID, held.Network, other.ip, held.Address)
		}
		a, err := s.restored(held.Address, held.ENI, held.Device)
		if err != nil {
			return err
		}
		s.hold(a, held)
	}
	now := s.now()
	slices.SortStableFunc(state.Resting, func(a, b Resting) int { return a.Since.Compare(b.Since) })
	for _, resting := range state.Resting {
		a, err := s.restored(resting.Address, resting.ENI, resting.Device)
		if err != nil {
			return err
		}
		since := resting.Since
		if since.After(now) { // the clock was set back
			since = now
		}
		s.rest(a, since)
	}
	return nil
}

func (s *Store) restored(ip netip.Addr, id string, device int) (*address, error) {
	if !ip.IsValid() || id == "" {
		return nil, fmt.Errorf("want an address and its ENI, got %q and %q", ip, id)
	}
	if s.byAddr[ip] != nil {
		return nil, fmt.Errorf("address %s occurs twice", ip)
	}
	e := s.enis[id]
	if e == nil {
		e = &eni{id: id, device: device, removed: true}
		s.enis[id] = e
	}
	a := &address{ip: ip, eni: e}
	s.byAddr[ip] = a
	return a, nil
}
