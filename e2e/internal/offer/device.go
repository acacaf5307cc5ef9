package offer

import (
	"slices"
	"sync"

	"github.com/cnitest/cnitest/e2e/conflist"
)

// Devices gives out the devices of a cluster's nodes, as device plugins of kubelets do. Its methods may be called
// concurrently.
type Devices struct {
	mu sync.Mutex
	// free are those of each node that nobody has, the one that was given back last at the end.
	free  map[string][]string
	holds map[holder]string
}

// NewDevices returns one of which nobody had any.
func NewDevices() *Devices { return &Devices{free: map[string][]string{}, holds: map[holder]string{}} }

// Take returns the device of an attachment, of all that the node has, the same until Return; empty if none is left.
func (d *Devices) Take(node string, all []string, id, ifName string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.free[node] == nil {
		d.free[node] = slices.Clone(all)
		slices.Reverse(d.free[node])
	}
	h, free := holder{node, id, ifName}, d.free[node]
	if d.holds[h] == "" && len(free) > 0 {
		d.holds[h], d.free[node] = free[len(free)-1], free[:len(free)-1]
	}
	return d.holds[h]
}

// Return takes the device of an attachment back: the next one gets it.
func (d *Devices) Return(node, id, ifName string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := holder{node, id, ifName}
	if had := d.holds[h]; had != "" {
		d.free[node] = append(d.free[node], had)
		delete(d.holds, h)
	}
}

// Values are what the key of a conflist's main plugin can say on a node: the given ones, or devices of the lab.
func Values(given []string, devices []conflist.Device, key string) []string {
	if len(given) > 0 {
		return given
	}
	var values []string
	for _, d := range devices {
		values = append(values, d.Value(key))
	}
	return values
}
