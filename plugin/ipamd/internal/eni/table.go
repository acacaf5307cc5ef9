package eni

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

const tableName = "cni-ipamd"

// table is the wanted state of ipamd's nftables table. Tables of others are never written to.
type table struct {
	*nftables.Table
	chains []*nftables.Chain
	rules  map[string][]*nftables.Rule // by chain
}

// tableOf returns the node's table. It drops what pods must not send, marks connections that arrive on the primary ENI,
// and translates the source of packets that leave the VPC.
func tableOf(opts Options, primary string, address netip.Addr, vpc []netip.Prefix) *table {
	t := &table{
		Table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4}, rules: map[string][]*nftables.Rule{},
	}
	t.guard(opts)
	if opts.NodePorts {
		// This chain runs before the translation of destinations (-100): a node port is recognised by the node's own
		// address.
		pre := t.chain("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
			*nftables.ChainPriorityMangle)
		t.rule(pre, iifname(padded(primary)), localDestination(), setConnMark(opts.Mark), setMark(opts.Mark))
		t.rule(pre, iifname([]byte(opts.VethPrefix)), connMarked(opts.Mark), setMark(opts.Mark))
	}
	if !opts.ExternalSNAT && len(vpc) > 0 {
		post := t.chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting,
			*nftables.ChainPriorityNATSource)
		for _, prefix := range vpc {
			t.rule(post, destination(prefix), []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}})
		}
		t.rule(post, oifname(padded(primary)), sourceNAT(address))
	}
	return t
}

// guard adds the chain that drops packets of pods. The kernel's reverse path filter does not do this: it may be off or
// loose. Here, too, the routes decide which source belongs to a link, so that a pod has no more than its host route.
func (t *table) guard(opts Options) {
	if !opts.CheckSources && !opts.NoMetadata {
		return
	}
	pods, drop := iifname([]byte(opts.VethPrefix)), []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	guard := t.chain("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
	if opts.CheckSources {
		t.rule(guard, pods, foreignSource(), drop)
		// kube-proxy lets packets to the loopback in from every link (route_localnet).
		t.rule(guard, pods, destination(netip.MustParsePrefix("127.0.0.0/8")), drop)
	}
	if opts.NoMetadata {
		t.rule(guard, pods, destination(netip.MustParsePrefix("169.254.169.254/32")), drop)
	}
}

func (t *table) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook,
	priority nftables.ChainPriority,
) *nftables.Chain {
	c := &nftables.Chain{Name: name, Table: t.Table, Type: kind, Hooknum: hook, Priority: &priority}
	t.chains = append(t.chains, c)
	return c
}

// rule appends a rule whose comment is a hash of its expressions. Rules are recognised by this comment.
func (t *table) rule(c *nftables.Chain, parts ...[]expr.Any) {
	exprs := slices.Concat(parts...)
	sum := sha256.New()
	for _, e := range exprs {
		raw, _ := expr.Marshal(byte(t.Family), e) // cannot fail: all sizes are fixed
		sum.Write(raw)
	}
	tag := userdata.AppendString(nil, userdata.TypeComment, "ipamd "+hex.EncodeToString(sum.Sum(nil)[:4]))
	t.rules[c.Name] = append(t.rules[c.Name], &nftables.Rule{Table: t.Table, Chain: c, Exprs: exprs, UserData: tag})
}

// ensureTable makes the kernel's table equal to t, in one transaction. If it is already equal, nothing changes.
func ensureTable(t *table) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	tables, err := conn.ListTablesOfFamily(t.Family)
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	exists := slices.ContainsFunc(tables, func(other *nftables.Table) bool { return other.Name == t.Name })
	if exists {
		same, err := t.same(conn)
		if err != nil || same {
			return err
		}
		conn.DelTable(t.Table)
	}
	if len(t.chains) > 0 {
		conn.AddTable(t.Table)
	}
	for _, c := range t.chains {
		conn.AddChain(c)
		for _, r := range t.rules[c.Name] {
			conn.AddRule(r)
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: table %s: %w", t.Name, err)
	}
	return nil
}

// same reports whether the kernel's table has these chains with these rules.
func (t *table) same(conn *nftables.Conn) (bool, error) {
	listed, err := conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return false, fmt.Errorf("nftables: %w", err)
	}
	chains := 0
	for _, c := range listed {
		if c.Table.Name != t.Name {
			continue
		}
		chains++
		rules, err := conn.GetRules(t.Table, c)
		if err != nil {
			return false, fmt.Errorf("nftables: chain %s: %w", c.Name, err)
		}
		if !slices.Equal(tags(rules), tags(t.rules[c.Name])) {
			return false, nil
		}
	}
	return chains == len(t.chains) && chains > 0, nil
}

func tags(rules []*nftables.Rule) []string {
	var all []string
	for _, r := range rules {
		tag, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		all = append(all, tag)
	}
	return all
}

// These functions return the parts of rules. All use the first register.

func load(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: 1} }

func equals(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

// iifname returns a match for the name of the incoming link. It compares as many bytes as name has: a padded name
// matches only itself, another matches all names with that prefix.
func iifname(name []byte) []expr.Any { return []expr.Any{load(expr.MetaKeyIIFNAME), equals(name)} }

func oifname(name []byte) []expr.Any { return []expr.Any{load(expr.MetaKeyOIFNAME), equals(name)} }

func padded(name string) []byte {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return data
}

// localDestination returns a match for packets to an address of the link on which they arrived.
func localDestination() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true, FlagIIF: true},
		equals(binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)),
	}
}

// foreignSource returns a match for packets whose source the node does not reach by the link on which they arrived.
func foreignSource() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultOIF: true, FlagSADDR: true, FlagIIF: true}, equals(make([]byte, 4)),
	}
}

func destination(prefix netip.Prefix) []expr.Any {
	offset, length := uint32(16), uint32(4)
	if prefix.Addr().Is6() {
		offset, length = 24, 16
	}
	mask := net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: mask, Xor: make([]byte, length)},
		equals(prefix.Masked().Addr().AsSlice()),
	}
}

// bits returns an expression that keeps the bits of mask and sets the bits of set.
func bits(mask, set uint32) expr.Any {
	return &expr.Bitwise{
		SourceRegister: 1, DestRegister: 1, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(set),
	}
}

func setConnMark(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, bits(^mark, mark), &expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true},
	}
}

func connMarked(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, bits(mark, 0), equals(binaryutil.NativeEndian.PutUint32(mark)),
	}
}

// setMark returns expressions that set mark in a packet's mark. The other bits belong to others and do not change.
func setMark(mark uint32) []expr.Any {
	return []expr.Any{
		load(expr.MetaKeyMARK), bits(^mark, mark), &expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	}
}

func sourceNAT(address netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: address.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegAddrMax: 1},
	}
}
