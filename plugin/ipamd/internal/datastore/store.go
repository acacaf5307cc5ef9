// Package datastore knows which pod has which address, and which address of which ENI is next.
//
// It is memory only: package state puts it on disk, and a caller must not tell anybody of an address before it is
// there. It does not talk to the cloud or to the kernel.
//
// Tests: go test ./plugin/ipamd/internal/datastore
package datastore

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Key names an interface of a container in a network. It is what the CNI spec counts attachments by.
type Key struct {
	Network     string `json:"network"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

func (k Key) isComplete() bool { return k.Network != "" && k.ContainerID != "" && k.IfName != "" }

// Pod is what the runtime said about the pod, for people who read the state. Nothing depends on it.
type Pod struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Netns     string `json:"netns,omitempty"`
}

// Assignment is an address that an interface has. It never changes once made.
type Assignment struct {
	Key
	Pod
	Address netip.Addr `json:"address"`
	ENI     string     `json:"eni"`
	Device  int        `json:"deviceNumber"`
	Since   time.Time  `json:"since"`
}

// ENI is a network interface of the cloud, as it should be.
type ENI struct {
	ID        string
	Device    int
	Addresses []netip.Addr   // single addresses for pods, without the ENI's own
	Prefixes  []netip.Prefix // delegated prefixes, all of whose addresses are for pods
	// Closed keeps its addresses from being given out. Those that pods have stay theirs.
	Closed bool
}

// NoAddressError says that every address is taken.
type NoAddressError struct {
	Stats
}

// Error names how many addresses there are, and how many of them become free by waiting.
func (e *NoAddressError) Error() string {
	return fmt.Sprintf("no free address: %d of %d assigned, %d cooling", e.Assigned, e.Total, e.Cooling)
}

// ErrIncompleteKey is returned for a key that lacks a part.
var ErrIncompleteKey = errors.New("network, container ID and interface name must not be empty")

// Options are what a Store needs to know.
type Options struct {
	// Cooling is how long a released address rests before it is given out again: connections to the pod that had it may
	// still be tried. 0 means that it does not rest.
	Cooling time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Store is safe for concurrent use. Assign and Release take constant time, whatever the number of addresses.
type Store struct {
	mu      sync.Mutex
	cooling time.Duration
	now     func() time.Time
	version uint64
	enis    map[string]*eni
	byKey   map[Key]*address
	byAddr  map[netip.Addr]*address
	resting queue // assigned before, in the order of release
	removed int   // assigned, but not named by the cloud any more
}

// New returns an empty store.
func New(opts Options) *Store {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Store{
		cooling: opts.Cooling, now: opts.Now,
		enis: map[string]*eni{}, byKey: map[Key]*address{}, byAddr: map[netip.Addr]*address{},
	}
}

// Assign gives key an address of the ENI with the fewest pods (of equal ones that with the lowest device number), and
// of its addresses the one that nobody had for the longest time. A key that has an address keeps it.
//
// The version is what has to be on disk before the assignment may be told. The error is ErrIncompleteKey or a
// *NoAddressError.
func (s *Store) Assign(key Key, pod Pod) (Assignment, uint64, error) {
	if !key.isComplete() {
		return Assignment{}, 0, ErrIncompleteKey
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.byKey[key]; a != nil {
		return *a.held, s.version, nil
	}
	now := s.now()
	s.warm(now)
	a := s.next()
	if a == nil {
		return Assignment{}, 0, &NoAddressError{s.stats()}
	}
	s.hold(a, &Assignment{
		Key: key, Pod: pod, Address: a.ip, ENI: a.eni.id, Device: a.eni.device, Since: now.UTC().Round(0),
	})
	return *a.held, s.version, nil
}

// Lookup returns what key has, and reports whether it has an address. It changes nothing. What it returns may not be on
// disk yet. The error is ErrIncompleteKey.
func (s *Store) Lookup(key Key) (Assignment, bool, error) {
	if !key.isComplete() {
		return Assignment{}, false, ErrIncompleteKey
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.byKey[key]
	if a == nil {
		return Assignment{}, false, nil
	}
	return *a.held, true, nil
}

// Release takes back the address of key. It reports whether key had one.
//
// The version is what has to be on disk before the release may be told, also where there was nothing to release: what
// released it before may not be on disk yet.
func (s *Store) Release(key Key) (Assignment, bool, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.byKey[key]
	if a == nil {
		return Assignment{}, false, s.version
	}
	return s.release(a, s.now()), true, s.version
}

// ReleaseExcept takes back the addresses that keys of network other than the valid ones have.
func (s *Store) ReleaseExcept(network string, valid map[Key]bool) ([]Assignment, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var released []Assignment
	for key, a := range s.byKey {
		if key.Network == network && !valid[key] {
			released = append(released, s.release(a, s.now()))
		}
	}
	sortAssignments(released)
	return released, s.version
}

func (s *Store) hold(a *address, held *Assignment) {
	a.held, a.state = held, stateAssigned
	a.eni.assigned++
	if a.removed {
		s.removed++
	}
	s.byKey[held.Key] = a
	s.version++
}

func (s *Store) release(a *address, now time.Time) Assignment {
	held := *a.held
	delete(s.byKey, held.Key)
	a.held = nil
	a.eni.assigned--
	if a.removed {
		s.removed--
	}
	s.version++
	s.rest(a, now)
	return held
}

// rest lets a released address cool. One that the cloud took away cools too: it must not be used for a while if it
// comes back.
func (s *Store) rest(a *address, since time.Time) {
	a.since, a.state = since, stateResting
	a.eni.resting++
	s.resting.push(a)
}

// warm ends the rest of what rested long enough. Each address is looked at once per release, so that the cost of an
// Assign stays constant over many.
func (s *Store) warm(now time.Time) {
	for a := s.resting.first(); a != nil && now.Sub(a.since) >= s.cooling; a = s.resting.first() {
		s.resting.pop()
		a.eni.resting--
		if a.removed {
			s.forget(a)
		} else {
			a.eni.give(a)
		}
	}
}

// forget drops an address that nobody has, and an ENI that is gone with its last address.
func (s *Store) forget(a *address) {
	a.state = stateGone
	delete(s.byAddr, a.ip)
	if e := a.eni; e.removed && e.assigned == 0 && e.resting == 0 {
		delete(s.enis, e.id)
	}
}

// next takes a free address of the least used ENI.
func (s *Store) next() *address {
	for e := s.leastUsed(); e != nil; e = s.leastUsed() {
		if a := e.take(s.byAddr); a != nil {
			s.byAddr[a.ip] = a
			return a
		}
	}
	return nil
}

func (s *Store) leastUsed() *eni {
	var best *eni
	for _, e := range s.enis { // at most a few dozen: a cloud's limit, not one of pods
		if !e.available() {
			continue
		}
		if best == nil || e.assigned < best.assigned || e.assigned == best.assigned && e.device < best.device {
			best = e
		}
	}
	return best
}
