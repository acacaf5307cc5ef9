package duty

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
)

func lifecycle() map[string]func(context.Context, *bench) error {
	return map[string]func(context.Context, *bench) error{
		"RUN-18": checkTwice, "RUN-19": checkResultOfDel, "RUN-20": checkReverse, "RUN-21": checkNoSubstitute,
		"RUN-22": checkOutside, "RUN-23": checkResultOfCheck, "RUN-24": checkSameParameters, "RUN-28": checkEveryAdd,
		"RUN-29": checkSandbox, "RUN-30": checkMissingProgram, "RUN-31": checkRestart,
	}
}

// begin attaches a pod to a network of three plugins.
func (b *bench) begin(ctx context.Context) (op Operation, calls []call, err error) {
	op.Pod = b.pod("a")
	if err := b.use(ctx, b.newChain(b.version)); err != nil {
		return op, nil, err
	}
	calls, err = b.add(ctx, op)
	return op, calls, err
}

func checkTwice(ctx context.Context, b *bench) error {
	op, before, err := b.begin(ctx)
	if err != nil {
		return err
	}
	op.Verb = cni.Add
	_, calls, err := b.run(ctx, op)
	for _, c := range only(calls, cni.Add) {
		if c.value("CNI_CONTAINERID") == before[0].value("CNI_CONTAINERID") &&
			c.value("CNI_IFNAME") == before[0].value("CNI_IFNAME") {
			return b.leftf("a second ADD of a pod that is attached calls %s", listed(placesOf(calls, cni.Add)))
		}
	}
	return err
}

// checkPrevious checks that calls have a result as prevResult.
func checkPrevious(calls []call, want []byte) error {
	expected, err := cni.ParseResult(want)
	if err != nil {
		return err
	}
	for _, c := range calls {
		previous, there := c.config["prevResult"]
		if !there {
			return wrongf("%s gets no prevResult", c.name())
		}
		got, err := cni.ParseResult([]byte(inJSON(previous)))
		if err != nil {
			return wrongf("%s gets a prevResult that is no result: %v", c.name(), err)
		}
		if inJSON(got) != inJSON(expected) {
			return wrongf("%s gets the prevResult %s, want %s", c.name(), inJSON(previous), want)
		}
	}
	return nil
}

func checkResultOfDel(ctx context.Context, b *bench) error {
	op, _, err := b.begin(ctx)
	if err != nil {
		return err
	}
	calls, err := b.deletes(ctx, op, "DEL of a pod that is attached")
	if err != nil {
		return err
	}
	first := calls[:min(len(inOrder), len(calls))]
	if err := checkPrevious(first, resultOf(last, b.version)); err != nil {
		return err
	}
	if err := checkPrevious(calls[len(first):], resultOf(last, b.version)); err != nil {
		return wrongf("DEL is called again, and then %s", err.Error())
	}
	return nil
}

// deletes returns the calls of DEL of a pod, which what describes.
func (b *bench) deletes(ctx context.Context, op Operation, what string) ([]call, error) {
	op.Verb = cni.Del
	_, calls, err := b.run(ctx, op)
	if calls = only(calls, cni.Del); err == nil && len(calls) == 0 {
		err = wrongf("%s calls no plugin", what)
	}
	return calls, err
}

func checkReverse(ctx context.Context, b *bench) error {
	op, _, err := b.begin(ctx)
	if err != nil {
		return err
	}
	op.Verb = cni.Del
	_, err = b.must(ctx, op, reversed)
	return err
}

func checkNoSubstitute(ctx context.Context, b *bench) error {
	op, _, err := b.begin(ctx)
	if err != nil {
		return err
	}
	op.Verb = cni.Del
	_, calls, err := b.run(ctx, op)
	if gc := placesOf(calls, cni.GC); err == nil && len(gc) > 0 && len(only(calls, cni.Del)) < len(inOrder) {
		return wrongf("DEL of a pod calls GC of %s, and DEL of %s", listed(gc), listed(placesOf(calls, cni.Del)))
	}
	return err
}

func checkOutside(ctx context.Context, b *bench) error {
	if err := b.need(CanCheck); err != nil {
		return err
	}
	if err := b.use(ctx, b.newChain(b.version)); err != nil {
		return err
	}
	_, calls, err := b.run(ctx, Operation{Verb: cni.Check, Pod: b.pod("never")})
	if err != nil {
		return err
	}
	if checked := placesOf(calls, cni.Check); len(checked) > 0 {
		return b.leftf("CHECK of a pod that was never attached calls %s", listed(checked))
	}
	op := Operation{Pod: b.pod("a")}
	if _, err := b.add(ctx, op); err != nil {
		return err
	}
	op.Verb = cni.Del
	if _, err := b.must(ctx, op, reversed); err != nil {
		return err
	}
	op.Verb = cni.Check
	_, calls, err = b.run(ctx, op)
	if checked := placesOf(calls, cni.Check); err == nil && len(checked) > 0 {
		return b.leftf("CHECK of a pod that was deleted calls %s", listed(checked))
	}
	return err
}

