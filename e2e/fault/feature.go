package fault

import (
	"fmt"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Feature is something that a machine can lack: a feature without which its kernel was built, or a program that is not
// installed.
type Feature struct {
	// Kind is one of the constants below. It determines how a kernel is asked for the feature.
	Kind string `json:"kind"`
	// Name is the name within the kind: "vlan", "htb", "net/bridge/bridge-nf-call-iptables"; for a socket its family
	// and protocol.
	Name string `json:"name"`
	// Config is the option of the kernel's configuration; empty if it is not known.
	Config string `json:"config,omitempty"`
}

// The kinds of features.
const (
	LinkFeature       = "link"
	BridgeVLANFeature = "bridge-vlan"
	QdiscFeature      = "qdisc"
	FilterFeature     = "filter"
	RuleFeature       = "rule"
	SocketFeature     = "socket"
	SysctlFeature     = "sysctl"
	DeviceFeature     = "device"
	ProgramFeature    = "program"
	// GenericNetlinkFeature is a family of generic netlink, which is a module's interface.
	GenericNetlinkFeature = "generic-netlink"
	// The names of features of nf_tables begin with the family: "inet"; "inet nat" for a chain; "inet queue" for an
	// expression; "ip match comment 0" for an extension of iptables.
	NftTableFeature      = "nft-table"
	NftChainFeature      = "nft-chain"
	NftExpressionFeature = "nft-expression"
)

// String returns the feature for people: "links of the kind vlan (CONFIG_VLAN_8021Q)".
func (f Feature) String() string {
	text := map[string]string{
		LinkFeature: "links of the kind " + f.Name, BridgeVLANFeature: "VLAN filtering of bridges",
		QdiscFeature:  "queues of the kind " + f.Name,
		FilterFeature: "filters of the kind " + f.Name, RuleFeature: "policy rules of " + f.Name,
		NftTableFeature:      "tables of nf_tables of the family " + f.Name,
		NftChainFeature:      "chains of nf_tables of the kind " + f.Name,
		NftExpressionFeature: "expressions of nf_tables of the kind " + f.Name,
		SocketFeature:        "sockets of " + f.Name,
		SysctlFeature:        "the setting " + strings.ReplaceAll(f.Name, "/", "."),
		DeviceFeature:        "the device " + f.Name,
		ProgramFeature:       "the program " + f.Name,

		GenericNetlinkFeature: f.Name,
	}[f.Kind]
	if f.Config != "" {
		text += " (" + f.Config + ")"
	}
	return text
}

// linkConfigs are the options of links whose option is not named like their kind.
var linkConfigs = map[string]string{
	"vlan": "CONFIG_VLAN_8021Q", "vrf": "CONFIG_NET_VRF", "bond": "CONFIG_BONDING", "team": "CONFIG_NET_TEAM",
	"macvlan": "CONFIG_MACVLAN",
	"gre":     "CONFIG_NET_IPGRE", "gretap": "CONFIG_NET_IPGRE", "ipip": "CONFIG_NET_IPIP", "sit": "CONFIG_IPV6_SIT",
	"ip6tnl": "CONFIG_IPV6_TUNNEL",
	"xfrm":   "CONFIG_XFRM_INTERFACE", "can": "CONFIG_CAN_DEV", "ipoib": "CONFIG_INFINIBAND_IPOIB",
}

// LinkKind returns the feature of links of a kind.
func LinkKind(kind string) Feature {
	config := linkConfigs[kind]
	if config == "" {
		config = "CONFIG_" + strings.ToUpper(kind)
	}
	return Feature{Kind: LinkFeature, Name: kind, Config: config}
}

// IPVS returns the feature of virtual servers.
func IPVS() Feature {
	return Feature{Kind: GenericNetlinkFeature, Name: "IPVS", Config: "CONFIG_IP_VS"}
}

// features returns the features that a kernel may lack if it refuses a message with an error; none if the error has
// other causes only.
func (q question) features(errno syscall.Errno) []Feature {
	switch {
	case q.protocol == unix.NETLINK_NETFILTER:
		return nftFeatures(q.message, errno)
	case q.protocol == unix.NETLINK_ROUTE:
		if feature := q.routeFeature(errno); feature != nil {
			return []Feature{*feature}
		}
	}
	return nil
}

// routeFeature returns the feature that a kernel lacks if it refuses an rtnetlink message; nil if it may have it.
func (q question) routeFeature(errno syscall.Errno) *Feature {
	kind, body := q.message.header.Type, q.message.body
	absent := errno == unix.EOPNOTSUPP || errno == unix.EPROTONOSUPPORT || errno == unix.EAFNOSUPPORT
	_, size, _ := routeObject(kind)
	if len(body) < max(size, 1) {
		return nil
	}
	a := attributesOf(body[size:])
	switch kind {
	case unix.RTM_NEWLINK, unix.RTM_SETLINK, unix.RTM_DELLINK:
		about := attributesOf(a[unix.IFLA_LINKINFO])
		info := textOf(about[unix.IFLA_INFO_KIND])
		filtering := info == "bridge" && attributesOf(about[unix.IFLA_INFO_DATA])[nl.IFLA_BR_VLAN_FILTERING] != nil
		switch {
		case !absent:
		case filtering || body[0] == unix.AF_BRIDGE && a[unix.IFLA_AF_SPEC] != nil:
			return &Feature{Kind: BridgeVLANFeature, Config: "CONFIG_BRIDGE_VLAN_FILTERING"}
		case info != "":
			link := LinkKind(info)
			return &link
		}
	case unix.RTM_NEWQDISC, unix.RTM_NEWTFILTER:
		name := textOf(a[nl.TCA_KIND])
		if name == "" || errno != unix.ENOENT && !absent {
			return nil
		}
		if kind == unix.RTM_NEWQDISC {
			return &Feature{Kind: QdiscFeature, Name: name, Config: "CONFIG_NET_SCH_" + strings.ToUpper(name)}
		}
		return &Feature{Kind: FilterFeature, Name: name, Config: "CONFIG_NET_CLS_" + strings.ToUpper(name)}
	case unix.RTM_NEWRULE:
		if absent {
			family := map[byte]string{unix.AF_INET: "IPv4", unix.AF_INET6: "IPv6"}[body[0]]
			return &Feature{Kind: RuleFeature, Name: family, Config: map[string]string{
				"IPv4": "CONFIG_IP_MULTIPLE_TABLES", "IPv6": "CONFIG_IPV6_MULTIPLE_TABLES",
			}[family]}
		}
	}
	return nil
}

// socketFeature returns the feature of a family of sockets or, for netlink, of a protocol.
func socketFeature(family, protocol int) *Feature {
	f := &Feature{Kind: SocketFeature, Name: fmt.Sprintf("family %d protocol %d", family, protocol)}
	switch {
	case family == unix.AF_NETLINK && protocol == unix.NETLINK_NETFILTER:
		f.Config = "CONFIG_NETFILTER_NETLINK"
	case family == unix.AF_NETLINK && protocol == unix.NETLINK_XFRM:
		f.Config = "CONFIG_XFRM_USER"
	case family == unix.AF_INET6:
		f.Config = "CONFIG_IPV6"
	case family == unix.AF_PACKET:
		f.Config = "CONFIG_PACKET"
	}
	return f
}

// sysctlFeature returns the feature of a sysctl; nil if no kernel can have it. All links have the same ones, so a
// link's name is replaced by lo, which every namespace has. A path that is longer comes of a name with a dot, which
// somebody took for a separator.
func sysctlFeature(name string) *Feature {
	const ofLink = 5 // net/FAMILY/conf/LINK/SETTING
	parts := strings.Split(name, "/")
	if len(parts) >= ofLink && parts[0] == "net" && (parts[2] == "conf" || parts[2] == "neigh") {
		if len(parts) > ofLink {
			return nil
		}
		parts[3] = "lo"
	}
	f := &Feature{Kind: SysctlFeature, Name: strings.Join(parts, "/")}
	switch {
	case strings.HasPrefix(name, "net/bridge/"):
		f.Config = "CONFIG_BRIDGE_NETFILTER"
	case strings.HasPrefix(name, "net/ipv6/"):
		f.Config = "CONFIG_IPV6"
	case strings.HasPrefix(name, "net/mpls/"):
		f.Config = "CONFIG_MPLS_ROUTING"
	case strings.HasPrefix(name, "net/netfilter/nf_conntrack"):
		f.Config = "CONFIG_NF_CONNTRACK"
	}
	return f
}
