package runner

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// state checks what is on the disk for a pod, or that something on a node has not changed.
func (r *Runner) state(ctx context.Context, s scenario.State) error {
	if node := r.Env.Node(s.Of); node != nil {
		return r.unchanged(ctx, node, s.Unchanged)
	}
	return r.eachPod(ctx, s.Of, func(ctx context.Context, p *environment.Pod) error {
		if s.Cache != "" {
			if err := r.cacheIs(ctx, p, ifName(s.As), s.Cache); err != nil {
				return err
			}
		}
		if s.Address != "" {
			return r.addressIs(ctx, p, ifName(s.As), s.Address)
		}
		return nil
	})
}

// cacheEntry is what libcni writes for each attachment since version 0.7.0.
type cacheEntry struct {
	Kind        string          `json:"kind"`
	ContainerID string          `json:"containerId"`
	Config      []byte          `json:"config"`
	IfName      string          `json:"ifName"`
	NetworkName string          `json:"networkName"`
	Result      json.RawMessage `json:"result"`
}

func (r *Runner) cacheIs(ctx context.Context, p *environment.Pod, ifName, want string) error {
	file := cni.CachePath(p.On(ifName).Name, p.ContainerID(), ifName)
	found, err := p.Node.Agent.ReadFile(ctx, file)
	if err != nil {
		return err
	}
	if want == scenario.CacheAbsent {
		if found.Found {
			return fmt.Errorf("%s: the cached result %s is still there", p.Name, file)
		}
		return nil
	}
	if !found.Found {
		return fmt.Errorf("%s: no cached result %s", p.Name, file)
	}
	var entry cacheEntry
	if err := json.Unmarshal(found.File.Data, &entry); err != nil {
		return fmt.Errorf("%s: cached result %s: %w", p.Name, file, err)
	}
	for _, field := range []struct{ name, got, want string }{
		{"kind", entry.Kind, "cniCacheV1"},
		{"containerId", entry.ContainerID, p.ContainerID()},
		{"ifName", entry.IfName, ifName},
		{"networkName", entry.NetworkName, p.On(ifName).Name},
	} {
		if field.got != field.want {
			return fmt.Errorf("%s: cached result %s: %s is %q, want %q", p.Name, file, field.name, field.got,
				field.want)
		}
	}
	if !bytes.Equal(entry.Config, r.conflistOf(p, ifName)) {
		return fmt.Errorf("%s: cached result %s: its config is not the conflist that was used", p.Name, file)
	}
	addrs, err := parseAddresses(entry.Result, ifName)
	if err != nil {
		return fmt.Errorf("%s: cached result %s: %w", p.Name, file, err)
	}
	set := len(addrs) == 0 && p.On(ifName).Own && r.config.Conflist.LayerTwo() // by the suite, and in no result
	if !set && !slices.Equal(addrs, p.Given(ifName)) {
		return fmt.Errorf("%s: cached result %s has the addresses %v, want %v", p.Name, file, addrs, p.Given(ifName))
	}
	return nil
}

// store returns the directory in which host-local keeps its reservations: a file per address with the container and the
// interface in it. It reports false if the pod's network has another IPAM plugin.
func (r *Runner) store(p *environment.Pod, ifName string) (string, bool) {
	list, err := conflist.ParseRendered(p.On(ifName).Conflist)
	if err != nil {
		return "", false
	}
	for _, plugin := range list.Plugins {
		ipam, _ := plugin["ipam"].(map[string]any)
		if ipam["type"] == "host-local" {
			dir, _ := ipam["dataDir"].(string)
			return path.Join(cmp.Or(dir, "/var/lib/cni/networks"), p.On(ifName).Name), true
		}
	}
	return "", false
}

// addressIs checks the store of host-local, the only one whose files are known.
func (r *Runner) addressIs(ctx context.Context, p *environment.Pod, ifName, want string) error {
	dir, ok := r.store(p, ifName)
	if !ok {
		r.Env.Note("reservations are not checked: the IPAM plugin is not host-local")
		return nil
	}
	held, err := reservations(ctx, p.Node.Agent, dir, p.ContainerID(), ifName)
	if err != nil {
		return err
	}
	if want == scenario.AddressReleased {
		if len(held) > 0 {
			return fmt.Errorf("%s: %v still reserved for it in %s", p.Name, held, dir)
		}
		return nil
	}
	for _, addr := range p.Given(ifName) {
		if !slices.Contains(held, addr) {
			return fmt.Errorf("%s: %s is not reserved for it in %s, only %v", p.Name, addr, dir, held)
		}
	}
	for _, name := range []string{"lock", "last_reserved_ip.0"} {
		file, err := p.Node.Agent.ReadFile(ctx, path.Join(dir, name))
		if err != nil {
			return err
		}
		if !file.Found {
			return fmt.Errorf("%s: want a file %s in %s, got none", p.Name, name, dir)
		}
	}
	return nil
}

