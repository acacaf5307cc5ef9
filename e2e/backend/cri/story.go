package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Stories returns the scenarios of what a runtime does by itself.
func (b *Backend) Stories() []cluster.Story { return Stories() }

// Stories returns all stories of the backend.
func Stories() []cluster.Story {
	tell := func(run func(l *lab, ctx context.Context) error) func(context.Context, cluster.Cluster) error {
		return func(ctx context.Context, c cluster.Cluster) error { return run(c.(*lab), ctx) }
	}
	return []cluster.Story{
		{
			Name: "runtime-add-fails", Features: []scenario.Feature{scenario.Attach, scenario.CleanUp},
			Covers: []string{"F02", "F04", "E09"},
			Description: "Another plugin of the chain refuses a pod twice: containerd calls DEL each time, without a " +
				"result of ADD, and the third sandbox works.",
			Run: tell((*lab).addFails),
		},
		{
			Name: "runtime-killed-in-add", Features: []scenario.Feature{scenario.Attach, scenario.CleanUp},
			Covers: []string{"F03", "E09"},
			Description: "containerd is killed while it waits for an ADD, and started again: other pods do not " +
				"notice, and what the plugins made for the pod goes when its sandbox is removed.",
			Run: tell((*lab).killedInAdd),
		},
		{
			Name: "runtime-status-polled", Features: []scenario.Feature{scenario.Attach},
			Covers: []string{"G07"},
			Description: "containerd is asked for its status all the time, as kubelets do, and asks the plugins: the " +
				"network is ready each time, while pods come and go.",
			Run: tell((*lab).statusPolled),
		},
	}
}

// stubLog is a directory in which the stubs of a story record their calls.
const stubLog = stateDir + "/cnitest-stub"

// withStub adds a plugin to the end of the first node's chain, while do runs.
func (l *lab) withStub(ctx context.Context, orders stub.Orders, do func() error) error {
	node := l.Nodes()[0]
	var list map[string]any
	if err := json.Unmarshal(node.Conflist, &list); err != nil {
		return err
	}
	plugins, _ := list["plugins"].([]any)
	orders.Log = stubLog
	list["plugins"] = append(slices.Clone(plugins), map[string]any{"type": stub.Chained, stub.Key: orders})
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := l.configure(ctx, node, text); err != nil {
		return err
	}
	err = do()
	return errors.Join(err, l.configure(context.WithoutCancel(ctx), node, node.Conflist))
}

// configure replaces the conflist of a node and waits until containerd has read it.
func (l *lab) configure(ctx context.Context, node *cluster.Node, text []byte) error {
	name := path.Join(netns.ConflistDir, netns.ConflistName)
	if err := node.Agent.WriteFile(ctx, agent.File{Path: name, Mode: 0o644, Data: text}); err != nil {
		return err
	}
	c := l.runtimeOf(node)
	ctx, cancel := context.WithTimeout(ctx, lostTimeout)
	defer cancel()
	return c.poll(ctx, "containerd does not read "+name, func() (bool, error) {
		reply, err := c.api.Status(ctx, &criapi.StatusRequest{Verbose: true})
		if err != nil {
			return false, c.failed("Status", err)
		}
		var known struct {
			Networks []struct{ Config struct{ Source string } }
		}
		if err := json.Unmarshal([]byte(reply.GetInfo()["cniconfig"]), &known); err != nil {
			return false, err
		}
		return slices.ContainsFunc(known.Networks, func(n struct{ Config struct{ Source string } }) bool {
			return n.Config.Source == string(text)
		}), nil
	})
}

// pair are two pods of the first node, of which one answers the other.
type pair struct {
	from, to *cluster.Place
	address  netip.Addr
}

// storyPort is the port on which pods of stories answer.
const storyPort = 8080

// attachPair attaches two pods, and checks that one answers the other.
func (l *lab) attachPair(ctx context.Context, names ...string) (*pair, error) {
	node := l.Nodes()[0]
	var places []*cluster.Place
	var p pair
	for _, name := range names {
		a, err := l.Attach(ctx, node, name)
		if err != nil {
			return nil, err
		}
		places = append(places, &cluster.Place{Name: "pod/" + name, Agent: node.Agent, Netns: a.Netns})
		result, err := cni.ParseResult(a.Result)
		if err != nil {
			return nil, err
		}
		for _, ip := range result.IPs {
			p.address, _ = netip.AddrFromSlice(ip.Address.IP)
			p.address = p.address.Unmap()
		}
	}
	p.from, p.to = places[0], places[1]
	if !p.address.IsValid() {
		return nil, fmt.Errorf("%s: the result of ADD has no address", p.to.Name)
	}
	if err := node.Agent.Listen(ctx, p.to.Netns, probe.ListenSpec{
		Protocol: probe.TCP, Port: storyPort, Name: p.to.Name,
	}); err != nil {
		return nil, err
	}
	return &p, p.answers(ctx, "at first")
}

