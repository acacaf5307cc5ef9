package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/utils"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

const (
	defaultContainerInterface = "veth0"
	defaultTableStart         = 256
	defaultMark               = 0x2000
	// kubeProxyMarks are kube-proxy's marks for packets that it will drop and packets that it will masquerade.
	kubeProxyMarks = 0x8000 | 0x4000
)

// config is the plugin's configuration. All keys are optional.
type config struct {
	chain.Config
	HostInterface      string   `json:"hostInterface"`
	ContainerInterface string   `json:"containerInterface"`
	IPMasq             *bool    `json:"ipMasq"`
	MTU                int      `json:"mtu"`
	RouteTableStart    *int     `json:"routeTableStart"`
	NodePortMark       *uint32  `json:"nodePortMark"`
	NodePorts          string   `json:"nodePorts"`
	Routes             []string `json:"routes"`

	routes []netip.Prefix
	ports  []portRange
}

// portRange is a range of ports, both ends included.
type portRange struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}

const maxPort = 65535

func (r portRange) isEveryPort() bool { return r == portRange{0, maxPort} }

func parseConfig(stdin []byte) (*config, error) {
	conf := config{ContainerInterface: defaultContainerInterface}
	if err := json.Unmarshal(stdin, &conf); err != nil {
		return nil, chain.BadConfig("configuration: %w", err)
	}
	if err := conf.validate(); err != nil {
		return nil, chain.BadConfig("%w", err)
	}
	return &conf, nil
}

func (c *config) validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, key := range []struct{ name, value string }{
		{"hostInterface", c.HostInterface},
		{"containerInterface", c.ContainerInterface},
	} {
		if key.value == "" && key.name == "hostInterface" {
			continue
		}
		if err := utils.ValidateInterfaceName(key.value); err != nil {
			report("%s %q: %w", key.name, key.value, err)
		}
	}
	if c.MTU != 0 && (c.MTU < 1280 || c.MTU > 65535) {
		report("mtu %d: want 1280 to 65535, or leave it out to use the MTU of hostInterface", c.MTU)
	}
	if t := c.RouteTableStart; t != nil && (*t < 1 || *t > 1<<31-1) {
		report("routeTableStart %d: want 1 to %d", *t, 1<<31-1)
	}
	if m := c.NodePortMark; m != nil && (*m == 0 || *m&(*m-1) != 0 || *m&kubeProxyMarks != 0) {
		report("nodePortMark %#x: want one bit other than 0x4000 and 0x8000, which are kube-proxy's", *m)
	}
	var err error
	if c.ports, err = parsePorts(c.NodePorts); err != nil {
		report("nodePorts %q: %w", c.NodePorts, err)
	}
	for _, s := range c.Routes {
		prefix, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			report("routes: %q is not a prefix such as 10.96.0.0/12", s)
		case prefix.Bits() == 0:
			report("routes: %q is the default route: leave routes out to send the default route over the node", s)
		case prefix != prefix.Masked():
			report("routes: %q has bits set beyond the prefix length: want %q", s, prefix.Masked())
		default:
			c.routes = append(c.routes, prefix)
		}
	}
	return errors.Join(errs...)
}

// parsePorts parses a list such as "30000-32767,8080", with "-" or ":" between the ends of a range. An empty string
// means every port.
func parsePorts(s string) ([]portRange, error) {
	if s == "" {
		return []portRange{{0, maxPort}}, nil
	}
	var ranges []portRange
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(strings.ReplaceAll(strings.TrimSpace(part), ":", "-"), "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, lastErr := strconv.ParseUint(last, 10, 16)
		if err != nil || lastErr != nil || from > to {
			return nil, fmt.Errorf("%q is neither a port nor a range such as 30000-32767", part)
		}
		for _, r := range ranges {
			if uint16(from) <= r.Last && r.First <= uint16(to) {
				return nil, fmt.Errorf("%q overlaps with another range", part)
			}
		}
		ranges = append(ranges, portRange{uint16(from), uint16(to)})
	}
	return ranges, nil
}

func (c *config) masquerades() bool { return c.IPMasq == nil || *c.IPMasq }

func (c *config) mark() uint32 {
	if c.NodePortMark == nil {
		return defaultMark
	}
	return *c.NodePortMark
}

func (c *config) tableStart() int {
	if c.RouteTableStart == nil {
		return defaultTableStart
	}
	return *c.RouteTableStart
}

// hostInterfaceName returns the configured name. Without one it returns the link of the first default route that the
// kernel lists, as upstream's macvlan does for its master.
func (c *config) hostInterfaceName(host *kernel.Namespace) (string, error) {
	if c.HostInterface != "" {
		return c.HostInterface, nil
	}
	name, err := host.DefaultLink()
	if name == "" && err == nil {
		err = errors.New("hostInterface is not set, and the node has no default route whose link could be used")
	}
	return name, err
}
