package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
)

// execution returns the requirements about how a plugin answers: exit status, standard output, error objects.
func execution() []Requirement {
	return []Requirement{
		{
			ID: "EXE-1", Level: Must, Section: "2, Errors", Roles: everyPlugin(),
			Text: "A plugin exits with 0 on success and with another status on failure.",
			Why:  "Every runtime uses the exit status, and some use nothing else.",
			How: "Examines every call of the other checks: no error object with status 0, no result with another " +
				"status, no end by a signal.",
			audit: auditStatus,
		},
		{
			ID: "EXE-2", Level: Should, Section: "2, Errors; 5, Error", Roles: everyPlugin(),
			Text:  "On failure a plugin prints an error object with cniVersion, code and msg.",
			Why:   "Without it a kubelet's log has only an exit status.",
			How:   "Examines every failed call of the other checks.",
			audit: auditErrorObject,
		},
		{
			ID: "EXE-3", Level: Stated, Section: "2, Overview; 5", Roles: everyPlugin(), Covers: []string{"G01", "G02"},
			Text:  "Standard output has one JSON document or nothing; text for people goes to standard error.",
			Why:   "With a line of a log before the result, or a result and an error, the runtime can read neither.",
			How:   "Examines every call of the other checks.",
			audit: auditStdout,
		},
		{
			ID: "EXE-5", Level: Stated, Section: "2, CNI operations", Roles: everyPlugin(),
			Text: "CHECK, STATUS and VERSION change nothing: what a plugin makes is made by ADD, and deleted by DEL " +
				"and GC.",
			Why: "A kubelet calls STATUS every few seconds, also on nodes without pods; nobody deletes what such a " +
				"call leaves.",
			How: "Compares node and pod before and after each, on a node without pods and with a pod attached. " +
				"Directories, and files that the first ADD would make, may come, and files for logs may change.",
			check: checkAskingChangesNothing,
		},
		{
			ID: "ERR-1", Level: Stated, Section: "5, Error", Roles: everyPlugin(),
			Text: "Codes 0 to 99 belong to the specification: 1 to 7, 11, 50 and 51 are defined; a plugin's own " +
				"codes begin at 100.",
			Why:   "Runtimes act on codes: after 11 they try again, and 50 keeps pods away from the node.",
			How:   "Examines the code of every failed call of the other checks.",
			audit: auditCode,
		},
		{
			ID: "ERR-2", Level: Must, Section: "5, Error, code 2", Roles: everyPlugin(),
			Text:  "The message of code 2 has the key and the value that are not supported.",
			Why:   "A conflist has dozens of keys.",
			How:   "ADD with an unknown key, where the plugin answers with code 2.",
			check: checkUnsupportedKey,
		},
		{
			ID: "ERR-3", Level: Stated, Section: "5, Error, codes 6 and 7", Roles: everyPlugin(),
			Text: "Input that is not JSON is an error with code 6, a configuration without a name or with one of " +
				"path characters is one with code 7.",
			Why:   "The first is a fault of the runtime, the second one of the administrator.",
			How:   "Each verb with half an object, with no name, and with the name \"../net\".",
			check: checkBadInput,
		},
		{
			ID: "ERR-4", Level: Stated, Section: "5, Error, code 3", Roles: everyPlugin(),
			Text: "An ADD that fails with code 3 leaves nothing: the runtime need not call DEL.",
			Why:  "A runtime that believes it calls no DEL, and what ADD made stays for ever.",
			How: "ADD with a CNI_NETNS that does not exist; if it fails with code 3, node and pod look as before. A " +
				"plugin that answers with another code is exempt.",
			check: checkUnknownContainer,
		},
		{
			ID: "ERR-5", Level: Stated, Section: "5, Error, code 5", Roles: everyPlugin(),
			Text: "An input that cannot be read is an error with code 5.",
			Why: "A configuration that never arrived is a fault of the machine or the runtime; with another code " +
				"people look for it in the configuration.",
			How:   "Each verb with a directory as standard input, from which every read fails.",
			check: checkUnreadableInput,
		},
		{
			ID: "E12", Level: Stated, Section: "failure mode", Roles: everyPlugin(), Covers: []string{"E12"},
			Text: "Every call ends.",
			Why:  "A DEL that hangs keeps a pod Terminating for days.",
			How: fmt.Sprintf("Examines every call of the other checks: none may need %s, or leave a process behind "+
				"that holds its output open.", deadline),
			audit: auditEnd,
		},
	}
}

func auditStatus(t *trial, c observedCall) {
	t.seen = true
	_, isError := failure(c.Call)
	switch {
	case c.ExitCode == 0 && isError:
		t.wrong([]cni.Call{c.Call}, "%s answers an error object and exits with 0", c.Verb)
	case c.ExitCode < 0 || strings.Contains(c.Stderr, "goroutine 1 ["):
		t.wrong([]cni.Call{c.Call}, "%s does not end by itself: %s", c.Verb, summary(c.Call))
	case c.ExitCode > 0 && !isError && isResult(c.Stdout):
		t.wrong([]cni.Call{c.Call}, "%s answers a result and exits with %d", c.Verb, c.ExitCode)
	}
}

// isResult reports whether a text is a result and not an error.
func isResult(text string) bool {
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		return false
	}
	_, ips := object["ips"]
	_, interfaces := object["interfaces"]
	return ips || interfaces
}

