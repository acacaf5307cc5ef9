package contract

import (
	"context"
	"maps"
	"slices"

	"github.com/cnitest/cnitest/e2e/cni"
)

// mistypedKeys bounds the number of keys that are asked about: each costs two calls.
const mistypedKeys = 6

// checkMistyped gives each key of the subject's own configuration a value of another type.
func checkMistyped(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	config := b.configs[b.subject.index]
	if b.subject.Role == IPAM {
		config, _ = config["ipam"].(map[string]any)
	}
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(config)), func(key string) bool {
		return slices.Contains([]string{"type", "name", "cniVersion", "ipam", "capabilities", "runtimeConfig"}, key)
	})
	if len(keys) == 0 {
		return notApplicable("its configuration has no keys of its own")
	}
	for _, key := range keys[:min(len(keys), mistypedKeys)] {
		if err := b.mistype(ctx, p, config, key); err != nil {
			return err
		}
	}
	return nil
}

// mistype calls ADD and DEL with a key of another type. An ADD that succeeds is undone by the same DEL or by a correct
// one.
func (b *bench) mistype(ctx context.Context, p *pod, config map[string]any, key string) error {
	edited := maps.Clone(config)
	edited[key] = map[string]any{"cnitest": true}
	if _, object := config[key].(map[string]any); object {
		edited[key] = "cnitest"
	}
	for _, verb := range []cni.Verb{cni.Add, cni.Del} {
		inv := b.subjectInvocation(verb, p)
		if b.subject.Role == IPAM {
			inv.config["ipam"] = edited
		} else {
			inv.config[key] = edited[key]
		}
		// A plugin that crashes fails this requirement alone, and not those that look at all calls.
		call, err := b.exec(ctx, inv)
		if err != nil {
			return err
		}
		if _, ok := failure(call); call.ExitCode != 0 && !ok {
			b.wrong([]cni.Call{call}, "%s with %s of another type: want an error object, got %s", verb, key,
				summary(call))
		}
	}
	_, err := b.exec(ctx, b.subjectInvocation(cni.Del, p))
	return err
}
