package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
)

// configuration returns the requirements of section 1 of the specification, and about the environment in section 2.
func configuration() []Requirement {
	return []Requirement{
		{
			ID: "CFG-2", Level: Must, Section: "1, Plugin configuration objects", Roles: inChain(),
			Text:  "The type of a plugin has no character that a path does not allow.",
			Why:   "A runtime looks for a file of that name in CNI_PATH.",
			How:   "Reads the conflist.",
			alone: true, check: checkType,
		},
		{
			ID: "CFG-5", Level: ShouldNot, Section: "1, Plugin configuration objects", Roles: inChain(),
			Text: "The keys runtimeConfig, args and those that begin with cni.dev/ are not set by the author of a " +
				"configuration.",
			Why: "The runtime passes them to the plugin; if the author sets them too, nobody knows which value " +
				"counts.",
			How:   "Reads the conflist.",
			alone: true, check: checkReservedKeys,
		},
		{
			ID: "CFG-6", Level: Should, Section: "1, Plugin configuration objects, well-known keys",
			Roles: []Role{Main},
			Text:  "Keys that the specification defines, such as ipam and dns, have that meaning for the plugin.",
			Why:   "Administrators change to another plugin and keep these lines.",
			How: "A plugin with the key ipam calls the named plugin; one whose result has the dns of its IPAM " +
				"gives the dns of its configuration.",
			check: checkWellKnownKeys,
		},
		{
			ID: "CFG-7", Level: May, Section: "1, Plugin configuration objects; 5, Error", Roles: everyPlugin(),
			Text: "A plugin may refuse a key that it does not know, with code 2.",
			Why: "Otherwise nobody notices spelling mistakes; and a refusal with another code looks like a fault " +
				"of the network.",
			How:   "ADD, CHECK, STATUS, GC and DEL with an unknown key: success, or code 2.",
			check: checkUnknownKey,
		},
		{
			ID: "CFG-8", Level: Stated, Section: "1, Plugin configuration objects", Roles: everyPlugin(),
			Text: "A configuration may be any JSON: of any size, and however it is written.",
			Why: "Runtimes and administrators add keys, ranges and comments; a plugin that reads one buffer of it " +
				"loses the rest.",
			How: "ADD, CHECK and DEL with 96 KiB of white space, with letters as \\u escapes, with unknown args of " +
				"50 levels, and with 300 ranges for host-local.",
			check: checkUnusualConfiguration,
		},
		{
			ID: "CFG-9", Level: MustNot, Section: "1, Plugin configuration objects, well-known keys",
			Roles: []Role{Main},
			Text:  "The type of an IPAM plugin has no character that a path does not allow.",
			Why: "A type with a slash in it runs a file that is in no directory of CNI_PATH, with all rights of the " +
				"node.",
			How:   "Reads the conflist; ADD with ./ before the type of the IPAM plugin is an error.",
			check: checkIPAMType,
		},
		{
			ID: "VER-2", Level: Must, Section: "1, Version considerations", Roles: everyPlugin(),
			Text: "A configuration works with every version of one major number that the plugin advertises.",
			Why: "Clusters upgrade plugins and keep their configuration, or change the configuration and keep the " +
				"plugins.",
			How: "ADD, CHECK and DEL of one configuration at each version; within a major number all succeed or " +
				"none does.",
			check: checkWithinMajor, long: true,
		},
		{
			ID: "VER-3", Level: Must, Section: "5, Version success", Roles: everyPlugin(), Covers: []string{"G10"},
			Text: "VERSION answers the cniVersion that it was asked in, and supportedVersions.",
			Why:  "A runtime reads an answer in the version of its question.",
			How:  "VERSION with nothing but CNI_COMMAND in the environment, at each version.",
			each: true, alone: true, check: checkVersion,
		},
		{
			ID: "VER-4", Level: Stated, Section: "5, Version success", Roles: everyPlugin(),
			Text: "Every version that the plugin advertises works.",
			Why:  "The runtime, and not the author of the plugin, chooses the highest version that both know.",
			How: "ADD, CHECK if the version has it, and DEL at each version; the result can be read as one of that " +
				"version.",
			each: true, check: checkEveryVersion, // VER-2 makes the calls
		},
		{
			ID: "VER-5", Level: Stated, Section: "5, Error, code 1", Roles: everyPlugin(),
			Text:  "A version that the plugin does not know is an error with code 1.",
			Why:   "A runtime falls back to an older version on that code, and on no other.",
			How:   "Each verb with cniVersion 9.9.9.",
			check: checkUnknownVersion,
		},
		{
			ID: "ENV-2", Level: Stated, Section: "5, Error, code 4", Roles: everyPlugin(),
			Text: "A variable that is missing or invalid is an error with code 4 that names the variable.",
			Why:  "A reader of a kubelet's log has only this sentence.",
			How: "ADD with CNI_CONTAINERID, CNI_IFNAME or CNI_NETNS missing, with a container id of other " +
				"characters, and with an interface name of 16.",
			check: checkEnvironment,
		},
		{
			ID: "ENV-3", Level: Must, Section: "2, CNI protocol, parameters", Roles: []Role{Main},
			Text:  "An interface name that cannot be used is an error.",
			Why:   "A runtime that gets success waits for an interface that does not exist.",
			How:   "ADD with a name that the kernel refuses, with a slash in it; nothing is left.",
			check: checkInterfaceName,
		},
		{
			ID: "ENV-4", Level: Stated, Section: "2, CNI operations", Roles: everyPlugin(), Covers: []string{"G12"},
			Text: "CNI_ARGS and CNI_PATH are optional for ADD, CHECK and DEL, CNI_NETNS for DEL, CNI_PATH for " +
				"STATUS; arguments that a plugin does not know are fine with IgnoreUnknown.",
			Why: "Runtimes pass what they have: nothing on a command line, half a dozen arguments on a Kubernetes " +
				"node.",
			How:   "Each verb with each optional variable unset, and with unknown arguments beside IgnoreUnknown=1.",
			check: checkOptionalVariables,
		},
	}
}

