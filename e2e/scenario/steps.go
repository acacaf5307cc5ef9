package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// stepChecker follows the steps and knows the state at each of them.
type stepChecker struct {
	*validator
	onTheWay
	attached map[attachment]bool // present: added at least once; true: not deleted since
	netns    map[string]bool     // present: made at least once; true: not removed since
	churned  map[string]bool
	down     map[string]bool    // nodes whose daemon does not run
	frozen   map[string]bool    // nodes whose daemon is frozen
	delayed  map[string]bool    // nodes where a request to the daemon is held back
	added    map[Cloud]int      // what steps added to a node and did not remove
	happened map[string]bool    // nodes of an event
	tested   map[Feature]string // features that a step tests, with the path of the first that does
}

// onTheWay is the traffic between places, up to the step that is checked.
type onTheWay struct {
	flows    []string           // paths of the steps whose flows still run
	flowing  Duration           // how long they are sure to have run
	captures []string           // paths of the steps whose captures still run
	ends     map[string][]Place // endpoints of each service
	reached  map[string]bool    // services that traffic went to
}

// checkSteps reports what is wrong with the steps, and declarations that no step uses.
func (v *validator) checkSteps() {
	t := &stepChecker{
		validator: v, attached: map[attachment]bool{}, netns: map[string]bool{}, churned: map[string]bool{},
		onTheWay: onTheWay{ends: map[string][]Place{}, reached: map[string]bool{}}, tested: map[Feature]string{},
		down: map[string]bool{}, frozen: map[string]bool{}, delayed: map[string]bool{},
		added: map[Cloud]int{}, happened: map[string]bool{},
	}
	for _, s := range v.Services {
		t.ends[s.Name] = v.knownPlaces(s.Endpoints)
	}
	if len(v.Steps) == 0 {
		v.wrong("steps", "steps are missing; write what happens, one verb per step")
	}
	for i, step := range v.Steps {
		t.step(i, step)
	}
	for _, path := range t.flows {
		v.wrong(path, "flows are never stopped; end them with a later stop: {}")
	}
	for i, p := range v.Pods {
		if _, made := t.netns[p.Name]; !made && !t.churned[p.Name] {
			v.wrong(fmt.Sprintf("pods[%d]", i), "pod/%s is never attached; add it in a step or remove it", p.Name)
		}
	}
	for _, path := range t.captures {
		v.wrong(path, "capture is never ended; end it with a later captured: {packets: 0}")
	}
	for i, s := range v.Services {
		if !t.reached[s.Name] {
			v.wrong(fmt.Sprintf("services[%d]", i), "service/%s is never asked; probe it in a step or remove it",
				s.Name)
		}
	}
	most := v.addresses()
	for i, n := range v.Nodes {
		grows := slices.ContainsFunc(v.Steps, func(s Step) bool {
			return s.Cloud != nil && s.Cloud.Node == n.Name && s.Cloud.Add != ""
		})
		if n.Addresses > 0 && n.Addresses < most[n.Name] && !grows {
			v.wrong(fmt.Sprintf("nodes[%d].addresses", i), "node/%s holds %d attachments at once and has %d "+
				"addresses; raise addresses", n.Name, most[n.Name], n.Addresses)
		}
	}
	for i, n := range v.Nodes {
		if n.ENIs > 0 {
			t.test(CloudENIs, fmt.Sprintf("nodes[%d].enis", i))
		}
		if len(n.Unmanaged) > 0 {
			t.test(CloudENIs, fmt.Sprintf("nodes[%d].unmanaged", i))
		}
	}
	t.claims()
}

// claims compares the features with what the steps test: a scenario must not count for a claim that it does not test,
// nor fail for one that it does not name.
func (t *stepChecker) claims() {
	if len(t.Chain.AfterMain)+len(t.Chain.Append) > 0 {
		t.test(Chaining, "chain")
	}
	for _, f := range slices.Sorted(maps.Keys(t.tested)) {
		if len(t.Features) > 0 && !slices.Contains(t.Features, f) {
			t.wrong(t.tested[f], "this tests the feature %s; add it to features", f)
		}
	}
	seen := []Feature{
		PodToPod, HostToPod, CrossNode, External, NodeIntegrity, SecondInterface, Chaining, PodToService,
		NodePort, Hairpin, SeveralNetworks, DaemonRestart, CloudENIs, Upgrade,
		NodeIsolation, AddressIsolation, MACIsolation, VLANIsolation, DaemonIsolation, MetadataIsolation,
	}
	seen = append(seen, survivals()...)
	for i, f := range t.Features {
		if _, tested := t.tested[f]; !tested && slices.Contains(seen, f) {
			t.wrong(fmt.Sprintf("features[%d]", i), "no step tests the feature %s; remove it from features", f)
		}
	}
}

func (t *stepChecker) test(f Feature, path string) {
	if _, known := t.tested[f]; !known {
		t.tested[f] = path
	}
}

// optionVerbs returns the verbs that take an option of a step.
func optionVerbs(option string) []string {
	switch option {
	case "as":
		return []string{"add", "check", "del"}
	case "fails":
		return []string{"add", "check", "status"}
	case "within":
		return []string{"status"}
	}
	return []string{"del"}
}

// onlyVerb returns the only verb of a step, or nil after the mistake was reported.
func (t *stepChecker) onlyVerb(path string) *verb {
	var found []string
	var last verb
	for _, v := range verbs() {
		if t.lines.Has(path + "." + v.name) {
			found, last = append(found, v.name), v
		}
	}
	if len(found) == 0 {
		t.wrong(path, "step has no verb; want one of %s", strings.Join(Verbs(), ", "))
		return nil
	}
	if len(found) > 1 {
		t.wrong(path, "step has %d verbs (%s); make each a step of its own", len(found), strings.Join(found, ", "))
		return nil
	}
	for _, option := range []string{"as", "netns", "cache", "fails", "within"} {
		if verbs := optionVerbs(option); t.lines.Has(path+"."+option) && !slices.Contains(verbs, found[0]) {
			t.wrong(path+"."+option, "%s does not belong to %s; use it with %s or remove it", option, found[0],
				strings.Join(verbs, ", "))
		}
	}
	return &last
}

// step reports what is wrong with a step.
func (t *stepChecker) step(i int, s Step) {
	path := fmt.Sprintf("steps[%d]", i)
	if s.As != "" {
		t.ifname(path+".as", s.As)
	}
	t.mayFail(path, s)
	if v := t.onlyVerb(path); v != nil {
		v.check(t, path, s)
	}
}
