package witness

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// makeOwnedTable makes a table that belongs to a socket. The library drops the flags of a table.
func makeOwnedTable(conn *netlink.Conn) error {
	table, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(traceTable + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binary.BigEndian.AppendUint32(nil, ownedTable)},
	})
	if err != nil {
		return err
	}
	const subsystem = unix.NFNL_SUBSYS_NFTABLES
	message := func(kind int, flags netlink.HeaderFlags, family byte, resource byte, data []byte) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
			Data:   append([]byte{family, unix.NFNETLINK_V0, 0, resource}, data...),
		}
	}
	if _, err := conn.SendMessages([]netlink.Message{
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, subsystem, nil),
		message(subsystem<<8|unix.NFT_MSG_NEWTABLE, netlink.Acknowledge|netlink.Create|netlink.Excl, unix.NFPROTO_INET,
			0, table),
		message(unix.NFNL_MSG_BATCH_END, 0, 0, subsystem, nil),
	}); err != nil {
		return err
	}
	if _, err := conn.Receive(); err != nil {
		return fmt.Errorf("make table %s: %w", traceTable, err)
	}
	return nil
}

// mark adds the chains and rules that set `meta nftrace` on the packets.
func (t *Trace) mark(addresses []netip.Addr) error {
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: traceTable}
	for _, hook := range []struct {
		name string
		hook *nftables.ChainHook
	}{{"prerouting", nftables.ChainHookPrerouting}, {"output", nftables.ChainHookOutput}} {
		chain := t.rules.AddChain(&nftables.Chain{
			Table: table, Name: hook.name, Type: nftables.ChainTypeFilter, Hooknum: hook.hook,
			Priority: nftables.ChainPriorityRef(tracePriority),
		})
		for _, address := range addresses {
			for _, source := range []bool{true, false} {
				t.rules.AddRule(&nftables.Rule{
					Table: table, Chain: chain,
					Exprs: slices.Concat(matchAddress(address, source), []expr.Any{
						&expr.Immediate{Register: 1, Data: []byte{1}},
						&expr.Meta{Key: expr.MetaKeyNFTRACE, SourceRegister: true, Register: 1},
					}),
				})
			}
		}
	}
	return t.rules.Flush()
}

// matchAddress returns a match for `ip saddr ADDRESS`, or daddr, in the address's family.
func matchAddress(address netip.Addr, source bool) []expr.Any {
	family, offset, length := byte(unix.NFPROTO_IPV4), uint32(16), uint32(4)
	if source {
		offset = 12
	}
	if address.Is6() {
		family, offset, length = unix.NFPROTO_IPV6, 24, 16
		if source {
			offset = 8
		}
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: address.AsSlice()},
	}
}
