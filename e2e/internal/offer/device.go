package offer

import (
	"slices"
	"sync"

	"github.com/cnitest/cnitest/e2e/conflist"
)

// Devices assigns the devices of a cluster's nodes, as device plugins of kubelets do. Its methods may be called
// concurrently.
type Devices struct {
	mu sync.Mutex
	// free contains the free devices of each node; the one that was returned last is at the end.
	free  map[string][]string
	holds map[holder]string
}

// NewDevices returns Devices with all devices free.
func NewDevices() *Devices { return &Devices{free: map[string][]string{}, holds: map[holder]string{}} }

// Take returns the device of an attachment, one of all. It returns the same device until Return. It returns an empty
// string if none is free.
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

// Return makes the device of an attachment free again.
func (d *Devices) Return(node, id, ifName string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := holder{node, id, ifName}
	if had := d.holds[h]; had != "" {
		d.free[node] = append(d.free[node], had)
		delete(d.holds, h)
	}
}

// Values returns the values that the key of a conflist's main plugin can have on a node: the given ones, or devices of
// the lab.
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
