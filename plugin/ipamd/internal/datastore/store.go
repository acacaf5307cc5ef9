// Package datastore knows which pod has which address, and which address of which ENI is assigned next.
//
// It works in memory only: package state writes it to disk, and a caller must not tell anybody of an assignment that is
// not on disk yet. It talks neither to the cloud nor to the kernel.
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

// Key names an interface of a container in a network. The CNI spec identifies attachments by these three.
type Key struct {
	Network     string `json:"network"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

func (k Key) isComplete() bool { return k.Network != "" && k.ContainerID != "" && k.IfName != "" }

// Pod contains the runtime's description of the pod, for people who read the state. Nothing depends on it.
type Pod struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Netns     string `json:"netns,omitempty"`
}

// Assignment is an interface's address. It does not change once made.
type Assignment struct {
	Key
	Pod
	Address netip.Addr `json:"address"`
	ENI     string     `json:"eni"`
	Device  int        `json:"deviceNumber"`
	Since   time.Time  `json:"since"`
}

// ENI is the wanted state of one of the cloud's network interfaces.
type ENI struct {
	ID        string
	Device    int
	Addresses []netip.Addr   // single addresses for pods, without the ENI's own
	Prefixes  []netip.Prefix // delegated prefixes; pods can get all of their addresses
	// Closed means that none of its addresses is assigned any more. Pods keep the addresses that they have.
	Closed bool
}

// NoAddressError means that every address is taken.
type NoAddressError struct {
	Stats
}

// Error says how many addresses there are, and how many of them become free with time.
func (e *NoAddressError) Error() string {
	return fmt.Sprintf("no free address: %d of %d assigned, %d cooling", e.Assigned, e.Total, e.Cooling)
}

// ErrIncompleteKey is returned for a key of which a part is empty.
var ErrIncompleteKey = errors.New("network, container ID and interface name must not be empty")

// Options are the settings of a Store.
type Options struct {
	// Cooling is the time between the release of an address and its next assignment: peers may still try to reach the
	// pod that had it. 0 means that it can be assigned at once.
	Cooling time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Store is safe for concurrent use. Assign and Release take constant time, however many addresses there are.
type Store struct {
	mu      sync.Mutex
	cooling time.Duration
	now     func() time.Time
	version uint64
	enis    map[string]*eni
	byKey   map[Key]*address
	byAddr  map[netip.Addr]*address
	resting queue // assigned before, in the order of release
	removed int   // assigned, but no longer listed by the cloud
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

// Assign assigns an address to key: of the ENI with the fewest pods (of equal ones the one with the lowest device
// number), the address that has been unused for the longest time. If key already has an address, Assign returns that
// one.
//
// The version must be on disk before anybody is told of the assignment. The error is ErrIncompleteKey or a
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

// Lookup returns the assignment of key, and reports whether it has one. It changes nothing. The assignment may not be
// on disk yet. The error is ErrIncompleteKey.
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

// Release releases the address of key. It reports whether key had one.
//
// The version must be on disk before anybody is told of the release, even if there was nothing to release: the release
// that came first may not be on disk yet.
func (s *Store) Release(key Key) (Assignment, bool, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.byKey[key]
	if a == nil {
		return Assignment{}, false, s.version
	}
	return s.release(a, s.now()), true, s.version
}

// ReleaseExcept releases the addresses of all keys of network that are not valid. It returns the released assignments,
// and the version that must be on disk before anybody is told of them.
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

// rest begins the cooling time of a released address. It applies even if the cloud took the address away, since the
// address may come back.
func (s *Store) rest(a *address, since time.Time) {
	a.since, a.state = since, stateResting
	a.eni.resting++
	s.resting.push(a)
}

// warm frees the addresses whose cooling time has passed. It handles each address once per release, so that Assign
// takes constant time on average.
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

// forget removes an address that nobody has, and with its last address an ENI that the cloud took away.
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
	for _, e := range s.enis { // at most a few dozen: the cloud limits ENIs, not pods
		if !e.available() {
			continue
		}
		if best == nil || e.assigned < best.assigned || e.assigned == best.assigned && e.device < best.device {
			best = e
		}
	}
	return best
}
