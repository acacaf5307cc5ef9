// Package cloud describes the machine that ipamd runs on: its ENIs and their addresses, and how to get more or fewer of
// them through the EC2 API.
//
// The inventory comes from package metadata; package datastore knows which pod has which address.
//
// Tests: go test ./plugin/ipamd/internal/cloud
package cloud

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Inventory describes a machine and its ENIs.
type Inventory struct {
	InstanceID   string
	InstanceType string
	Region       string
	VPC          []netip.Prefix // of both families
	ENIs         []ENI          // by device number; the first is the primary one
}

// ENI is a network interface of the machine.
type ENI struct {
	ID             string
	MAC            string // lower case, with colons
	Device         int
	Card           int            // the network card; every machine has number 0
	Subnet         netip.Prefix   // IPv4; the zero value if the subnet has no IPv4 range
	Address        netip.Addr     // its own IPv4 address, which no pod gets
	Secondary      []netip.Addr   // further addresses of both families; pods get the IPv4 ones
	Prefixes       []netip.Prefix // delegated, of both families
	SubnetID       string
	SecurityGroups []string
	// Type is EC2's type of the interface ("interface", "efa", "efa-only", "trunk"), Tags are the ENI's; both are empty
	// if nobody asked EC2 (Described).
	Type string
	Tags map[string]string
}

// NoManageTag is the tag that tells amazon-vpc-cni-k8s, and ipamd, to leave an ENI alone if its value is "true".
const NoManageTag = "node.k8s.amazonaws.com/no_manage"

// These are types of ENIs that have no addresses for pods (ec2:NetworkInterface, InterfaceType).
const (
	typeEFAOnly = "efa-only"
	typeTrunk   = "trunk"
)

// Unmanaged returns why ipamd leaves an ENI alone: it sets up nothing for it and gives none of its addresses to pods.
// Empty means that ipamd uses the ENI, which is always so for the primary one.
func (e ENI) Unmanaged() string {
	switch {
	case e.Primary():
		return ""
	case e.Card != 0:
		return fmt.Sprintf("the ENI is on network card %d: only card 0 is used", e.Card)
	case e.Tags[NoManageTag] == "true":
		return "the ENI is tagged " + NoManageTag
	case e.Type == typeEFAOnly:
		return "the ENI is EFA-only: it carries no IP packets"
	case e.Type == typeTrunk:
		return "the ENI is a trunk: its packets are those of branch ENIs"
	case !e.Address.IsValid() && len(e.Secondary)+len(e.Prefixes) == 0:
		return "the ENI has no IP address, as if it were EFA-only"
	}
	return ""
}

// Primary reports whether the ENI is the machine's first one, which cannot be detached.
func (e ENI) Primary() bool { return e.Device == 0 && e.Card == 0 }

// Gateway returns the address of the VPC's router in a subnet: the second address of the range.
func Gateway(subnet netip.Prefix) netip.Addr { return subnet.Masked().Addr().Next() }

// RouteTable returns the number of an ENI's routing table, for ENIs of network card 0: the main table for the primary
// ENI, and the device number plus 1 for others. Rules of pods on the node refer to it.
func RouteTable(device int) int {
	if device == 0 {
		return unix.RT_TABLE_MAIN
	}
	return device + 1
}
