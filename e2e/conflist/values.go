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
	}
}

// needed contains the keys without which a plugin refuses its configuration.
var needed = map[string][]string{"vlan": {"master"}, "vrf": {"vrfname"}}

// checkValues reports values that an upstream plugin refuses although their kind is right.
func (d *document) checkValues(plugin *value, typ string) {
	rules := valueRules()[typ]
	for _, key := range plugin.keys {
		field := plugin.fields[key]
		r, ok := rules[key]
		if !ok || !upstreamKeys[typ][key].takes(field) {
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

// checkOrder reports a list that starts with a plugin which only works behind another one, or makes no interface at
// all.
func (d *document) checkOrder(first *value) {
	switch typ := textOf(first.fields["type"]); {
	case slices.Contains(chainedOnly, typ):
		d.reject(first.fields["type"], "%s works on the interface of a plugin before it, and is the first; put one "+
			"that makes an interface before it, such as macvlan or bridge", typ)
	case typ == "loopback":
		d.reject(first.fields["type"], "loopback sets lo up, which runtimes ask of it themselves, and attaches a pod "+
			"to no network; name a plugin that makes an interface, such as macvlan or bridge")
	}
}