func auditErrorObject(t *trial, c observedCall) {
	if c.ExitCode == 0 || c.Failure != "" {
		return
	}
	t.seen = true
	var object struct {
		CNIVersion *string `json:"cniVersion"`
		Code       *uint   `json:"code"`
		Msg        string  `json:"msg"`
	}
	// EXE-3 judges what else is on standard output.
	err := json.NewDecoder(strings.NewReader(c.Stdout)).Decode(&object)
	switch {
	case err != nil || object.Code == nil && object.Msg == "":
		t.wrong([]cni.Call{c.Call}, "%s fails without an error object on stdout: %s", c.Verb, summary(c.Call))
	case object.Code == nil || object.Msg == "":
		t.wrong([]cni.Call{c.Call}, "%s fails, and the error object lacks code or msg", c.Verb)
	case object.CNIVersion == nil:
		t.wrong([]cni.Call{c.Call}, "the error object has no cniVersion")
	}
}

func auditStdout(t *trial, c observedCall) {
	t.seen = true
	if strings.TrimSpace(c.Stdout) == "" {
		return
	}
	decoder := json.NewDecoder(bytes.NewReader([]byte(c.Stdout)))
	documents := 0
	for {
		var document map[string]any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			line, _, _ := strings.Cut(strings.TrimSpace(c.Stdout), "\n")
			t.wrong([]cni.Call{c.Call}, "%s prints something other than a JSON object on stdout: %q", c.Verb, line)
			return
		}
		documents++
	}
	if documents > 1 {
		t.wrong([]cni.Call{c.Call}, "%s prints %d documents on stdout, want one", c.Verb, documents)
	}
}

func auditCode(t *trial, c observedCall) {
	var object struct {
		Code *uint `json:"code"`
	}
	if c.ExitCode == 0 || json.NewDecoder(strings.NewReader(c.Stdout)).Decode(&object) != nil || object.Code == nil {
		return
	}
	t.seen = true
	switch code := *object.Code; {
	case code >= 1 && code <= 7, code == 11, code == 50, code == 51, code >= 100:
	default:
		t.wrong([]cni.Call{c.Call}, "%s fails with code %d, which the specification reserves and does not "+
			"define: %s", c.Verb, code, summary(c.Call))
	}
}

func auditEnd(t *trial, c observedCall) {
	t.seen = true
	if c.Failure != "" {
		t.wrong([]cni.Call{c.Call}, "%s %s", c.Verb, c.Failure)
	}
}

func checkUnsupportedKey(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	call, err := b.call(ctx, cni.Add, p, unknownKey)
	if err != nil {
		return err
	}
	answer, ok := failure(call)
	if !ok || answer.Code != 2 {
		return notApplicable("%s answers no call with code 2", t.subject.Type)
	}
	if !strings.Contains(answer.Msg, strangeKey) || !strings.Contains(answer.Msg, strangeValue) {
		t.wrong([]cni.Call{call}, "ADD with the unknown key %s: %q: want the key and its value in the message of "+
			"code 2", strangeKey, answer.Msg)
	}
	return nil
}

func checkBadInput(ctx context.Context, t *trial) error {
	b, err := t.sharedBench(ctx)
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "bad-input")
	if err != nil {
		return err
	}
	for _, tt := range []struct {
		what string
		code uint
		edit func(*invocation)
	}{
		{"half an object", 6, func(inv *invocation) { inv.stdin = []byte(`{"cniVersion": "`) }},
		{"no name", 7, func(inv *invocation) { delete(inv.config, "name") }},
		{`the name "../net"`, 7, func(inv *invocation) { inv.config["name"] = "../net" }},
	} {
		for _, verb := range t.verbs() {
			call, err := b.call(ctx, verb, p, tt.edit)
			if err != nil {
				return err
			}
			if answer, ok := failure(call); !ok || answer.Code != tt.code || call.ExitCode == 0 {
				t.wrong([]cni.Call{call}, "%s with %s: want code %d, got %s", verb, tt.what, tt.code, summary(call))
			}
		}
	}
	return nil
}

// verbs returns the verbs that a plugin has at the version, without VERSION, which needs no configuration.
func (t *trial) verbs() []cni.Verb {
	return slices.DeleteFunc([]cni.Verb{cni.Add, cni.Del, cni.Check, cni.GC, cni.Status}, func(v cni.Verb) bool {
		return !v.In(t.version)
	})
}

func checkUnreadableInput(ctx context.Context, t *trial) error {
	b, err := t.sharedBench(ctx)
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "unreadable")
	if err != nil {
		return err
	}
	for _, verb := range t.verbs() {
		call, err := b.call(ctx, verb, p, func(inv *invocation) { inv.stdinFrom = "/" })
		if err != nil {
			return err
		}
		if answer, ok := failure(call); !ok || answer.Code != 5 || call.ExitCode == 0 {
			t.wrong([]cni.Call{call}, "%s with an input that cannot be read: want code 5, got %s", verb, summary(call))
		}
	}
	return nil
}

func checkUnknownContainer(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	call, err := b.call(ctx, cni.Add, p, func(inv *invocation) {
		inv.env["CNI_NETNS"] = agent.NamespacePath("cnitest-nowhere")
	})
	if err != nil {
		return err
	}
	if answer, ok := failure(call); !ok || answer.Code != 3 {
		return notApplicable("it does not answer with code 3 when the namespace does not exist: %s", summary(call))
	}
	left, err := b.leftOfFailure(ctx, before, p)
	if err == nil && len(left) > 0 {
		t.wrong([]cni.Call{call}, "ADD fails with code 3, after which no DEL comes, and leaves %s", first(left))
	}
	return err
}
