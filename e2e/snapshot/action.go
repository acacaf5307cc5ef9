package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// actionKinds are the kinds of actions of traffic control: the kernel has no list of all actions.
var actionKinds = []string{
	"bpf", "connmark", "csum", "ct", "ctinfo", "gact", "gate", "ife", "mirred", "mpls", "nat", "pedit", "police",
	"sample", "simple", "skbedit", "skbmod", "tunnel_key", "vlan",
}

// takeActions reads the actions of traffic control that belong to no filter, as `tc actions list` shows them. Actions
// of filters are read with the filters.
func (n network) takeActions() ([]object, error) {
	const header, table = 4, 1 // struct tcamsg, TCA_ACT_TAB
	// All kinds are requested over one socket, since opening one for each takes most of the time.
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	sockets := map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}
	var objects []object
	for _, kind := range actionKinds {
		messages, err := retry(func() ([][]byte, error) {
			request := nl.NewNetlinkRequest(unix.RTM_GETACTION, unix.NLM_F_DUMP)
			request.Sockets = sockets
			request.AddData(leading(make([]byte, header)))
			list := nl.NewRtAttr(table, nil)
			list.AddRtAttr(1, nil).AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated(kind))
			request.AddData(list)
			return request.Execute(unix.NETLINK_ROUTE, 0)
		})
		if err != nil {
			// A kernel without the kind has no such actions.
			if err = unlessLacking(err); err != nil {
				return nil, err
			}
			continue
		}
		for _, m := range messages {
			if len(m) < header {
				continue
			}
			for _, list := range nestedOf(m[header:], table) {
				objects = append(objects, actionsOf(kind, list)...)
			}
		}
	}
	return objects, nil
}

// actionsOf reads a list of actions of a kind. The index is the first parameter of each (include/uapi/linux/pkt_cls.h,
// tc_gen).
func actionsOf(kind string, list []byte) (objects []object) {
	actions, err := attributesOf(list)
	if err != nil {
		return nil
	}
	for _, action := range actions {
		for _, options := range nestedOf(action.Data, nl.TCA_ACT_OPTIONS) {
			for _, parameters := range nestedOf(options, nl.TCA_MIRRED_PARMS) {
				const bound = 16 // offset of the number of filters that use the action
				if len(parameters) >= bound+4 && binary.NativeEndian.Uint32(parameters[bound:]) == 0 {
					index := binary.NativeEndian.Uint32(parameters)
					objects = append(objects, object{Item: Item{Name: fmt.Sprintf("action %s index %d", kind, index)}})
				}
			}
		}
	}
	return objects
}

// takeMPLS reads the routes of labels, as `ip -M route` shows them.
func (n network) takeMPLS() ([]object, error) {
	header := make([]byte, unix.SizeofRtMsg)
	header[0] = unix.AF_MPLS
	messages, err := dump(unix.NETLINK_ROUTE, unix.RTM_GETROUTE, header)
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, m := range messages {
		// Without MPLS the kernel lists routes of other families.
		if len(m) < unix.SizeofRtMsg || m[0] != unix.AF_MPLS {
			continue
		}
		var name, text words
		for _, label := range nestedOf(m[unix.SizeofRtMsg:], unix.RTA_DST) {
			name.addf(len(label) >= 4, "mpls %d", binary.BigEndian.Uint32(label)>>12)
		}
		for _, index := range nestedOf(m[unix.SizeofRtMsg:], unix.RTA_OIF) {
			text.addf(true, "dev %s", n.name(int(binary.NativeEndian.Uint32(index))))
		}
		objects = append(objects, object{Item: Item{Name: name.String(), Text: text.String()}})
	}
	return objects, nil
}

// takePins reads the objects that programs pinned below the mounts of bpf file systems.
func takePins() ([]object, error) {
	mounts, err := os.ReadFile("/proc/thread-self/mounts")
	if err != nil {
		return nil, err
	}
	var objects []object
	for line := range bytes.Lines(mounts) {
		words := strings.Fields(string(line))
		if len(words) < 3 || words[2] != "bpf" {
			continue
		}
		err := filepath.WalkDir(words[1], func(path string, _ os.DirEntry, err error) error {
			if err == nil && path != words[1] {
				objects = append(objects, object{
					Item: Item{Name: path}, remove: func() error { return os.Remove(path) },
				})
			}
			if errors.Is(err, os.ErrNotExist) {
				return nil // it was removed meanwhile
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// Missing returns the features that this kernel was built without and that states therefore lack, each with its option.
func Missing() []string {
	var missing []string
	for _, m := range []struct{ path, what string }{
		{"/proc/sys/net/mpls", "routes of MPLS (CONFIG_MPLS_ROUTING)"},
		{"/proc/sys/net/netfilter/nf_conntrack_max", "zones of connections (CONFIG_NF_CONNTRACK)"},
		{"/sys/fs/bpf", "pinned objects of BPF (CONFIG_BPF_SYSCALL)"},
	} {
		if _, err := os.Stat(m.path); err != nil {
			missing = append(missing, m.what)
		}
	}
	return missing
}
