package conflist

import (
	"encoding/json"
	"fmt"
	"slices"
)

// mostDevices is the number of devices that the lab gives each node if pods take one, and nobody knows how many do.
const mostDevices = 20

// deviceAlias is the name of a node's uplink if the file gives the usual name to a device for pods.
const deviceAlias = "uplink0"

// deviceTypes are plugins that move a device of the node into the pod. deviceKeys are the keys that name the device,
// including those of unknown plugins.
var (
	deviceTypes = []string{"host-device", "sriov", "ib-sriov"}
	deviceKeys  = []string{"device", "hwaddr", "deviceID", "pciBusID", "kernelpath"}
)

// DeviceKey returns the key with which the main plugin is told the device of the node that the pod gets, and its value.
// The key is empty if the plugin makes the pod's device itself.
func (f *File) DeviceKey() (key, value string) {
	known := slices.Contains(deviceTypes, f.Plugins[0].Type)
	if f.mainUpstream() && !known {
		return "", ""
	}
	for _, key := range deviceKeys {
		if value, ok := f.Plugins[0].Config[key].(string); ok && value != "" {
			return key, value
		}
	}
	if known {
		return "deviceID", "" // the runtime sets it
	}
	return "", ""
}

// PCIDevice reports whether the device is on a PCI bus; the lab cannot make such devices.
func (f *File) PCIDevice() bool {
	key, _ := f.DeviceKey()
	return slices.Contains(deviceKeys[2:], key)
}

// Device is a device of a node that a pod can get.
type Device struct {
	// Name is the name of the interface, MAC its address if the file names one.
	Name, MAC string
}

// Value returns the value of the key of DeviceKey for the device.
func (d Device) Value(key string) string {
	if key == "hwaddr" {
		return d.MAC
	}
	return d.Name
}

// devices gives each node devices for its pods, if the lab makes the nodes: the file's device, and more of its kind.
func (p *planner) devices() error {
	count := mostDevices
	if n := p.opts.Devices; n > 0 {
		count = min(count, n)
	}
	for i, d := range p.drafts {
		key, value := d.conf.DeviceKey()
		if key == "" || len(d.node.Own) > 0 || d.conf.PCIDevice() {
			continue
		}
		node := &p.plan.Nodes[i]
		first := Device{Name: value}
		if key == "hwaddr" {
			first = Device{Name: "dev0", MAC: value}
		}
		if err := validLinkName(first.Name); err != nil {
			return err
		}
		if node.Uplink == first.Name {
			node.Uplink = defaultUplink
			if first.Name == defaultUplink {
				node.Uplink = deviceAlias
			}
		}
		node.Devices = []Device{first}
		for n := 1; n < count; n++ {
			end := fmt.Sprintf("-%d", n)
			more := Device{Name: first.Name[:min(len(first.Name), 15-len(end))] + end}
			if key == "hwaddr" {
				more.MAC = fmt.Sprintf("02:63:00:00:%02x:%02x", i, n)
			}
			node.Devices = append(node.Devices, more)
		}
		if node.PoolSize == 0 || node.PoolSize > count {
			node.PoolSize = count
		}
		p.note("node/%s: pods get its devices %s to %s, one each; its own interface is %s", d.node.Name, first.Name,
			node.Devices[count-1].Name, node.Uplink)
	}
	p.plan.Uplink = p.plan.Nodes[0].Uplink
	return nil
}

// Set sets a key of a plugin of the list.
func (r *Rendered) Set(plugin int, key string, value any) { r.Plugins[plugin][key] = value }

// Bytes returns the list as JSON.
func (r *Rendered) Bytes() ([]byte, error) { return json.Marshal(r.list) }
