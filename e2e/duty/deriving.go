package duty

import (
	"context"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
)

func deriving() map[string]func(context.Context, *bench) error {
	return map[string]func(context.Context, *bench) error{
		"RUN-32": checkObject, "RUN-33": checkRuntimeConfig, "RUN-34": checkResults, "RUN-35": checkNoCapabilities,
		"RUN-36": checkHalts, "RUN-37": checkGoesOn, "RUN-38": checkOldVersions,
	}
}

func checkObject(ctx context.Context, b *bench) error {
	c := b.newChain(b.version)
	c.plugins[0]["name"], c.plugins[0]["cniVersion"] = "other", "0.3.1"
	for _, plugin := range c.plugins {
		plugin["only-"+plugin["place"].(string)] = true
	}
	if err := b.use(ctx, c); err != nil {
		return err
	}
	calls, err := b.life(ctx, Operation{Pod: b.pod("a")})
	if err != nil {
		return err
	}
	for _, c := range calls {
		for key, want := range map[string]string{"name": b.network, "cniVersion": b.version} {
			if c.config[key] != want {
				return wrongf("%s gets %q: %s, want %q as the network has", c.name(), key, inJSON(c.config[key]), want)
			}
		}
		for _, place := range inOrder {
			if _, there := c.config["only-"+place]; there != (place == c.place) {
				return wrongf("%s gets the key %q of %s: %v", c.name(), "only-"+place, place, there)
			}
		}
	}
	return nil
}

// capableLife has the calls for a pod with more capability arguments than the plugins declare.
func (b *bench) capableLife(ctx context.Context) ([]call, error) {
	if err := b.need(TakesCapabilities); err != nil {
		return nil, err
	}
	c := b.newChain(b.version)
	c.capable()
	if err := b.use(ctx, c); err != nil {
		return nil, err
	}
	op := Operation{Pod: b.pod("a"), Capabilities: capabilityArgs()}
	added, err := b.add(ctx, op)
	if err != nil {
		return nil, err
	}
	if b.runtime.Lacks(CanCheck) == "" {
		op.Verb = cni.Check
		checked, err := b.must(ctx, op, inOrder)
		if err != nil {
			return nil, err
		}
		added = append(added, checked...)
	}
	op.Verb = cni.Del
	deleted, err := b.must(ctx, op, reversed)
	return append(added, deleted...), err
}

func checkRuntimeConfig(ctx context.Context, b *bench) error {
	calls, err := b.capableLife(ctx)
	if err != nil {
		return err
	}
	declared := map[string]string{first: "portMappings", middle: "mac"}
	for _, c := range calls {
		got, _ := c.config["runtimeConfig"].(map[string]any)
		for key := range got {
			if key != declared[c.place] {
				return wrongf("%s gets the capability %s, which it does not declare", c.name(), key)
			}
		}
		key := declared[c.place]
		if key == "" {
			continue
		}
		var want any
		if err := decode([]byte(inJSON(capabilityArgs()[key])), &want); err != nil {
			return err
		}
		if !cmp.Equal(want, got[key]) {
			return wrongf("%s gets %s: %s in runtimeConfig, want %s", c.name(), key, inJSON(got[key]), inJSON(want))
		}
	}
	return nil
}

func checkNoCapabilities(ctx context.Context, b *bench) error {
	c := b.newChain(b.version)
	c.capable()
	if err := b.use(ctx, c); err != nil {
		return err
	}
	calls, err := b.life(ctx, Operation{Pod: b.pod("a")})
	if err != nil {
		return err
	}
	for _, c := range attached(calls) {
		if value, there := c.config["capabilities"]; there {
			return wrongf("%s gets \"capabilities\": %s", c.name(), inJSON(value))
		}
	}
	return nil
}

func checkResults(ctx context.Context, b *bench) error {
	_, calls, err := b.begin(ctx)
	if err != nil {
		return err
	}
	if value, there := calls[0].config["prevResult"]; there {
		return wrongf("%s gets the prevResult %s, and no plugin is before it", calls[0].name(), inJSON(value))
	}
	for i, before := range inOrder[:2] {
		if err := checkPrevious(calls[i+1:i+2], resultOf(before, b.version)); err != nil {
			return err
		}
	}
	return nil
}

