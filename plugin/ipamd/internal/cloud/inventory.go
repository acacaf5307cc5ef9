// Package cloud describes the machine that ipamd runs on: its ENIs and their addresses, and how to get more or fewer of
// them through the EC2 API.
//
// The inventory comes from package metadata; package datastore knows which pod has which address.
//
// Tests: go test ./plugin/ipamd/internal/cloud
package cloud

import (
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
