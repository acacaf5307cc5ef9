package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/fault"
)

// askNftables makes a table, a chain or an expression of a rule that needs a feature of nf_tables.
func askNftables(feature fault.Feature) error {
	words := strings.Fields(feature.Name)
	family, ok := fault.NftFamily(words[0])
	if !ok {
		return fmt.Errorf("nf_tables family %q: there is no such family", words[0])
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	ask := nftQuestion{conn, family}
	named := func(e *netlink.AttributeEncoder) { e.String(unix.NFTA_TABLE_NAME, "sample") }
	if err := ask.send(unix.NFT_MSG_NEWTABLE, named); err != nil {
		return err
	}
	switch feature.Kind {
	case fault.NftChainFeature:
		return ask.chain(words[1])
	case fault.NftExpressionFeature:
		return errors.Join(ask.chain(""), ask.expression(words[1:]))
	}
	return nil
}

// nftQuestion changes the ruleset of a namespace that is thrown away.
type nftQuestion struct {
	conn   *netlink.Conn
	family byte
}

// chain makes a chain. It is a base chain if it has a kind.
func (q nftQuestion) chain(kind string) error {
	return q.send(unix.NFT_MSG_NEWCHAIN, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_CHAIN_TABLE, "sample")
		e.String(unix.NFTA_CHAIN_NAME, "sample")
		if kind == "" {
			return
		}
		e.String(unix.NFTA_CHAIN_TYPE, kind)
		e.Nested(unix.NFTA_CHAIN_HOOK, func(e *netlink.AttributeEncoder) error {
			e.Uint32(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_POST_ROUTING)
			e.Uint32(unix.NFTA_HOOK_PRIORITY, 100)
			return nil
		})
	})
}

// expression makes a rule of one expression without attributes: the kernel first checks whether it knows the kind.
func (q nftQuestion) expression(words []string) error {
	return q.send(unix.NFT_MSG_NEWRULE, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_RULE_TABLE, "sample")
		e.String(unix.NFTA_RULE_CHAIN, "sample")
		e.Nested(unix.NFTA_RULE_EXPRESSIONS, func(e *netlink.AttributeEncoder) error {
			e.Nested(unix.NFTA_LIST_ELEM, func(e *netlink.AttributeEncoder) error {
				e.String(unix.NFTA_EXPR_NAME, words[0])
				e.Nested(
					unix.NFTA_EXPR_DATA,
					func(e *netlink.AttributeEncoder) error { return extension(e, words[1:]) },
				)
				return nil
			})
			return nil
		})
	})
}

// extension names an extension of iptables and its revision (include/uapi/linux/netfilter/nf_tables_compat.h). For
// other expressions it does nothing.
func extension(e *netlink.AttributeEncoder, words []string) error {
	if len(words) < 2 {
		return nil
	}
	var revision uint32
	if _, err := fmt.Sscan(words[1], &revision); err != nil {
		return fmt.Errorf("revision %q: %w", words[1], err)
	}
	e.String(1, words[0])
	e.Uint32(2, revision)
	e.Bytes(3, make([]byte, 8))
	return nil
}

// send sends one message in a batch of its own and returns the kernel's answer.
func (q nftQuestion) send(kind uint16, fill func(*netlink.AttributeEncoder)) error {
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	fill(e)
	attributes, err := e.Encode()
	if err != nil {
		return err
	}
	general := func(family byte, resource byte) []byte { return []byte{family, unix.NFNETLINK_V0, 0, resource} }
	message := func(kind uint16, flags netlink.HeaderFlags, data ...[]byte) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
			Data:   slices.Concat(data...),
		}
	}
	if _, err := q.conn.SendMessages([]netlink.Message{
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, general(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)),
		message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, netlink.Acknowledge|netlink.Create, general(q.family, 0),
			attributes),
		message(unix.NFNL_MSG_BATCH_END, 0, general(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)),
	}); err != nil {
		return err
	}
	_, err = q.conn.Receive()
	return err
}
