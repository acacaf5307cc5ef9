package conflist

// fieldWant contains the messages about each file of TestField.
var fieldWant = map[string]string{
	"R01-alias-master.conf": `
R01-alias-master.conf:1: interface name "eno1:1" has a colon, which no interface's name has: it is the label of an address of eno1; write "eno1"
`,
	"R01-chained-label.conflist": `
R01-chained-label.conflist:3: interface name "eno1:0" has a colon, which no interface's name has: it is the label of an address of eno1; write "eno1"
`,
	"R01-vlan-and-label.conf": `
R01-vlan-and-label.conf:1: interface name "eth0.20:web" has a colon, which no interface's name has: it is the label of an address of eth0.20; write "eth0.20"
`,
	"R02-missing-colon-nad.yaml": `
R02-missing-colon-nad.yaml:7:14: a colon is missing after "ipam"; write "ipam": …
`,
	"R02-missing-colon.conf": `
R02-missing-colon.conf:9:18: a colon is missing after "ranges"; write "ranges": …
`,
	"R02-missing-comma-in-list.conf": `
R02-missing-comma-in-list.conf:4:14: a comma is missing before this; add it
`,
	"R02-missing-comma.conflist": `
R02-missing-comma.conflist:10:11: a comma is missing before this; add it
`,
	"R02-trailing-comma-nad.yaml": `
R02-trailing-comma-nad.yaml:19:19: there is a comma before }; remove it
`,
	"R03-bom-crlf-tabs.conflist": `
R03-bom-crlf-tabs.conflist:1:1: the file starts with a byte order mark; save it as UTF-8 without
`,
	"R03-crlf-tabs.conflist": `
 lan 1.0.0: macvlan, host-local
eno1 on 10.20.0.0/16, router 10.20.0.1/16
node/a: its share of the addresses is 10.20.0.5-10.20.128.1
node/b: its share of the addresses is 10.20.128.2-10.20.255.254
`,
	"R03-folded.yaml": `
R03-folded.yaml:9: mtu of macvlan is a string; want a whole number, 1400 without quotes
`,
	"R03-kubectl-list-crlf.yaml": `
default/lan lan 0.3.0: macvlan, host-local
eno1 on 10.20.0.0/16, router 10.20.0.1/16
node/a: its share of the addresses is 10.20.0.5-10.20.128.1
node/b: its share of the addresses is 10.20.128.2-10.20.255.254
`,
	"R03-kubectl.json": `
printed printed 0.3.1: macvlan, host-local
eno1 on 10.20.0.0/16, router 10.20.0.1/16
node/a: its share of the addresses is 10.20.0.5-10.20.128.1
node/b: its share of the addresses is 10.20.128.2-10.20.255.254
`,
	"R03-object-for-text.yaml": `
R03-object-for-text.yaml:7: spec.config of lan is YAML; Kubernetes takes a string, so write config: | and the network as JSON below it
`,
	"R03-two-documents.yaml": `
red/one one 0.3.1: macvlan, host-local
eno1 on 10.20.0.0/16, router 10.20.0.1/16
node/a: its share of the addresses is 10.20.0.5-10.20.128.1
node/b: its share of the addresses is 10.20.128.2-10.20.255.254

red/two second 0.3.1: macvlan, host-local
eno1 on 10.21.0.0/16, router 10.21.0.1/16
node/a: its share of the addresses is 10.21.0.5-10.21.128.1
node/b: its share of the addresses is 10.21.128.2-10.21.255.254
`,
	"R05-macvlan-vrf-routes.conflist": `
 blue 1.0.0: macvlan, host-local, vrf
eno2 on 10.20.0.0/16, fd00:20::/64, router 10.20.0.1/16, fd00:20::1/64
node/a: its share of the addresses is 10.20.0.5-10.20.128.1, fd00:20::1:0-fd00:20::1:ffff
node/b: its share of the addresses is 10.20.128.2-10.20.255.254, fd00:20::2:0-fd00:20::2:ffff
`,
	"R06-empty-type.conflist": `
R06-empty-type.conflist:1: no network name; add "name" with letters, digits, "_", "." and "-", the first a letter or a digit
R06-empty-type.conflist:2: plugin has no type; add "type" with the name of its binary; "name": "lan" does not say it
`,
	"R06-no-type.conflist": `
R06-no-type.conflist:1: no network name; add "name" with letters, digits, "_", "." and "-", the first a letter or a digit
R06-no-type.conflist:4: plugin has no type; add "type" with the name of its binary; "name": "access" does not say it
`,
	"R06-plugin-twice-nameless.conflist": `
R06-plugin-twice-nameless.conflist:2: plugin has no type; add "type" with the name of its binary
R06-plugin-twice-nameless.conflist:3: plugin has no type; add "type" with the name of its binary
`,
	"R08-duplicate-in-other-case.conf": `
 n 1.0.0: macvlan, host-local
warning: R08-duplicate-in-other-case.conf:2: "master" occurs twice in one object, first in line 1, and the last one counts, "eno2"; remove one
eno2 on 10.20.0.0/16, router 10.20.0.1/16
node/a: its share of the addresses is 10.20.0.5-10.20.128.1
node/b: its share of the addresses is 10.20.128.2-10.20.255.254
`,
	"R08-duplicate-ipam.conf": `
 n 1.0.0: macvlan, host-local
warning: R08-duplicate-ipam.conf:3: "ipam" occurs twice in one object, first in line 2, and the last one counts; remove one
eno1 on 10.20.0.0/16, router 10.20.0.1/16
node/a: its share of the addresses is 10.20.0.5-10.20.128.1
node/b: its share of the addresses is 10.20.128.2-10.20.255.254
`,
	"R08-duplicate-key-bond.conf": `
 bond1 0.3.1: bond, host-local
warning: R08-duplicate-key-bond.conf:5: "name" occurs twice in one object, first in line 3, and the last one counts, "bond1"; remove one
eth0 on 192.0.2.0/24, router 192.0.2.1/24
bond keeps pods behind their node: the nodes' own LAN is 192.0.2.0/24
node/a: pods in 10.20.0.0/24, routed via the node
node/b: pods in 10.20.1.0/24, routed via the node
`,
	"R09-list-in-other-case.conflist": `
R09-list-in-other-case.conflist:1: libcni accepts the list's key "cniVersion" only in this spelling; write it instead of "CNIVersion"
R09-list-in-other-case.conflist:1: libcni accepts the list's key "name" only in this spelling; write it instead of "Name"
R09-list-in-other-case.conflist:1: libcni accepts the list's key "plugins" only in this spelling; write it instead of "Plugins"
`,
	"R09-other-case.conf": `
 n 1.0.0: macvlan, host-local
warning: R09-other-case.conf:1: the key "Type" is read as "type": Go's decoder takes keys in any case, others do not; write "type"
warning: R09-other-case.conf:1: the key "MASTER" is read as "master": Go's decoder takes keys in any case, others do not; write "master"
warning: R09-other-case.conf:2: the key "IPAM" is read as "ipam": Go's decoder takes keys in any case, others do not; write "ipam"
warning: R09-other-case.conf:2: the key "Type" is read as "type": Go's decoder takes keys in any case, others do not; write "type"
warning: R09-other-case.conf:2: the key "Subnet" is read as "subnet": Go's decoder takes keys in any case, others do not; write "subnet"
warning: R09-other-case.conf:2: the key "RangeStart" is read as "rangeStart": Go's decoder takes keys in any case, others do not; write "rangeStart"
eno1 on 10.20.0.0/24, router 10.20.0.1/24
node/a: its share of the addresses is 10.20.0.9-10.20.0.131
node/b: its share of the addresses is 10.20.0.132-10.20.0.254
`,
	"R09-tuning-literal-ifname.conflist": `
 tuningexample 0.3.1: macvlan, host-local, tuning, sbr
warning: R09-tuning-literal-ifname.conflist:13: host-local has no key "route", and leaves it out; did you mean "routes"?
eno1 on 10.20.0.0/16, router 10.20.0.1/16
node/a: its share of the addresses is 10.20.0.5-10.20.128.1
node/b: its share of the addresses is 10.20.128.2-10.20.255.254
`,
	"R09-whereabouts-dash-range.conflist": `
 tuningexample 0.3.1: macvlan, whereabouts, tuning, sbr
warning: R09-whereabouts-dash-range.conflist:13: whereabouts has no key "route", and leaves it out; did you mean "routes"?
eno1 on 10.20.1.0/24, router 10.20.1.1/24
`,
	"R09-whereabouts-ranges.conf": `
 n 1.0.0: macvlan, whereabouts
eno1 on 10.20.1.0/24, fd00:20::/64, router 10.20.1.1/24, fd00:20::1/64
`,
	"R10-dollar.conf": `
R10-dollar.conf:1: "$NIC" is a template that was not rendered; write its value, or one of cnitest's own placeholders: ${NODE_NAME}, ${NODE_INDEX}, ${NODE_IP}
R10-dollar.conf:2: "__STATE_DIR__" is a template that was not rendered; render the file first, or write its value
`,
	"R10-helm-block.conflist": `
R10-helm-block.conflist:1: "{{ .Release.Name }}" is a template that was not rendered; render the file first, or write its value
R10-helm-block.conflist:2: "{{- if .Values.mtu }}" is a template that was not rendered; render the file first, or write its value
R10-helm-block.conflist:3: "{{ .Values.mtu }}" is a template that was not rendered; render the file first, or write its value
R10-helm-block.conflist:4: "{{- end }}" is a template that was not rendered; render the file first, or write its value
`,
	"R10-static-no-gateway.conf": `
 peering 0.3.0: macvlan, static
vlan1234 on 10.20.12.0/24, router 10.20.12.1/24
node/a: static gives every pod the same addresses: one pod at a time
node/b: static gives every pod the same addresses: one pod at a time
`,
	"R10-unrendered-shell.conf": `
R10-unrendered-shell.conf:5: "${MASTER_NIC}" is a template that was not rendered; write its value, or one of cnitest's own placeholders: ${NODE_NAME}, ${NODE_INDEX}, ${NODE_IP}
R10-unrendered-shell.conf:6: "${MASTER_MTU}" is a template that was not rendered; write its value, or one of cnitest's own placeholders: ${NODE_NAME}, ${NODE_INDEX}, ${NODE_IP}
`,
	"R10-unrendered-template.conf": `
R10-unrendered-template.conf:5: "{{ $vlan }}" is a template that was not rendered; render the file first, or write its value
R10-unrendered-template.conf:9: "{{ $ip }}" is a template that was not rendered; render the file first, or write its value
`,
	"R12-static-args-in-file.conf": `
 n 1.0.0: macvlan, static
warning: R12-static-args-in-file.conf:1: macvlan has the key "args", which is the runtime's to fill in; remove it
eno1 on 10.20.0.0/24, router 10.20.0.1/24
args.cni.ips of the file is of one pod: the runtime passes each pod an address of its own there
`,
	"R12-static-cni-args.conf": `
 n 1.0.0: macvlan, static
warning: R12-static-cni-args.conf:1: static has no addresses, and without "capabilities": {"ips": true} a runtime passes none but in CNI_ARGS; add one of the two
eno1 on 192.0.2.0/24, router 192.0.2.1/24
the file has no addresses: the runtime brings each pod an address of 192.0.2.0/24; name another network with --subnet
`,
	"R12-static-ips-capability.conf": `
 lan-10-20-74 0.3.1: macvlan, static
eth0 on 192.0.2.0/24, router 192.0.2.1/24
the file has no addresses: the runtime brings each pod an address of 192.0.2.0/24; name another network with --subnet
`,
	"R12-static-ips-mac-sbr.conflist": `
 nf 0.3.1: macvlan, static, tuning, sbr
eno2 on 10.20.0.0/24, router 10.20.0.1/24
the file has no addresses: the runtime brings each pod an address of 10.20.0.0/24; name another network with --subnet
`,
	"R13-broadcast.conf": `
 n 1.0.0: macvlan, host-local
warning: R13-broadcast.conf:2: rangeStart 10.20.0.0 is the address of the network 10.20.0.0/24 itself, which no pod can have; write 10.20.0.1
warning: R13-broadcast.conf:2: rangeEnd 10.20.0.255 is the broadcast address of 10.20.0.0/24, which no pod can have; write 10.20.0.254
eno1 on 10.20.0.0/24, router 10.20.0.1/24
node/a: its share of the addresses is 10.20.0.4-10.20.0.128
node/b: its share of the addresses is 10.20.0.129-10.20.0.254
`,
	"R13-gateway-elsewhere.conf": `
 n 1.0.0: macvlan, host-local
warning: R13-gateway-elsewhere.conf:2: gateway 10.99.0.1 is not in subnet 10.20.0.0/24, which host-local refuses since v1.10.0; pods reach it only where a route without gw leads to it
eno1 on 10.20.0.0/24, router 10.20.0.1/24, 10.99.0.1/32
node/a: its share of the addresses is 10.20.0.5-10.20.0.129
node/b: its share of the addresses is 10.20.0.130-10.20.0.254
`,
	"R13-ipv6-linklocal-gateway.conflist": `
 v6lan 1.0.0: macvlan, host-local
warning: R13-ipv6-linklocal-gateway.conflist:10: gateway fe80::1 is not in subnet fd00:20::/64, which host-local refuses since v1.10.0
eno1 on fd00:20::/64, router fe80::1/64, fd00:20::1/64
node/a: its share of the addresses is fd00:20::1000-fd00:20::107f
node/b: its share of the addresses is fd00:20::1080-fd00:20::10ff
`,
	"R13-slash-32.conf": `
 n 1.0.0: macvlan, static
warning: R13-slash-32.conf:2: gateway 10.20.0.1 is not in subnet 10.20.0.9/32; pods reach it only where a route without gw leads to it
eno1 on 10.20.0.0/24, router 10.20.0.1/24
10.20.0.9/32 has no room for nodes and their router: the LAN is 10.20.0.0/24; name another with --subnet
node/a: static gives every pod the same addresses: one pod at a time
node/b: static gives every pod the same addresses: one pod at a time
`,
	"R15-dst-without-length.conf": `
R15-dst-without-length.conf:3: dst "10.30.0.0" is not address/length; add the length of its network, such as 10.30.0.0/24
R15-dst-without-length.conf:3: a route of ipam is a string; want an object: {"dst": "0.0.0.0/0"}
`,
	"R15-ipv6-host-bits.conf": `
 n 1.0.0: macvlan, host-local
warning: R15-ipv6-host-bits.conf:3: dst fd00:30::1/64 has bits set beyond its length; the kernel takes it as fd00:30::/64
eno1 on fd00:20::/64, router fd00:20::1/64
node/a: its share of the addresses is fd00:20::1:0-fd00:20::1:ffff
node/b: its share of the addresses is fd00:20::2:0-fd00:20::2:ffff
`,
	"R15-route-host-bits.conf": `
R15-route-host-bits.conf:12: dst 10.30.0.101/24 has bits set beyond its length, which the kernel refuses; write 10.30.0.0/24
`,
	"R15-route-no-dst.conf": `
R15-route-no-dst.conf:13: a route of ipam has no dst; add "dst" with the network that it leads to, such as "0.0.0.0/0"
`,
	"R16-dhcp-ipvlan.conf": `
 n 1.0.0: ipvlan, dhcp
eno1 on 192.0.2.0/24, router 192.0.2.1/24
the file has no addresses: the lab's DHCP server gives pods addresses of 192.0.2.0/24; name another network with --subnet
`,
	"R16-dhcp-provide.conf": `
 lan 0.3.0: macvlan, dhcp
enp0s31f6np0.20 on 192.0.2.0/24, router 192.0.2.1/24
the file has no addresses: the lab's DHCP server gives pods addresses of 192.0.2.0/24; name another network with --subnet
`,
	"R16-dhcp-strings.conf": `
R16-dhcp-strings.conf:2: priority of dhcp is a string; want a whole number, 5 without quotes
R16-dhcp-strings.conf:2: skipDefault of dhcp is a string; want true or false, true without quotes
`,
	"R16-vlan-subif-dhcp-portmap.conflist": `
 vlan107_dhcp 1.0.0: macvlan, dhcp, portmap
eth0.107 on 192.0.2.0/24, router 192.0.2.1/24
the file has no addresses: the lab's DHCP server gives pods addresses of 192.0.2.0/24; name another network with --subnet
`,
	"R18-cniversions-disable.conflist": `
 multi 1.1.0: macvlan, host-local, route
eno1 on 10.20.0.0/16, router 10.20.0.1/16
node/a: its share of the addresses is 10.20.0.5-10.20.128.1
node/b: its share of the addresses is 10.20.128.2-10.20.255.254
`,
	"R18-disable-as-text.conflist": `
 n 1.1.0: macvlan
warning: R18-disable-as-text.conflist:1: libcni accepts the list's key "disableGC" only in this spelling, and ignores "disablegc"; write it so
eno1 on 192.0.2.0/24, router 192.0.2.1/24
the file has no addresses: after ADD the suite gives each pod an address of 192.0.2.0/24; name another network with --subnet
`,
	"R18-only-unknown-versions.conflist": `
R18-only-unknown-versions.conflist:1: no cniVersion that is known; want one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0
`,
	"R19-list-in-dot-conf.conf": `
 cni-vpc 0.3.1: macvlan, host-local
warning: R19-list-in-dot-conf.conf:1: runtimes read a list of plugins only from a .conflist; rename the file
eno2 on 10.20.0.0/16, router 10.20.0.1/16
node/a: its share of the addresses is 10.20.0.5-10.20.128.1
node/b: its share of the addresses is 10.20.128.2-10.20.255.254
`,
	"R19-no-cniversion-tabs.conf": `
R19-no-cniversion-tabs.conf:1: no cniVersion; add "cniVersion": "1.0.0" or another of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0: without it containerd cannot delete pods
`,
	"R19-no-cniversion.yaml": `
R19-no-cniversion.yaml:6: no cniVersion; add "cniVersion": "1.0.0" or another of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0: without it containerd cannot delete pods
`,
	"R19-plugin-in-conflist.conflist": `
R19-plugin-in-conflist.conflist:1: no plugins; add "plugins": [{"type": …}], or name the file .conf
`,
	"R20-numbers-for-text.conflist": `
R20-numbers-for-text.conflist:2: vlanId of vlan is a string; want a whole number, 20 without quotes
R20-numbers-for-text.conflist:3: sysctl of tuning is an object; want an object of strings, each value in quotes
`,
	"R20-own-plugin.conf": `
 n 1.0.0: mine
eno1 on 192.0.2.0/24, 2001:db8::/64, router 192.0.2.1/24, 2001:db8::1/64
mine has no ipam: pods get no addresses from it
`,
	"R20-strings-for-numbers.conflist": `
R20-strings-for-numbers.conflist:8: mtu of macvlan is a string; want a whole number, 1440 without quotes
R20-strings-for-numbers.conflist:11: ingressRate of bandwidth is a string; want a whole number that is not negative, 10000000 without quotes
R20-strings-for-numbers.conflist:11: ingressBurst of bandwidth is a string; want a whole number that is not negative, 80000 without quotes
`,
	"R22-vlan-second-pod.conf": `
 mynet 0.3.0: vlan, host-local
eth1 on 10.20.0.0/24, router 10.20.0.1/24
node/a: its share of the addresses is 10.20.0.5-10.20.0.129
node/b: its share of the addresses is 10.20.0.130-10.20.0.254
`,
	"R23-host-device-altname.conflist": `
 test 0.4.0: host-device, static, tuning
eth0 on 10.20.3.0/24, router 10.20.3.1/24
node/a: static gives every pod the same addresses: one pod at a time
node/b: static gives every pod the same addresses: one pod at a time
node/a: pods get its devices eno2 to eno2-19, one each; its own interface is eth0
node/b: pods get its devices eno2 to eno2-19, one each; its own interface is eth0
`,
	"R24-macvlan-v4-on-ra-lan.conf": `
 nic0 0.4.0: macvlan, host-local
nic0 on 10.20.40.0/21, router 10.20.40.1/21
node/a: its share of the addresses is 10.20.40.5-10.20.44.1
node/b: its share of the addresses is 10.20.44.2-10.20.47.254
`,
	"R24-macvlan-v6-on-ra-lan.conf": `
 mv6 1.0.0: macvlan, host-local
enp0s1 on fd00:20:0:1::/64, router fd00:20:0:1::1/64
node/a: its share of the addresses is fd00:20:0:1::1:0-fd00:20:0:1::1:ffff
node/b: its share of the addresses is fd00:20:0:1::2:0-fd00:20:0:1::2:ffff
`,
	"R25-route-attributes.conflist": `
 jumbo 1.1.0: macvlan, host-local
eno1 on 10.20.0.0/16, router 10.20.0.1/16
node/a: its share of the addresses is 10.20.0.5-10.20.128.1
node/b: its share of the addresses is 10.20.128.2-10.20.255.254
`,
	"N01-jumbo.conf": `
 storage 1.0.0: macvlan, host-local
bond0 on 10.4.0.0/24, router 10.4.0.1/24
node/a: its share of the addresses is 10.4.0.5-10.4.0.129
node/b: its share of the addresses is 10.4.0.130-10.4.0.254
`,
	"N02-bridge-of-the-lan-dhcp.conf": `
 lan 1.0.0: bridge, dhcp
br-lan on 192.0.2.0/24, router 192.0.2.1/24
the file has no addresses: the lab's DHCP server gives pods addresses of 192.0.2.0/24; name another network with --subnet
`,
	"N02-bridge-without-ipam.yaml": `
vm-net vm-net 0.3.1: bridge
br1 on 192.0.2.0/24, router 192.0.2.1/24
the file has no addresses: after ADD the suite gives each pod an address of 192.0.2.0/24; name another network with --subnet
`,
	"N03-link-local-subnet.conf": `
 n 0.3.1: macvlan, host-local
eth0 on 169.254.10.0/24, router 169.254.10.1/24
node/a: its share of the addresses is 169.254.10.5-169.254.10.129
node/b: its share of the addresses is 169.254.10.130-169.254.10.254
`,
	"N04-tap-without-ipam.conf": `
 n 1.0.0: tap
eth0 on 192.0.2.0/24, 2001:db8::/64, router 192.0.2.1/24, 2001:db8::1/64
tap: the conflist does not say where pods get addresses; if from the LAN, name it with --subnet
`,
	"N05-passthru.conf": `
 n 1.0.0: macvlan, host-local
eth0 on 10.4.0.0/24, router 10.4.0.1/24
node/a: its share of the addresses is 10.4.0.5-10.4.0.129
node/b: its share of the addresses is 10.4.0.130-10.4.0.254
`,
	"N06-master-in-pod.conf": `
 n 1.0.0: macvlan, host-local
eth0 on 10.4.0.0/24, router 10.4.0.1/24
node/a: its share of the addresses is 10.4.0.5-10.4.0.129
node/b: its share of the addresses is 10.4.0.130-10.4.0.254
`,
	"N08-mac.conf": `
 n 1.0.0: macvlan, host-local
eth0 on 10.4.0.0/24, router 10.4.0.1/24
node/a: its share of the addresses is 10.4.0.5-10.4.0.129
node/b: its share of the addresses is 10.4.0.130-10.4.0.254
`,
	"N09-ptp-without-routes.conf": `
 mynet 1.0.0: ptp, host-local
eth0 on 192.0.2.0/24, router 192.0.2.1/24
ptp keeps pods behind their node: the nodes' own LAN is 192.0.2.0/24
node/a: pods in 10.1.1.0/25, routed via the node
node/b: pods in 10.1.1.128/25, routed via the node
`,
	"N10-bridge-without-gateway.conf": `
 backend 1.0.0: bridge, host-local
eth0 on 192.0.2.0/24, router 192.0.2.1/24
bridge keeps pods behind their node: the nodes' own LAN is 192.0.2.0/24
node/a: pods in 10.1.1.0/25, routed via the node
node/b: pods in 10.1.1.128/25, routed via the node
`,
	"N07-loopback.conf": `
N07-loopback.conf:1: loopback sets lo up, which runtimes ask of it themselves, and attaches a pod to no network; name a plugin that makes an interface, such as macvlan or bridge
`,
}
