package kind

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/cnitest/cnitest/e2e/cluster"
)

// outsider is a host outside the cluster, on the network of kind's nodes.
type outsider struct {
	name    string // of the host in scenarios
	network string // Docker's name of the network
	image   string
	// addresses are those of the Docker host; empty means a container that gets its addresses from Docker.
	addresses []netip.Addr
}

// externalLabel is a label of a Docker network whose host may play the host behind the router. Its value are addresses
// of that host outside of the network, with spaces between them. kind/cluster.sh sets it if the host is a namespace
// that kind/with-docker.sh made.
const externalLabel = "cnitest.external"

// networkOf returns the Docker network of a node and the value of its externalLabel, which may be empty.
func networkOf(ctx context.Context, container string) (network, external string, err error) {
	network, err = output(ctx, nil, "docker", "inspect", "-f",
		"{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}", container)
	if err != nil {
		return "", "", err
	}
	network = strings.TrimSpace(network)
	external, err = output(ctx, nil, "docker", "network", "inspect", "-f", `{{index .Labels "`+externalLabel+`"}}`,
		network)
	return network, strings.TrimSpace(external), err
}

// startOutside finds the hosts around kind's nodes. It returns none for other clusters.
func (b *Backend) startOutside(ctx context.Context) ([]*outsider, error) {
	container := b.nodes[0].container
	if container == "" {
		return nil, nil
	}
	network, external, err := networkOf(ctx, container)
	if err != nil {
		return nil, err
	}
	archive, err := os.CreateTemp("", "cnitest-image-")
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	// The file stays open and readable. It is removed now, so that it is gone however this program ends.
	if err := os.Remove(archive.Name()); err != nil {
		return nil, err
	}
	if err := b.image.archive(archive); err != nil {
		return nil, err
	}
	if _, err := archive.Seek(0, 0); err != nil {
		return nil, err
	}
	if _, err := output(ctx, archive, "docker", "load", "-q"); err != nil {
		return nil, err
	}
	outside := []*outsider{{name: "lan", network: network, image: b.image.ref}}
	if external == "" {
		return outside, nil
	}
	addresses, err := parseAddrs(external)
	if err != nil {
		return nil, fmt.Errorf("network %s: label %s: %w", network, externalLabel, err)
	}
	gateways, err := output(ctx, nil, "docker", "network", "inspect", "-f",
		"{{range .IPAM.Config}}{{.Gateway}} {{end}}", network)
	if err != nil {
		return nil, err
	}
	routers, err := parseAddrs(gateways)
	if err != nil {
		return nil, fmt.Errorf("network %s: gateway: %w", network, err)
	}
	return append(outside,
		&outsider{name: "external", network: "host", image: b.image.ref, addresses: addresses},
		&outsider{name: "router", network: "host", image: b.image.ref, addresses: routers}), nil
}

// parseAddrs parses addresses with spaces between them.
func parseAddrs(text string) ([]netip.Addr, error) {
	var addresses []netip.Addr
	for _, word := range strings.Fields(text) {
		address, err := netip.ParseAddr(word)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}

// start runs a container with an agent.
func (o *outsider) start(ctx context.Context) (*cluster.Place, *process, error) {
	name := "host/" + o.name
	p, err := startAgent(ctx, name, []string{
		"docker", "run", "--rm", "-i", "--init=false", "--cap-add=NET_ADMIN", "--cap-add=NET_RAW", "--network=" +
			o.network, o.image, NodeAgentCommand,
	})
	if err != nil {
		return nil, nil, err
	}
	place := &cluster.Place{Name: name, Agent: p.agent, Interfaces: map[string][]netip.Addr{}}
	if len(o.addresses) > 0 {
		place.Interfaces["uplink"] = o.addresses
		return place, p, nil
	}
	links, err := p.agent.Links(ctx, "")
	if err != nil {
		return nil, p, err
	}
	for _, link := range links {
		for _, prefix := range link.Prefixes() {
			if prefix.Addr().IsGlobalUnicast() {
				place.Interfaces["uplink"] = append(place.Interfaces["uplink"], prefix.Addr())
			}
		}
	}
	if len(place.Interfaces["uplink"]) == 0 {
		return nil, p, fmt.Errorf("%s: the container got no address", name)
	}
	return place, p, nil
}
