package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/offer"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

// chain is a chain of plugins on a node of its own; the one that does nothing is on that of the chain under test.
type chain struct {
	benchmark.Chain
	file     *conflist.File
	cluster  cluster.Cluster // nil if another chain owns it
	node     *cluster.Node
	conflist []byte
	binDirs  []string
	verbs    []cni.Verb
	desk     *offer.Desk
	// standing is how many attachments stay on the node, and size the number for which its calls count.
	standing, size int
	// namespaces are those of pods that are attached and detached again and again.
	namespaces []string
	made       int // containers
}

func (c *chain) close() {
	if c.cluster != nil {
		_ = c.cluster.Close()
		c.cluster = nil
	}
}

// out reports whether the chain is one of upstream's that took no more pods, and was measured until then.
func (c *chain) out() bool { return c.Role == benchmark.Beside && c.cluster == nil }

// verbsOf returns the verbs that a runtime calls for a file.
func verbsOf(f *conflist.File) []cni.Verb {
	if !cni.Check.In(version(f)) || f.DisableCheck {
		return []cni.Verb{cni.Add, cni.Del}
	}
	return []cni.Verb{cni.Add, cni.Check, cni.Del}
}

// room is how many more attachments the node's addresses allow; a large number if that is unknown.
func (c *chain) room() int {
	if c.node.PoolSize == 0 || c.Role == benchmark.Nothing {
		return 1 << 20
	}
	return c.node.PoolSize - c.standing
}

// pod describes a new container in a namespace.
func (c *chain) pod(netns string) agent.RoundPod {
	c.made++
	// As long as those of runtimes, and different at their beginning.
	p := agent.RoundPod{ContainerID: fmt.Sprintf("%08x%056x", c.made, c.made), Netns: netns, IfName: "eth0"}
	p.Args = [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "bench"}, {"K8S_POD_NAME", fmt.Sprintf("pod-%d", c.made)},
	}
	if way, _ := c.file.Brought(); way != "" {
		var brings offer.Offer
		brings.Bring(way, c.desk.Addresses(c.node.Name, c.node.PodAddresses, p.ContainerID, p.IfName))
		p.Args, p.CapabilityArgs = append(p.Args, brings.Args...), brings.Capabilities
	}
	return p
}

// giveBack takes back what the runtime gave to pods that are detached.
func (c *chain) giveBack(pods []agent.RoundPod) {
	for _, p := range pods {
		c.desk.Return(c.node.Name, p.ContainerID, p.IfName)
	}
}

func (c *chain) round(ctx context.Context, pods []agent.RoundPod, callers int, verbs ...cni.Verb) (
	[]agent.RoundVerb, error,
) {
	done, err := c.node.Agent.Round(ctx, agent.RoundArgs{
		Request: cni.Request{Conflist: c.conflist, BinDirs: c.binDirs}, Verbs: verbs, Pods: pods, Callers: callers,
	})
	if err != nil && ctx.Err() == nil {
		err = &CallError{c.Name, errors.New(strings.TrimPrefix(err.Error(), c.node.Name+": "))}
	}
	return done, err
}

// prepare makes namespaces for pods that are attached at the same time.
func (c *chain) prepare(ctx context.Context, pods int) error {
	for len(c.namespaces) < pods {
		path, err := c.node.Agent.CreateNamespace(ctx, fmt.Sprintf("%s-measured-%d", c.Role, len(c.namespaces)))
		if err != nil {
			return err
		}
		c.namespaces = append(c.namespaces, path)
	}
	return nil
}

// cycle attaches, checks and detaches pods, all at the same time.
func (c *chain) cycle(ctx context.Context, pods int) ([]agent.RoundVerb, error) {
	return c.cycleOf(ctx, pods, c.verbs...)
}

func (c *chain) cycleOf(ctx context.Context, pods int, verbs ...cni.Verb) ([]agent.RoundVerb, error) {
	if err := c.prepare(ctx, pods); err != nil {
		return nil, err
	}
	var list []agent.RoundPod
	for _, path := range c.namespaces[:pods] {
		list = append(list, c.pod(path))
	}
	defer c.giveBack(list)
	return c.round(ctx, list, pods, verbs...)
}

// fill attaches pods that stay, each in a namespace of its own, until there are as many as wanted or the time is over.
func (c *chain) fill(ctx context.Context, want int, until time.Time) error {
	const atOnce = 40
	for c.standing < want && c.Role != benchmark.Nothing && time.Now().Before(until) {
		pods := make([]agent.RoundPod, min(atOnce, want-c.standing))
		group, making := errgroup.WithContext(ctx)
		group.SetLimit(2 * runtime.NumCPU())
		for i := range pods {
			name := fmt.Sprintf("standing-%d", c.standing+i)
			group.Go(func() error {
				_, err := c.node.Agent.CreateNamespace(making, name)
				return err
			})
			pods[i] = c.pod(agent.NamespacePath(name))
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if _, err := c.round(ctx, pods, 2*runtime.NumCPU(), cni.Add); err != nil {
			return err
		}
		c.standing += len(pods)
	}
	c.size = want
	return nil
}

// upstream returns a conflist of one of upstream's plugins with addresses for as many pods as a node can have.
func upstream(plugin, version string) ([]byte, error) {
	subnet := map[string]string{"ptp": "10.231.0.0/16", "bridge": "10.232.0.0/16", "macvlan": "10.233.0.0/16"}[plugin]
	config := map[string]any{
		"type": plugin,
		"ipam": map[string]any{
			"type": "host-local", "ranges": []any{[]any{map[string]any{"subnet": subnet}}},
			"routes": []any{map[string]any{"dst": "0.0.0.0/0"}},
		},
	}
	switch plugin {
	case "macvlan":
		config["master"] = "eno1"
	case "bridge":
		config["bridge"], config["isGateway"] = "cni0", true
	}
	return list(plugin, version, config)
}

func list(name, version string, plugins ...map[string]any) ([]byte, error) {
	return json.Marshal(map[string]any{"cniVersion": version, "name": name, "plugins": plugins})
}
