package conflist

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/internal/strictyaml"
)

// kind is the kind of value that a key needs for the Go type into which a plugin decodes it.
type kind string

const (
	aText    kind = "a string"
	aNumber  kind = "a whole number"
	aNatural kind = "a whole number that is not negative"
	aFlag    kind = "true or false"
	texts    kind = "a list of strings"
	textMap  kind = "an object of strings"
	aList    kind = "a list of objects"
	anObject kind = "an object"
	// read is the kind of keys whose value is checked elsewhere, when it is read.
	read kind = ""
)

// keys are the keys of an object, spelled as in the plugin's code.
type keys map[string]kind

// pluginKeys returns the keys that every plugin has from the library's PluginConf, and those that name an uplink.
func pluginKeys() keys {
	k := keys{
		"cniVersion": aText, "name": aText, "type": read, "capabilities": read, "ipam": read, "dns": anObject,
		"args": anObject, "runtimeConfig": anObject, "prevResult": anObject,
	}
	for _, key := range uplinkKeys {
		k[key] = read
	}
	return k
}

// upstreamKeys contains the keys that the plugins of github.com/containernetworking/plugins v1.10.0 decode in addition
// to pluginKeys, by type.
var upstreamKeys = map[string]keys{
	"bridge": {
		"bridge": aText, "isGateway": aFlag, "isDefaultGateway": aFlag, "forceAddress": aFlag, "ipMasq": aFlag,
		"ipMasqBackend": aText, "mtu": aNumber, "hairpinMode": aFlag, "promiscMode": aFlag, "vlan": aNumber,
		"vlanTrunk":           aList,
		"preserveDefaultVlan": aFlag, "macspoofchk": aFlag, "enabledad": aFlag, "disableContainerInterface": aFlag,
		"portIsolation": aFlag,
	},
	"dummy": {},
	"host-device": {
		"device": aText, "hwaddr": aText, "kernelpath": aText, "pciBusID": aText,
		"useInterfaceNetwork": aFlag,
	},
	"ipvlan":   {"master": aText, "mode": aText, "mtu": aNumber, "linkInContainer": aFlag},
	"loopback": {},
	"macvlan": {
		"master": aText, "mode": aText, "mtu": aNumber, "mac": aText, "linkInContainer": aFlag, "bcqueuelen": aNatural,
	},
	"ptp": {"ipMasq": aFlag, "ipMasqBackend": aText, "mtu": aNumber},
	"tap": {
		"multiQueue": aFlag, "mtu": aNumber, "mac": aText, "owner": aNatural, "group": aNatural,
		"selinuxContext": aText, "bridge": aText,
	},
	"vlan": {"master": aText, "vlanId": aNumber, "mtu": aNumber, "linkInContainer": aFlag},
	"bandwidth": {
		"ingressRate": aNatural, "ingressBurst": aNatural, "egressRate": aNatural, "egressBurst": aNatural,
		"unshapedSubnets": texts, "shapedSubnets": texts,
	},
	"firewall": {"backend": aText, "iptablesAdminChainName": aText, "firewalldZone": aText, "ingressPolicy": aText},
	"portmap": {
		"backend": aText, "snat": aFlag, "conditionsV4": texts, "conditionsV6": texts, "masqAll": aFlag,
		"markMasqBit":          aNumber,
		"externalSetMarkChain": aText,
	},
	"sbr": {"table": aNumber, "gateways": texts, "addSourceHints": aFlag},
	"tuning": {
		"dataDir": aText, "sysctl": textMap, "mac": aText, "promisc": aFlag, "mtu": aNumber, "txQLen": aNumber,
		"allmulti": aFlag,
	},
	"vrf": {"vrfname": aText, "table": aNatural},
}

// mainUpstream reports whether the main plugin is one of upstream's.
func (f *File) mainUpstream() bool { return upstreamKeys[f.Plugins[0].Type] != nil }

