package netns

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"strconv"
	"strings"

	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// defaultRPFilter is loose, as systemd sets it on current distributions.
const defaultRPFilter = 2

// nodeSysctls returns the sysctls with which a node starts. They do not depend on the machine's values: forwarding is
// on, as on every Kubernetes node, and reverse-path filtering and others are as the scenario says.
func nodeSysctls(node scenario.Node, plan conflist.NodePlan) map[string]string {
	rpFilter := defaultRPFilter
	if node.RPFilter != nil {
		rpFilter = *node.RPFilter
	}
	values := stackSysctls(rpFilter)
	values["net.ipv4.ip_forward"] = "1"
	for _, a := range plan.Addresses {
		if a.Addr().Is6() {
			values["net.ipv6.conf.all.forwarding"] = "1"
		}
	}
	maps.Copy(values, node.Sysctl)
	return values
}

// hostSysctls returns the sysctls of a machine outside the cluster. It filters nothing, and sends at once without
// waiting for duplicate address detection.
func hostSysctls(forward bool) map[string]string {
	values := stackSysctls(0)
	values["net.ipv4.ip_forward"], values["net.ipv6.conf.all.forwarding"] = "0", "0"
	if forward {
		values["net.ipv4.ip_forward"], values["net.ipv6.conf.all.forwarding"] = "1", "1"
	}
	values["net.ipv6.conf.all.accept_dad"], values["net.ipv6.conf.default.accept_dad"] = "0", "0"
	return values
}

// stackSysctls returns those sysctls that a new namespace may copy from the machine's first one (ip-sysctl.rst,
// devconf_inherit_init_net), with the values of a current distribution: the kernel's own (devinet.c, addrconf.c),
// except for those in systemd's 50-default.conf.
func stackSysctls(rpFilter int) map[string]string {
	values := map[string]string{
		// A machine that forwards ignores redirects (ip-sysctl.rst, accept_redirects).
		"net.ipv4.conf.all.accept_redirects": "0", "net.ipv4.conf.default.accept_redirects": "1",
	}
	for _, scope := range []string{"all.", "default."} {
		for name, value := range map[string]string{
			"accept_local": "0", "accept_source_route": "0", "arp_accept": "0", "arp_announce": "0", "arp_filter": "0",
			"arp_ignore": "0",
			"arp_notify": "0", "disable_policy": "0", "disable_xfrm": "0", "drop_gratuitous_arp": "0",
			"drop_unicast_in_l2_multicast": "0",
			"ignore_routes_with_linkdown":  "0", "log_martians": "0", "promote_secondaries": "1", "proxy_arp": "0",
			"proxy_arp_pvlan": "0",
			"route_localnet":  "0", "rp_filter": strconv.Itoa(rpFilter), "secure_redirects": "1", "send_redirects": "1",
			"shared_media":   "1",
			"src_valid_mark": "0",
		} {
			values["net.ipv4.conf."+scope+name] = value
		}
		for name, value := range map[string]string{
			"accept_ra": "1", "autoconf": "1", "disable_ipv6": "0", "proxy_ndp": "0",
		} {
			values["net.ipv6.conf."+scope+name] = value
		}
	}
	return values
}

// hasIPv6 reports whether the kernel has IPv6, which ipv6.disable=1 switches off.
func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return !errors.Is(err, fs.ErrNotExist)
}

// setSysctls sets the sysctls that the kernel has, and ignores others.
func (m *machine) setSysctls(ctx context.Context, netns string, values map[string]string) error {
	if !hasIPv6() {
		values = maps.Clone(values)
		maps.DeleteFunc(values, func(name, _ string) bool { return strings.HasPrefix(name, "net.ipv6.") })
	}
	return m.agent.SetSysctls(ctx, netns, values)
}
