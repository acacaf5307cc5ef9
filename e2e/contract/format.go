package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// addressKeys and routeKeys are the keys of addresses and routes in results since 0.3.0. Attributes of routes came with
// 1.1.0, and are harmless before.
var (
	addressKeys = []string{"address", "gateway", "interface"}
	routeKeys   = []string{"dst", "gw", "mtu", "advmss", "priority", "table", "scope"}
)

// misformatted lists what objects inside of a result have that the version has not, and what they lack. The library
// reads these objects in its own way, and ignores both.
func misformatted(version string, text json.RawMessage) []string {
	var result struct {
		IPs    []map[string]any `json:"ips"`
		Routes []map[string]any `json:"routes"`
	}
	// Before 0.3.0 there is no list of either.
	if !atLeast(version, "0.3.0") || json.Unmarshal(text, &result) != nil {
		return nil
	}
	var found []string
	for _, ip := range result.IPs {
		if wrong := family(version, ip); wrong != "" {
			found = append(found, wrong)
		}
		for _, key := range slices.Sorted(maps.Keys(ip)) {
			if key != "version" && !slices.Contains(addressKeys, key) {
				found = append(found, fmt.Sprintf("the address %v has the key %q, which addresses do not have",
					ip["address"], key))
			}
		}
	}
	for _, route := range result.Routes {
		for _, key := range slices.Sorted(maps.Keys(route)) {
			if !slices.Contains(routeKeys, key) {
				found = append(found, fmt.Sprintf("the route to %v has the key %q, which routes do not have",
					route["dst"], key))
			}
		}
	}
	return found
}

// family says what is wrong with the key version of an address: "4" or "6", which 1.0.0 removed.
func family(version string, ip map[string]any) string {
	got, there := ip["version"]
	if atLeast(version, "1.0.0") {
		if there {
			return fmt.Sprintf("the address %v has the key version, which CNI 1.0.0 removed", ip["address"])
		}
		return ""
	}
	address, _ := ip["address"].(string)
	prefix, err := netip.ParsePrefix(strings.TrimSpace(address))
	if err != nil {
		return "" // who reads the result reports it
	}
	want := "6"
	if prefix.Addr().Unmap().Is4() {
		want = "4"
	}
	switch {
	case !there:
		return fmt.Sprintf("the address %v has no version, which is %q until CNI 0.4.0", address, want)
	case got != want:
		return fmt.Sprintf("the address %v has the version %v, want %q", address, got, want)
	}
	return ""
}
