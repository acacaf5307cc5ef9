package conflist

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
)

// A rule says which values a plugin takes for a key, beyond their kind.
type rule struct {
	takes func(text string) bool
	want  string
	// unread are keys of which each, if set, keeps the plugin from reading this one.
	unread []string
}

// unless returns the rule for a key that the plugin reads only without others.
func (r rule) unless(keys ...string) rule {
	r.unread = keys
	return r
}

// words returns the rule that a key has one of several words.
func words(list ...string) rule {
	return rule{
		takes: func(text string) bool { return text == "" || slices.Contains(list, text) },
		want:  "one of " + strings.Join(list, ", "),
	}
}

// between returns the rule that a whole number has bounds.
func between(low, high int) rule {
	want := fmt.Sprintf("a number from %d to %d", low, high)
	if high == math.MaxInt {
		want = fmt.Sprintf("a number of at least %d", low)
	}
	return rule{
		takes: func(text string) bool {
			n, err := strconv.Atoi(text)
			return err != nil || n >= low && n <= high // that it is no number is another rule's
		},
		want: want,
	}
}

// macAddress returns the rule for keys that net.ParseMAC reads.
func macAddress() rule {
	return rule{
		takes: func(text string) bool {
			_, err := net.ParseMAC(text)
			return text == "" || err == nil
		},
		want: "a MAC such as 02:00:00:00:00:01",
	}
}

// valueRules contains the values that the plugins of github.com/containernetworking/plugins v1.10.0 take, by type and
// key; they refuse others in each ADD.
func valueRules() map[string]map[string]rule {
	nat, natural := words("iptables", "nftables"), between(0, math.MaxInt)
	return map[string]map[string]rule{
		"bridge":   {"vlan": between(0, 4094), "ipMasqBackend": nat},
		"ipvlan":   {"mode": words("l2", "l3", "l3s"), "mtu": natural},
		"macvlan":  {"mode": words("bridge", "private", "vepa", "passthru"), "mac": macAddress(), "mtu": natural},
		"ptp":      {"ipMasqBackend": nat},
		"tap":      {"mac": macAddress()},
		"vlan":     {"vlanId": between(0, 4094), "mtu": natural},
		"firewall": {"ingressPolicy": words("open", "same-bridge", "isolated")},
		"portmap":  {"backend": nat, "markMasqBit": between(0, 31)},
		"tuning":   {"mac": macAddress()},
		"host-device": {"hwaddr": macAddress().unless("device"), "kernelpath": rule{
			takes: func(text string) bool { return text == "" || strings.HasPrefix(text, "/sys/devices/") },
			want:  "a path below /sys/devices/",
		}.unless("device", "hwaddr")},
	}
}

// needed contains the keys without which a plugin refuses its configuration.
var needed = map[string][]string{"vlan": {"master"}, "vrf": {"vrfname"}}

// exclusive contains pairs of keys of which a plugin refuses the second if the first is set, by type.
var exclusive = map[string][][2]string{
	"bridge":  {{"promiscMode", "hairpinMode"}, {"disableContainerInterface", "ipam"}},
	"portmap": {{"markMasqBit", "externalSetMarkChain"}},
}

// checkExclusive reports keys of an upstream plugin that it refuses together.
func (d *document) checkExclusive(plugin *value, typ string) {
	set := func(key string) *value {
		field := plugin.fields[key]
		if field == nil || field.isNull() || field.scalar == false || field.scalar == "" ||
			key == "ipam" && textOf(field.fields["type"]) == "" {
			return nil
		}
		return field
	}
	for _, pair := range exclusive[typ] {
		if field := set(pair[1]); field != nil && set(pair[0]) != nil {
			d.reject(field, "%s takes %s or %s, and refuses both; remove one", typ, pair[0], pair[1])
		}
	}
}

// checkTrunk reports VLANs of a bridge's port that the plugin refuses.
func (d *document) checkTrunk(trunk *value) {
	for _, item := range trunk.items {
		number := func(key string) (n int, ok bool) {
			field := item.fields[key]
			if field == nil || field.isNull() || !aNumber.takes(field) {
				return 0, false
			}
			if r := between(1, 4094); !r.takes(field.written()) {
				d.reject(field, "%s of a vlanTrunk is %s; want %s", key, field.written(), r.want)
				return 0, false
			}
			n, _ = strconv.Atoi(field.written())
			return n, true
		}
		number("id")
		low, hasLow := number("minID")
		high, hasHigh := number("maxID")
		switch {
		case hasLow && hasHigh && high < low:
			d.reject(item, "minID %d of a vlanTrunk is above its maxID %d; exchange the two", low, high)
		case item.fields["minID"] == nil && item.fields["maxID"] != nil:
			d.reject(item, "a vlanTrunk has maxID without minID; add it, or write id for one VLAN")
		case item.fields["minID"] != nil && item.fields["maxID"] == nil:
			d.reject(item, "a vlanTrunk has minID without maxID; add it, or write id for one VLAN")
		}
	}
}

