package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// teller follows the steps and knows what stands at each of them.
type teller struct {
	*validator
	attached map[attachment]bool // present: added at least once; true: not deleted since
	netns    map[string]bool     // present: made at least once; true: not removed since
	churned  map[string]bool
	flows    []int              // steps whose flows still run
	tested   map[Feature]string // features that a step tests, with the path of the first that does
}

func (v *validator) story() {
	t := &teller{
		validator: v, attached: map[attachment]bool{}, netns: map[string]bool{}, churned: map[string]bool{},
		tested: map[Feature]string{},
	}
	if len(v.Steps) == 0 {
		v.wrong("steps", "steps are missing; write what happens, one verb per step")
	}
	for i, step := range v.Steps {
		t.step(i, step)
	}
	for _, i := range t.flows {
		v.wrong(fmt.Sprintf("steps[%d]", i), "flows are never stopped; end them with a later stop: {}")
	}
	for i, p := range v.Pods {
		if _, made := t.netns[p.Name]; !made && !t.churned[p.Name] {
			v.wrong(fmt.Sprintf("pods[%d]", i), "pod/%s is never attached; add it in a step or remove it", p.Name)
		}
	}
	most := v.addresses()
	for i, n := range v.Nodes {
		if n.Addresses > 0 && n.Addresses < most[n.Name] {
			v.wrong(fmt.Sprintf("nodes[%d].addresses", i), "node/%s holds %d attachments at once and has %d addresses; raise addresses", n.Name, most[n.Name], n.Addresses)
		}
	}
	t.claims()
}

// claims compares the features with what the steps test: a scenario must not count for a claim it does not test, nor fail for one it does not name.
func (t *teller) claims() {
	if len(t.Chain.AfterMain)+len(t.Chain.Append) > 0 {
		t.test(Chaining, "chain")
	}
	for _, f := range slices.Sorted(maps.Keys(t.tested)) {
		if len(t.Features) > 0 && !slices.Contains(t.Features, f) {
			t.wrong(t.tested[f], "this tests the feature %s; add it to features", f)
		}
	}
	seen := []Feature{PodToPod, HostToPod, CrossNode, External, NodeIntegrity, SecondInterface, Chaining}
	for i, f := range t.Features {
		if _, tested := t.tested[f]; !tested && slices.Contains(seen, f) {
			t.wrong(fmt.Sprintf("features[%d]", i), "no step tests the feature %s; remove it from features", f)
		}
	}
}

func (t *teller) test(f Feature, path string) {
	if _, known := t.tested[f]; !known {
		t.tested[f] = path
	}
}

// optionVerbs are the options of a step with the verbs that take them.
func optionVerbs(option string) []string {
	if option == "as" {
		return []string{"add", "check", "del"}
	}
	return []string{"del"}
}

// verb is the only verb of a step, or empty after the mistake was reported.
func (t *teller) verb(path string) string {
	var found []string
	for _, verb := range Verbs() {
		if t.lines.has(path + "." + verb) {
			found = append(found, verb)
		}
	}
	if len(found) == 0 {
		t.wrong(path, "step has no verb; want one of %s", strings.Join(Verbs(), ", "))
		return ""
	}
	if len(found) > 1 {
		t.wrong(path, "step has %d verbs (%s); make each a step of its own", len(found), strings.Join(found, ", "))
		return ""
	}
	for _, option := range []string{"as", "netns", "cache"} {
		if verbs := optionVerbs(option); t.lines.has(path+"."+option) && !slices.Contains(verbs, found[0]) {
			t.wrong(path+"."+option, "%s does not belong to %s; use it with %s or remove it", option, found[0], strings.Join(verbs, ", "))
		}
	}
	return found[0]
}

func (t *teller) step(i int, s Step) {
	path := fmt.Sprintf("steps[%d]", i)
	if s.As != "" {
		t.ifname(path+".as", s.As)
	}
	switch t.verb(path) {
	case "add":
		t.add(path, s)
	case "check":
		if pod, ok := t.place(path+".check", s.Check, PodPlace); ok {
			t.reachable(path, pod, s.As, "check")
		}
	case "del":
		t.del(path, s)
	case "gc":
		t.place(path+".gc", s.GC, NodePlace)
	case "status":
		t.place(path+".status", s.Status, NodePlace)
	case "remove":
		if pod, ok := t.place(path+".remove", s.Remove, PodPlace); ok && t.hasNetns(path, pod, "remove") {
			t.netns[pod.Name] = false
		}
	case "release":
		t.release(path, s)
	case "reboot":
		if node, ok := t.place(path+".reboot", s.Reboot, NodePlace); ok {
			t.reboot(node)
		}
	case "probe":
		t.probe(path+".probe", *s.Probe)
	case "state":
		t.state(path+".state", *s.State)
	case "neighbour":
		t.neighbour(path+".neighbour", *s.Neighbour)
	case "flows":
		t.startFlows(path+".flows", *s.Flows)
		t.flows = append(t.flows, i)
	case "stop":
		if len(t.flows) == 0 {
			t.wrong(path, "no flows run here; put flows before stop")
		}
		if s.Stop.Lost < 0 {
			t.wrong(path+".stop.lost", "lost is %d; want 0 or more", s.Stop.Lost)
		}
		t.flows = nil
	case "churn":
		t.churn(path+".churn", *s.Churn)
	case "advertise":
		t.autoconfPrefix(path+".advertise.prefix", s.Advertise.Prefix)
		t.test(NodeIntegrity, path)
	}
}

// place reads a place of one of the kinds and makes sure that the scenario declares it.
func (t *teller) place(path, text string, kinds ...string) (Place, bool) {
	p, err := ParsePlace(text)
	if err != nil {
		t.wrong(path, "%s: %v", leaf(path), err)
		return Place{}, false
	}
	if !slices.Contains(kinds, p.Kind) {
		t.wrong(path, "%s takes no %s, got %q; want %s/NAME", leaf(path), p.Kind, text, strings.Join(kinds, "/NAME or "))
		return Place{}, false
	}
	declared, mend := slices.Contains(HostNames(), p.Name), "want one of "+strings.Join(HostNames(), ", ")
	switch p.Kind {
	case NodePlace:
		declared, mend = t.nodes[p.Name] != nil, orOneOf(p.Kind, t.nodes)
	case PodPlace:
		declared, mend = t.pods[p.Name] != nil, orOneOf(p.Kind, t.pods)
	}
	if !declared {
		t.wrong(path, "%s is not declared; %s", p, mend)
	}
	return p, declared
}

// reboot takes the namespaces of the node's pods; what their ADD wrote to the disk still asks for a DEL.
// reachable reports a pod that is not attached at this step; only interface ifname counts, empty means any.
