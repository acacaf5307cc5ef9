package snapshot

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// takeNeighbours reads the entries that somebody wrote: permanent ones, and proxy entries.
func (n network) takeNeighbours() ([]object, error) {
	var objects []object
	add := func(e netlink.Neigh, text string) {
		objects = append(objects, object{
			Item:   Item{Name: fmt.Sprintf("%s dev %s", e.IP, n.name(e.LinkIndex)), Text: text},
			remove: func() error { return n.handle.NeighDel(&e) },
		})
	}
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
			add(e, w.String())
		}
		proxies, err := retry(func() ([]netlink.Neigh, error) { return n.handle.NeighProxyList(0, family) })
		if err != nil {
			return nil, err
		}
		for _, e := range proxies {
			add(e, proxyText)
		}
	}
	return objects, nil
}

// proxyText is the whole text of a proxy, which may have the name of a permanent entry.
const proxyText = "proxy"

// attempts is how often an interrupted dump is repeated.
const attempts = 20

// retry repeats a dump that the kernel reports as interrupted by a change. It is for calls that netlinksafe does not
// wrap, and for those whose result must be whole: netlinksafe gives up after five attempts and returns what it has.
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