// checkValues reports values that an upstream plugin refuses although their kind is right.
func (d *document) checkValues(plugin *value, typ string) {
	rules := valueRules()[typ]
	for _, key := range plugin.keys {
		field := plugin.fields[key]
		r, ok := rules[key]
		if !ok || !upstreamKeys[typ][key].takes(field) || slices.ContainsFunc(r.unread, func(other string) bool {
			return textOf(plugin.fields[other]) != ""
		}) {
			continue
		}
		if text := field.written(); !r.takes(text) {
			if _, quoted := field.scalar.(string); quoted {
				text = strconv.Quote(text)
			}
			d.reject(field, "%s of %s is %s; want %s", key, typ, text, r.want)
		}
	}
	for _, key := range needed[typ] {
		if field := plugin.fields[key]; field == nil || field.isNull() || field.scalar == "" {
			d.reject(plugin, "%s needs %q; add it", typ, key)
		}
	}
	d.checkExclusive(plugin, typ)
	if trunk := plugin.fields["vlanTrunk"]; typ == "bridge" && trunk != nil {
		d.checkTrunk(trunk)
	}
	if sysctls := plugin.fields["sysctl"]; typ == "tuning" && sysctls != nil {
		for _, key := range sysctls.keys {
			if !strings.HasPrefix(strings.ReplaceAll(key, ".", "/"), "net/") {
				d.reject(sysctls.fields[key], "tuning sets sysctls of net alone, not %q; leave it out", key)
			}
		}
	}
	switch backend := plugin.fields["backend"]; {
	case typ == "bandwidth":
		d.checkRates(plugin)
	case typ == "firewall" && backend != nil && !words("iptables", "firewalld").takes(textOf(backend)):
		d.warn(backend, "firewall knows no backend %q, and takes firewalld if it runs, else iptables; write one of "+
			"them", textOf(backend))
	}
}

// checkRates reports a rate of bandwidth without its burst, and the reverse.
func (d *document) checkRates(plugin *value) {
	set := func(key string) *value {
		if field := plugin.fields[key]; field != nil && field.scalar != json.Number("0") && !field.isNull() {
			return field
		}
		return nil
	}
	for _, pair := range [][2]string{{"ingressRate", "ingressBurst"}, {"egressRate", "egressBurst"}} {
		rate, burst := set(pair[0]), set(pair[1])
		switch {
		case rate != nil && burst == nil:
			d.reject(rate, "%s of bandwidth needs %s, too; add it", pair[0], pair[1])
		case rate == nil && burst != nil:
			d.reject(burst, "%s of bandwidth needs %s, too; add it", pair[1], pair[0])
		}
	}
}

// chainedOnly are upstream plugins that want the result of a plugin before them.
var chainedOnly = []string{"bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf"}

// checkOrder reports a list that starts with a plugin which only works behind another one, makes no interface at all,
// or asks an IPAM plugin that is not named.
func (d *document) checkOrder(first *value) {
	ipam := first.fields["ipam"]
	switch typ := textOf(first.fields["type"]); {
	case slices.Contains(chainedOnly, typ):
		d.reject(first.fields["type"], "%s works on the interface of a plugin before it, and is the first; put one "+
			"that makes an interface before it, such as macvlan or bridge", typ)
	case typ == "loopback":
		d.reject(first.fields["type"], "loopback sets lo up, which runtimes ask of it themselves, and attaches a pod "+
			"to no network; name a plugin that makes an interface, such as macvlan or bridge")
	case slices.Contains([]string{"ipvlan", "ptp"}, typ) &&
		(ipam == nil || ipam.fields != nil && ipam.fields["type"] == nil):
		d.reject(first, `%s calls an IPAM plugin in each ADD, and "ipam" names none; add one, such as `+
			`"ipam": {"type": "host-local", "subnet": "10.1.0.0/16"}`, typ)
	}
}
