package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
)

// leadingAstray returns the requirements about names and links that lead to files of others.
func leadingAstray() []Requirement {
	return []Requirement{
		asFailureMode(Requirement{
			ID: "E19", Roles: everyPlugin(),
			Text: "No name that a plugin is given leads it to a file of others.",
			Why: "Whoever may create a pod chooses its name, and a plugin that makes a path from it without a look " +
				"at it writes and removes files anywhere, as root. A list of valid attachments is checked by no " +
				"library.",
			How: "ADD, CHECK and DEL with ../../…/FILE as K8S_POD_NAME, K8S_POD_NAMESPACE and " +
				"K8S_POD_INFRA_CONTAINER_ID, as CNI_CONTAINERID, as CNI_IFNAME, as the name of the network, and as " +
				"the names in prevResult; GC with it in the list of valid attachments. Each may fail or succeed. In " +
				"the directory of FILE nothing is made, changed or removed, and no answer has what FILE says.",
			check: checkNamesAstray,
		}),
		asFailureMode(Requirement{
			ID: "E20", Roles: everyPlugin(),
			Text: "A link in the place of a file that a plugin or its daemon makes leads to no file of others.",
			Why: "A directory of records that a container has mounted, or that was restored with other modes, has " +
				"links to files that only root may write.",
			How: "Traces which files and which directories of the attachment ADD and DEL make, and the daemon at its " +
				"start and for both. Each of them is, on a fresh node, a symbolic link to a file of others, one to a " +
				"file that is missing, or one to a directory of others, before ADD, and before the daemon starts. At " +
				"last all are links when DEL and GC come. Calls may fail, and the daemon need not start. What the " +
				"links lead to is not made, changed or removed, and no answer has what it says. Logs do not count.",
			check: checkLinksAstray, long: true,
		}),
	}
}

// These are the directory of others, in which there is one file, and one in a directory.
const (
	othersDir     = "/run/cnitest-others"
	othersFile    = othersDir + "/kept"
	othersSubdir  = othersDir + "/dir"
	othersMissing = othersDir + "/missing"
	// othersText is what the files say.
	othersText = "cnitest-this-is-nobody's-business"
)

// othersFiles are the files of others.
func othersFiles() []string { return []string{othersFile, othersSubdir + "/kept"} }

// furnish makes the files of others.
func (b *bench) furnish(ctx context.Context) error {
	for _, path := range othersFiles() {
		file := agent.File{Path: path, Mode: 0o600, Data: []byte(othersText)}
		if err := b.node.Agent.WriteFile(ctx, file); err != nil {
			return err
		}
	}
	return nil
}

// disturbed says what happened to the files of others; empty if nothing did.
func (b *bench) disturbed(ctx context.Context) (string, error) {
	for dir, want := range map[string][]string{othersDir: {"dir", "kept"}, othersSubdir: {"kept"}} {
		names, err := b.node.Agent.ListDir(ctx, dir)
		if err != nil {
			return "", err
		}
		for _, name := range names {
			if !slices.Contains(want, name) {
				return "makes " + filepath.Join(dir, name), nil
			}
		}
		for _, name := range want {
			if !slices.Contains(names, name) {
				return "removes " + filepath.Join(dir, name), nil
			}
		}
	}
	for _, path := range othersFiles() {
		reply, err := b.node.Agent.ReadFile(ctx, path)
		if err != nil {
			return "", err
		}
		if text := string(reply.File.Data); text != othersText {
			return fmt.Sprintf("writes %q into %s", text[:min(len(text), 60)], path), nil
		}
	}
	return "", nil
}

// tellsOf says which call has in its answer what a file of others says; empty if none has.
func tellsOf(calls []cni.Call) string {
	for _, c := range calls {
		if strings.Contains(c.Stdout+c.Stderr, othersText) {
			return fmt.Sprintf("answers %s with what %s says", c.Verb, othersFile)
		}
	}
	return ""
}

