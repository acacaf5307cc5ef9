package contract

import (
	"context"
	"fmt"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
)

// environment returns the requirements about parameters that other checks leave out: those of other verbs than ADD, and
// container ids that are rare.
func environment() []Requirement {
	return []Requirement{
		{
			ID: "ENV-5", Level: Stated, Section: "2, CNI operations; 5, Error, code 4", Roles: everyPlugin(),
			Text: "DEL, CHECK and GC without a variable that they need, and a CNI_COMMAND that does not exist, are " +
				"errors with code 4 that name the variable.",
			Why: "A DEL that does not say which container it is for, and succeeds, leaves that container's " +
				"address reserved, and nobody calls it again.",
			How: "DEL and CHECK without CNI_CONTAINERID or CNI_IFNAME, CHECK without CNI_NETNS, GC without CNI_PATH, " +
				"and CNI_COMMAND=FROBNICATE.",
			check: checkEnvironmentOfOthers,
		},
		{
			ID: "ENV-6", Level: Must, Section: "2, CNI protocol, parameters", Roles: everyPlugin(),
			Text: "Every container id of letters, digits, underscores, dots and hyphens works, and no two are the " +
				"same.",
			Why: "Runtimes choose their ids as they like. A plugin that replaces characters for the name of a file " +
				"or a link gives one container what belongs to another one.",
			How: "Attaches two containers whose ids begin with a digit and differ only in their punctuation and in " +
				"upper case: CHECK of the second passes after DEL of the first. Then one with an id of 128 characters.",
			check: checkIdentifiers,
		},
	}
}

// withoutVariable returns an edit that unsets a variable.
func withoutVariable(name string) func(*invocation) {
	return func(inv *invocation) { delete(inv.env, name) }
}

func checkEnvironmentOfOthers(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	b, err := t.sharedBench(ctx)
	if err != nil {
		return err
	}
	p, err := b.pod(ctx, "environment-of-others")
	if err != nil {
		return err
	}
	// Only the variable is wrong: the result is that of an earlier attachment.
	p.result = l.pod.result
	for _, tt := range []struct {
		verb     cni.Verb
		since    string
		variable string
	}{
		{cni.Del, "0.1.0", "CNI_CONTAINERID"},
		{cni.Del, "0.1.0", "CNI_IFNAME"},
		{cni.Check, "0.4.0", "CNI_CONTAINERID"},
		{cni.Check, "0.4.0", "CNI_IFNAME"},
		{cni.Check, "0.4.0", "CNI_NETNS"},
		{cni.GC, "1.1.0", "CNI_PATH"},
	} {
		if !atLeast(t.version, tt.since) {
			continue
		}
		call, err := b.call(ctx, tt.verb, p, keeping(), withoutVariable(tt.variable))
		if err != nil {
			return err
		}
		b.wantVariable(call, fmt.Sprintf("%s without %s", tt.verb, tt.variable), tt.variable)
	}
	// It is no verb, and nothing that the calls of the others are compared with.
	call, err := b.exec(ctx, b.subjectInvocation("FROBNICATE", p))
	if err == nil {
		b.wantVariable(call, "a call with CNI_COMMAND=FROBNICATE", "CNI_COMMAND")
	}
	return err
}

// wantVariable checks that a call failed with code 4 and named a variable.
func (b *bench) wantVariable(call cni.Call, what, variable string) {
	answer, ok := failure(call)
	switch {
	case !ok || answer.Code != 4 || call.ExitCode == 0:
		b.wrong([]cni.Call{call}, "%s: want code 4, got %s", what, summary(call))
	case !strings.Contains(answer.Msg, variable):
		b.wrong([]cni.Call{call}, "%s: the message does not name %s: %q", what, variable, answer.Msg)
	}
}

func checkIdentifiers(ctx context.Context, t *trial) error {
	b, err := t.bench(ctx, nil)
	if err != nil {
		return err
	}
	one, err := b.identified(ctx, "one", "7a_b.c-D")
	if one == nil {
		return err
	}
	two, err := b.identified(ctx, "two", "7a-b_c.d")
	if two == nil {
		return err
	}
	if err := b.detach(ctx, one); err != nil {
		return err
	}
	if atLeast(t.version, "0.4.0") {
		call, err := b.call(ctx, cni.Check, two)
		if err != nil {
			return err
		}
		if call.ExitCode != 0 {
			t.wrong([]cni.Call{call}, "CHECK of the container %s after DEL of %s: want success, got %s", two.id, one.id,
				summary(call))
		}
	}
	if err := b.detach(ctx, two); err != nil {
		return err
	}
	long, err := b.identified(ctx, "long", strings.Repeat("0a1b2c3d", 16))
	if long == nil {
		return err
	}
	return b.detach(ctx, long)
}

// identified attaches a pod with a container id. It returns nil if ADD fails, which is a deviation.
func (b *bench) identified(ctx context.Context, name, id string) (*pod, error) {
	p, err := b.podWithID(ctx, name, id)
	if err != nil {
		return nil, err
	}
	call, err := b.call(ctx, cni.Add, p)
	if err != nil {
		return nil, err
	}
	if call.ExitCode == 0 {
		return p, nil
	}
	b.wrong([]cni.Call{call}, "ADD of the container %s: want success, got %s", id, summary(call))
	return nil, nil
}

// detach calls DEL, which must succeed, and removes the pod.
func (b *bench) detach(ctx context.Context, p *pod) error {
	call, err := b.call(ctx, cni.Del, p)
	if err != nil {
		return err
	}
	if call.ExitCode != 0 {
		b.wrong([]cni.Call{call}, "DEL of the container %s: want success, got %s", p.id, summary(call))
	}
	return b.end(ctx, p)
}