// answers checks that the pod still answers.
func (p *pair) answers(ctx context.Context, when string) error {
	result, err := p.from.Agent.Probe(ctx, p.from.Netns, probe.Spec{
		Protocol: probe.TCP, To: p.address.String(), Port: storyPort, Within: 5 * time.Second,
	})
	if err == nil && !result.OK {
		err = errors.New(result.Error)
	}
	if err != nil {
		return fmt.Errorf("%s asks %s at %s %s: %w", p.from.Name, p.to.Name, p.address, when, err)
	}
	return nil
}

// detachPair deletes pods of a pair.
func (l *lab) detachPair(ctx context.Context, p *pair, names ...string) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	if p != nil {
		errs = append(errs, p.to.Agent.Unlisten(ctx, p.to.Netns))
	}
	for _, name := range names {
		errs = append(errs, l.Detach(ctx, name))
	}
	return errors.Join(errs...)
}

func (l *lab) addFails(ctx context.Context) (err error) {
	const says = "the last plugin of the chain says no"
	var p *pair
	err = l.withStub(ctx, stub.Orders{On: map[string]stub.Behaviour{
		string(cni.Add): {Code: 11, Msg: says, Times: 2},
	}}, func() error {
		for range 2 {
			_, err := l.Attach(ctx, l.Nodes()[0], "refused")
			if err == nil || !strings.Contains(err.Error(), says) {
				return fmt.Errorf("want that %s, got %w", says, err)
			}
			// A kubelet removes what is left of the sandbox before it makes another one.
			if err := l.Detach(ctx, "refused"); err != nil {
				return err
			}
		}
		p, err = l.attachPair(ctx, "asker", "refused")
		return err
	})
	return errors.Join(err, l.detachPair(ctx, p, "asker", "refused"))
}

func (l *lab) killedInAdd(ctx context.Context) (err error) {
	node, c := l.Nodes()[0], l.runtimes[0]
	p, err := l.attachPair(ctx, "asker", "steady")
	defer func() { err = errors.Join(err, l.detachPair(ctx, p, "asker", "steady")) }()
	if err != nil {
		return err
	}
	err = l.withStub(ctx, stub.Orders{On: map[string]stub.Behaviour{string(cni.Add): {Hang: true}}}, func() error {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = l.Attach(ctx, node, "cut-off")
		}()
		err := c.poll(ctx, "no ADD of the last plugin", func() (bool, error) {
			records, err := node.Agent.StubRecords(ctx, stubLog)
			return slices.ContainsFunc(records, func(r stub.Record) bool { return r.Verb == string(cni.Add) }), err
		})
		err = errors.Join(err, c.Kill(ctx))
		<-ended
		if err != nil {
			return err
		}
		if err := p.answers(ctx, "while no containerd runs"); err != nil {
			return err
		}
		return c.Up(ctx)
	})
	if err != nil {
		return err
	}
	known, err := c.Sandboxes(ctx, "cut-off")
	if err != nil {
		return err
	}
	if len(known) == 0 {
		return errors.New("containerd has forgotten the sandbox")
	}
	if err := l.Detach(ctx, "cut-off"); err != nil {
		return err
	}
	return p.answers(ctx, "after containerd was started again")
}

// polled is how often containerd is asked for its status.
const polled = 30

func (l *lab) statusPolled(ctx context.Context) error {
	comes := make(chan error, 1)
	go func() {
		p, err := l.attachPair(ctx, "asker", "passing")
		comes <- errors.Join(err, l.detachPair(ctx, p, "asker", "passing"))
	}()
	for i := range polled {
		conditions, err := l.runtimes[0].Conditions(ctx)
		if err == nil && conditions[networkReady] != "" {
			err = fmt.Errorf("status %d of %d: %s: %s", i+1, polled, networkReady, conditions[networkReady])
		}
		if err != nil {
			return errors.Join(err, <-comes)
		}
	}
	return <-comes
}