// config returns the subject's object of the conflist.
func (s *Subject) config() map[string]any { return s.file.Plugins[s.index].Config }

func checkType(_ context.Context, t *trial) error {
	t.wantName("type", t.subject.Type)
	return nil
}

// wantName checks that a type is a name that every file system allows.
func (t *trial) wantName(key, name string) {
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`).MatchString(name) {
		t.wrong(nil, "%s %q: want letters, digits, underscores, dots and hyphens", key, name)
	}
}

func checkIPAMType(ctx context.Context, t *trial) error {
	if t.subject.ipam == "" {
		return notApplicable("%s has no ipam", t.subject.Type)
	}
	t.wantName("ipam.type", t.subject.ipam)
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	call, err := b.call(ctx, cni.Add, p, func(inv *invocation) {
		ipam, _ := inv.config["ipam"].(map[string]any)
		inv.config["ipam"] = withKey(ipam, "type", "./"+t.subject.ipam)
	})
	if err == nil && call.ExitCode == 0 {
		t.wrong([]cni.Call{call}, "ADD with the ipam.type %q succeeds, want an error", "./"+t.subject.ipam)
	}
	return err
}

func checkReservedKeys(_ context.Context, t *trial) error {
	for key := range t.subject.config() {
		if key == "runtimeConfig" || key == "args" || strings.HasPrefix(key, "cni.dev/") {
			t.wrong(nil, "the conflist gives %s the key %q, which is a runtime's to set", t.subject.Type, key)
		}
	}
	return nil
}

func checkWellKnownKeys(ctx context.Context, t *trial) error {
	if t.subject.ipam == "" {
		return notApplicable("%s has no ipam", t.subject.Type)
	}
	b, err := t.stubbed(ctx, nil)
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	const server = "192.0.2.53"
	call, err := b.add(ctx, p, func(inv *invocation) {
		inv.config["dns"] = map[string]any{"nameservers": []string{server}}
	})
	if err != nil {
		return err
	}
	records, err := b.records(ctx)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		t.wrong([]cni.Call{call}, "ADD did not call the plugin that ipam names")
	}
	result, err := cni.ParseResult(p.result)
	if err != nil {
		return nil // ADD-2 reports it
	}
	if !slices.Contains(result.DNS.Nameservers, server) {
		t.wrong([]cni.Call{call}, "the configuration has dns with the name server %s, and the result has %v", server,
			result.DNS.Nameservers)
	}
	return nil
}

// works returns the outcome of ADD, CHECK and DEL at a version.
func (t *trial) works(ctx context.Context, version string) (string, []cni.Call, error) {
	own := &trial{subject: t.subject, requirement: t.requirement, version: version}
	defer own.close(ctx)
	l, err := own.lifecycle(ctx)
	if failed, ok := asAddError(err); ok {
		return failed.Error(), []cni.Call{failed.call}, nil
	}
	if err != nil {
		return "", nil, err
	}
	if _, err := cni.ParseResult(l.pod.result); err != nil {
		return fmt.Sprintf("the result of ADD: %v", err), []cni.Call{l.add}, nil
	}
	if l.check != nil && l.check.ExitCode != 0 {
		return "CHECK: " + summary(*l.check), []cni.Call{*l.check}, nil
	}
	if l.dels[0].ExitCode != 0 {
		return "DEL: " + summary(l.dels[0]), l.dels[:1], nil
	}
	return "", nil, nil
}

func checkWithinMajor(ctx context.Context, t *trial) error {
	good, bad := map[string]string{}, map[string]string{}
	evidence := map[string][]cni.Call{}
	reasons := map[string]string{}
	for _, v := range t.subject.versions {
		major, _, _ := strings.Cut(v, ".")
		problem, calls, err := t.works(ctx, v)
		if err != nil {
			return err
		}
		if problem == "" {
			good[major] = v
		} else {
			bad[major], evidence[major], reasons[major] = v, calls, problem
		}
	}
	for major, v := range bad {
		if other, ok := good[major]; ok {
			t.wrong(evidence[major], "the configuration works at CNI %s and not at %s: %s", other, v, reasons[major])
		}
	}
	return nil
}

func checkEveryVersion(ctx context.Context, t *trial) error {
	problem, calls, err := t.works(ctx, t.version)
	if problem != "" {
		t.wrong(calls, "%s", problem)
	}
	return err
}

func checkVersion(ctx context.Context, t *trial) error {
	b, err := t.sharedBench(ctx)
	if err != nil {
		return err
	}
	call, err := b.call(ctx, cni.Version, nil, func(inv *invocation) {
		inv.env = map[string]string{"CNI_COMMAND": "VERSION"}
		inv.config = map[string]any{"cniVersion": t.version}
	})
	if err != nil {
		return err
	}
	var answer struct {
		CNIVersion        string   `json:"cniVersion"`
		SupportedVersions []string `json:"supportedVersions"`
	}
	if err := json.Unmarshal([]byte(call.Stdout), &answer); err != nil || call.ExitCode != 0 {
		t.wrong([]cni.Call{call}, "VERSION: %s", summary(call))
		return nil
	}
	if answer.CNIVersion != t.version {
		t.wrong([]cni.Call{call}, "VERSION was asked at %s and answers cniVersion %q", t.version, answer.CNIVersion)
	}
	if len(answer.SupportedVersions) == 0 {
		t.wrong([]cni.Call{call}, "VERSION answers no supportedVersions")
	}
	return nil
}

func checkUnknownVersion(ctx context.Context, t *trial) error {
	b, err := t.sharedBench(ctx)
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "unknown-version")
	if err != nil {
		return err
	}
	for _, verb := range []cni.Verb{cni.Add, cni.Check, cni.Del, cni.GC, cni.Status} {
		call, err := b.call(ctx, verb, p, func(inv *invocation) {
			inv.config["cniVersion"] = "9.9.9"
			delete(inv.config, "prevResult")
			inv.config["cni.dev/valid-attachments"] = []any{}
		})
		if err != nil {
			return err
		}
		if answer, ok := failure(call); !ok || answer.Code != 1 || call.ExitCode == 0 {
			t.wrong([]cni.Call{call}, "%s with cniVersion 9.9.9: want code 1, got %s", verb, summary(call))
		}
	}
	return nil
}

func checkEnvironment(ctx context.Context, t *trial) error {
	b, err := t.sharedBench(ctx)
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "environment")
	if err != nil {
		return err
	}
	for _, tt := range []struct{ what, variable, value string }{
		{"CNI_CONTAINERID missing", "CNI_CONTAINERID", ""},
		{"CNI_IFNAME missing", "CNI_IFNAME", ""},
		{"CNI_NETNS missing", "CNI_NETNS", ""},
		{"a container id of other characters", "CNI_CONTAINERID", "../pod"},
		{"an interface name of 16 characters", "CNI_IFNAME", "eth0123456789012"},
	} {
		call, err := b.call(ctx, cni.Add, p, func(inv *invocation) {
			inv.env[tt.variable] = tt.value
			if tt.value == "" {
				delete(inv.env, tt.variable)
			}
		})
		if err != nil {
			return err
		}
		answer, ok := failure(call)
		switch {
		case !ok || answer.Code != 4 || call.ExitCode == 0:
			t.wrong([]cni.Call{call}, "ADD with %s: want code 4, got %s", tt.what, summary(call))
		case !strings.Contains(answer.Msg, tt.variable):
			t.wrong([]cni.Call{call}, "ADD with %s: the message does not name %s: %q", tt.what, tt.variable, answer.Msg)
		}
	}
	return nil
}

func checkInterfaceName(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	p.ifName = "eth/0"
	return b.refused(ctx, before, p, "ADD with the interface name "+p.ifName)
}

func checkOptionalVariables(ctx context.Context, t *trial) error {
	b, err := t.bench(ctx, nil)
	if err != nil {
		return err
	}
	without := func(names ...string) func(*invocation) {
		return func(inv *invocation) {
			for _, name := range names {
				delete(inv.env, name)
			}
		}
	}
	strange := func(inv *invocation) { inv.env["CNI_ARGS"] = "IgnoreUnknown=1;CNITEST_STRANGE=1;K8S_POD_NAME=web" }
	round := func(name, what string, edit func(*invocation), verbs ...cni.Verb) error {
		p, err := b.pod(ctx, name)
		if err != nil {
			return err
		}
		for _, verb := range []cni.Verb{cni.Add, cni.Check, cni.Del} {
			if verb == cni.Check && !atLeast(t.version, "0.4.0") {
				continue
			}
			edits := []func(*invocation){edit}
			if !slices.Contains(verbs, verb) {
				edits = nil
			}
			call, err := b.must(ctx, verb, p, edits...)
			if err != nil {
				return err
			}
			if call.ExitCode != 0 && edits != nil {
				t.wrong([]cni.Call{call}, "%s %s: want success, got %s", verb, what, summary(call))
				// What follows needs an attachment, and its end.
				if call, err = b.must(ctx, verb, p); err != nil {
					return err
				}
			}
			if call.ExitCode != 0 && verb == cni.Add {
				return &addError{call}
			}
		}
		return b.end(ctx, p)
	}
	all := []cni.Verb{cni.Add, cni.Check, cni.Del}
	if err := round("no-args", "without CNI_ARGS", without("CNI_ARGS"), all...); err != nil {
		return err
	}
	if err := round("strange-args", "with unknown CNI_ARGS beside IgnoreUnknown=1", strange, all...); err != nil {
		return err
	}
	if err := round("no-path", "without CNI_PATH", without("CNI_PATH"), all...); err != nil {
		return err
	}
	return round("no-netns", "without CNI_NETNS", without("CNI_NETNS"), cni.Del)
}
