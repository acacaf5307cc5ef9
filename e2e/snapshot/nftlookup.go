package snapshot

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// NftRule returns the text of a rule of the calling thread's network namespace as in a State, but with nft(8)'s words
// instead of numbers: it is for people. family is an NFPROTO_* of the kernel, and handle the kernel's number of the
// rule. If the rule does not exist, the error says so. It may be called concurrently.
func NftRule(family uint8, table, chain string, handle uint64) (string, error) {
	n, err := openNetwork()
	if err != nil {
		return "", err
	}
	defer n.handle.Close()
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	rules, err := nftDump(conn, unix.NFT_MSG_GETRULE, family)
	if err != nil {
		return "", fmt.Errorf("rules: %w", err)
	}
	sets, _, err := n.takeNftSets(conn)
	if err != nil {
		return "", fmt.Errorf("sets: %w", err)
	}
	for _, m := range rules {
		at := m.attrs[unix.NFTA_RULE_HANDLE]
		if len(at) != 8 || binary.BigEndian.Uint64(at) != handle {
			continue
		}
		if seen := n.nftRule(m, sets); seen.Name == nftName("rule", m, table, chain) {
			return spoken(seen.Text), nil
		}
	}
	return "", fmt.Errorf("no rule with handle %d in chain %s %s %s", handle, NftFamily(family), table, chain)
}

// NftFamily returns nft's word for an NFPROTO_* of the kernel.
func NftFamily(family uint8) string { return nftFamilies[family] }

// Parts that a State shows as numbers: expressions that mean nothing to a person, and the length of packets.
var (
	byteorder = regexp.MustCompile(`byteorder( #\d=0x[0-9a-f]+)+ `)
	// enum nft_quota_flags: 1 means over, 2 that it is used up.
	quota  = regexp.MustCompile(`quota (\d+ bytes) #2=0x0000000[13]`)
	length = regexp.MustCompile(`meta key 0 ([<>!]?=?) ?0x([0-9a-f]{8})\b`)
)

// spoken returns a rule as a person reads it.
func spoken(text string) string {
	text = quota.ReplaceAllString(text, "quota over $1")
	text = length.ReplaceAllStringFunc(byteorder.ReplaceAllString(text, ""), func(match string) string {
		parts := length.FindStringSubmatch(match)
		n, err := strconv.ParseUint(parts[2], 16, 32)
		if err != nil {
			return match
		}
		return strings.TrimSpace("meta length "+parts[1]) + " " + strconv.FormatUint(n, 10)
	})
	return strings.NewReplacer(
		"meta l4proto 6 ", "meta l4proto tcp ", "meta l4proto 17 ", "meta l4proto udp ", "meta l4proto 1 ",
		"meta l4proto icmp ",
		"meta l4proto 58 ", "meta l4proto ipv6-icmp ",
		// enum ip_conntrack_info: each state is a bit.
		"ct state & 0x1 != 0x0", "ct state invalid", "ct state & 0x2 != 0x0", "ct state established",
		"ct state & 0x4 != 0x0", "ct state related",
		"ct state & 0x6 != 0x0", "ct state established,related", "ct state & 0x8 != 0x0", "ct state new",
	).Replace(text)
}
