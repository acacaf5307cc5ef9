package duty

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/cni"
)

func configuration() map[string]func(context.Context, *bench) error {
	return map[string]func(context.Context, *bench) error{
		"RUN-1": checkNames, "RUN-2": checkDisableCheck, "RUN-3": checkDisableGC, "RUN-4": checkFolder,
		"RUN-5": checkInlined, "RUN-6": checkOtherFolder, "RUN-7": checkEveryObject, "RUN-8": checkStrangeKeys,
		"RUN-9": checkNumbers, "RUN-10": checkHighestVersion,
	}
}

func checkNames(ctx context.Context, b *bench) error {
	named := func(name string) (Answer, []call, error) {
		c := b.newChain(b.version)
		c.list["name"] = name
		if err := b.use(ctx, c); err != nil {
			return Answer{}, nil, err
		}
		return b.run(ctx, Operation{Verb: cni.Add, Network: name, Pod: b.pod("a")})
	}
	const good = "9a_.-Z"
	answer, calls, err := named(good)
	switch {
	case err != nil:
		return err
	case answer.Failed, !slices.Equal(placesOf(calls, cni.Add), inOrder):
		return wrongf("ADD in the network %q, whose name is allowed, calls %s: %s", good,
			listed(placesOf(calls, cni.Add)),
			answer.Text)
	}
	for _, bad := range []string{"_net", "a/b", "a b", "../net", "nét"} {
		answer, calls, err := named(bad)
		switch {
		case err != nil:
			return err
		case len(calls) > 0:
			return wrongf("ADD in the network %q, whose name is not allowed, calls %s", bad,
				listed(placesOf(calls, cni.Add)))
		case !answer.Failed:
			return wrongf("ADD in the network %q, whose name is not allowed, succeeds", bad)
		}
	}
	return nil
}

func checkDisableCheck(ctx context.Context, b *bench) error {
	answer, calls, err := b.disabled(ctx, "disableCheck", cni.Check, CanCheck)
	if err == nil && answer.Failed && len(calls) == 0 {
		return wrongf("CHECK with disableCheck fails, want a success: %s", answer.Text)
	}
	return err
}

func checkDisableGC(ctx context.Context, b *bench) error {
	_, _, err := b.disabled(ctx, "disableGC", cni.GC, CanGC)
	return err
}

// disabled asks for a verb in a network with a key that switches it off.
func (b *bench) disabled(ctx context.Context, key string, verb cni.Verb, ability Ability) (Answer, []call, error) {
	if err := b.need(ability); err != nil {
		return Answer{}, nil, err
	}
	c := b.newChain(b.version)
	c.list[key] = true
	if err := b.use(ctx, c); err != nil {
		return Answer{}, nil, err
	}
	op := Operation{Pod: b.pod("a")}
	if _, err := b.add(ctx, op); err != nil {
		return Answer{}, nil, err
	}
	op.Verb, op.Valid = verb, []string{op.Pod}
	answer, calls, err := b.run(ctx, op)
	if calls = only(calls, verb); err == nil && len(calls) > 0 {
		err = wrongf("%s with %s calls %s, want none", verb, key, listed(placesOf(calls, verb)))
	}
	return answer, calls, err
}

// withFolder returns a chain whose last plugin is in the folder of the network.
func (b *bench) withFolder() *chain {
	c := b.newChain(b.version)
	c.folders = map[string][]map[string]any{b.network: {c.plugins[2]}}
	c.plugins = c.plugins[:2]
	return c
}

func (b *bench) places(ctx context.Context, c *chain) ([]string, error) {
	if err := b.use(ctx, c); err != nil {
		return nil, err
	}
	answer, calls, err := b.run(ctx, Operation{Verb: cni.Add, Pod: b.pod("a")})
	switch {
	case err != nil:
		return nil, err
	case answer.Failed:
		return nil, wrongf("ADD of a network with a folder of plugins fails: %s", answer.Text)
	}
	return placesOf(calls, cni.Add), nil
}

func checkFolder(ctx context.Context, b *bench) error {
	if err := b.need(TakesFolder); err != nil {
		return err
	}
	places, err := b.places(ctx, b.withFolder())
	switch {
	case err != nil:
		return err
	case slices.Equal(places, inOrder[:2]):
		return &exempt{"the runtime calls the plugins of the file alone, which it may"}
	case !slices.Equal(places, inOrder):
		return wrongf("ADD calls %s, want first and middle, which are in the file, and then last, which is in the "+
			"folder",
			listed(places))
	}
	return nil
}

func checkInlined(ctx context.Context, b *bench) error {
	c := b.withFolder()
	c.list["loadOnlyInlinedPlugins"] = true
	if b.runtime.Lacks(TakesFolder) == "" {
		places, err := b.places(ctx, c)
		switch {
		case err != nil:
			return err
		case !slices.Equal(places, inOrder[:2]):
			return wrongf("ADD with loadOnlyInlinedPlugins calls %s, want first and middle, which are in the file, "+
				"and not "+
				"last, which is in the folder", listed(places))
		}
	}
	c.plugins = nil
	if err := b.use(ctx, c); err != nil {
		return err
	}
	answer, calls, err := b.run(ctx, Operation{Verb: cni.Add, Pod: b.pod("b")})
	switch {
	case err != nil:
		return err
	case !answer.Failed, len(calls) > 0:
		return wrongf("ADD with loadOnlyInlinedPlugins and no plugins calls %s and fails: %v, want a failure without "+
			"a call",
			listed(placesOf(calls, cni.Add)), answer.Failed)
	}
	return nil
}

