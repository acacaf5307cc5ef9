package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/cnitest/cnitest/e2e/cni"
)

// fullDNS returns a value of dns with every key that the specification defines.
func fullDNS() map[string]any {
	return map[string]any{
		"nameservers": []any{"192.0.2.53", "2001:db8::53"}, "domain": "pods.example",
		"search": []any{"pods.example", "svc.example"}, "options": []any{"ndots:5", "timeout:1"},
	}
}

// fullResult returns the result of the plugins before the subject with everything that a result may contain: all keys
// of dns, and at 1.1.0 the attributes of routes and interfaces. The pod has the additional route.
func (b *bench) fullResult(ctx context.Context, p *pod) (map[string]any, error) {
	result, err := cni.ParseResult(p.before)
	if err != nil {
		return nil, notApplicable("what stands before it gives no result")
	}
	if result, err = b.laterPlugin(ctx, p, result); err != nil {
		return nil, err
	}
	text, err := encode(result, b.version)
	if err != nil {
		return nil, err
	}
	var full map[string]any
	if err := json.Unmarshal(text, &full); err != nil {
		return nil, err
	}
	full["dns"] = fullDNS()
	if !atLeast(b.version, "1.1.0") {
		return full, nil
	}
	if routes, _ := full["routes"].([]any); len(routes) > 0 {
		if last, ok := routes[len(routes)-1].(map[string]any); ok {
			last["mtu"], last["advmss"] = 1400.0, 1360.0
		}
	}
	interfaces, _ := full["interfaces"].([]any)
	for _, i := range interfaces {
		if object, ok := i.(map[string]any); ok && object["sandbox"] != nil && object["sandbox"] != "" {
			object["pciID"], object["socketPath"] = "0000:00:1f.6", "/run/cnitest/vhost.sock"
		}
	}
	return full, nil
}

func checkPassesOnAll(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	full, err := b.fullResult(ctx, p)
	if err != nil {
		return err
	}
	call, err := b.add(ctx, p, func(inv *invocation) { inv.config["prevResult"] = full })
	if err != nil {
		return err
	}
	var after map[string]any
	if json.Unmarshal([]byte(call.Stdout), &after) != nil {
		return nil // ADD-2 reports it
	}
	for _, lost := range missing("", full, after) {
		t.wrong([]cni.Call{call}, "prevResult has %s, and the result has not", lost)
	}
	return nil
}

// identities returns the keys that identify an object in a list of a result.
func identities(path string) []string {
	return map[string][]string{"interfaces": {"name", "sandbox"}, "ips": {"address"}, "routes": {"dst"}}[path]
}

// adjusted reports whether a later plugin may change the value of a key of a result, as long as the key remains: the
// gateway of a route, the kind of an interface, and the index of an address's interface.
func adjusted(path string) bool {
	return slices.Contains([]string{"cniVersion", "interfaces.mac", "interfaces.mtu", "routes.gw", "ips.interface"},
		path)
}

// missing returns the keys that one JSON object has and another one lacks.
func missing(path string, before, after map[string]any) []string {
	var lost []string
	for _, key := range slices.Sorted(maps.Keys(before)) {
		at := key
		if path != "" {
			at = path + "." + key
		}
		got, there := after[key]
		switch want := before[key].(type) {
		case map[string]any:
			object, _ := got.(map[string]any)
			lost = append(lost, missing(at, want, object)...)
		case []any:
			list, _ := got.([]any)
			lost = append(lost, missingOf(at, want, list)...)
		default:
			if !there || !reflect.DeepEqual(want, got) && !adjusted(at) {
				lost = append(lost, fmt.Sprintf("%s: %v", at, want))
			}
		}
	}
	return lost
}

// missingOf returns the elements that one list has and another one lacks.
func missingOf(path string, before, after []any) []string {
	var lost []string
	for _, item := range before {
		object, isObject := item.(map[string]any)
		if !isObject {
			if !slices.ContainsFunc(after, func(other any) bool { return reflect.DeepEqual(item, other) }) {
				lost = append(lost, fmt.Sprintf("%v among %s", item, path))
			}
			continue
		}
		i := slices.IndexFunc(after, func(other any) bool {
			o, ok := other.(map[string]any)
			return ok && !slices.ContainsFunc(identities(path), func(key string) bool {
				return !reflect.DeepEqual(o[key], object[key])
			})
		})
		if i < 0 {
			continue // ADD-3 reports it
		}
		other, _ := after[i].(map[string]any)
		lost = append(lost, missing(path, object, other)...)
	}
	return lost
}
