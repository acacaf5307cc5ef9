package witness

import (
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/snapshot"
)

// refusing returns ip's word for a type of route that leads nowhere; empty for others.
func refusing(kind int) string {
	return map[int]string{
		unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit",
	}[kind]
}

// routeText returns a route in the words of ip, with its table.
func routeText(r netlink.Route) string {
	words := []string{prefixText(r.Dst, "default")}
	if prefixLength(r) == 0 {
		words[0] = "default"
	}
	if r.Type == unix.RTN_LOCAL {
		words = append([]string{"local"}, words...)
	}
	if word := refusing(r.Type); word != "" {
		words = append([]string{word}, words...)
	}
	if r.Gw != nil {
		words = append(words, "via", r.Gw.String())
	}
	if r.LinkIndex != 0 && refusing(r.Type) == "" {
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			words = append(words, "dev", link.Attrs().Name)
		}
	}
	if r.Src != nil {
		words = append(words, "src", r.Src.String())
	}
	return strings.Join(append(words, "table", snapshot.TableName(r.Table)), " ")
}

// ruleText returns a rule in the words of ip; empty for those that every namespace has. refusal is the word for a rule
// without a table.
func ruleText(r *netlink.Rule, refusal string) string {
	if r == nil || r.Src == nil && r.Dst == nil && r.IifName == "" && r.Mark == 0 &&
		(r.Table >= unix.RT_TABLE_DEFAULT && r.Table <= unix.RT_TABLE_LOCAL) {
		return ""
	}
	words := []string{fmt.Sprintf("%d:", r.Priority)}
	if r.Invert {
		words = append(words, "not")
	}
	words = append(words, "from", prefixText(r.Src, "all"))
	if r.Dst != nil {
		words = append(words, "to", prefixText(r.Dst, "all"))
	}
	if r.Mark != 0 {
		words = append(words, "fwmark", fmt.Sprintf("%#x", r.Mark))
	}
	if r.IifName != "" {
		words = append(words, "iif", r.IifName)
	}
	if r.Table != 0 {
		return strings.Join(append(words, "lookup", snapshot.TableName(r.Table)), " ")
	}
	return strings.Join(append(words, refusal), " ")
}

// prefixText returns a prefix, or a single address without its length, as ip does.
func prefixText(p *net.IPNet, none string) string {
	if p == nil {
		return none
	}
	if ones, bits := p.Mask.Size(); ones == bits {
		return p.IP.String()
	}
	return p.String()
}