// ipamKeys contains the keys of `ipam` objects, by type. Those of whereabouts are of v0.9.2; its values are checked
// where they are read.
var ipamKeys = map[string]keys{
	"whereabouts": {
		"type": read, "name": read, "routes": aList, "datastore": read, "addresses": read, "ipRanges": aList,
		"range": read, "range_start": read, "range_end": read, "exclude": read, "gateway": read, "dns": anObject,
		"network_name": read, "enable_overlapping_ranges": read, "node_slice_size": read, "kubernetes": read,
		"configuration_path": read, "log_file": read, "log_level": read, "reconciler_cron_expression": read,
		"leader_lease_duration": read, "leader_renew_deadline": read, "leader_retry_period": read,
		"sleep_for_race": read, "etcd_host": read, "etcd_username": read, "etcd_password": read,
		"etcd_key_file": read, "etcd_cert_file": read, "etcd_ca_cert_file": read,
	},
	"host-local": {
		"type": read, "dataDir": aText, "resolvConf": aText, "routes": aList, "ranges": read, "name": aText,
		"subnet": read, "rangeStart": read, "rangeEnd": read, "gateway": read,
	},
	"static": {"type": read, "routes": aList, "addresses": aList, "dns": anObject, "name": aText},
	"dhcp":   {"type": read, "daemonSocketPath": aText, "provide": aList, "request": aList, "priority": aNumber},
}

// itemKeys contains the keys of the objects in the lists of `ipam` objects.
var itemKeys = map[string]keys{
	"ranges":    {"subnet": read, "rangeStart": read, "rangeEnd": read, "gateway": read},
	"ipRanges":  {"range": read, "range_start": read, "range_end": read, "exclude": read},
	"addresses": {"address": read, "gateway": read},
	"routes": {
		"dst": read, "gw": read, "mtu": aNumber, "advmss": aNumber, "priority": aNumber, "table": aNumber,
		"scope": aNumber,
	},
	"provide": {"option": aText, "value": aText, "fromArg": aText},
	"request": {"option": aText, "skipDefault": aFlag},
	"dns":     {"nameservers": texts, "domain": aText, "search": texts, "options": texts},
}

// checkAllKeys checks the keys of the list and of each of its plugins that is an object.
func (d *document) checkAllKeys() {
	for _, key := range listKeys {
		if field := d.root.fields[key]; field != nil {
			field.known = key != "plugins"
		}
	}
	list := d.root.fields["plugins"]
	if list == nil {
		return
	}
	for _, item := range list.items {
		if item.fields != nil {
			d.checkPluginKeys(item)
		}
	}
}

// checkPluginKeys checks an object of the chain against the keys that its plugin decodes. For a plugin that upstream
// does not ship only the keys of every plugin are known; all others are its own.
func (d *document) checkPluginKeys(plugin *value) {
	known := pluginKeys()
	d.canonical(plugin, known)
	if d.isRoot(plugin) {
		known["cniVersion"], known["name"] = read, read // those of the list that was made of it
	}
	typ := textOf(plugin.fields["type"])
	more, upstream := upstreamKeys[typ]
	maps.Copy(known, more)
	if upstream {
		d.canonical(plugin, known)
	}
	d.checkKeys(plugin, known, typ, upstream, upstreamKeys)
	d.checkValues(plugin, typ)
	if dns := plugin.fields["dns"]; dns != nil {
		d.checkItem(dns, "dns", typ)
	}
	if ipam := plugin.fields["ipam"]; ipam != nil && ipam.fields != nil {
		d.checkIPAMKeys(ipam)
	}
}

func (d *document) checkIPAMKeys(ipam *value) {
	d.canonical(ipam, keys{"type": read})
	typ := textOf(ipam.fields["type"])
	known, ok := ipamKeys[typ]
	if !ok {
		return
	}
	d.canonical(ipam, known)
	d.checkKeys(ipam, known, typ, true, ipamKeys)
	for _, name := range []string{"routes", "addresses", "provide", "request", "ipRanges"} {
		list := ipam.fields[name]
		if list == nil {
			continue
		}
		for _, item := range list.items {
			d.checkItem(item, name, typ)
		}
	}
	if sets := ipam.fields["ranges"]; sets != nil {
		for _, set := range sets.items {
			for _, item := range set.items {
				d.checkItem(item, "ranges", typ)
			}
		}
	}
	if dns := ipam.fields["dns"]; dns != nil {
		d.checkItem(dns, "dns", typ)
	}
}

func (d *document) checkItem(item *value, list, owner string) {
	if item.fields == nil {
		return
	}
	d.canonical(item, itemKeys[list])
	d.checkKeys(item, itemKeys[list], owner, true, nil)
}

