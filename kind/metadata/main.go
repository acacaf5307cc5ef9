// Command metadata makes a node on a plain LAN look like an instance of EC2 to ipamd: it serves instance metadata and
// stands in for the cloud's network, which delivers packets for an ENI's addresses to the ENI. To that end the node
// answers ARP for addresses to which it has routes through another interface.
//
//	metadata -listen 127.0.0.1:9169 -address 172.18.0.2 -pods 172.18.129.0/24
//
// It is only for tests of routed-eni on clusters outside of a cloud.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go4.org/netipx"

	"github.com/cnitest/cnitest/e2e/metadata"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "metadata: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:9169", "where the service listens")
	address := flag.String("address", os.Getenv("NODE_IP"), "the node's own address; its interface is the one ENI")
	pods := flag.String("pods", "", "network of 24 bits of which the ENI has addresses for pods; empty means that "+
		"with the third number -base and the last one of -address")
	base := flag.Int("base", 200, "see -pods")
	flag.Parse()
	own, err := netip.ParseAddr(*address)
	if err != nil {
		return fmt.Errorf("-address: %w", err)
	}
	if *pods == "" {
		bytes := own.As4()
		*pods = fmt.Sprintf("%d.%d.%d.0/24", bytes[0], bytes[1], *base+int(bytes[3]))
	}
	network, err := netip.ParsePrefix(*pods)
	if err != nil {
		return fmt.Errorf("-pods: %w", err)
	}
	instance, err := describe(own, network)
	if err != nil {
		return err
	}
	if err := deliver(instance.ENIs[0].Name); err != nil {
		return err
	}
	service := metadata.NewService(metadata.Options{Tokens: true})
	service.Set(instance)
	server := &http.Server{Addr: *listen, Handler: service, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

// prefixes is the number of prefixes of a node: room for 112 pods.
const prefixes = 7

// describe finds the interface that has the node's address.
func describe(own netip.Addr, pods netip.Prefix) (metadata.Instance, error) {
	address := own.As4()
	number := binary.BigEndian.Uint32(address[:])
	links, err := net.Interfaces()
	if err != nil {
		return metadata.Instance{}, err
	}
	for _, link := range links {
		addrs, err := link.Addrs()
		if err != nil {
			return metadata.Instance{}, err
		}
		for _, a := range addrs {
			subnet, err := netip.ParsePrefix(a.String())
			if err != nil || subnet.Addr() != own {
				continue
			}
			eni := metadata.ENI{
				ID: metadata.ENIID(number), Name: link.Name, MAC: link.HardwareAddr.String(), Address: own,
			}
			// The first prefix is left out, since its first address looks like a network address.
			next := netipx.RangeOfPrefix(netip.PrefixFrom(pods.Addr(), metadata.PrefixBits)).To().Next()
			for range prefixes {
				eni.Prefixes = append(eni.Prefixes, netip.PrefixFrom(next, metadata.PrefixBits))
				next = netipx.RangeOfPrefix(netip.PrefixFrom(next, metadata.PrefixBits)).To().Next()
			}
			instance := metadata.NewInstance(number, subnet.Masked(), subnet.Masked())
			instance.ENIs = []metadata.ENI{eni}
			return instance, nil
		}
	}
	return metadata.Instance{}, fmt.Errorf("no interface has %s", own)
}

// deliver makes the node answer ARP for its pods on an interface, and at once: by default the kernel delays such
// answers in favour of another host, and there is none (arp.c, arp_process).
func deliver(link string) error {
	for file, value := range map[string]string{
		"conf/" + link + "/proxy_arp": "1", "neigh/" + link + "/proxy_delay": "0",
	} {
		if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv4", file), []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}
