package conflist

import (
	"net/netip"
	"strings"

	"go4.org/netipx"
)

// whereabouts reads `range` and each entry of `ipRanges` as github.com/k8snetworkplumbingwg/whereabouts does: a subnet,
// or first-last/length. It reports no mistakes, since only the plugin knows what it accepts.
func (d *document) whereabouts(a *ipam, object *value) {
	list := []*value{object}
	if more := object.fields["ipRanges"]; more != nil {
		list = append(list, more.items...)
	}
	for _, item := range list {
		at := item.fields["range"]
		first, rest, dash := strings.Cut(textOf(at), "-")
		if !dash {
			first, rest = "", textOf(at)
		}
		prefix, err := netip.ParsePrefix(rest)
		if err != nil {
			continue
		}
		s := span{subnet: prefix.Masked(), line: d.line(at.offset)}
		from, to := usable(s.subnet)
		if dash {
			to = prefix.Addr()
			from = addrOr(first, from)
		}
		from, to = addrOr(textOf(item.fields["range_start"]), from), addrOr(textOf(item.fields["range_end"]), to)
		if to.Less(from) || !s.subnet.Contains(from) || !s.subnet.Contains(to) {
			continue
		}
		s.ips = netipx.IPRangeFrom(from, to)
		s.gateway = addrOr(textOf(object.fields["gateway"]), netip.Addr{})
		a.elsewhere = append(a.elsewhere, s)
	}
}

func addrOr(text string, otherwise netip.Addr) netip.Addr {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap()
	}
	return otherwise
}
