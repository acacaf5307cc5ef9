package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// mended returns the real plugin with what it lacks: upstream's macvlan and host-local fail some requirements by
// themselves.
func mended(name string) plugin {
	switch name {
	case "macvlan":
		return mendedMain
	case "host-local":
		return mendedIPAM
	}
	return real
}

// advertising returns a plugin that supports only certain versions; if there are none, the plugin itself.
func advertising(versions []string, next plugin) plugin {
	if len(versions) == 0 {
		return next
	}
	return func(c *call) answer {
		a := next(c)
		if c.verb == "VERSION" {
			a = a.edited(func(result map[string]any) { result["supportedVersions"] = versions })
		}
		return a
	}
}

// mendedMain returns the answer of macvlan with an ADD that undoes its changes when it fails, gives routes their mtu
// and advmss, says the mtu of the interface and what a stub of an IPAM plugin says of DNS, and lets no router give the
// pod addresses, a DEL that removes the interface before it gives the address back, a STATUS that checks the master,
// and a GC.
func mendedMain(c *call) answer {
	switch c.verb {
	case "ADD":
		if a, refused := c.refuse(); refused {
			return a
		}
		a := real(c)
		if a.status != 0 {
			undone := real(c.as("DEL"))
			a.stderr += undone.stderr
			return a
		}
		if err := c.setInPod("ipv6", "accept_ra", "0"); err != nil {
			return c.fail(types.ErrIOFailure, "%v", err)
		}
		if err := c.limitRoutes(a); err != nil {
			return c.fail(types.ErrIOFailure, "%v", err)
		}
		return c.withDNS(c.withMTU(a))
	case "DEL":
		_ = c.inPod(func() error {
			link, err := netlink.LinkByName(c.env["CNI_IFNAME"])
			if err == nil && link.Type() == "macvlan" {
				err = netlink.LinkDel(link)
			}
			return err
		})
		return real(c)
	case "STATUS":
		if a := real(c); a.status != 0 {
			return a
		}
		if _, err := netlink.LinkByName(c.text("master")); err != nil {
			return c.fail(50, "master %q: %v", c.text("master"), err)
		}
	case "GC":
		if a := real(c); a.status != 0 {
			return a
		}
		return ipam(c)
	default:
		return real(c)
	}
	return answer{}
}

// refuse returns the answer to an ADD that must not begin.
func (c *call) refuse() (answer, bool) {
	own, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return c.fail(types.ErrIOFailure, "%v", err), true
	}
	if given, err := os.Stat(c.env["CNI_NETNS"]); err == nil && os.SameFile(own, given) {
		return c.fail(types.ErrInvalidEnvironmentVariables, "CNI_NETNS %s: is the namespace of the node",
			c.env["CNI_NETNS"]), true
	}
	taken := false
	_ = c.inPod(func() error {
		_, err := netlink.LinkByName(c.env["CNI_IFNAME"])
		taken = err == nil
		return nil
	})
	if taken {
		return c.fail(100, "CNI_IFNAME %s: the pod has an interface of that name", c.env["CNI_IFNAME"]), true
	}
	if _, err := netlink.LinkByName(c.text("master")); len(c.config) > 0 && err != nil {
		return c.fail(101, "master %q: %v", c.text("master"), err), true
	}
	return answer{}, false
}

// withMTU returns an answer of 1.1.0 with the mtu of the pod's interface, which upstream's macvlan leaves out.
func (c *call) withMTU(a answer) answer {
	if c.text("cniVersion") != "1.1.0" {
		return a
	}
	mtu := 0
	_ = c.inPod(func() error {
		link, err := netlink.LinkByName(c.env["CNI_IFNAME"])
		if err == nil {
			mtu = link.Attrs().MTU
		}
		return err
	})
	return a.edited(func(result map[string]any) {
		for _, i := range objects(result, "interfaces") {
			i["mtu"] = mtu
		}
	})
}

// withDNS returns an answer with the DNS settings that a stub in the place of the IPAM plugin was told to answer, which
// upstream's macvlan leaves out.
func (c *call) withDNS(a answer) answer {
	var config struct {
		IPAM struct {
			Orders struct {
				On map[string]struct{ Result struct{ DNS any } }
			} `json:"cnitestStub"`
		}
	}
	_ = json.Unmarshal(c.stdin, &config)
	dns := config.IPAM.Orders.On["ADD"].Result.DNS
	if dns == nil {
		return a
	}
	return a.edited(func(result map[string]any) { result["dns"] = dns })
}

