package cri

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/internal/libcnicache"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/fault/stub"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// restarts are the stories in which pods are older than their containerd, their node or their configuration.
func restarts() []cluster.Story {
	both := []scenario.Feature{scenario.Attach, scenario.CleanUp}
	return []cluster.Story{
		{
			Name: "runtime-restarted", Features: both, Covers: []string{"E09"},
			Description: "containerd ends and starts again while pods are alive, once as a service does and once " +
				"killed: pods answer all the while, others come and go, and the old ones are removed.",
			Run: tell((*lab).restarted),
		},
		{
			Name: "runtime-rebooted", Features: both, Covers: []string{"D01", "E03"},
			Description: "The node reboots, and containerd still knows the sandboxes, whose namespaces are gone: it " +
				"removes them, all addresses are free, and pods start.",
			Run: tell((*lab).rebooted),
		},
		{
			Name: "runtime-shutdown", Features: both, Covers: []string{"D01", "E03"},
			Description: "A node with fifty pods is shut down, and goes off before all of them have stopped: after " +
				"the reboot all sandboxes are removed, and all addresses are free.",
			Run: tell((*lab).shutDown),
		},
		{
			Name: "runtime-conflist-replaced", Features: both, Covers: []string{"D12"},
			Description: "The conflist is replaced under containerd by one with another plugin and an older version, " +
				"and is half-written for a moment: pods answer all the while, and those of each conflist are removed " +
				"under the other one.",
			Run: tell((*lab).conflistReplaced),
		},
		{
			Name: "runtime-two-networks", Features: both, Covers: []string{"DEL-4", "E09"},
			Description: "For some time the file of another network comes first in containerd's directory: a pod " +
				"that starts there gets that network, its DEL comes when this network is first again, and nobody " +
				"else notices.",
			Run: tell((*lab).twoNetworks),
		},
	}
}

func (l *lab) restarted(ctx context.Context) (err error) {
	c := l.runtimes[0]
	p, err := l.attachPair(ctx, "asker", "steady")
	defer func() { err = errors.Join(err, l.detachPair(ctx, p, "asker", "steady")) }()
	if err != nil {
		return err
	}
	for i, end := range []func(context.Context) error{c.Stop, c.Kill} {
		if err := end(ctx); err != nil {
			return err
		}
		if err := p.answers(ctx, "while no containerd runs"); err != nil {
			return err
		}
		if err := c.Up(ctx); err != nil {
			return err
		}
		name := "later-" + strconv.Itoa(i)
		later, err := l.attachPair(ctx, name+"-asker", name)
		err = errors.Join(err, p.answers(ctx, "after containerd was started again"))
		if err := errors.Join(err, l.detachPair(ctx, later, name+"-asker", name)); err != nil {
			return err
		}
	}
	return nil
}

// names returns n names of pods.
func names(n int) (list []string) {
	for i := range n {
		list = append(list, "old-"+strconv.Itoa(i))
	}
	return list
}

// forAll calls do for all pods at once.
func forAll(pods []string, do func(pod string) error) error {
	var group errgroup.Group
	for _, pod := range pods {
		group.Go(func() error { return do(pod) })
	}
	return group.Wait()
}

func (l *lab) rebooted(ctx context.Context) error {
	old := names(3)
	attach := func(pod string) error {
		_, err := l.Attach(ctx, l.Nodes()[0], pod)
		return err
	}
	if err := forAll(old, attach); err != nil {
		return err
	}
	return l.rebootWith(ctx, old)
}

// rebootWith reboots the first node, on which pods are, removes them and starts others.
func (l *lab) rebootWith(ctx context.Context, old []string) error {
	if err := l.Reboot(ctx, l.Nodes()[0]); err != nil {
		return err
	}
	err := forAll(old, func(pod string) error { return l.Detach(ctx, pod) })
	if err != nil {
		return err
	}
	p, err := l.attachPair(ctx, "asker", old[0])
	return errors.Join(err, l.detachPair(ctx, p, "asker", old[0]))
}

// most is the number of pods of a node that is shut down, if it has as many addresses.
const most = 50

