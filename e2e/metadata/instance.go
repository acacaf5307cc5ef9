// Package metadata is the instance metadata service of the lab's cloud. It describes a machine, its network interfaces
// (ENIs) and their addresses in the form in which EC2 serves them to its instances under http://169.254.169.254/latest
// (Amazon EC2 User Guide, "Instance metadata"). Under http://169.254.169.254/ec2 it answers as the EC2 API, which alone
// knows tags and types of ENIs. The API takes the credentials that the metadata service serves.
//
// It covers only networks: there are no user data or other categories, and the API only describes. Its callers set the
// data; an agent serves it on a node.
//
// Run its tests: go test ./e2e/metadata
package metadata

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Address and Address6 are the addresses of a node's service, on port 80.
const (
	Address  = "169.254.169.254"
	Address6 = "fd00:ec2::254"
)

// PrefixBits is the length of the IPv4 prefixes that EC2 delegates to an ENI.
const PrefixBits = 28

// Instance describes a machine.
type Instance struct {
	// ID is an ID such as "i-0000000000000000a".
	ID string `json:"id"`
	// Type is a type such as "m5.large", Zone an availability zone; the region is the zone without its last letter.
	Type string `json:"type"`
	Zone string `json:"zone"`
	// VPC is the cloud's network, VPCID its ID, and SubnetID the ID of the part that contains the ENIs.
	VPC      netip.Prefix `json:"vpc"`
	VPCID    string       `json:"vpcID"`
	Subnet   netip.Prefix `json:"subnet"`
	SubnetID string       `json:"subnetID"`
	// ENIs are in the order of their device numbers; the first is the primary one.
	ENIs []ENI `json:"enis"`
}

// ENI is a network interface that the cloud attached to a machine.
type ENI struct {
	ID     string `json:"id"`
	Device int    `json:"device"`
	// Name is the name of the interface on the machine. The service does not serve it: programs find an interface by
	// MAC.
	Name string `json:"name"`
	MAC  string `json:"mac"`
	// Unmanaged is empty for an ENI that is for pods, else one of UnmanagedKinds.
	Unmanaged string `json:"unmanaged,omitempty"`
	// Address is the ENI's own address (EFA-only ENIs do not serve it), Secondary are further single addresses, and all
	// addresses of Prefixes belong to the ENI too.
	Address   netip.Addr     `json:"address"`
	Secondary []netip.Addr   `json:"secondary"`
	Prefixes  []netip.Prefix `json:"prefixes"`
	// Prefix6 is an IPv6 prefix whose addresses belong to the ENI; the zero Prefix means none.
	Prefix6 netip.Prefix `json:"prefix6,omitzero"`
}

// These are the kinds of ENIs whose addresses are not for pods.
const (
	// Tagged is an ordinary ENI with the tag node.k8s.amazonaws.com/no_manage.
	Tagged = "tagged"
	// EFAOnly is an ENI without addresses, of which a machine sees no link, Trunk one for branch ENIs.
	EFAOnly = "efa-only"
	Trunk   = "trunk"
	// SecondCard is an ordinary ENI on network card 1.
	SecondCard = "second-card"
)

// UnmanagedKinds returns all of them, sorted.
func UnmanagedKinds() []string { return []string{EFAOnly, SecondCard, Tagged, Trunk} }

// Card returns the number of the network card that the ENI is on.
func (e ENI) Card() int {
	if e.Unmanaged == SecondCard {
		return 1
	}
	return 0
}

// NewInstance returns an instance without ENIs in a subnet of a VPC. The number must differ from that of all other
// instances.
func NewInstance(number uint32, vpc, subnet netip.Prefix) Instance {
	return Instance{
		ID: fmt.Sprintf("i-%017x", number), Type: "m5.4xlarge", Zone: "eu-central-1a",
		VPC: vpc, VPCID: fmt.Sprintf("vpc-%017x", 1), Subnet: subnet, SubnetID: fmt.Sprintf("subnet-%017x", 1),
	}
}

// ENIID returns the ID of an ENI. The number must differ from that of all other ENIs.
func ENIID(number uint32) string { return fmt.Sprintf("eni-%017x", number) }

// PoolSize returns how many pods can have an address on the instance.
func (i *Instance) PoolSize() int {
	size := 0
	for _, eni := range i.ENIs {
		if eni.Unmanaged != "" {
			continue
		}
		size += len(eni.Secondary) + len(eni.Prefixes)<<(32-PrefixBits)
	}
	return size
}

// Disown removes an address from its ENI, or the prefix that contains it. It reports whether an ENI had it.
func (i *Instance) Disown(addr netip.Addr) bool {
	for n := range i.ENIs {
		eni := &i.ENIs[n]
		if at := slices.Index(eni.Secondary, addr); at >= 0 {
			eni.Secondary = slices.Delete(eni.Secondary, at, at+1)
			return true
		}
		if at := slices.IndexFunc(eni.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) }); at >= 0 {
			eni.Prefixes = slices.Delete(eni.Prefixes, at, at+1)
			return true
		}
	}
	return false
}

// securityGroup is the group of all ENIs; the lab's cloud has no filters.
const securityGroup = "sg-00000000000000001"

// tree returns all values by their path below /latest. Empty lists do not exist.
func (i Instance) tree() map[string]string {
	tree := map[string]string{}
	set := func(path, value string) {
		if value != "" {
			tree[path] = value
		}
	}
	region := strings.TrimRight(i.Zone, "abcdef")
	set("dynamic/instance-identity/document", fmt.Sprintf(
		"{\n  \"availabilityZone\" : %q,\n  \"instanceId\" : %q,\n  \"instanceType\" : %q,\n  \"region\" : %q\n}",
		i.Zone, i.ID, i.Type, region))
	set("meta-data/instance-id", i.ID)
	set("meta-data/instance-type", i.Type)
	set("meta-data/iam/security-credentials/"+role, credentials(time.Now()))
	set("meta-data/placement/availability-zone", i.Zone)
	set("meta-data/placement/region", region)
	for n, eni := range i.ENIs {
		if n == 0 {
			set("meta-data/mac", eni.MAC)
			set("meta-data/local-ipv4", eni.Address.String())
		}
		base := "meta-data/network/interfaces/macs/" + eni.MAC + "/"
		for key, value := range map[string]string{
			"device-number": fmt.Sprint(eni.Device), "network-card": fmt.Sprint(eni.Card()),
			"interface-id": eni.ID, "mac": eni.MAC,
			"security-group-ids": securityGroup, "security-groups": "default", "subnet-id": i.SubnetID,
			"vpc-id":                 i.VPCID,
			"subnet-ipv4-cidr-block": i.Subnet.String(), "vpc-ipv4-cidr-block": i.VPC.String(),
			"vpc-ipv4-cidr-blocks": i.VPC.String(),
			// The ENI's own address comes first.
			"local-ipv4s": lines(eni.AllAddresses()),
			"ipv4-prefix": lines(eni.Prefixes),
		} {
			set(base+key, value)
		}
		if eni.Prefix6.IsValid() {
			set(base+"ipv6-prefix", eni.Prefix6.String())
		}
	}
	return tree
}

// AllAddresses returns the ENI's own address and the further single ones.
func (e ENI) AllAddresses() []netip.Addr {
	if e.Unmanaged == EFAOnly {
		return nil
	}
	return append([]netip.Addr{e.Address}, e.Secondary...)
}

func lines[T fmt.Stringer](all []T) string {
	var text []string
	for _, element := range all {
		text = append(text, element.String())
	}
	return strings.Join(text, "\n")
}
