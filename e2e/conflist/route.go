package conflist

import "net/netip"

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
	case err != nil:
		d.reject(at, "dst %q is not address/length; write one such as 10.1.0.0/16", text)
	case dst == dst.Masked():
	case dst.Addr().Is4():
		d.reject(at, "dst %s has bits set beyond its length, which the kernel refuses; write %s", dst, dst.Masked())
	default:
		d.warn(at, "dst %s has bits set beyond its length; the kernel takes it as %s", dst, dst.Masked())
	}
}