func reservations(ctx context.Context, a *agent.Client, dir, containerID, ifName string) ([]netip.Addr, error) {
	names, err := a.ListDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	var held []netip.Addr
	for _, name := range names {
		addr, err := netip.ParseAddr(name)
		if err != nil {
			continue // lock, last_reserved_ip.N
		}
		file, err := a.ReadFile(ctx, path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if slices.Equal(strings.Fields(string(file.File.Data)), []string{containerID, ifName}) {
			held = append(held, addr)
		}
	}
	return held, nil
}

// unchangeableKinds returns the kinds of state that the assertion unchanged compares.
func unchangeableKinds() []string { return []string{snapshot.Link, snapshot.Address, snapshot.Route} }

// unchanged checks that a kind of state of a node is as it was before the last advertisement.
func (r *Runner) unchanged(ctx context.Context, node *cluster.Node, kinds []string) error {
	if slices.Contains(kinds, scenario.UnchangedDevices) {
		return r.unchangedDevices(ctx, node)
	}
	now, err := node.Agent.Snapshot(ctx, agent.SnapshotArgs{Kinds: unchangeableKinds()})
	if err != nil {
		return err
	}
	var found []string
	for _, change := range snapshot.Diff(r.Env.States[node.Name].Advertised, now) {
		item := change.Item
		matches := func(kind string) bool {
			switch kind {
			case scenario.UnchangedAddresses:
				// A link gets a link-local address by itself.
				return item.Kind == snapshot.Address && !strings.Contains(item.Text, "scope link")
			case scenario.UnchangedDefaultRoutes:
				return item.Kind == snapshot.Route && (strings.HasPrefix(item.Name, "default ") ||
					strings.HasPrefix(item.Name, "::/0 "))
			}
			return false
		}
		if slices.ContainsFunc(kinds, matches) {
			found = append(found, change.String())
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("%s: %s changed: %s", node.Name, strings.Join(kinds, " and "), strings.Join(found, "; "))
	}
	return nil
}

// changedWords returns the attributes of a link that have changed.
func changedWords(before, now string) string {
	var all []string
	for _, name := range []string{"mtu", "state", "link/ether", "promiscuity", "alias", "altname"} {
		was, is := attribute(before, name), attribute(now, name)
		if was != is {
			all = append(all, fmt.Sprintf("%s was %s and is %s", name, cmp.Or(was, "none"), cmp.Or(is, "none")))
		}
	}
	if all == nil {
		return fmt.Sprintf("was %s and is %s", before, now)
	}
	return strings.Join(all, ", ")
}

// attribute returns what follows each mention of an attribute in the text of a link: a word, or a quoted text.
func attribute(text, name string) string {
	form := regexp.MustCompile(` ` + name + ` ("(?:[^"\\]|\\.)*"|\S+)`)
	var values []string
	for _, found := range form.FindAllStringSubmatch(text, -1) {
		values = append(values, found[1])
	}
	return strings.Join(values, " ")
}

// pciDevices contains a directory for each device on the PCI bus, with the names of its links in net.
const pciDevices = "/sys/bus/pci/devices"

// devicesOf returns the names of the links that a node gives to pods: those of the lab, and those of the target, which
// names links or devices on the PCI bus.
func (r *Runner) devicesOf(ctx context.Context, node *cluster.Node) ([]string, error) {
	var names []string
	for _, d := range node.Devices {
		names = append(names, d.Name)
	}
	for _, given := range r.config.Target.GivenDevices() {
		links, err := node.Agent.ListDir(ctx, path.Join(pciDevices, given, "net"))
		if err != nil {
			return nil, err
		}
		names = append(names, given)
		names = append(names, links...)
	}
	return names, nil
}

// unchangedDevices checks that the devices which a node gives to pods exist as before the first step, and that none
// exists under another name.
func (r *Runner) unchangedDevices(ctx context.Context, node *cluster.Node) error {
	now, err := node.Agent.Snapshot(ctx, agent.SnapshotArgs{Kinds: []string{snapshot.Link}})
	if err != nil {
		return err
	}
	before := snapshot.State{}
	for _, item := range r.Env.States[node.Name].Before.Items {
		if item.Kind == snapshot.Link {
			before.Items = append(before.Items, item)
		}
	}
	var found []string
	for _, change := range snapshot.Diff(before, now) {
		given := slices.Contains(r.Env.States[node.Name].Devices, change.Item.Name)
		switch {
		case given && change.Op == snapshot.Changed:
			found = append(found, change.Item.Name+": "+changedWords(change.Before, change.Item.Text))
		case given, change.Op == snapshot.Added:
			found = append(found, change.String())
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("%s: a device that a pod had is not as it was: %s", node.Name, strings.Join(found, "; "))
	}
	return nil
}
