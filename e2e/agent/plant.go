package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/snapshot"
)

// These identify what Plant makes.
const (
	// PlantedTable is the routing table of a planted rule; it leads nowhere.
	PlantedTable = 4077
	// PlantedMAC is the MAC of a planted neighbour; nobody has it.
	PlantedMAC = "02:00:00:00:de:ad"
)

// ErrUnplantable is the error if an item is of another kind, or has words that Plant does not know.
var ErrUnplantable = errors.New("it is nothing that could be planted")

// PlantArgs describe what a predecessor left.
type PlantArgs struct {
	// Item is what the next pod will have: a rule, an IPv4 route or a permanent neighbour of the node.
	Item snapshot.Item `json:"item"`
	// Device is an interface of the node to which a planted route leads.
	Device string `json:"device"`
}

// Plant makes on the node what a predecessor of a pod may have left in the way of an item: something with the same key
// that leads elsewhere. A rule with the same selectors looks up PlantedTable, a route to the same destination leads to
// the device, a neighbour has PlantedMAC. It may be called concurrently.
func (s *Server) Plant(args PlantArgs, _ *None) (err error) {
	switch args.Item.Kind {
	case snapshot.Rule:
		err = plantRule(args.Item)
	case snapshot.Route:
		err = plantRoute(args.Item, args.Device)
	case snapshot.Neighbour:
		err = plantNeighbour(args.Item)
	default:
		err = ErrUnplantable
	}
	if err != nil {
		return fmt.Errorf("plant %s %s: %w", args.Item.Kind, args.Item.Name, err)
	}
	return nil
}

// Plant makes on the node what a predecessor of a pod may have left in the way of an item.
func (c *Client) Plant(ctx context.Context, args PlantArgs) error { return tell(ctx, c, "Plant", args) }

// plantRule reads a rule as package snapshot writes it.
func plantRule(item snapshot.Item) error {
	family, priority, _ := strings.Cut(item.Name, " ")
	rule := netlink.NewRule()
	var err error
	if rule.Priority, err = strconv.Atoi(priority); err != nil {
		return ErrUnplantable
	}
	rule.Family, rule.Table = unix.AF_INET, PlantedTable
	if family == "inet6" {
		rule.Family = unix.AF_INET6
	}
	selects := false
	for words := strings.Fields(item.Text); len(words) >= 2; words = words[2:] {
		word, value := words[0], words[1]
		known := true
		switch word {
		case "from":
			rule.Src, known, err = prefix(value)
		case "to":
			rule.Dst, known, err = prefix(value)
		case "iif":
			rule.IifName = value
		case "oif":
			rule.OifName = value
		case "lookup", "proto":
			known = false
		default:
			return ErrUnplantable
		}
		if err != nil {
			return err
		}
		selects = selects || known
	}
	if !selects {
		return ErrUnplantable // it is for all pods
	}
	return netlink.RuleAdd(rule)
}

// prefix reads a prefix or the word all, for which it returns false.
func prefix(text string) (*net.IPNet, bool, error) {
	if text == "all" {
		return nil, false, nil
	}
	_, network, err := net.ParseCIDR(text)
	return network, err == nil, err
}

func plantRoute(item snapshot.Item, device string) error {
	words := strings.Fields(item.Name)
	if len(words) != 3 || words[1] != "table" {
		return ErrUnplantable
	}
	destination, known, err := prefix(words[0])
	if err != nil || !known || destination.IP.To4() == nil {
		return ErrUnplantable
	}
	table := map[string]int{"main": unix.RT_TABLE_MAIN}[words[2]]
	if table == 0 {
		if table, err = strconv.Atoi(words[2]); err != nil {
			return ErrUnplantable
		}
	}
	link, err := netlinksafe.LinkByName(device)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{
		Dst: destination, Table: table, LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK,
	})
}

func plantNeighbour(item snapshot.Item) error {
	address, device, _ := strings.Cut(item.Name, " dev ")
	ip := net.ParseIP(address)
	link, err := netlinksafe.LinkByName(device)
	if err != nil || ip == nil {
		return ErrUnplantable // the link belongs to the pod
	}
	mac, err := net.ParseMAC(PlantedMAC)
	if err != nil {
		return err
	}
	return netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: ip, HardwareAddr: mac,
	})
}
