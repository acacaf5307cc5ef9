package snapshot

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// takeNeighbours sees the entries that somebody wrote: the permanent ones, and the addresses answered for others.
func (n network) takeNeighbours() ([]Item, error) {
	var items []Item
	for _, family := range families {
		neighbours, err := retry(func() ([]netlink.Neigh, error) { return n.handle.NeighList(0, family) })
		if err != nil {
			return nil, err
		}
		for _, e := range neighbours {
			if e.State&unix.NUD_PERMANENT == 0 {
				continue
			}
			w := words{}
			w.addf(len(e.HardwareAddr) > 0, "lladdr %s", e.HardwareAddr)
			w.addf(e.Flags&unix.NTF_ROUTER != 0, "router")
			w.addf(e.Flags&unix.NTF_EXT_LEARNED != 0, "extern_learn")
			w.add("PERMANENT")
			items = append(items, Item{Name: fmt.Sprintf("%s dev %s", e.IP, n.name(e.LinkIndex)), Text: w.String()})
		}
		proxies, err := retry(func() ([]netlink.Neigh, error) { return n.handle.NeighProxyList(0, family) })
		if err != nil {
			return nil, err
		}
		for _, e := range proxies {
			items = append(items, Item{Name: fmt.Sprintf("%s dev %s", e.IP, n.name(e.LinkIndex)), Text: "proxy"})
		}
	}
	return items, nil
}

// attempts is how often an interrupted dump is asked for.
const attempts = 20

// retry repeats a dump that the kernel reports as interrupted by a change. It is for the calls that netlinksafe does not wrap.
func retry[T any](list func() ([]T, error)) ([]T, error) {
	var all []T
	var err error
	for range attempts {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}
