package cri

import (
	"cmp"
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
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Stories returns the scenarios of what a runtime does by itself.
func (b *Backend) Stories() []cluster.Story {
	stories := Stories()
	if b.old == nil {
		stories = slices.DeleteFunc(stories, func(s cluster.Story) bool { return s.Name == upgradeName })
	}
	return stories
}

// Stories returns all stories of the backend.
func Stories() []cluster.Story {
	attach, cleanUp := scenario.Attach, scenario.CleanUp
	stories := []cluster.Story{
		{
			Name: "runtime-add-fails", Features: []scenario.Feature{attach, cleanUp},
			Covers: []string{"F02", "F04", "E09"},
			Description: "Another plugin of the chain refuses a pod twice: containerd calls DEL each time, without a " +
				"result of ADD, and the third sandbox works.",
			Run: tell((*lab).addFails),
		},
		{
			Name: "runtime-add-given-up", Features: []scenario.Feature{attach, cleanUp}, Covers: []string{"F03", "E09"},
			Description: "An ADD takes too long, and the caller of containerd gives up: other pods come and go all " +
				"the while, containerd kills the plugin that hangs and calls DEL, and the pod starts when it is " +
				"tried again.",
			Run: tell((*lab).addGivenUp),
		},
		{
			Name: "runtime-status-polled", Features: []scenario.Feature{attach}, Covers: []string{"G07"},
			Description: "containerd is asked for its status all the time, as kubelets do, and asks the plugins: the " +
				"network is ready each time, while pods come and go. STATUS takes more than 1 % of a processor, if " +
				"it is asked every 5 s, only where plugins that do nothing take a tenth of that at least.",
			Run: tell((*lab).statusPolled),
		},
		{
			Name: "runtime-pod-starts", Features: []scenario.Feature{attach}, Covers: []string{},
			Description: "A pod answers as soon as containerd says that its sandbox runs. The report says how long " +
				"that takes, and which part of it is ADD.",
			Run: tell((*lab).podStarts),
		},
		{
			Name: "runtime-del-while-daemon-hangs", Features: []scenario.Feature{scenario.DaemonRestart, cleanUp},
			Covers: []string{"E12", "J03"},
			Description: "The plugin's daemon accepts connections and answers nothing: containerd stops a pod within " +
				"1.5 s, as long as a node's shutdown waits, and pods start when the daemon answers again.",
			Run: tell((*lab).delWhileDaemonHangs),
		},
	}
	for _, k := range killings() {
		stories = append(stories, k.story())
	}
	return append(append(stories, restarts()...), upgrade())
}

func tell(run func(l *lab, ctx context.Context) error) func(context.Context, cluster.Cluster) error {
	return func(ctx context.Context, c cluster.Cluster) error { return run(c.(*lab), ctx) }
}

const (
	// stubLog is a directory in which the stubs of a story record their calls.
	stubLog = stateDir + "/cnitest-stub"
	// holdFile keeps stubs waiting that are told so, while it exists.
	holdFile = stateDir + "/cnitest-hold"
	// holdSandboxes keeps sandboxes from starting while it exists, and sandboxHeld says that one waits
	// (cri/runc-nocgroup).
	holdSandboxes = stateDir + "/cnitest-hold-sandboxes"
	sandboxHeld   = stateDir + "/cnitest-sandbox-held"
)

// calls returns how often the stubs of a story were called with a verb.
func (l *lab) calls(ctx context.Context, verb cni.Verb) (n int, err error) {
	records, err := l.Nodes()[0].Agent.StubRecords(ctx, stubLog)
	for _, r := range records {
		if r.Verb == string(verb) {
			n++
		}
	}
	return n, err
}

// inTime calls done again and again until it returns true or an error; what is the error of one that never does.
func (l *lab) inTime(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := machinetime.WithTimeout(ctx, callTimeout)
	defer cancel()
	return l.runtimes[0].poll(ctx, what, done)
}

// inCall waits until a call of the CRI that sends its error to ended is at some point, and returns why it never is.
func (l *lab) inCall(ctx context.Context, ended chan error, what string, there func() (bool, error)) error {
	return l.inTime(ctx, what, func() (bool, error) {
		if ok, err := there(); ok || err != nil {
			return ok, err
		}
		select {
		case err := <-ended:
			ended <- err
			return false, cmp.Or(err, errors.New(what))
		default:
			return false, nil
		}
	})
}

// called waits until stubs were called with a verb more often than before.
func (l *lab) called(ctx context.Context, ended chan error, verb cni.Verb, before int) error {
	return l.inCall(ctx, ended, "no "+string(verb)+" of the lab's plugin", func() (bool, error) {
		n, err := l.calls(ctx, verb)
		return n > before, err
	})
}

// position is where a stub stands in the chain. ADD calls the first plugin first, and DEL the last one.
type position int

const (
	last position = iota
	first
	second
)

// withStub adds a plugin to the first node's chain, while do runs.
func (l *lab) withStub(ctx context.Context, at position, orders stub.Orders, do func() error) error {
	orders.Log = stubLog
	return l.withConflist(ctx, func(list map[string]any) {
		plugins, _ := list["plugins"].([]any)
		i := map[position]int{last: len(plugins), first: 0, second: 1}[at]
		list["plugins"] = slices.Insert(slices.Clone(plugins), i, any(map[string]any{
			"type": stub.Chained, stub.Key: orders,
		}))
	}, do)
}

// withConflist changes the first node's conflist while do runs.
func (l *lab) withConflist(ctx context.Context, edit func(list map[string]any), do func() error) error {
	node := l.Nodes()[0]
	var list map[string]any
	if err := json.Unmarshal(node.Conflist, &list); err != nil {
		return err
	}
	edit(list)
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
	return l.knows(ctx, string(text))
}

// knows waits until the first node's containerd uses a conflist.
func (l *lab) knows(ctx context.Context, text string) error {
	c := l.runtimes[0]
	ctx, cancel := machinetime.WithTimeout(ctx, lostTimeout)
	defer cancel()
	return c.poll(ctx, "containerd does not read the conflist", func() (bool, error) {
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
		// The loopback network has a configuration as well.
		return slices.ContainsFunc(known.Networks, func(n struct{ Config struct{ Source string } }) bool {
			return n.Config.Source == text
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
func (l *lab) attachPair(ctx context.Context, from, to string) (*pair, error) {
	if _, err := l.Attach(ctx, l.Nodes()[0], from); err != nil {
		return nil, err
	}
	return l.attachBeside(ctx, from, to)
}

// attachBeside attaches a pod, and checks that it answers an attached one.
func (l *lab) attachBeside(ctx context.Context, from, to string) (*pair, error) {
	a, err := l.Attach(ctx, l.Nodes()[0], to)
	if err != nil {
		return nil, err
	}
	return l.pairWith(ctx, from, a)
}

// pairWith makes an attached pod answer, and checks that it answers another one.
func (l *lab) pairWith(ctx context.Context, from string, to *cluster.Attachment) (*pair, error) {
	node := l.Nodes()[0]
	all, err := l.Attachments(ctx, node)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(a cluster.Attachment) bool { return a.Pod == Namespace+"/"+from })
	if i < 0 {
		return nil, fmt.Errorf("libcni's cache has no pod/%s", from)
	}
	at := func(a *cluster.Attachment) *cluster.Place {
		return &cluster.Place{Name: "pod/" + path.Base(a.Pod), Agent: node.Agent, Netns: a.Netns}
	}
	p := pair{from: at(&all[i]), to: at(to)}
	result, err := cni.ParseResult(to.Result)
	if err != nil {
		return nil, err
	}
	if len(result.IPs) == 0 {
		return nil, fmt.Errorf("%s: the result of ADD has no address", p.to.Name)
	}
	p.address, _ = netip.AddrFromSlice(result.IPs[0].Address.IP)
	p.address = p.address.Unmap()
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
	err = l.withStub(ctx, last, stub.Orders{On: map[string]stub.Behaviour{
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

func (l *lab) addGivenUp(ctx context.Context) error {
	const pod = "given-up"
	err := l.withStub(ctx, last, stub.Orders{On: map[string]stub.Behaviour{
		string(cni.Add): {Hang: true, Times: 1},
	}}, func() error {
		impatient, giveUp := context.WithCancel(ctx)
		defer giveUp()
		ended := make(chan error, 1)
		go func() {
			_, err := l.Attach(impatient, l.Nodes()[0], pod)
			ended <- err
		}()
		if err := l.called(ctx, ended, cni.Add, 0); err != nil {
			return err
		}
		p, err := l.attachPair(ctx, "asker", "passing")
		err = errors.Join(err, l.detachPair(ctx, p, "asker", "passing"))
		giveUp()
		if <-ended == nil && err == nil {
			err = errors.New("the caller gave up, and got a sandbox")
		}
		return errors.Join(err, l.Detach(context.WithoutCancel(ctx), pod))
	})
	if err != nil {
		return err
	}
	err = l.attachAgain(ctx, pod)
	var p *pair
	if err == nil {
		p, err = l.attachBeside(ctx, pod, "asked")
	}
	return errors.Join(err, l.detachPair(ctx, p, pod, "asked"))
}

// attachAgain attaches a pod whose caller gave up before: containerd keeps its name until it has cleared up.
func (l *lab) attachAgain(ctx context.Context, pod string) error {
	return l.inTime(ctx, "containerd does not clear up", func() (bool, error) {
		_, err := l.Attach(ctx, l.Nodes()[0], pod)
		if err != nil && strings.Contains(err.Error(), "is reserved for") {
			return false, nil
		}
		return true, err
	})
}
