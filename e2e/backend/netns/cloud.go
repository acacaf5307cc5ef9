package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"go4.org/netipx"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/metadata"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
)

// cloud describes the ENIs and addresses that the cloud gives to its nodes. The VPC has two subnets: the nodes are in
// its lower half, machines without CNI in its upper half.
type cloud struct {
	lab           *lab
	spec          *target.Cloud
	vpc           netip.Prefix
	nodes, others netip.Prefix

	mu        sync.Mutex
	free      netip.Addr // the lowest address that was never used
	made      int        // ENIs
	instances []metadata.Instance
}

// halves returns the two halves of a network.
func halves(whole netip.Prefix) (lower, upper netip.Prefix) {
	lower = netip.PrefixFrom(whole.Addr(), whole.Bits()+1)
	return lower, netip.PrefixFrom(netipx.RangeOfPrefix(lower).To().Next(), lower.Bits())
}

// CloudLAN returns the network of the nodes of a cloud: the lower half of its VPC.
func CloudLAN(c *target.Cloud) netip.Prefix {
	lower, _ := halves(c.Network())
	return lower
}

// newCloud gives each node of a plan its ENIs and their addresses.
func newCloud(l *lab) (*cloud, error) {
	spec := l.req.Target.Cloud
	c := &cloud{lab: l, spec: spec, vpc: spec.Network()}
	c.nodes, c.others = halves(c.vpc)
	if l.req.UplinkKind != "" && l.req.UplinkKind != "veth" {
		return nil, fmt.Errorf("uplink kind %q: in a cloud want veth", l.req.UplinkKind)
	}
	c.free = c.nodes.Addr()
	for _, node := range l.plan.Nodes {
		if name := node.Uplink; strings.HasPrefix(name, "eth") && name != "eth0" {
			return nil, fmt.Errorf("uplink %q: in a cloud want eth0, or a name that no other ENI can have", name)
		}
		c.free = netipx.RangeOfPrefix(block(node.Addresses[0].Addr())).To().Next()
	}
	for i, node := range l.plan.Nodes {
		instance := metadata.NewInstance(uint32(i+1), c.vpc, c.nodes)
		for device := range max(spec.Interfaces(), l.req.Nodes[i].ENIs) {
			addresses, prefixes := c.share(l.req.Nodes[i], device)
			eni, err := c.newENI(i, device, addresses, prefixes)
			if err != nil {
				return nil, err
			}
			if device == 0 {
				eni.Name, eni.Address = node.Uplink, node.Addresses[0].Addr()
				if spec.IPv6Prefix {
					eni.Prefix6 = prefix6(i)
				}
			}
			instance.ENIs = append(instance.ENIs, eni)
		}
		for _, kind := range l.req.Nodes[i].Unmanaged {
			eni, err := c.newUnmanaged(i, kind, nextDevice(instance))
			if err != nil {
				return nil, err
			}
			instance.ENIs = append(instance.ENIs, eni)
		}
		c.instances = append(c.instances, instance)
	}
	return c, nil
}

// prefix6 returns the IPv6 prefix of a node (RFC 3849).
func prefix6(index int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 8: 0xec, 9: byte(index + 1)}), 80)
}

// share returns the numbers of addresses and prefixes that an ENI of a node gets. If a scenario says how many pods the
// node can hold, the node has that number of addresses in all.
func (c *cloud) share(node scenario.Node, device int) (addresses, prefixes int) {
	if node.Addresses == 0 {
		return c.spec.Addresses, c.spec.Prefixes
	}
	enis := max(c.spec.Interfaces(), node.ENIs)
	addresses = node.Addresses / enis
	if device < node.Addresses%enis {
		addresses++
	}
	return addresses, 0
}

// block returns the delegated prefix that would contain an address.
func block(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, metadata.PrefixBits).Masked() }

// newENI returns a new ENI. The caller holds c.mu, or is the only user.
func (c *cloud) newENI(index, device, addresses, prefixes int) (metadata.ENI, error) {
	c.made++
	eni := metadata.ENI{
		ID: metadata.ENIID(uint32(c.made)), Device: device, Name: fmt.Sprintf("eth%d", device),
		MAC: net.HardwareAddr{0x02, labMAC, 0x01, byte(index), byte(c.made >> 8), byte(c.made)}.String(),
	}
	var err error
	if device > 0 {
		if eni.Address, err = c.newAddress(); err != nil {
			return eni, err
		}
	}
	for range addresses {
		address, err := c.newAddress()
		if err != nil {
			return eni, err
		}
		eni.Secondary = append(eni.Secondary, address)
	}
	for range prefixes {
		if c.free != block(c.free).Addr() {
			c.free = netipx.RangeOfPrefix(block(c.free)).To().Next()
		}
		prefix := block(c.free)
		c.free = netipx.RangeOfPrefix(prefix).To()
		// Skip to the end of the prefix, so that nobody else gets its addresses.
		if _, err := c.newAddress(); err != nil {
			return eni, err
		}
		eni.Prefixes = append(eni.Prefixes, prefix)
	}
	return eni, nil
}

