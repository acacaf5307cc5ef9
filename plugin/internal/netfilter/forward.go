package netfilter

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// Forwarding describes a kind of packet that a node forwards.
type Forwarding struct {
	// From is a prefix of the names of the links by which they come in.
	From string
	// To names further links by which they leave.
	To []string
}

// Drops names the chains in the namespace of the calling thread, in nftables and in legacy iptables, that drop the
// first packet of each such connection: their policy is to drop, and they hold no rule that accepts it. A rule that may
// accept some, such as one with addresses in it, counts as accepting: nothing shows whether it is meant for these
// packets.
//
// A plugin's own table does not help against such a chain: a packet that one chain accepts is still dropped by the
// next.
func (f Forwarding) Drops() ([]string, error) {
	native, err := f.nativeDrops()
	legacy, legacyErr := f.legacyDrops()
	return append(native, legacy...), errors.Join(err, legacyErr)
}

func (f Forwarding) nativeDrops() ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("nftables: chains: %w", err)
	}
	var drops []string
	for _, c := range chains {
		onForward := c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward
		if !onForward || !isIP(c.Table.Family) || c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		r := &ruleset{conn: conn, forwarding: f, seen: map[string]bool{}}
		if !r.mayAccept(c.Table, c.Name) {
			drops = append(drops, fmt.Sprintf("chain %s of table %s %s", c.Name, familyName(c.Table.Family),
				c.Table.Name))
		}
	}
	return drops, nil
}

func isIP(family nftables.TableFamily) bool { return familyName(family) != "" }

func familyName(family nftables.TableFamily) string {
	switch family {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyINet:
		return "inet"
	}
	return ""
}

// ruleset follows one packet through the chains of a table.
type ruleset struct {
	conn       *nftables.Conn
	forwarding Forwarding
	seen       map[string]bool
}

func (r *ruleset) mayAccept(table *nftables.Table, chain string) bool {
	if r.seen[chain] {
		return false
	}
	r.seen[chain] = true
	rules, err := r.conn.GetRules(table, &nftables.Chain{Name: chain, Table: table})
	if err != nil {
		return true // it has an expression that the library cannot read
	}
	for _, rule := range rules {
		verdict, may := r.follow(rule.Exprs)
		if !may || verdict == nil {
			continue
		}
		switch verdict.Kind {
		case expr.VerdictAccept:
			return true
		case expr.VerdictJump, expr.VerdictGoto:
			if r.mayAccept(table, verdict.Chain) {
				return true
			}
		}
	}
	return false
}

// follow returns what a rule decides, and whether it may decide it for the packet.
func (r *ruleset) follow(exprs []expr.Any) (verdict *expr.Verdict, may bool) {
	var loaded expr.Any
	var mask []byte
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Meta, *expr.Ct, *expr.Payload:
			loaded, mask = e, nil
		case *expr.Bitwise:
			mask = e.Mask
		case *expr.Cmp:
			if r.excludes(loaded, mask, e) {
				return nil, false
			}
		case *expr.Match:
			if excludesMatch(e.Name, e.Info) {
				return nil, false
			}
		case *expr.Verdict:
			return e, true
		}
	}
	return nil, true
}

// excludes reports whether a comparison is false for the packet: by its links, by a mark that it does not have, or
// because it is the first of its connection.
func (r *ruleset) excludes(loaded expr.Any, mask []byte, cmp *expr.Cmp) bool {
	isZero := len(bytes.Trim(cmp.Data, "\x00")) == 0
	equal := cmp.Op == expr.CmpOpEq
	switch e := loaded.(type) {
	case *expr.Meta:
		switch e.Key {
		case expr.MetaKeyIIFNAME:
			return equal && !r.forwarding.mayEnter(pattern(cmp.Data))
		case expr.MetaKeyOIFNAME:
			return equal && !r.forwarding.mayLeave(pattern(cmp.Data))
		case expr.MetaKeyMARK:
			return equal != isZero
		}
	case *expr.Ct:
		switch e.Key {
		case expr.CtKeySTATE:
			return !equal && isZero && len(mask) == 4 && binaryutil.NativeEndian.Uint32(mask)&expr.CtStateBitNEW == 0
		case expr.CtKeyMARK:
			return equal != isZero
		}
	}
	return false
}

// namePattern is a link's name in a rule, or the beginning of one.
type namePattern struct {
	text   string
	prefix bool
}

// pattern reads a name as nf_tables compares it: a whole name is padded with zeros.
func pattern(data []byte) namePattern {
	text, _, whole := strings.Cut(string(data), "\x00")
	return namePattern{text: text, prefix: !whole && len(data) < unix.IFNAMSIZ}
}

func (p namePattern) matches(name string) bool {
	return p.text == name || p.prefix && strings.HasPrefix(name, p.text)
}

func (f Forwarding) mayEnter(p namePattern) bool {
	return strings.HasPrefix(p.text, f.From) || p.prefix && strings.HasPrefix(f.From, p.text)
}

func (f Forwarding) mayLeave(p namePattern) bool {
	for _, name := range f.To {
		if p.matches(name) {
			return true
		}
	}
	return f.mayEnter(p)
}

// excludesMatch does the same for a match of iptables, which its nftables variant keeps unchanged.
func excludesMatch(name string, info xt.InfoAny) bool {
	const ctStateNew = 1 << 3 // XT_CONNTRACK_STATE_BIT(IP_CT_NEW)
	const matchesState = 1    // XT_CONNTRACK_STATE
	if info, ok := info.(*xt.ConntrackMtinfo3); ok {
		return info.MatchFlags&matchesState != 0 && info.InvertFlags&matchesState == 0 && info.StateMask&ctStateNew == 0
	}
	return name == "mark" || name == "connmark"
}
