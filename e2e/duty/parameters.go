package duty

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
)

func parameters() map[string]func(context.Context, *bench) error {
	return map[string]func(context.Context, *bench) error{
		"RUN-11": checkNamespace, "RUN-12": checkContainerID, "RUN-13": checkVariables, "RUN-14": checkNetworkVariables,
		"RUN-15": checkPath, "RUN-16": checkArguments, "RUN-17": checkInput,
	}
}

// Name and arguments of plainLife, as far as the runtime takes them.
const plainName = "net7"

var plainArgs = [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAME", "web-0"}}

// plainLife returns the calls for a pod that is attached to a network of three plugins, asked everything about, and
// deleted. Several duties look at the same calls; the first has the runtime asked.
func (b *bench) plainLife(ctx context.Context) ([]call, error) {
	p := b.plain
	if !p.asked {
		p.asked, p.network, p.log = true, b.network, b.log
		op := Operation{Pod: b.pod("a")}
		if b.runtime.Lacks(TakesName) == "" {
			op.IfName = plainName
		}
		if b.runtime.Lacks(TakesArgs) == "" {
			op.Args = plainArgs
		}
		if p.err = b.use(ctx, b.newChain(b.version)); p.err == nil {
			p.calls, p.err = b.life(ctx, op)
		}
		p.told = b.told
	}
	// What was seen then is the evidence.
	b.network, b.log, b.told = p.network, p.log, p.told
	return p.calls, p.err
}

// plain is the life of a pod that several duties look at.
type plain struct {
	asked        bool
	network, log string
	told         []string
	calls        []call
	err          error
}

func checkNamespace(ctx context.Context, b *bench) error {
	calls, err := b.plainLife(ctx)
	if err != nil {
		return err
	}
	own := &bench{network: b.network, log: b.log + "-own", agent: b.agent}
	if _, err := b.agent.Plugin(ctx, agent.PluginArgs{
		Plugin: stub.Chained, BinDirs: []string{stub.Dir}, Env: []string{"CNI_COMMAND=STATUS"},
		Stdin: []byte(inJSON(own.plugin(first, b.version))),
	}); err != nil {
		return err
	}
	control, err := own.all(ctx)
	if err != nil {
		return err
	}
	for _, c := range calls {
		if c.Netns != control[0].Netns {
			return wrongf("%s runs in another network namespace than the node's", c.name())
		}
	}
	return nil
}

// identifier is the grammar of container ids.
var identifier = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`)

func checkContainerID(ctx context.Context, b *bench) error {
	if err := b.use(ctx, b.newChain(b.version)); err != nil {
		return err
	}
	owner := map[string]string{}
	for _, pod := range []string{b.pod("a"), b.pod("b")} {
		calls, err := b.add(ctx, Operation{Pod: pod})
		if err != nil {
			return err
		}
		deleted, err := b.must(ctx, Operation{Verb: cni.Del, Pod: pod}, reversed)
		if err != nil {
			return err
		}
		for _, c := range append(calls, deleted...) {
			id := c.value("CNI_CONTAINERID")
			switch {
			case !identifier.MatchString(id):
				return wrongf("%s gets CNI_CONTAINERID=%s, which is not allowed", c.name(), id)
			case owner[id] != "" && owner[id] != pod:
				return wrongf("%s gets CNI_CONTAINERID=%s for the pod %s, as for %s", c.name(), id, pod, owner[id])
			}
			owner[id] = pod
		}
	}
	if b.runtime.Lacks(TakesID) != "" {
		return nil
	}
	for _, id := range []string{"a/b", "-a", "a b", "_"} {
		answer, calls, err := b.run(ctx, Operation{Verb: cni.Add, Pod: b.pod("c"), ContainerID: id})
		switch {
		case err != nil:
			return err
		case len(calls) > 0, !answer.Failed:
			return wrongf("ADD with the container id %q, which is not allowed, calls %s and fails: %v", id,
				listed(placesOf(calls, cni.Add)), answer.Failed)
		}
	}
	return nil
}

// attached returns the calls that concern an attachment.
func attached(calls []call) []call {
	return slices.DeleteFunc(slices.Clone(calls), func(c call) bool {
		return c.Verb == string(cni.GC) || c.Verb == string(cni.Status)
	})
}

func checkVariables(ctx context.Context, b *bench) error {
	calls, err := b.plainLife(ctx)
	if err != nil {
		return err
	}
	names := []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}
	deleted := map[string]bool{}
	for _, c := range attached(calls) {
		again := deleted[c.place]
		deleted[c.place] = again || c.Verb == string(cni.Del)
		for _, variable := range names {
			got, want := c.value(variable), calls[0].value(variable)
			if variable == "CNI_IFNAME" && b.runtime.Lacks(TakesName) == "" {
				want = plainName
			}
			switch {
			case got == "" && variable == "CNI_NETNS" && again:
				// The namespace may be gone: DEL can do without (SPEC.md, section 2, DEL).
			case got == "":
				return wrongf("%s gets no %s", c.name(), variable)
			case got != want:
				return wrongf("%s gets %s=%s, want %s as the attachment has", c.name(), variable, got, want)
			}
		}
	}
	// must found the calls of each verb by its CNI_COMMAND.
	all, err := b.all(ctx)
	for _, c := range all {
		if c.Verb == "" {
			return wrongf("a plugin is called without CNI_COMMAND")
		}
	}
	return err
}

func checkNetworkVariables(ctx context.Context, b *bench) error {
	if b.runtime.Lacks(CanGC) != "" {
		if err := b.need(CanStatus); err != nil {
			return err
		}
	}
	calls, err := b.plainLife(ctx)
	if err != nil {
		return err
	}
	for _, c := range calls {
		if len(attached([]call{c})) > 0 {
			continue
		}
		if c.Verb == string(cni.GC) && c.value("CNI_PATH") == "" {
			return wrongf("%s gets no CNI_PATH", c.name())
		}
		for _, variable := range []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"} {
			if value := c.value(variable); value != "" {
				return wrongf("%s gets %s=%s, and it concerns no attachment", c.name(), variable, value)
			}
		}
	}
	return nil
}

func checkPath(ctx context.Context, b *bench) error {
	calls, err := b.plainLife(ctx)
	if err != nil {
		return err
	}
	for _, c := range calls {
		if !slices.Contains(filepath.SplitList(c.value("CNI_PATH")), stub.Dir) {
			return wrongf("%s gets CNI_PATH=%s, want %s in it, where the runtime found the plugin", c.name(),
				c.value("CNI_PATH"), stub.Dir)
		}
	}
	return nil
}

func checkArguments(ctx context.Context, b *bench) error {
	if err := b.need(TakesArgs); err != nil {
		return err
	}
	calls, err := b.plainLife(ctx)
	if err != nil {
		return err
	}
	want := strings.Split(pairs(plainArgs), ";")
	for _, c := range attached(calls) {
		got := strings.Split(c.value("CNI_ARGS"), ";")
		if slices.Sort(got); !slices.Equal(got, want) {
			return wrongf("%s gets CNI_ARGS=%s, want %s", c.name(), c.value("CNI_ARGS"), pairs(plainArgs))
		}
	}
	return nil
}

func checkInput(ctx context.Context, b *bench) error {
	calls, err := b.plainLife(ctx)
	if err != nil {
		return err
	}
	for _, c := range calls {
		if c.config["type"] != stub.Chained {
			return wrongf("%s gets an input with the type %v, want %s", c.name(), c.config["type"], stub.Chained)
		}
	}
	return nil
}
