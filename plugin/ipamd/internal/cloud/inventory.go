// Package cloud is what ipamd knows of the machine it runs on: its ENIs and their addresses, and how to have more or
// fewer of them through the EC2 API.
//
// Where the inventory comes from is package metadata; who has which address is package datastore.
//
// Tests: go test ./plugin/ipamd/internal/cloud
package cloud

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Inventory is a machine and its ENIs.
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
	Card           int            // the network card it is on; 0 is the one that every machine has
	Subnet         netip.Prefix   // IPv4; the zero value where the subnet has none
	Address        netip.Addr     // its own IPv4 address, which is not for pods
	Secondary      []netip.Addr   // further addresses, of both families, for pods if they are IPv4
	Prefixes       []netip.Prefix // delegated, of both families
	SubnetID       string
	SecurityGroups []string
}

// Primary reports whether the machine came with the ENI: it cannot be detached.
func (e ENI) Primary() bool { return e.Device == 0 && e.Card == 0 }

// Gateway returns the VPC's router in a subnet: its first address after that of the subnet itself.
func Gateway(subnet netip.Prefix) netip.Addr { return subnet.Masked().Addr().Next() }

// RouteTable returns the routing table of an ENI of network card 0: the main one for the primary ENI, else one of its
// own, its device number plus 1. Rules of pods on the node refer to it.
func RouteTable(device int) int {
	if device == 0 {
		return unix.RT_TABLE_MAIN
	}
	return device + 1
}
