package scenario

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// maxCount bounds how many pods one entry makes: more than any node has.
const maxCount = 1000

var (
	coversForm = regexp.MustCompile(`^([A-K][0-9]{2}|[A-Z]{2,3}-[0-9]+)$`)
	sysctlForm = regexp.MustCompile(`^net(\.[A-Za-z0-9_-]+)+$`)
	// ifnameForm is stricter than libcni, which refuses only what breaks paths and what the kernel refuses.
	ifnameForm = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,14}$`)
	// containerIDForm is the one of SPEC.md, CNI_CONTAINERID.
	containerIDForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	// pluginForm is a file name, as SPEC.md wants of type.
	pluginForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
)

// validator collects the mistakes of one scenario.
type validator struct {
	*Scenario
	lines    lineIndex
	problems []problem

	nodes map[string]*Node
	hosts map[string]*Host
	pods  map[string]*Pod
}

// validate finds what is wrong with a scenario that was read from a file called base.
func validate(s *Scenario, base string, lines lineIndex) []problem {
	v := &validator{Scenario: s, lines: lines, nodes: map[string]*Node{}, hosts: map[string]*Host{}, pods: map[string]*Pod{}}
	v.head(base)
	v.chain()
	v.declarations()
	v.story()
	return v.problems
}

func (v *validator) wrong(path, format string, args ...any) {
	v.problems = append(v.problems, problem{v.lines.of(path), fmt.Sprintf(format, args...)})
}

// oneOf reports text that is none of the valid words for what stands at the path.
func (v *validator) oneOf(path, what, text string, valid ...string) bool {
	switch {
	case slices.Contains(valid, text):
		return true
	case text == "":
		v.wrong(path, "%s is missing; want one of %s", what, strings.Join(valid, ", "))
	default:
		v.wrong(path, "unknown %s %q; %s", what, text, meant(text, valid))
	}
	return false
}

// leaf is the last field of a path: "from" of "steps[3].probe.from", "between" of "steps[3].flows.between[1]".
func leaf(path string) string {
	path = path[strings.LastIndexByte(path, '.')+1:]
	name, _, _ := strings.Cut(path, "[")
	return name
}

func (v *validator) head(base string) {
	if v.APIVersion != APIVersion {
		v.wrong("apiVersion", "unknown apiVersion %q; write apiVersion: %s", v.APIVersion, APIVersion)
	}
	if v.Kind != Kind {
		v.wrong("kind", "unknown kind %q; write kind: %s", v.Kind, Kind)
	}
	if !nameForm.MatchString(v.Name) {
		v.wrong("name", "name %q is not kebab-case; use lower-case letters, digits and single hyphens", v.Name)
	} else if base != v.Name+".yaml" {
		v.wrong("name", "name %q differs from the file's; rename the file to %s.yaml or change the name", v.Name, v.Name)
	}
	if strings.TrimSpace(v.Description) == "" {
		v.wrong("description", "description is missing; say why a user cares and what commonly breaks it")
	}
	v.features()
	seen := map[string]bool{}
	for i, id := range v.Covers {
		path := fmt.Sprintf("covers[%d]", i)
		switch {
		case !coversForm.MatchString(id):
			v.wrong(path, "covers %q is no id; write a failure mode such as A01 or a requirement such as DEL-4", id)
		case seen[id]:
			v.wrong(path, "covers %s stands twice; remove one of the two", id)
		}
		seen[id] = true
	}
}

func (v *validator) features() {
	if len(v.Features) == 0 {
		v.wrong("features", "features are missing; name the claims that the scenario tests")
	}
	var known []string
	for _, f := range Features() {
		known = append(known, string(f))
	}
	for i, f := range v.Features {
		path := fmt.Sprintf("features[%d]", i)
		if v.oneOf(path, "feature", string(f), known...) && slices.Index(v.Features, f) < i {
			v.wrong(path, "feature %s stands twice; remove one of the two", f)
		}
	}
}

func (v *validator) chain() {
	check := func(list string, plugins []map[string]any) {
		for i, plugin := range plugins {
			path := fmt.Sprintf("chain.%s[%d]", list, i)
			name, _ := plugin["type"].(string)
			if !pluginForm.MatchString(name) {
				v.wrong(path, "plugin has type %q; name the binary of the plugin, e.g. type: tuning", name)
			}
			if _, err := json.Marshal(plugin); err != nil {
				v.wrong(path, "plugin does not fit into a conflist: %v; use what JSON has", err)
			}
		}
	}
	check("afterMain", v.Chain.AfterMain)
	check("append", v.Chain.Append)
}

func (v *validator) declarations() {
	if len(v.Nodes) == 0 {
		v.wrong("nodes", "nodes are missing; declare at least one")
	}
	for i := range v.Nodes {
		v.node(fmt.Sprintf("nodes[%d]", i), &v.Nodes[i])
	}
	for i := range v.Hosts {
		host, path := &v.Hosts[i], fmt.Sprintf("hosts[%d]", i)
		if v.oneOf(path+".name", "host", host.Name, HostNames()...) && v.hosts[host.Name] != nil {
			v.wrong(path, "host %q is declared twice; put its listeners together", host.Name)
		}
		v.hosts[host.Name] = host
		v.listeners(path, host.Listen)
	}
	for i := range v.Pods {
		v.pod(fmt.Sprintf("pods[%d]", i), &v.Pods[i])
	}
	v.sharedNames()
}

func (v *validator) node(path string, n *Node) {
	v.declared(path, "node", n.Name, v.nodes[n.Name] != nil)
	v.nodes[n.Name] = n
	v.listeners(path, n.Listen)
	if n.RPFilter != nil && (*n.RPFilter < 0 || *n.RPFilter > 2) {
		v.wrong(path+".rpFilter", "rpFilter is %d; want 0 (off), 1 (strict) or 2 (loose)", *n.RPFilter)
	}
	for name := range n.Sysctl {
		if !sysctlForm.MatchString(name) {
			v.wrong(path+".sysctl."+name, "sysctl %q is no dotted name below net.; write one such as net.ipv4.ip_forward", name)
		}
	}
	if n.NICs < 0 || n.NICs > 2 {
		v.wrong(path+".nics", "nics is %d; want 1 or 2", n.NICs)
	}
	if n.Addresses < 0 {
		v.wrong(path+".addresses", "addresses is %d; want at least 1, or leave it out", n.Addresses)
	}
}

func (v *validator) pod(path string, p *Pod) {
	v.declared(path, "pod", p.Name, v.pods[p.Name] != nil)
	v.pods[p.Name] = p
	v.listeners(path, p.Listen)
	if v.nodes[p.Node] == nil {
		v.wrong(path+".node", "node %q is not declared; %s", p.Node, orOneOf(NodePlace, v.nodes))
	}
	if p.Count < 0 || p.Count > maxCount {
		v.wrong(path+".count", "count is %d; want 1 to %d", p.Count, maxCount)
	}
	if p.ContainerID != "" && !containerIDForm.MatchString(p.ContainerID) {
		v.wrong(path+".containerID", "containerID %q cannot be CNI_CONTAINERID; start with a letter or digit and go on with letters, digits, _, . and -", p.ContainerID)
	}
	for i, hp := range p.HostPorts {
		v.hostPort(fmt.Sprintf("%s.hostPorts[%d]", path, i), p, hp)
	}
}

func (v *validator) hostPort(path string, p *Pod, hp HostPort) {
	if !v.oneOf(path+".protocol", "protocol", hp.Protocol, "tcp", "udp") {
		return
	}
	if hp.HostPort == 0 {
		v.wrong(path, "hostPort is missing; want 1 to 65535")
	}
	if !slices.Contains(p.Listen, Listen{hp.Protocol, hp.ContainerPort}) {
		v.wrong(path, "nothing in pod/%s listens on %s port %d; add it to listen or change containerPort", p.Name, hp.Protocol, hp.ContainerPort)
	}
	if p.Count > 1 {
		v.wrong(path, "%d pods cannot share hostPort %d of one node; remove count", p.Count, hp.HostPort)
	}
}

func (v *validator) declared(path, kind, name string, again bool) {
	switch {
	case !nameForm.MatchString(name):
		v.wrong(path, "%s name %q is not kebab-case; use lower-case letters, digits and single hyphens", kind, name)
	case again:
		v.wrong(path, "%s %q is declared twice; give one of the two another name", kind, name)
	}
}

func (v *validator) listeners(path string, listen []Listen) {
	for i, l := range listen {
		path := fmt.Sprintf("%s.listen[%d]", path, i)
		if !v.oneOf(path+".protocol", "protocol", l.Protocol, "tcp", "udp") {
			continue
		}
		switch {
		case l.Port == 0:
			v.wrong(path, "port is missing; want 1 to 65535")
		case slices.Index(listen, l) < i:
			v.wrong(path, "%s port %d is listened on twice; remove one of the two", l.Protocol, l.Port)
		}
	}
}

// sharedNames finds pods whose names, container ids or host ports meet once counts are written out.
func (v *validator) sharedNames() {
	names, ids, ports := map[string]string{}, map[string]string{}, map[string]string{}
	claim := func(taken map[string]string, path, what, key, pod string) bool {
		if other, found := taken[key]; found && other != pod {
			v.wrong(path, "pod/%s and pod/%s share the %s; change one of the two", other, pod, what)
			return false
		}
		taken[key] = pod
		return true
	}
	for i, p := range v.Pods {
		path := fmt.Sprintf("pods[%d]", i)
		for _, name := range p.Names() {
			if !claim(names, path, fmt.Sprintf("name %q", name), name, p.Name) {
				break
			}
		}
		for n := range max(1, min(p.Count, maxCount)) {
			id := p.ContainerID
			if p.Count > 0 {
				id = fmt.Sprintf("%s%d", id, n)
			}
			if p.ContainerID != "" && !claim(ids, path, fmt.Sprintf("containerID %q", id), id, p.Name) {
				break
			}
		}
		for _, hp := range p.HostPorts {
			claim(ports, path, fmt.Sprintf("%s hostPort %d of node/%s", hp.Protocol, hp.HostPort, p.Node),
				fmt.Sprint(p.Node, hp.Protocol, hp.HostPort), p.Name)
		}
	}
}

// Names are the names of the pods that p makes: its own, or NAME-0, NAME-1, … where it has a count.
func (p Pod) Names() []string {
	if p.Count <= 0 {
		return []string{p.Name}
	}
	names := make([]string, min(p.Count, maxCount))
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", p.Name, i)
	}
	return names
}

// orOneOf says how to mend a name that is not among the declared ones.
func orOneOf[T any](kind string, declared map[string]T) string {
	text := "declare it under " + kind + "s"
	if len(declared) > 0 {
		text += " or name one of " + strings.Join(slices.Sorted(maps.Keys(declared)), ", ")
	}
	return text
}

// autoconfPrefix reports a prefix that no interface would make an address of.
func (v *validator) autoconfPrefix(path, text string) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil || !prefix.Addr().Is6() || prefix.Bits() != 64 || prefix != prefix.Masked() {
		// RFC 4862, 5.5.3: prefix and interface identifier together must be 128 bits, and the latter is 64 on Ethernet.
		v.wrong(path, "prefix %q makes no addresses; write an IPv6 prefix of 64 bits, e.g. 2001:db8:5::/64", text)
	}
}
