package fault

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// nftFeatures returns the features that a kernel may lack if it refuses a message of nf_tables. It answers ENOENT if it
// looks for a feature by name and does not find it (net/netfilter/nf_tables_api.c: nft_expr_type_get,
// nft_chain_validate_hook), and for missing tables and chains.
func nftFeatures(m nlMessage, errno syscall.Errno) []Feature {
	if m.header.Type == unix.NFNL_MSG_BATCH_BEGIN && (errno == unix.EOPNOTSUPP || errno == unix.EINVAL) {
		return []Feature{{Kind: NftTableFeature, Name: "inet", Config: "CONFIG_NF_TABLES"}}
	}
	if m.header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.body) < sizeofNfgenmsg {
		return nil
	}
	family := nftFamilies[m.body[0]]
	a := attributesOf(m.body[sizeofNfgenmsg:])
	switch m.header.Type & 0xff {
	case unix.NFT_MSG_NEWTABLE:
		if errno == unix.EOPNOTSUPP || errno == unix.EAFNOSUPPORT {
			return []Feature{{Kind: NftTableFeature, Name: family, Config: "CONFIG_NF_TABLES_" + nftConfigs[family]}}
		}
	case unix.NFT_MSG_NEWCHAIN:
		if kind := textOf(a[unix.NFTA_CHAIN_TYPE]); kind == "nat" && errno == unix.ENOENT {
			return []Feature{{Kind: NftChainFeature, Name: family + " " + kind, Config: "CONFIG_NFT_NAT"}}
		}
	case unix.NFT_MSG_NEWRULE:
		if errno == unix.ENOENT {
			return nftExpressions(family, a[unix.NFTA_RULE_EXPRESSIONS])
		}
	}
	return nil
}

// nftFamilies are the families of tables, nftConfigs the last parts of their options.
var (
	nftFamilies = map[uint8]string{
		unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_ARP: "arp",
		unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev",
	}
	nftConfigs = map[string]string{
		"inet":   "INET",
		"ip":     "IPV4",
		"ip6":    "IPV6",
		"arp":    "ARP",
		"bridge": "BRIDGE",
		"netdev": "NETDEV",
	}
)

// NftFamily returns the number of a family of nf_tables by its name in features; false if there is none.
func NftFamily(name string) (uint8, bool) {
	for family, known := range nftFamilies {
		if known == name {
			return family, true
		}
	}
	return 0, false
}

// nftExpressions returns the kinds of expressions of a rule, each once.
func nftExpressions(family string, list []byte) (features []Feature) {
	attributes, err := netlink.UnmarshalAttributes(list)
	if err != nil {
		return nil
	}
	for _, element := range attributes {
		expression := attributesOf(element.Data)
		f := Feature{Kind: NftExpressionFeature, Name: textOf(expression[unix.NFTA_EXPR_NAME])}
		switch f.Name {
		case "match", "target":
			// An extension of iptables, with its revision (include/uapi/linux/netfilter/nf_tables_compat.h).
			data := attributesOf(expression[unix.NFTA_EXPR_DATA])
			extension, revision := textOf(data[1]), data[2]
			f.Config = fmt.Sprintf("CONFIG_NETFILTER_XT_%s_%s", strings.ToUpper(f.Name), strings.ToUpper(extension))
			if len(revision) == 4 {
				f.Name = fmt.Sprintf("%s %s %d", f.Name, extension, binary.BigEndian.Uint32(revision))
			}
		case "fib", "reject", "dup", "fwd":
			f.Config = fmt.Sprintf("CONFIG_NFT_%s_%s", strings.ToUpper(f.Name), nftConfigs[family])
		default:
			f.Config = "CONFIG_NFT_" + strings.ToUpper(f.Name)
		}
		f.Name = family + " " + f.Name
		if !slices.Contains(features, f) {
			features = append(features, f)
		}
	}
	return features
}