func checkOtherFolder(ctx context.Context, b *bench) error {
	if err := b.need(TakesFolder); err != nil {
		return err
	}
	c := b.withFolder()
	c.folders[b.network+"-other"] = []map[string]any{b.plugin("other", b.version)}
	places, err := b.places(ctx, c)
	switch {
	case err != nil:
		return err
	case slices.Contains(places, "other"):
		return wrongf("ADD calls %s: the plugin other is in the folder of another network", listed(places))
	}
	return nil
}

func checkEveryObject(ctx context.Context, b *bench) error {
	c := b.newChain(b.version)
	if err := b.use(ctx, c); err != nil {
		return err
	}
	if _, err := b.add(ctx, Operation{Pod: b.pod("a")}); err != nil {
		return err
	}
	delete(c.plugins[1], "type")
	if err := b.use(ctx, c); err != nil {
		return err
	}
	answer, calls, err := b.run(ctx, Operation{Verb: cni.Add, Pod: b.pod("b")})
	switch {
	case err != nil:
		return err
	case len(calls) > 0:
		return wrongf("ADD in a network whose second plugin object has no type calls %s",
			listed(placesOf(calls, cni.Add)))
	case !answer.Failed:
		return wrongf("ADD in a network whose second plugin object has no type succeeds")
	}
	return nil
}

// strangeKeys are keys of every type of JSON.
const strangeKeys = `{"object": {"list": [1, "two", null, [], {}], "é<&>": "\u2028"}, "null": null, "false": false,
"empty": "", "none": [], "number": 0.25, "ipam": {"type": "pool", "of": ["x"]}, "isGateway": true}`

func checkStrangeKeys(ctx context.Context, b *bench) error {
	var strange map[string]any
	if err := decode([]byte(strangeKeys), &strange); err != nil {
		return err
	}
	return b.passesOn(ctx, strange, cmp.Equal)
}

func checkNumbers(ctx context.Context, b *bench) error {
	numbers := map[string]any{"odd": json.Number("9007199254740993"), "unsigned": json.Number("18446744073709551615")}
	return b.passesOn(ctx, numbers, func(a, b any, _ ...cmp.Option) bool {
		x, ok := new(big.Rat).SetString(fmt.Sprint(a))
		y, ok2 := new(big.Rat).SetString(fmt.Sprint(b))
		return ok && ok2 && x.Cmp(y) == 0
	})
}

// passesOn checks that every verb passes keys on.
func (b *bench) passesOn(ctx context.Context, keys map[string]any, equal func(a, b any, _ ...cmp.Option) bool) error {
	c := b.newChain(b.version)
	for _, p := range c.plugins {
		for key, value := range keys {
			p[key] = value
		}
	}
	if err := b.use(ctx, c); err != nil {
		return err
	}
	calls, err := b.life(ctx, Operation{Pod: b.pod("a")})
	if err != nil {
		return err
	}
	for _, c := range calls {
		for key, want := range keys {
			if got, there := c.config[key]; !there {
				return wrongf("%s gets no key %q, which its object has", c.name(), key)
			} else if !equal(want, got) {
				return wrongf("%s gets %q: %s, want %s as in its object", c.name(), key, inJSON(got), inJSON(want))
			}
		}
	}
	return nil
}

func inJSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func checkHighestVersion(ctx context.Context, b *bench) error {
	// The order in the key is not that of the versions.
	offered, known := []string{"0.4.0", "1.1.0", "0.3.1", "1.0.0"}, ""
	for _, v := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		got, err := b.versionOf(ctx, b.newChain(v), v)
		switch {
		case err != nil:
			return err
		case got == v:
			known = v
		}
	}
	if known == "" {
		return wrongf("ADD fails, or calls plugins with another version, in networks of 0.3.1, 0.4.0, 1.0.0 and 1.1.0")
	}
	c := b.newChain(known)
	c.list["cniVersion"], c.list["cniVersions"] = "0.3.1", append(offered, "7.0.0")
	got, err := b.versionOf(ctx, c, "all")
	if err == nil && got != known {
		return wrongf("a network with cniVersion 0.3.1 and cniVersions 0.4.0, 1.1.0, 0.3.1, 1.0.0 and 7.0.0 is used "+
			"with %q, "+
			"want %s, which is the highest that the runtime knows", got, known)
	}
	return err
}

// versionOf returns the version with which ADD of a pod calls the first plugin; empty if ADD fails or calls none.
func (b *bench) versionOf(ctx context.Context, c *chain, pod string) (string, error) {
	if err := b.use(ctx, c); err != nil {
		return "", err
	}
	answer, calls, err := b.run(ctx, Operation{Verb: cni.Add, Pod: b.pod(pod)})
	if err != nil || answer.Failed || len(calls) == 0 {
		return "", err
	}
	version, _ := calls[0].config["cniVersion"].(string)
	return version, nil
}
