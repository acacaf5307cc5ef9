package cluster

// Ability is something that a backend or one of its clusters can do beyond Backend and Cluster, by implementing an
// interface of this package.
type Ability struct {
	// Interface is its name in this package.
	Interface string
	// Means says what the suite does with it.
	Means string
}

// Abilities returns all abilities: the interfaces that a new backend may implement.
func Abilities() []Ability {
	return []Ability{
		{"Exclusive", "a backend whose machines exist once: clusters are used one at a time, and get longer times"},
		{"RuntimeBackend", "a backend whose clusters have a Runtime: requirements, which call plugins without libcni, are not run"},
		{"Versioned", "a backend whose runtime does not know every version of the CNI specification: no later one is used"},
		{"StoryBackend", "a backend that has its own scenarios, written in Go, in addition to the scenario files"},
		{"Runtime", "a cluster whose own container runtime attaches pods, in place of agents"},
		{"Proxies", "a cluster whose own proxies program services, in place of agents"},
		{"Measured", "a cluster that measured times while its backend's scenarios ran: they go into the report"},
		{"Losable", "a cluster whose machines can become unreachable: failures meanwhile are failures of the lab"},
		{"Leasing", "a cluster with a DHCP server of the lab: scenarios can wait for leases to be renewed and released"},
		{"Enterable", "a cluster whose places can be entered from a shell: --keep-on-failure says how"},
	}
}

// RuntimeBackend is a backend whose clusters are Runtimes if HasRuntime says so.
type RuntimeBackend interface {
	Backend
	HasRuntime() bool
}

// Versioned is a backend whose runtime may not know every version of the CNI specification.
type Versioned interface {
	Backend
	// CNIVersion returns the highest version that the runtime knows; empty if it knows all.
	CNIVersion() string
}

// StoryBackend is a backend with its own scenarios.
type StoryBackend interface {
	Backend
	Stories() []Story
}

// Enterable is a cluster whose places can be entered from outside.
type Enterable interface {
	Cluster
	// WayIn returns a command that opens a shell at a place.
	WayIn(place *Place) string
}
