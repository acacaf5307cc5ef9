package conflist

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// routeTypes are the IPAM plugins whose routes have the form of types.Route of the CNI library.
var routeTypes = []string{"host-local", "static", "whereabouts"}

// checkRoute reports a destination that plugins cannot read or the kernel refuses.
func (d *document) checkRoute(route *value) {
	if route.fields == nil {
		d.reject(route, `a route of ipam is %s; want an object: {"dst": "0.0.0.0/0"}`, route.kind())
		return
	}
	at := route.fields["dst"]
	if at == nil {
		d.reject(route, `a route of ipam has no dst; add "dst" with the network that it leads to, such as "0.0.0.0/0"`)
		return
	}
	text, ok := d.str(route, "dst")
	if !ok {
		return
	}
	dst, err := netip.ParsePrefix(text)
	switch {
	case err != nil && slices.Contains([]string{"default", "any", "all", "*"}, strings.ToLower(text)):
		d.reject(at, `dst %q is a word of the ip command; write "0.0.0.0/0", or "::/0" for IPv6`, text)
	case err != nil:
		d.reject(at, "dst %q is not address/length; %s", text, lengthCure(text, "10.1.0.0/16"))
	case dst == dst.Masked():
	case dst.Addr().Is4():
		d.reject(at, "dst %s has bits set beyond its length, which the kernel refuses; write %s", dst, dst.Masked())
	default:
		d.warn(at, "dst %s has bits set beyond its length; the kernel takes it as %s", dst, dst.Masked())
	}
}

// lengthCure says how to write what is not an address with the length of its network: it may have a netmask instead, or
// none of both.
func lengthCure(text, example string) string {
	text = strings.TrimSpace(text)
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return fmt.Sprintf("write %s, without blanks", prefix)
	}
	address, mask, masked := strings.Cut(text, "/")
	ip, err := netip.ParseAddr(strings.TrimSpace(address))
	if err != nil {
		return "write one such as " + example
	}
	if !masked {
		length := 24
		if ip.Is6() {
			length = 64
		}
		return fmt.Sprintf("add the length of its network, such as %s/%d", ip, length)
	}
	if bits, err := netip.ParseAddr(strings.TrimSpace(mask)); err == nil && bits.Is4() && ip.Is4() {
		if ones, size := net.IPMask(bits.AsSlice()).Size(); size > 0 {
			return fmt.Sprintf("write %s/%d", ip, ones)
		}
	}
	return fmt.Sprintf("write a length from 0 to %d after the /", ip.BitLen())
}
