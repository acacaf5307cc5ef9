package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// takeZones reads the zones in which connections are tracked, other than the default one. The connections themselves
// come and go.
//
// The kernel searches the table of the whole machine, so it is asked only if there is a connection, and netlink only if
// /proc does not say enough: for /proc it takes no lock for each of the table's quarter of a million chains, 0.4 ms
// instead of 9.
func (n network) takeZones() ([]object, error) {
	count, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	if errors.Is(err, os.ErrNotExist) || err == nil && string(bytes.TrimSpace(count)) == "0" {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	zones, all := readZones()
	if !all {
		if zones, err = retry(listZones); err != nil {
			return nil, unlessLacking(err)
		}
	}
	slices.Sort(zones)
	var objects []object
	for _, zone := range slices.Compact(zones) {
		objects = append(objects, object{Item: Item{Name: fmt.Sprintf("zone %d", zone)}})
	}
	return objects, nil
}

// longestConnection is more than a line about a connection in /proc has.
const longestConnection = 512

// readZones returns the zone of each connection that is in one, and whether these are all. Only a list that fits into
// one read of a page is: of a longer one, kernels before 6.16 find the place of the next read by counting, and miss a
// connection if an earlier one has ended in between. The file is an option of the kernel (CONFIG_NF_CONNTRACK_PROCFS).
func readZones() (zones []uint16, all bool) {
	file, err := os.Open("/proc/thread-self/net/nf_conntrack")
	if err != nil {
		return nil, false
	}
	defer file.Close()
	page := make([]byte, os.Getpagesize())
	n, err := file.Read(page)
	if err != nil && !errors.Is(err, io.EOF) || n > len(page)-longestConnection {
		return nil, false
	}
	for word := range bytes.FieldsSeq(page[:n]) {
		if text, ok := bytes.CutPrefix(word, []byte("zone=")); ok {
			if zone, err := strconv.ParseUint(string(text), 10, 16); err == nil && zone != 0 {
				zones = append(zones, uint16(zone))
			}
		}
	}
	return zones, true
}

// listZones returns the zone of each connection that is in one, from netlink.
func listZones() (zones []uint16, err error) {
	//nolint:forbidigo // it is repeated after an interruption, and netlinksafe has no such list
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_UNSPEC)
	for _, flow := range flows {
		if flow.Zone != 0 {
			zones = append(zones, flow.Zone)
		}
	}
	return zones, err
}