func checkResultOfCheck(ctx context.Context, b *bench) error {
	if err := b.need(CanCheck); err != nil {
		return err
	}
	op, _, err := b.begin(ctx)
	if err != nil {
		return err
	}
	// The second time the last plugin returns what the middle one does.
	for _, want := range []string{last, middle} {
		op.Verb = cni.Check
		calls, err := b.must(ctx, op, inOrder)
		if err != nil {
			return err
		}
		if err := checkPrevious(calls, resultOf(want, b.version)); err != nil || want == middle {
			return err
		}
		op.Verb = cni.Del
		if _, err := b.must(ctx, op, reversed); err != nil {
			return err
		}
		c := b.newChain(b.version)
		c.plugins[2][stub.Key].(stub.Orders).On[string(cni.Add)] = stub.Behaviour{Result: resultOf(middle, b.version)}
		if err := b.use(ctx, c); err != nil {
			return err
		}
		if _, err := b.add(ctx, op); err != nil {
			return err
		}
	}
	return nil
}

// capable makes the plugins of a chain declare capabilities.
func (c *chain) capable() {
	c.plugins[0]["capabilities"] = map[string]any{"portMappings": true, "bandwidth": false}
	c.plugins[1]["capabilities"] = map[string]any{"mac": true}
}

// capabilityArgs are arguments for more capabilities than plugins of a chain declare.
func capabilityArgs() map[string]any {
	return map[string]any{
		"portMappings": []any{map[string]any{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}},
		"mac":          "02:00:00:00:00:01", "bandwidth": map[string]any{"ingressRate": 1000},
	}
}

func checkSameParameters(ctx context.Context, b *bench) error {
	if err := b.need(CanCheck); err != nil {
		return err
	}
	c := b.newChain(b.version)
	c.capable()
	if err := b.use(ctx, c); err != nil {
		return err
	}
	op := Operation{Pod: b.pod("a"), Args: [][2]string{{"K8S_POD_NAME", "web-0"}}, Capabilities: capabilityArgs()}
	added, err := b.add(ctx, op)
	if err != nil {
		return err
	}
	op.Verb = cni.Check
	checked, err := b.must(ctx, op, inOrder)
	if err != nil {
		return err
	}
	for i, c := range checked {
		if diff := cmp.Diff(parametersOf(added[i]), parametersOf(c)); diff != "" {
			return wrongf("%s gets other parameters than ADD (- ADD, + CHECK):\n%s", c.name(), diff)
		}
		was, is := maps.Clone(added[i].config), maps.Clone(c.config)
		delete(was, "prevResult")
		delete(is, "prevResult")
		if diff := cmp.Diff(was, is); diff != "" {
			return wrongf("%s gets another configuration than ADD (- ADD, + CHECK):\n%s", c.name(), diff)
		}
	}
	return nil
}

// parametersOf returns the variables of an attachment, sorted.
func parametersOf(c call) []string {
	var list []string
	for _, e := range c.Env {
		name, value, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, "CNI_") && name != "CNI_COMMAND" && name != "CNI_PATH" && value != "" {
			list = append(list, e)
		}
	}
	slices.Sort(list)
	return list
}

func checkEveryAdd(ctx context.Context, b *bench) error {
	if err := checkFailedAdd(ctx, b); err != nil || b.runtime.Lacks(TakesFolder) != "" {
		return err
	}
	return checkOtherFirst(ctx, b)
}

// checkOtherFirst deletes a pod when the file of another network has come before that of its own.
func checkOtherFirst(ctx context.Context, b *bench) error {
	c := b.newChain(b.version)
	if err := b.use(ctx, c); err != nil {
		return err
	}
	op := Operation{Pod: b.pod("b")}
	if _, err := b.add(ctx, op); err != nil {
		return err
	}
	c.before = map[string]any{
		"cniVersion": b.version, "name": b.network + "-other", "plugins": []any{b.plugin("other", b.version)},
	}
	if err := b.use(ctx, c); err != nil {
		return err
	}
	op.Verb = cni.Del
	_, calls, err := b.run(ctx, op)
	if err != nil {
		return err
	}
	if deleted := placesOf(calls, cni.Del); len(deleted) < len(reversed) || !slices.Equal(deleted[:3], reversed) {
		return wrongf("DEL of a pod, after the file of another network came before its own, was called of %s; want %s",
			listed(deleted), listed(reversed))
	}
	return nil
}

