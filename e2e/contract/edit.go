package contract

import (
	"context"
	"slices"

	"github.com/cnitest/cnitest/e2e/cni"
)

// The key that no plugin knows.
const (
	strangeKey   = "cnitestUnknown"
	strangeValue = "value-17"
)

// unknownKey adds a key that no plugin knows to a configuration.
func unknownKey(inv *invocation) { inv.config[strangeKey] = strangeValue }

// keeping returns an edit that tells GC which attachments are valid.
func keeping(pods ...*pod) func(*invocation) {
	list := []map[string]string{}
	for _, p := range pods {
		list = append(list, map[string]string{"containerID": p.id, "ifname": p.ifName})
	}
	return func(inv *invocation) { inv.config["cni.dev/valid-attachments"] = list }
}

func checkUnknownKey(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	call, err := b.must(ctx, cni.Add, p, unknownKey)
	if err != nil {
		return err
	}
	switch answer, ok := failure(call); {
	case call.ExitCode == 0:
		t.note("accepts unknown keys")
	case !ok || answer.Code != 2:
		t.wrong([]cni.Call{call}, "ADD with an unknown key: want success or code 2, got %s", summary(call))
		return nil
	default:
		if _, err := b.add(ctx, p); err != nil {
			return err
		}
	}
	return b.unknownKeyElsewhere(ctx, p)
}

// unknownKeyElsewhere calls the verbs other than ADD with an unknown key.
func (b *bench) unknownKeyElsewhere(ctx context.Context, p *pod) error {
	verbs := slices.DeleteFunc([]cni.Verb{cni.Check, cni.Status, cni.GC, cni.Del}, func(verb cni.Verb) bool {
		return !slices.Contains(b.verbs(), verb)
	})
	for _, verb := range verbs {
		call, err := b.call(ctx, verb, p, unknownKey, keeping(p))
		if err != nil {
			return err
		}
		if answer, ok := failure(call); call.ExitCode == 0 || ok && answer.Code == 2 {
			continue
		}
		// What fails in the same way without the key is tested elsewhere.
		plain, err := b.call(ctx, verb, p, keeping(p))
		if err != nil {
			return err
		}
		if plain.ExitCode == 0 {
			b.wrong([]cni.Call{call}, "%s with an unknown key: want success or code 2, got %s", verb, summary(call))
		}
	}
	return nil
}