// canonical changes keys to the case of the plugins' code: Go's decoder, and so libcni and every plugin in Go, accepts
// any case.
func (d *document) canonical(object *value, known keys) {
	if object.fields == nil {
		return
	}
	for i, key := range object.keys {
		if _, ok := known[key]; ok {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(known)) {
			if !strings.EqualFold(key, name) {
				continue
			}
			field := object.fields[key]
			if other := object.fields[name]; other != nil {
				d.warnDouble(name, other, field)
			} else {
				d.warn(field, "the key %q is read as %q: Go's decoder takes keys in any case, others do not; write %q",
					key, name, name)
			}
			object.keys[i] = name
			delete(object.fields, key)
			object.fields[name] = field
		}
	}
	object.keys = unique(object.keys)
}

func unique(list []string) []string {
	var once []string
	for _, s := range list {
		if !slices.Contains(once, s) {
			once = append(once, s)
		}
	}
	return once
}

// checkKeys reports values that the plugin's decoder refuses, and warns about unknown keys that somebody meant. others
// are the plugins that may have them.
func (d *document) checkKeys(object *value, known keys, owner string, complete bool, others map[string]keys) {
	for _, key := range object.keys {
		field := object.fields[key]
		want, ok := known[key]
		switch {
		case !ok && complete:
			if hint := meant(key, known, others); hint != "" {
				d.warn(field, "%s has no key %q, and leaves it out; %s", owner, key, hint)
			}
		case ok:
			field.known = true
			if !want.takes(field) {
				d.reject(field, "%s of %s is %s; want %s%s", key, owner, field.kind(), want, want.suggestion(field))
			}
		}
	}
}

// synonyms are words of the ip command and of other plugins, by the key that a route has for them.
var synonyms = map[string]string{
	"via": "gw", "gateway": "gw", "nexthop": "gw", "metric": "priority", "to": "dst", "destination": "dst",
}

// meant says what somebody probably meant by a key that is not known; empty if nobody knows: others may have put it
// there for themselves.
func meant(key string, known keys, others map[string]keys) string {
	if best := strictyaml.Nearest(key, slices.Sorted(maps.Keys(known))); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if _, ok := known[synonyms[key]]; ok {
		return fmt.Sprintf("did you mean %q?", synonyms[key])
	}
	var owners []string
	for owner, keys := range others {
		if _, ok := keys[key]; ok {
			owners = append(owners, owner)
		}
	}
	if len(owners) == 0 {
		return ""
	}
	slices.Sort(owners)
	return "it is a key of " + strings.Join(owners, ", ")
}

// takes reports whether Go's decoder accepts a value for the kind; it accepts null for all.
func (k kind) takes(v *value) bool {
	if k == read || v.isNull() {
		return true
	}
	isText := func(v *value) bool {
		_, ok := v.scalar.(string)
		return ok || v.isNull()
	}
	switch k {
	case aText:
		return isText(v)
	case aFlag:
		_, ok := v.scalar.(bool)
		return ok
	case aNumber, aNatural:
		number, ok := v.scalar.(json.Number)
		n, whole := new(big.Int).SetString(number.String(), 10)
		return ok && whole && (k == aNumber || n.Sign() >= 0)
	case texts:
		return v.items != nil && !slices.ContainsFunc(v.items, func(item *value) bool { return !isText(item) })
	case textMap:
		if v.fields == nil {
			return false
		}
		for _, field := range v.fields {
			if !isText(field) {
				return false
			}
		}
		return true
	case aList:
		return v.items != nil
	case anObject:
		return v.fields != nil
	}
	return true
}

// suggestion returns a correct form of the value, if it is obvious.
func (k kind) suggestion(v *value) string {
	switch scalar := v.scalar.(type) {
	case string:
		isNumber := (&value{scalar: json.Number(scalar)})
		if (k == aNumber || k == aNatural) && k.takes(isNumber) || k == aFlag &&
			(scalar == "true" || scalar == "false") {
			return fmt.Sprintf(", %s without quotes", scalar)
		}
		if k == texts {
			return fmt.Sprintf(", [%q]", scalar)
		}
	case json.Number, bool:
		if k == aText {
			return fmt.Sprintf(`, "%v" in quotes`, scalar)
		}
	}
	if k == textMap && v.fields != nil {
		return ", each value in quotes"
	}
	return ""
}

func (v *value) isNull() bool { return v.fields == nil && v.items == nil && v.scalar == nil }

func textOf(v *value) string {
	if v == nil {
		return ""
	}
	text, _ := v.scalar.(string)
	return text
}