func checkFailedAdd(ctx context.Context, b *bench) error {
	c := b.newChain(b.version)
	c.order(middle, cni.Add, stub.Behaviour{Code: 100, Msg: "middle says no"})
	if err := b.use(ctx, c); err != nil {
		return err
	}
	op := Operation{Verb: cni.Add, Pod: b.pod("a")}
	answer, before, err := b.run(ctx, op)
	switch {
	case err != nil:
		return err
	case !answer.Failed:
		return wrongf("ADD succeeds although its second plugin fails")
	}
	// A runtime may call DEL before somebody deletes the pod.
	op.Verb = cni.Del
	_, after, err := b.run(ctx, op)
	if err != nil {
		return err
	}
	all := append(before, after...)
	if deleted := placesOf(all, cni.Del); len(deleted) < len(reversed) || !slices.Equal(deleted[:3], reversed) {
		return wrongf("after an ADD whose second plugin fails, and DEL of the pod, DEL was called of %s; want %s",
			listed(deleted), listed(reversed))
	}
	return nil
}

func checkSandbox(ctx context.Context, b *bench) error {
	if err := b.use(ctx, b.newChain(b.version)); err != nil {
		return err
	}
	owner := map[string]string{}
	for _, pod := range []string{b.pod("a"), b.pod("b")} {
		calls, err := b.add(ctx, Operation{Pod: pod})
		if err != nil {
			return err
		}
		for _, c := range calls {
			switch path := c.value("CNI_NETNS"); {
			case c.Sandbox == "":
				return wrongf("%s gets CNI_NETNS=%s, where there is no network namespace", c.name(), path)
			case c.Sandbox == c.Netns:
				return wrongf("%s gets CNI_NETNS=%s, which is the runtime's own network namespace", c.name(), path)
			case owner[c.Sandbox] != "" && owner[c.Sandbox] != pod:
				return wrongf("%s gets CNI_NETNS=%s for %s, which is the network namespace of %s", c.name(), path, pod,
					owner[c.Sandbox])
			}
			owner[c.Sandbox] = pod
		}
	}
	return nil
}

// vanishing is a plugin that runs a stub, and can be removed.
const vanishing = "cnitest-vanishing"

func checkMissingProgram(ctx context.Context, b *bench) error {
	program := agent.File{
		Path: stub.Dir + "/" + vanishing, Mode: 0o755,
		Data: []byte("#!/bin/sh\nexec " + stub.Dir + "/" + stub.Chained + "\n"),
	}
	if err := b.agent.WriteFile(ctx, program); err != nil {
		return err
	}
	c := b.newChain(b.version)
	c.plugins[1]["type"] = vanishing
	if err := b.use(ctx, c); err != nil {
		return err
	}
	op := Operation{Pod: b.pod("a")}
	if _, err := b.add(ctx, op); err != nil {
		return err
	}
	if err := b.agent.RemoveFile(ctx, program.Path); err != nil {
		return err
	}
	// GC may delete the pod before: it is last but one, and ADD of another pod the last.
	var order []cni.Verb
	for _, t := range b.verbs() {
		if t.verb != cni.Add && t.verb != cni.Status {
			order = append(order, t.verb)
		}
	}
	for _, verb := range append(order, cni.Add) {
		op.Verb, op.Valid = verb, []string{op.Pod}
		if verb == cni.Add {
			op.Pod = b.pod("b")
		}
		answer, _, err := b.run(ctx, op)
		switch {
		case err != nil:
			return err
		case !answer.Failed:
			return wrongf("%s succeeds although the program of the second plugin is missing", verb)
		}
	}
	return nil
}

func checkRestart(ctx context.Context, b *bench) error {
	if err := b.need(Restarts); err != nil {
		return err
	}
	op, _, err := b.begin(ctx)
	if err != nil {
		return err
	}
	if err := b.runtime.Restart(ctx); err != nil {
		return err
	}
	calls, err := b.deletes(ctx, op, "DEL after a restart")
	if err != nil {
		return err
	}
	// What a runtime keeps after a first DEL has nothing to do with its restart.
	return checkPrevious(calls[:min(len(inOrder), len(calls))], resultOf(last, b.version))
}
