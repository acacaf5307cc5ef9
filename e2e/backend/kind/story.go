package kind

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Stories returns the scenarios that need a kubelet, a scheduler, controllers or the cluster's DNS.
func (b *Backend) Stories() []cluster.Story {
	stories := Stories()
	if b.nodes[0].container == "" {
		// On other clusters nobody expects their kubelets to be restarted.
		stories = slices.DeleteFunc(stories, func(s cluster.Story) bool { return s.Name == kubeletRestart })
	}
	return stories
}

const kubeletRestart = "cluster-kubelet-restart"

// Stories returns all stories of the backend.
func Stories() []cluster.Story {
	tell := func(run func(l *lab, ctx context.Context) error) func(context.Context, cluster.Cluster) error {
		return func(ctx context.Context, c cluster.Cluster) error { return run(c.(*lab), ctx) }
	}
	return []cluster.Story{
		{
			Name: "cluster-pod-ready", Features: []scenario.Feature{scenario.HostToPod}, Covers: []string{"A03"},
			Description: "A pod on each node is Ready within 20 s: its kubelet's probe passes through the plugin.",
			Run:         tell((*lab).podReady),
		},
		{
			Name: "cluster-dns", Features: []scenario.Feature{scenario.PodToService}, Covers: []string{"B01"},
			Description: "Pods on each node resolve the name of the API server's service through the cluster's DNS.",
			Run:         tell((*lab).dns),
		},
		{
			Name: "cluster-pods-terminate", Features: []scenario.Feature{scenario.CleanUp}, Covers: []string{"K02"},
			Description: "Twenty pods that are deleted at once are gone within a minute, and no node keeps anything " +
				"of their attachments.",
			Run: tell((*lab).terminate),
		},
		{
			Name: "cluster-node-drained", Features: []scenario.Feature{scenario.Attach, scenario.CleanUp},
			Covers:      []string{"K02"},
			Description: "A node is drained and used again: its pods go, and new ones start and become Ready.",
			Run:         tell((*lab).drain),
		},
		{
			Name: "cluster-rollout", Features: []scenario.Feature{scenario.PodToService, scenario.CrossNode},
			Covers:      []string{"B06"},
			Description: "A deployment is rolled over while clients ask its service: no request is lost.",
			Run:         tell((*lab).rollout),
		},
		{
			Name: kubeletRestart, Features: []scenario.Feature{scenario.Attach, scenario.HostToPod},
			Covers: []string{"A12"},
			Description: "A node's kubelet and container runtime are restarted: pods go on answering, and come and " +
				"go as before.",
			Run: tell((*lab).restartKubelet),
		},
	}
}

// withPods attaches pods on each node, named NAME-0 and so on, while use runs.
func (l *lab) withPods(ctx context.Context, name string, perNode int, use func(pods []*cluster.Place) error) error {
	pods := make([]*cluster.Place, perNode*len(l.nodes))
	names := make([]string, len(pods))
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range pods {
		names[i] = fmt.Sprintf("%s-%d", name, i)
		group.Go(func() error {
			n := l.nodes[i%len(l.nodes)]
			a, err := l.Attach(groupCtx, n, names[i])
			if err != nil {
				return err
			}
			pods[i] = &cluster.Place{Name: "pod/" + names[i], Agent: n.Agent, Netns: a.Netns}
			return nil
		})
	}
	err := group.Wait()
	if err == nil {
		err = use(pods)
	}
	// Detach them whatever happened.
	return errors.Join(err, l.detachAll(context.WithoutCancel(ctx), names))
}

func (l *lab) detachAll(ctx context.Context, names []string) error {
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { errs[i] = l.Detach(ctx, name) })
	}
	all.Wait()
	// Report only the first one, which explains the others.
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	return fmt.Errorf("%d of %d pods: %w", len(errs), len(names), errs[0])
}

// readyWithin waits until a pod of the cluster is Ready.
func (l *lab) readyWithin(ctx context.Context, limit time.Duration, object string) error {
	var status podStatus
	err := until(ctx, limit, "pod "+object+" to be Ready", func() (bool, error) {
		if err := l.backend.api.Get(ctx, podsPath+"/"+object, &status); err != nil {
			return false, err
		}
		return slices.ContainsFunc(status.Status.Conditions, func(c condition) bool {
			return c.Type == "Ready" && c.Status == "True"
		}), nil
	})
	if err != nil {
		return explain(err, l.complaints(context.WithoutCancel(ctx), object))
	}
	return nil
}

// readyTime is the time in which a pod with a running container must pass its kubelet's probe.
const readyTime = 20 * time.Second

func (l *lab) podReady(ctx context.Context) error {
	return l.withPods(ctx, "ready", 1, func(pods []*cluster.Place) error {
		for _, p := range pods {
			if err := l.readyWithin(ctx, readyTime, l.object(p)); err != nil {
				return err
			}
		}
		return nil
	})
}