func checkHalts(ctx context.Context, b *bench) error {
	for _, t := range b.verbs() {
		if t.verb == cni.GC || t.verb == cni.Status {
			continue
		}
		op := Operation{Pod: b.pod(strings.ToLower(string(t.verb)))}
		if t.verb != cni.Add {
			if err := b.use(ctx, b.newChain(b.version)); err != nil {
				return err
			}
			if _, err := b.add(ctx, op); err != nil {
				return err
			}
		}
		c := b.newChain(b.version)
		// The words are no excuse: "not found" is not "nothing to do".
		const says = "the one in the middle says that something was not found"
		c.order(middle, t.verb, stub.Behaviour{Code: 100, Msg: says})
		if err := b.use(ctx, c); err != nil {
			return err
		}
		op.Verb = t.verb
		answer, calls, err := b.run(ctx, op)
		switch got := placesOf(calls, t.verb); {
		case err != nil:
			return err
		case !slices.Equal(got, rounds(t.verb, calls, t.places[:2])):
			return wrongf("%s calls %s, want %s: the second fails", t.verb, listed(got), listed(t.places[:2]))
		case !answer.Failed:
			return wrongf("%s succeeds although its second plugin fails: %s", t.verb, says)
		case !strings.Contains(answer.Text, says):
			return wrongf("%s reports %q, want the error of its second plugin: %s", t.verb, answer.Text, says)
		}
	}
	return nil
}

func checkGoesOn(ctx context.Context, b *bench) error {
	if err := b.need(CanGC); err != nil {
		return err
	}
	c := b.newChain(b.version)
	says := map[string]string{first: "the first one says no", last: "the last one says no"}
	for place, msg := range says {
		c.order(place, cni.GC, stub.Behaviour{Code: 100, Msg: msg})
	}
	if err := b.use(ctx, c); err != nil {
		return err
	}
	answer, calls, err := b.run(ctx, Operation{Verb: cni.GC})
	switch got := placesOf(calls, cni.GC); {
	case err != nil:
		return err
	case !slices.Equal(got, inOrder):
		return wrongf("GC whose first plugin fails calls %s, want all", listed(got))
	case !answer.Failed:
		return wrongf("GC succeeds although two plugins fail")
	}
	for _, place := range []string{first, last} {
		if !strings.Contains(answer.Text, says[place]) {
			return wrongf("GC reports %q, want also the error of %s: %s", answer.Text, place, says[place])
		}
	}
	return nil
}

func checkOldVersions(ctx context.Context, b *bench) error {
	asked := 0
	for _, version := range []string{"0.3.1", "1.0.0"} {
		if err := b.use(ctx, b.newChain(version)); err != nil {
			return err
		}
		op := Operation{Verb: cni.Add, Pod: b.pod(version)}
		answer, calls, err := b.run(ctx, op)
		if err != nil {
			return err
		}
		if answer.Failed || len(calls) == 0 {
			continue // the runtime does not know the version
		}
		asked++
		for _, verb := range []cni.Verb{cni.Check, cni.Status, cni.GC, cni.Del} {
			if b.runtime.Lacks(map[cni.Verb]Ability{
				cni.Check: CanCheck, cni.Status: CanStatus, cni.GC: CanGC,
			}[verb]) != "" {
				continue
			}
			op.Verb, op.Valid = verb, []string{op.Pod}
			_, calls, err := b.run(ctx, op)
			if err != nil {
				return err
			}
			if err := checkOldCalls(calls, version); err != nil {
				return err
			}
		}
	}
	if asked == 0 {
		return &exempt{"ADD fails in networks of 0.3.1 and 1.0.0: the runtime knows no version before " + Newest}
	}
	return nil
}

// checkOldCalls checks that calls have nothing that a version does not have.
func checkOldCalls(calls []call, version string) error {
	for _, c := range calls {
		if !cni.Verb(c.Verb).In(version) {
			return wrongf("%s is called in a network of %s, which has no %s", c.name(), version, c.Verb)
		}
		if _, there := c.config["prevResult"]; there && c.Verb == string(cni.Del) && version == "0.3.1" {
			return wrongf("%s gets a prevResult in a network of %s, which has none for DEL", c.name(), version)
		}
		if c.config["cniVersion"] != version {
			return wrongf("%s gets the cniVersion %v in a network of %s", c.name(), c.config["cniVersion"], version)
		}
	}
	return nil
}