// newAddress returns an unused address. The last address of a subnet is not used (Amazon VPC User Guide, "Subnet CIDR
// blocks").
func (c *cloud) newAddress() (netip.Addr, error) {
	address := c.free
	if !c.nodes.Contains(address.Next()) {
		return address,
			fmt.Errorf("vpc %s is too small for so many ENIs and addresses; take a larger one or fewer of them", c.vpc)
	}
	c.free = address.Next()
	return address, nil
}

// Cloud returns the cloud of the cluster, or nil if the target has none.
func (l *lab) Cloud() cluster.Cloud {
	if l.cloud == nil {
		return nil
	}
	return l.cloud
}

// index returns the index of a node of the cluster.
func (l *lab) index(node *cluster.Node) int {
	return slices.IndexFunc(l.plan.Nodes, func(n conflist.NodePlan) bool { return "node/"+n.Name == node.Name })
}

// Instance returns the ENIs and addresses of a node.
func (c *cloud) Instance(node *cluster.Node) metadata.Instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	return clone(c.instances[c.lab.index(node)])
}

// clone returns a deep copy.
func clone(i metadata.Instance) metadata.Instance {
	i.ENIs = slices.Clone(i.ENIs)
	for n := range i.ENIs {
		i.ENIs[n].Secondary, i.ENIs[n].Prefixes = slices.Clone(i.ENIs[n].Secondary), slices.Clone(i.ENIs[n].Prefixes)
	}
	return i
}

// NewENI returns an ENI with the next device number and as many addresses as the target says.
func (c *cloud) NewENI(node *cluster.Node) (metadata.ENI, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	index := c.lab.index(node)
	return c.newENI(index, nextDevice(c.instances[index]), c.spec.Addresses, c.spec.Prefixes)
}

// NewAddress returns an unused address.
func (c *cloud) NewAddress(*cluster.Node) (netip.Addr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newAddress()
}

// Set changes the links first and then the answers of the metadata service, so that it never lists an ENI that does not
// exist.
func (c *cloud) Set(ctx context.Context, node *cluster.Node, want metadata.Instance) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	index := c.lab.index(node)
	now := c.instances[index]
	if len(want.ENIs) == 0 || want.ENIs[0].ID != now.ENIs[0].ID {
		return fmt.Errorf("%s: the primary ENI cannot be detached", node.Name)
	}
	if err := c.rewire(ctx, index, now, want); err != nil {
		return fmt.Errorf("%s: %w", node.Name, err)
	}
	c.instances[index] = clone(want)
	return c.tell(ctx, index)
}

// rewire changes the links of a node from one instance to another.
func (c *cloud) rewire(ctx context.Context, index int, now, want metadata.Instance) error {
	router, err := c.lab.hostSocket("router")
	if err != nil {
		return err
	}
	defer router.close()
	for _, eni := range now.ENIs {
		at := slices.IndexFunc(want.ENIs, func(e metadata.ENI) bool { return e.ID == eni.ID })
		if eni.Unmanaged == metadata.EFAOnly {
			continue // without a wire
		}
		if at < 0 {
			err = router.unplug(eniPort(index, eni))
		} else {
			err = c.route(router, eniPort(index, eni), eni, want.ENIs[at])
		}
		if err != nil {
			return err
		}
	}
	for _, eni := range want.ENIs {
		if !slices.ContainsFunc(now.ENIs, func(e metadata.ENI) bool { return e.ID == eni.ID }) {
			if err := c.attach(ctx, router, index, eni); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell updates the answers of a node's metadata service.
func (c *cloud) tell(ctx context.Context, index int) error {
	m := c.lab.machine(c.lab.plan.Nodes[index].Name)
	return m.agent.ServeMetadata(ctx, agent.MetadataArgs{
		Options: metadata.Options{Tokens: c.spec.Metadata != target.MetadataV1}, Instance: c.instances[index],
	})
}