// object returns the name of a pod in the cluster.
func (l *lab) object(p *cluster.Place) string {
	return l.name + "-" + strings.TrimPrefix(p.Name, "pod/")
}

// clusterIP returns the address of an existing service.
func (l *lab) clusterIP(ctx context.Context, inNamespace, name string) (string, error) {
	var s struct {
		Spec struct {
			ClusterIP string `json:"clusterIP"`
		} `json:"spec"`
	}
	err := l.backend.api.Get(ctx, "/api/v1/namespaces/"+inNamespace+"/services/"+name, &s)
	return s.Spec.ClusterIP, err
}

func (l *lab) dns(ctx context.Context) error {
	server, err := l.clusterIP(ctx, "kube-system", "kube-dns")
	if err != nil {
		return err
	}
	want, err := l.clusterIP(ctx, "default", "kubernetes")
	if err != nil {
		return err
	}
	const name = "kubernetes.default.svc.cluster.local."
	return l.withPods(ctx, "resolver", 1, func(pods []*cluster.Place) error {
		for _, p := range pods {
			// Repeat it, so that each of the servers is asked.
			for range 10 {
				got, err := p.Agent.Resolve(ctx, agent.ResolveArgs{Netns: p.Netns, Server: server, Name: name})
				if err != nil {
					return fmt.Errorf("%s asks %s: %w", p.Name, server, err)
				}
				if !slices.Equal(got, []string{want}) {
					return fmt.Errorf("%s asks %s for %s: want %s, got %v", p.Name, server, name, want, got)
				}
			}
		}
		return nil
	})
}

func (l *lab) terminate(ctx context.Context) error {
	if err := l.withPods(ctx, "brief", 20/len(l.nodes), func([]*cluster.Place) error { return nil }); err != nil {
		return err
	}
	for _, n := range l.nodes {
		left, err := l.Attachments(ctx, n)
		if err != nil {
			return err
		}
		for _, a := range left {
			if strings.HasPrefix(a.Pod, namespace+"/"+l.name+"-") {
				return fmt.Errorf("%s: pod %s is gone, and its runtime still has the result of its ADD", n.Name, a.Pod)
			}
		}
	}
	return nil
}

// probeInterval is the interval between the requests of a client none of whose requests may fail.
const probeInterval = 100 * time.Millisecond

// askAllTheWhile sends requests while do runs, each on a new connection. Each must be answered at the first attempt.
func askAllTheWhile(ctx context.Context, from *cluster.Place, to netip.Addr, port uint16, do func() error) error {
	ctx, stop := context.WithCancel(ctx)
	asked, done := 0, make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			result, err := from.Agent.Probe(ctx, from.Netns, probe.Spec{
				Protocol: probe.TCP, To: to.String(), Port: port, Within: 5 * time.Second, Attempts: 1,
			})
			if ctx.Err() != nil {
				break
			}
			if asked++; err == nil && !result.OK {
				err = fmt.Errorf("%s: request %d to %s port %d: %s", from.Name, asked, to, port, result.Error)
			}
			if err != nil {
				done <- err
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(probeInterval):
			}
		}
		done <- nil
	}()
	err := do()
	stop()
	if lost := <-done; lost != nil {
		return lost
	}
	if err == nil && asked == 0 {
		err = errors.New("no request was made")
	}
	return err
}

// storyPort is the port on which the pods of stories answer.
const storyPort = 8080

func (l *lab) restartKubelet(ctx context.Context) error {
	return l.withPods(ctx, "steady", 1, func(pods []*cluster.Place) error {
		steady, client := pods[0], pods[1]
		if err := steady.Agent.Listen(ctx, steady.Netns, probe.ListenSpec{
			Protocol: probe.TCP, Port: storyPort, Name: steady.Name,
		}); err != nil {
			return err
		}
		defer func() { _ = steady.Agent.Unlisten(context.WithoutCancel(ctx), steady.Netns) }()
		address, err := l.addressOf(ctx, steady)
		if err != nil {
			return err
		}
		for _, from := range []*cluster.Place{client, &l.nodes[0].Place} {
			err := askAllTheWhile(ctx, from, address, storyPort, func() error {
				if _, err := output(ctx, nil, "docker", "exec", l.backend.nodes[0].container, "systemctl", "restart",
					"containerd", "kubelet"); err != nil {
					return err
				}
				if _, err := l.Attach(ctx, l.nodes[0], "newcomer"); err != nil {
					return err
				}
				return errors.Join(l.readyWithin(ctx, 2*readyTime, l.name+"-newcomer"), l.Detach(ctx, "newcomer"))
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// addressOf returns the address that the cluster reports for a pod.
func (l *lab) addressOf(ctx context.Context, p *cluster.Place) (netip.Addr, error) {
	var status podStatus
	if err := l.backend.api.Get(ctx, podsPath+"/"+l.object(p), &status); err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(status.Status.PodIP)
}