// limitRoutes gives the routes of the pod the mtu and advmss of a result. Upstream's plugins ignore them.
func (c *call) limitRoutes(a answer) error {
	result, _ := a.result()
	for _, said := range objects(result, "routes") {
		mtu, _ := said["mtu"].(float64)
		advMSS, _ := said["advmss"].(float64)
		text, _ := said["dst"].(string)
		if mtu == 0 && advMSS == 0 {
			continue
		}
		dst, err := netlink.ParseIPNet(text)
		if err != nil {
			return err
		}
		if err := c.inPod(func() error {
			routes, err := netlinksafe.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Dst: dst},
				netlink.RT_FILTER_DST)
			for i := range routes {
				routes[i].MTU, routes[i].AdvMSS = int(mtu), int(advMSS)
				err = errors.Join(err, netlink.RouteReplace(&routes[i]))
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// setInPod changes a setting of the pod's interface, of the family ipv4 or ipv6.
func (c *call) setInPod(family, name, value string) error {
	return c.inPod(func() error {
		_, err := sysctl.Sysctl("net/"+family+"/conf/"+c.env["CNI_IFNAME"]+"/"+name, value)
		return err
	})
}

// inPod runs a function in the pod's namespace.
func (c *call) inPod(do func() error) error {
	return ns.WithNetNSPath(c.env["CNI_NETNS"], func(ns.NetNS) error { return do() })
}

// mendedIPAM returns the answer of host-local with a STATUS that counts free addresses, a GC, and an ADD that prefers
// args.cni.ips to CNI_ARGS.
func mendedIPAM(c *call) answer {
	if c.verb == "ADD" && c.asksForIPs() {
		var rest []string
		for _, pair := range strings.Split(c.env["CNI_ARGS"], ";") {
			if !strings.HasPrefix(pair, "IP=") {
				rest = append(rest, pair)
			}
		}
		c = c.with("CNI_ARGS", strings.Join(rest, ";"))
	}
	a := real(c)
	if a.status != 0 {
		return a
	}
	switch c.verb {
	case "STATUS":
		return c.ready()
	case "GC":
		return c.collect(true)
	}
	return a
}

// asksForIPs reports whether args.cni.ips contains any address.
func (c *call) asksForIPs() bool {
	args, _ := c.config["args"].(map[string]any)
	of, _ := args["cni"].(map[string]any)
	ips, _ := of["ips"].([]any)
	return len(ips) > 0
}

// reservations returns the directory in which host-local keeps the reservations of a network.
func (c *call) reservations() string { return filepath.Join("/var/lib/cni/networks", c.text("name")) }

// ready implements STATUS for host-local.
func (c *call) ready() answer {
	if err := os.MkdirAll(c.reservations(), 0o755); err != nil {
		return c.fail(50, "%v", err)
	}
	var config struct {
		IPAM struct {
			Ranges [][]struct {
				Subnet               netip.Prefix
				RangeStart, RangeEnd netip.Addr
			}
		}
	}
	if err := json.Unmarshal(c.stdin, &config); err != nil {
		return c.fail(types.ErrDecodingFailure, "%v", err)
	}
	for i, set := range config.IPAM.Ranges {
		free := false
		for _, r := range set {
			first, last := r.Subnet.Masked().Addr().Next(), netipx.PrefixLastIP(r.Subnet)
			if r.RangeStart.IsValid() {
				first = r.RangeStart
			}
			if r.RangeEnd.IsValid() {
				last = r.RangeEnd
			}
			for ip := first; !free && ip.Compare(last) <= 0; ip = ip.Next() {
				_, err := os.Stat(filepath.Join(c.reservations(), ip.String()))
				free = errors.Is(err, fs.ErrNotExist)
			}
		}
		if !free {
			return c.fail(50, "range %d of %s: no address left", i, c.text("name"))
		}
	}
	return answer{}
}

// collect implements GC for host-local. It stops at the first error unless goOn is set.
func (c *call) collect(goOn bool) answer {
	lock, err := os.Open(filepath.Join(c.reservations(), "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return answer{} // nothing was ever reserved
	}
	if err != nil {
		return c.fail(types.ErrIOFailure, "%v", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return c.fail(types.ErrIOFailure, "lock %s: %v", lock.Name(), err)
	}
	var valid []string
	for _, a := range objects(c.config, "cni.dev/valid-attachments") {
		valid = append(valid, fmt.Sprint(a["containerID"], " ", a["ifname"]))
	}
	files, err := os.ReadDir(c.reservations())
	var errs []error
	for _, f := range files {
		if _, err := netip.ParseAddr(f.Name()); err != nil {
			continue
		}
		path := filepath.Join(c.reservations(), f.Name())
		owner, err := os.ReadFile(path)
		if err == nil && !slices.Contains(valid, strings.Join(strings.Fields(string(owner)), " ")) {
			err = os.Remove(path)
		}
		if errs = append(errs, err); err != nil && !goOn {
			break
		}
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return c.fail(types.ErrIOFailure, "%v", err)
	}
	return answer{}
}