// judgeAstray reports what calls did to the files of others, and reports whether it was anything.
func (b *bench) judgeAstray(ctx context.Context, what string, calls ...cni.Call) (bool, error) {
	did, err := b.disturbed(ctx)
	if err != nil {
		return false, err
	}
	if did == "" {
		did = tellsOf(calls)
	}
	if did == "" {
		return false, nil
	}
	b.wrong(calls, "with %s, the plugin %s, which is nothing of its own", what, did)
	return true, nil
}

// quietly makes a call that other requirements do not judge: its input is none that a runtime would pass.
func (b *bench) quietly(ctx context.Context, verb cni.Verb, p *pod, edits ...func(*invocation)) (cni.Call, error) {
	call, err := b.exec(ctx, b.subjectInvocation(verb, p, edits...))
	if err != nil || p == nil || call.ExitCode != 0 {
		return call, err
	}
	switch {
	case verb == cni.Add && json.Valid([]byte(call.Stdout)):
		p.result = json.RawMessage(call.Stdout)
	case verb == cni.Del:
		b.brought.Return(b.node.Name, p.id, p.ifName)
	}
	return call, nil
}

// astrayName leads from any directory to the file of others.
var astrayName = strings.Repeat("../", 16) + strings.TrimPrefix(othersFile, "/")

// naming is a name that a call has in an unusual place.
type naming struct {
	what string
	edit func(*invocation)
}

func namings() []naming {
	env := func(key string) naming {
		return naming{key + " " + astrayName, func(inv *invocation) { inv.env[key] = astrayName }}
	}
	argument := func(key string) naming {
		return naming{key + "=" + astrayName, func(inv *invocation) {
			var pairs []string
			for pair := range strings.SplitSeq(inv.env["CNI_ARGS"], ";") {
				if name, _, _ := strings.Cut(pair, "="); name != key {
					pairs = append(pairs, pair)
				}
			}
			inv.env["CNI_ARGS"] = strings.Join(append(pairs, key+"="+astrayName), ";")
		}}
	}
	return []naming{
		argument("K8S_POD_NAME"), argument("K8S_POD_NAMESPACE"), argument("K8S_POD_INFRA_CONTAINER_ID"),
		env("CNI_CONTAINERID"), env("CNI_IFNAME"),
		{"the network name " + astrayName, func(inv *invocation) { inv.config["name"] = astrayName }},
		{"the interfaces of prevResult named " + astrayName, nameInterfaces},
	}
}

// nameInterfaces gives the interfaces of prevResult, and their namespaces, another name.
func nameInterfaces(inv *invocation) {
	raw, ok := inv.config["prevResult"].(json.RawMessage)
	if !ok {
		return
	}
	var result map[string]any
	if json.Unmarshal(raw, &result) != nil {
		return
	}
	interfaces, _ := result["interfaces"].([]any)
	for _, i := range interfaces {
		if one, ok := i.(map[string]any); ok {
			one["name"] = astrayName
			if one["sandbox"] != nil && one["sandbox"] != "" {
				one["sandbox"] = astrayName
			}
		}
	}
	inv.config["prevResult"] = result
}

func checkNamesAstray(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	if err := b.furnish(ctx); err != nil {
		return err
	}
	for _, n := range namings() {
		for _, verb := range []cni.Verb{cni.Add, cni.Check, cni.Del} {
			if !verb.In(t.version) {
				continue
			}
			call, err := b.quietly(ctx, verb, p, n.edit)
			if err != nil {
				return err
			}
			if found, err := b.judgeAstray(ctx, n.what, call); err != nil || found {
				return err
			}
		}
		if _, err := b.quietly(ctx, cni.Del, p); err != nil {
			return err
		}
		if p.result = nil; cni.GC.In(t.version) {
			if _, err := b.quietly(ctx, cni.GC, nil, keeping()); err != nil {
				return err
			}
		}
	}
	if !cni.GC.In(t.version) {
		return nil
	}
	gc, err := b.quietly(ctx, cni.GC, nil, func(inv *invocation) {
		inv.config["cni.dev/valid-attachments"] = []any{map[string]any{
			"containerID": astrayName, "ifname": astrayName,
		}}
	})
	if err != nil {
		return err
	}
	_, err = b.judgeAstray(ctx, "a valid attachment whose container and interface are "+astrayName, gc)
	return err
}