func (l *lab) shutDown(ctx context.Context) error {
	node, c := l.Nodes()[0], l.runtimes[0]
	count := most
	if node.PoolSize > 0 {
		count = min(count, node.PoolSize)
	}
	old, ids, took := names(count), make([]string, count), make([]time.Duration, count/2)
	var group errgroup.Group
	group.SetLimit(8)
	for i, pod := range old {
		group.Go(func() error {
			a, err := l.Attach(ctx, node, pod)
			if err == nil {
				ids[i] = a.ContainerID
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	group = errgroup.Group{}
	for i := range took {
		group.Go(func() error {
			interval := machinetime.Start()
			err := c.StopSandbox(ctx, ids[i])
			took[i] = interval.Given()
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	l.keep(fmt.Sprintf("StopPodSandbox of %d pods at once, until each has stopped", len(took)), 0, took)
	if err := l.killAmid(ctx, func(ctx context.Context) {
		_ = forAll(ids[len(took):], func(id string) error { return c.StopSandbox(ctx, id) })
	}); err != nil {
		return err
	}
	return l.rebootWith(ctx, old)
}

// killAmid kills the first node's containerd some time after calls of it began.
func (l *lab) killAmid(ctx context.Context, calls func(ctx context.Context)) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		calls(inner)
	}()
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ended:
	}
	err := l.runtimes[0].Kill(ctx)
	// A call that had not been sent yet would wait for the next containerd.
	cancel()
	<-ended
	return err
}

func (l *lab) conflistReplaced(ctx context.Context) (err error) {
	node := l.Nodes()[0]
	p, err := l.attachPair(ctx, "asker", "steady")
	defer func() { err = errors.Join(err, l.detachPair(ctx, p, "asker", "steady", "under-new")) }()
	if err != nil {
		return err
	}
	if _, err := l.Attach(ctx, node, "under-old"); err != nil {
		return err
	}
	return l.withConflist(ctx, func(list map[string]any) {
		plugins, _ := list["plugins"].([]any)
		list["plugins"] = append(plugins, map[string]any{"type": stub.Chained, stub.Key: stub.Orders{Log: stubLog}})
		if version, _ := list["cniVersion"].(string); version > "1.0.0" {
			list["cniVersion"] = "1.0.0"
		}
	}, func() error {
		if _, err := l.Attach(ctx, node, "under-new"); err != nil {
			return err
		}
		if err := l.Detach(ctx, "under-old"); err != nil {
			return err
		}
		if err := p.answers(ctx, "under another conflist"); err != nil {
			return err
		}
		name := path.Join(netns.ConflistDir, netns.ConflistName)
		return errors.Join(
			node.Agent.WriteFile(ctx, agent.File{Path: name, Mode: 0o644, Data: node.Conflist[:len(node.Conflist)/2]}),
			p.answers(ctx, "while the conflist is half-written"),
		)
	})
}

// elsewhere is the conflist of a network that makes nothing.
const elsewhere = `{"cniVersion": "1.0.0", "name": "elsewhere", "plugins": [{"type": "` + stub.Chained + `",
	"` + stub.Key + `": {"on": {"ADD": {"result": {"cniVersion": "1.0.0",
		"interfaces": [{"name": "eth0", "sandbox": "/var/run/netns/elsewhere"}],
		"ips": [{"address": "192.0.2.9/32", "interface": 0}]}}}}}]}`

func (l *lab) twoNetworks(ctx context.Context) (err error) {
	node, c := l.Nodes()[0], l.runtimes[0]
	p, err := l.attachPair(ctx, "asker", "steady")
	defer func() { err = errors.Join(err, l.detachPair(ctx, p, "asker", "steady")) }()
	if err != nil {
		return err
	}
	file := agent.File{
		Path: path.Join(netns.ConflistDir, "00-elsewhere.conflist"), Mode: 0o644, Data: []byte(elsewhere),
	}
	err = node.Agent.WriteFile(ctx, file)
	if err == nil {
		err = l.knows(ctx, elsewhere)
	}
	if err == nil {
		_, err = c.Run(ctx, Sandbox{Pod: "elsewhere"})
	}
	err = errors.Join(err, p.answers(ctx, "while another network comes first"),
		node.Agent.RemoveFile(context.WithoutCancel(ctx), file.Path),
		l.knows(context.WithoutCancel(ctx), string(node.Conflist)))
	if err != nil {
		return err
	}
	if err := c.Remove(ctx, "elsewhere"); err != nil {
		return err
	}
	// The network that attached the pod gets no DEL: containerd calls the one that comes first by now.
	if err := l.sh(ctx, "rm -f "+path.Join(libcnicache.Dir, "elsewhere-*")); err != nil {
		return err
	}
	return p.answers(ctx, "after DEL of a pod that another network attached")
}
