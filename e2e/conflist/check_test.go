package conflist

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
)

// TestLoad_bad compares the whole error text of every file of testdata/bad; `FILE` stands for its path.
func TestLoad_bad(t *testing.T) {
	want := map[string]string{
		"bare-key.conflist":        `FILE:2:3: a key has no quotes; write "like this"`,
		"byte-order-mark.conflist": `FILE:1:1: the file starts with a byte order mark; save it as UTF-8 without`,
		"comment.conflist":         `FILE:2:3: JSON has no comments; remove this one`,
		"cut-off.conflist":         `FILE:3:15: the file ends too early; close what is open with quote, ] or }`,
		"empty.conflist":           `FILE:1: the file is empty; want a CNI configuration list`,
		"libcni.conflist": `FILE:1: libcni: ` + libcniError(t, "libcni.conflist") +
			`; compare with SPEC.md, section 1`,
		"missing-comma.conflist": `FILE:3:3: a comma is missing before this; add it`,
		"name-type.conflist":     `FILE:3: name is a number; want a string`,
		"name.conflist": `FILE:3: network name "-net/1" has a character that the spec forbids; ` +
			`use letters, digits, "_", "." and "-", the first a letter or a digit`,
		"no-plugins.conflist":    `FILE:4: plugins is empty; add one object with a "type"`,
		"no-ranges.conflist":     `FILE:5: host-local has no addresses to give; add "ranges": [[{"subnet": "10.1.0.0/16"}]]`,
		"not-an-object.conflist": `FILE:1: the file holds a list; want an object with cniVersion, name and plugins`,
		"nothing-said.conflist": `
FILE:1: no network name; add "name" with letters, digits, "_", "." and "-", the first a letter or a digit
FILE:1: no cniVersion; add "cniVersion": "1.0.0" or another of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0: without it containerd cannot delete pods
FILE:1: no plugins; add "plugins": [{"type": …}]`,
		"number.conflist": `FILE:2:18: a number is written with a 0 before it; write it in decimal digits, without`,
		"old-version.conflist": `FILE:5: cniVersion 0.2.0 has one address per family, but a family has more range ` +
			`sets; ` +
			`raise cniVersion to 0.3.0 or later`,
		"placeholder.conflist": `
FILE:1: no plugins; add "plugins": [{"type": …}]
FILE:3: no placeholder "${NODE_NAME"; write ${NODE_NAME}, ${NODE_INDEX} or ${NODE_IP}
FILE:4: no placeholder "${NODE_ID}"; write ${NODE_NAME}, ${NODE_INDEX} or ${NODE_IP}`,
		"plugin-in-conflist.conflist": `FILE:1: no plugins; add "plugins": [{"type": …}], or name the file .conf`,
		"plugin.conflist": `
FILE:4: disableCheck is a string; want true or false
FILE:6: plugin has no type; add "type" with the name of its binary
FILE:7: plugin type "../macvlan" is a path; write the binary's name alone
FILE:8: type is true or false; want a string
FILE:9: plugins holds a string; want objects
FILE:10: capability mac is a string; want true or false
FILE:11: capabilities is a list; want an object such as {"portMappings": true}
FILE:12: ipam is a string; want an object`,
		"plugins-type.conflist": `FILE:4: plugins is an object; want a list of objects`,
		"ranges-overlap.conflist": `FILE:5: ranges 10.1.0.1-10.1.0.254 and 10.1.0.129-10.1.0.254 overlap; ` +
			`host-local refuses that`,
		"ranges-type.conflist": `FILE:4: ranges is a string; want a list of lists: [[{"subnet": …}]]`,
		"ranges.conflist": `
FILE:10: subnet "10.1.0.0" is not address/length; add the length of its network, such as 10.1.0.0/24
FILE:11: subnet 10.1.2.3/16 has bits set beyond its length; write 10.1.0.0/16
FILE:12: subnet 10.1.0.0/31 is too small for host-local; want /30 or larger
FILE:13: a range has no subnet; add "subnet" with address/length such as 10.1.0.0/16
FILE:14: rangeStart 10.2.0.1 is not in subnet 10.1.0.0/24; take one that is
FILE:15: range 10.1.0.9-10.1.0.8 ends before it starts; exchange the two
FILE:16: rangeEnd "ten" is not an address; write one such as 10.1.0.1
FILE:18: subnet is a number; want a string
FILE:19: a range set is a list without a range; want a list of objects: [{"subnet": …}]
FILE:20: a range set is an object without a range; want a list of objects: [{"subnet": …}]
FILE:21: a range is a string; want an object: {"subnet": …}
FILE:22: a range set mixes IPv4 and IPv6; make one set per family`,
		"single-quotes.conflist": `FILE:2:17: a string is in single quotes; write "like this"`,
		"static.conflist": `
FILE:10: address "10.1.0.1" is not address/length; add the length of its network, such as 10.1.0.1/24
FILE:11: an address of ipam has no "address"; write address/length such as 10.1.0.5/16`,
		"trailing-comma.conflist": `FILE:5:24: there is a comma before }; remove it`,
		"types.conflist": `
FILE:7: mtu of macvlan is a string; want a whole number, 1400 without quotes
FILE:8: mac of macvlan is a number; want a string, "2" in quotes
FILE:9: linkInContainer of macvlan is a string; want true or false, true without quotes
FILE:10: bcqueuelen of macvlan is a number; want a whole number that is not negative
FILE:11: search of macvlan is a string; want a list of strings, ["example.org"]
FILE:12: dataDir of host-local is true or false; want a string, "false" in quotes
FILE:13: mtu of host-local is a number; want a whole number
FILE:14: table of host-local is a string; want a whole number, 100 without quotes
FILE:16: sysctl of tuning is an object; want an object of strings, each value in quotes
FILE:17: conditionsV4 of portmap is a string; want a list of strings, ["-d"]
FILE:17: snat of portmap is a number; want true or false`,
		"two-documents.conflist": `FILE:2:1: one file holds one object; remove what follows it`,
		"uplink.conflist": `
FILE:5: interface name "enp0s31f6.host-side" has 19 bytes; Linux takes at most 15
FILE:6: interface name "eth 0" has a character that Linux forbids; leave out slash, colon and white space`,
		"order.conflist": `FILE:5: tuning works on the interface of a plugin before it, and is the first; put one that ` +
			`makes an interface before it, such as macvlan or bridge
FILE:7: subnet 127.0.0.0/8 has addresses of no interface: it is for loopback or multicast; take one of a LAN
FILE:8: subnet ff02::/64 has addresses of no interface: it is for loopback or multicast; take one of a LAN`,
		"together.conflist": `
FILE:5: ptp calls an IPAM plugin in each ADD, and "ipam" names none; add one, such as "ipam": {"type": "host-local", "subnet": "10.1.0.0/16"}
FILE:7: bridge takes promiscMode or hairpinMode, and refuses both; remove one
FILE:9: bridge takes disableContainerInterface or ipam, and refuses both; remove one
FILE:12: minID 50 of a vlanTrunk is above its maxID 40; exchange the two
FILE:13: id of a vlanTrunk is 4095; want a number from 1 to 4094
FILE:14: a vlanTrunk has minID without maxID; add it, or write id for one VLAN
FILE:14: minID of a vlanTrunk is 0; want a number from 1 to 4094
FILE:15: a vlanTrunk has maxID without minID; add it, or write id for one VLAN
FILE:17: portmap takes markMasqBit or externalSetMarkChain, and refuses both; remove one
FILE:19: hwaddr of host-device is "00-11-22"; want a MAC such as 02:00:00:00:00:01
FILE:21: kernelpath of host-device is "/sys/class/net/eth0"; want a path below /sys/devices/`,
		"values.conflist": `
FILE:6: mode of macvlan is "brigde"; want one of bridge, private, vepa, passthru
FILE:7: mtu of macvlan is -1; want a number of at least 0
FILE:8: mac of macvlan is "02:00:00:00:01"; want a MAC such as 02:00:00:00:00:01
FILE:9: mode of ipvlan is "L3"; want one of l2, l3, l3s
FILE:10: vlan needs "master"; add it
FILE:10: vlanId of vlan is 4095; want a number from 0 to 4094
FILE:11: vlan of bridge is -1; want a number from 0 to 4094
FILE:12: ipMasqBackend of bridge is "nft"; want one of iptables, nftables
FILE:13: backend of portmap is "nf_tables"; want one of iptables, nftables
FILE:14: markMasqBit of portmap is 32; want a number from 0 to 31
FILE:15: ingressPolicy of firewall is "closed"; want one of open, same-bridge, isolated
FILE:16: ingressRate of bandwidth needs ingressBurst, too; add it
FILE:17: egressBurst of bandwidth needs egressRate, too; add it
FILE:19: tuning sets sysctls of net alone, not "kernel.pid_max"; leave it out
FILE:20: vrf needs "vrfname"; add it`,
		"version.conflist": `FILE:2: cniVersion "1.2.3" is unknown; want one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0`,
		"versions.conflist": `
FILE:1: no cniVersion that is known; want one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0
FILE:2: cniVersions holds "one"; want a version such as 1.0.0
FILE:2: cniVersions holds a number; want strings`,
	}
	files, err := os.ReadDir("testdata/bad")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(want) {
		t.Errorf("got %d files in testdata/bad, want %d", len(files), len(want))
	}
	for _, file := range files {
		t.Run(file.Name(), func(t *testing.T) {
			path := filepath.Join("testdata/bad", file.Name())
			_, err := Load(path)
			if err == nil {
				t.Fatal("got no error")
			}
			text := strings.TrimPrefix(strings.ReplaceAll(want[file.Name()], "FILE", path), "\n")
			if diff := cmp.Diff(err.Error(), text); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
		})
	}
}

// libcniError returns the library's own text, which this package cannot change.
func libcniError(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/bad", file))
	if err != nil {
		t.Fatal(err)
	}
	_, err = libcni.NetworkConfFromBytes(data)
	return fmt.Sprint(err)
}

// TestParse_version_as_number says once that a version is no text, and names versions that exist.
func TestParse_version_as_number(t *testing.T) {
	const want = `n.conf:1: cniVersion is a number; want a string, one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0`
	for _, text := range []string{
		`{"cniVersion": 1.0, "name": "n", "type": "macvlan"}`,
		`{"cniVersion": 1.0, "name": "n", "plugins": [{"type": "macvlan"}]}`,
	} {
		if _, err := Parse("n.conf", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func TestParse_list_in_conf(t *testing.T) {
	f, err := Parse("10-net.conf", []byte(`{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "macvlan"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"10-net.conf:1: runtimes read a list of plugins only from a .conflist; rename the file"}
	if diff := cmp.Diff(f.Warnings, want); diff != "" {
		t.Errorf("warnings, -got +want:\n%s", diff)
	}
}
