package scenario

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/internal/strictyaml"
)

// maxCount bounds the number of pods of one entry: it is more than any node has.
const maxCount = 1000

var (
	coversForm = regexp.MustCompile(`^([A-K][0-9]{2}|[A-Z]{2,3}-[0-9]+)$`)
	sysctlForm = regexp.MustCompile(`^net(\.[A-Za-z0-9_-]+)+$`)
	// ifnameForm is stricter than libcni, which refuses only what breaks paths and what the kernel refuses.
	ifnameForm = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,14}$`)
	// containerIDForm is the form of CNI_CONTAINERID in SPEC.md.
	containerIDForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	// podNameForm is the form of the name of an object in Kubernetes (RFC 1123).
	podNameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	// pluginForm is the form of a file name, as SPEC.md demands of type.
	pluginForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
)

// validator collects the mistakes of one scenario.
type validator struct {
	*Scenario
	lines    strictyaml.Lines
	problems []strictyaml.Problem

	nodes    map[string]*Node
	hosts    map[string]*Host
	pods     map[string]*Pod
	services map[string]*Service
}

// validate finds the mistakes of a scenario that was read from a file called base.
func validate(s *Scenario, base string, lines strictyaml.Lines) []strictyaml.Problem {
	v := &validator{
		Scenario: s, lines: lines,
		nodes: map[string]*Node{}, hosts: map[string]*Host{}, pods: map[string]*Pod{}, services: map[string]*Service{},
	}
	v.head(base)
	v.chain()
	v.declarations()
	v.checkSteps()
	return v.problems
}

func (v *validator) wrong(path, format string, args ...any) {
	v.problems = append(v.problems, strictyaml.Problem{Line: v.lines.Of(path), Text: fmt.Sprintf(format, args...)})
}

// oneOf reports text that is not one of the valid words at a path.
func (v *validator) oneOf(path, what, text string, valid ...string) bool {
	switch {
	case slices.Contains(valid, text):
		return true
	case text == "":
		v.wrong(path, "%s is missing; want one of %s", what, strings.Join(valid, ", "))
	default:
		v.wrong(path, "unknown %s %q; %s", what, text, strictyaml.Meant(text, valid))
	}
	return false
}

// leaf returns the last field of a path: "from" of "steps[3].probe.from", "between" of "steps[3].flows.between[1]".
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
		v.wrong("name", "name %q differs from the file's; rename the file to %s.yaml or change the name", v.Name,
			v.Name)
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
			v.wrong(path, "covers %s occurs twice; remove one of the two", id)
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
			v.wrong(path, "feature %s occurs twice; remove one of the two", f)
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

// autoconfPrefix reports a prefix from which no interface would make an address.
func (v *validator) autoconfPrefix(path, text string) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil || !prefix.Addr().Is6() || prefix.Bits() != 64 || prefix != prefix.Masked() {
		// RFC 4862, 5.5.3: prefix and interface identifier together must be 128 bits, and the latter is 64 on Ethernet.
		v.wrong(path, "prefix %q makes no addresses; write an IPv6 prefix of 64 bits, e.g. 2001:db8:5::/64", text)
	}
}
