package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/service"
)

// throughKubelet uses every step of which a cluster with kubelets does a part itself.
const throughKubelet = `
apiVersion: cnitest/v1alpha1
kind: Scenario
name: through-kubelet
description: A cluster attaches the pods and proxies the services.
features: [HostToPod, PodToService, CleanUp]
nodes:
- {name: a}
- {name: b}
pods:
- {name: client, node: a}
- {name: old, node: a, count: 2, listen: [{protocol: tcp, port: 8080}]}
- {name: new, node: b, listen: [{protocol: tcp, port: 8080}]}
services:
- {name: web, protocol: tcp, port: 80, targetPort: 8080, endpoints: [pod/old]}
steps:
- add: pod/client
- add: pod/old
- probe: {from: pod/client, to: service/web, protocol: tcp, port: 80, source: pod/client}
- probe: {from: node/a, to: pod/old, protocol: tcp, port: 8080, source: node/a}
- check: pod/old
- gc: node/a
- status: node/a
- del: pod/old
- add: pod/new
- endpoints: {of: service/web, are: [pod/new]}
- probe: {from: pod/client, to: service/web, protocol: tcp, port: 80, source: pod/client}
`

// kubelets is a backend whose clusters have pods of others, and attach, detach and proxy the pods of scenarios
// themselves, as in Kubernetes. fault says what goes wrong.
type kubelets struct {
	*netns.Backend
	fault string
	// exclusive makes it a backend whose machines exist only once.
	exclusive bool
}

func (k *kubelets) HasRuntime() bool { return true }
func (k *kubelets) Exclusive() bool  { return k.exclusive }

func (k *kubelets) Start(ctx context.Context, req cluster.Request) (cluster.Cluster, error) {
	lab, err := k.Backend.Start(ctx, req)
	if err != nil {
		return nil, err
	}
	c := &kubeletCluster{
		Cluster: lab, fault: k.fault, pods: map[string]*kubeletPod{}, services: map[string]*service.Service{},
	}
	for _, n := range lab.Nodes() {
		if _, err := c.Attach(ctx, n, others+n.Name[len("node/"):]); err != nil {
			_ = lab.Close()
			return nil, err
		}
	}
	return c, nil
}

// others is the prefix of the names of pods that do not belong to the scenario.
const others = "coredns-"

type kubeletPod struct {
	cluster.Attachment
	node *cluster.Node
}

type kubeletCluster struct {
	cluster.Cluster
	fault    string
	mu       sync.Mutex
	pods     map[string]*kubeletPod
	services map[string]*service.Service
}

func (c *kubeletCluster) cni(ctx context.Context, p *kubeletPod, verb cni.Verb) (cni.Outcome, error) {
	reply, err := p.node.Agent.CNI(ctx, cni.Request{
		Verb: verb, Conflist: p.node.Conflist, BinDirs: p.node.BinDirs, ContainerID: p.ContainerID, Netns: p.Netns,
		IfName: p.IfName,
	})
	if err != nil {
		return cni.Outcome{}, err
	}
	return reply.Outcome, reply.Outcome.Err()
}

func (c *kubeletCluster) Attach(ctx context.Context, n *cluster.Node, name string) (*cluster.Attachment, error) {
	p := &kubeletPod{node: n, Attachment: cluster.Attachment{
		Pod: name, ContainerID: "sandbox-" + name, IfName: scenario.DefaultInterface,
	}}
	c.mu.Lock()
	c.pods[name] = p
	c.mu.Unlock()
	if (c.fault == "image cannot be pulled" || c.fault == "machine is lost") && name == "new" {
		return nil, errors.New("ErrImagePull")
	}
	var err error
	if p.Netns, err = n.Agent.CreateNamespace(ctx, name); err != nil {
		return nil, err
	}
	outcome, err := c.cni(ctx, p, cni.Add)
	if err != nil {
		return nil, err
	}
	if p.Result = outcome.Result; c.fault == "result of another pod" && name == "client" {
		p.Result = json.RawMessage(strings.Replace(string(p.Result), `"192.168.1.`, `"192.168.1.1`, 1))
	}
	return &p.Attachment, nil
}

func (c *kubeletCluster) Detach(ctx context.Context, name string) error {
	c.mu.Lock()
	p := c.pods[name]
	delete(c.pods, name)
	c.mu.Unlock()
	if p == nil || p.Netns == "" {
		return nil
	}
	if c.fault != "no DEL" && c.fault != "machine is lost" {
		if _, err := c.cni(ctx, p, cni.Del); err != nil {
			return err
		}
	}
	return p.node.Agent.RemoveNamespace(ctx, name)
}

func (c *kubeletCluster) Attachments(_ context.Context, n *cluster.Node) ([]cluster.Attachment, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []cluster.Attachment
	for _, p := range c.pods {
		if p.node == n && (c.fault != "others are not listed" || !strings.HasPrefix(p.Pod, others)) {
			list = append(list, p.Attachment)
		}
	}
	return list, nil
}

func (c *kubeletCluster) MakeService(_ context.Context, s scenario.Service) ([]netip.Addr, error) {
	if c.fault == "no room for services" {
		return nil, errors.New("range is full")
	}
	addrs := []netip.Addr{netip.MustParseAddr("10.96.7.7")}
	c.services[s.Name] = &service.Service{Name: s.Name, Protocol: s.Protocol, ClusterIPs: addrs, Port: s.Port}
	return addrs, nil
}

func (c *kubeletCluster) SetEndpoints(ctx context.Context, name string, endpoints []cluster.Endpoint) error {
	s := c.services[name]
	if c.fault == "endpoints are ignored" && len(endpoints) == 1 {
		return nil
	}
	for _, n := range c.Nodes() {
		s.Endpoints = nil
		for _, e := range endpoints {
			s.Endpoints = append(s.Endpoints, service.Endpoint{Address: e.Address, Port: e.Port, Local: e.Node == n})
		}
		if err := n.Agent.Services(ctx, agent.ServicesArgs{Services: []service.Service{*s}}); err != nil {
			return err
		}
	}
	return nil
}

// Trouble returns an error if a pod of others has lost its network.
func (c *kubeletCluster) Trouble() error {
	if c.fault == "node not ready" {
		return errors.New("node/b was not ready for 3s")
	}
	for name, p := range c.pods {
		if !strings.HasPrefix(name, others) {
			continue
		}
		if _, err := c.cni(context.Background(), p, cni.Check); err != nil {
			return fmt.Errorf("pod %s of the cluster: %w", name, err)
		}
	}
	return nil
}

func (c *kubeletCluster) Lost() error {
	if c.fault == "machine is lost" {
		return errors.New("node/b does not answer")
	}
	return nil
}

func (c *kubeletCluster) Evidence(context.Context) map[string]string {
	return map[string]string{"events": "pod/client: FailedCreatePodSandBox", "log of kubelet": ""}
}

// TestKubelets runs a scenario on a cluster that attaches the pods itself.
func TestKubelets(t *testing.T) {
	t.Parallel()
	bin := plugins(t).plugins
	type fault struct {
		fault string
		want  expected
	}
	for _, tt := range append([]fault{{"", pass()}}, sharedOut(t, []fault{
		{"image cannot be pulled", fail("through-kubelet.yaml:25: add pod/new: pod/new: ErrImagePull")},
		{"result of another pod", fail("pod/client: the result gives 192.168.1.1")},
		{"endpoints are ignored", fail("pod/client to service/web, tcp to 10.96.7.7 port 80: ")},
		{"others are not listed", fail("pod coredns-a of the cluster: ")},
		{"node not ready", fail("node/b was not ready for 3s")},
		{"machine is lost", expected{
			result: report.Skipped,
			reason: "node/b does not answer; what was seen: through-kubelet.yaml:25: add pod/new: pod/new: ErrImagePull",
		}},
		{"no room for services", expected{result: report.Skipped, reason: "the lab could not be made: service/web: range is full"}},
	})...) {
		for _, exclusive := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, machines that exist once %t", tt.fault, exclusive), func(t *testing.T) {
				holdLab(t)
				got := runThroughKubelet(t, bin, &kubelets{backend(), tt.fault, exclusive}, tt.want)
				tt.want.compare(t, got[0])
				if want := tt.want.result == report.Skipped; got[0].LabFailed != want {
					t.Errorf("got labFailed %t, want %t", got[0].LabFailed, want)
				}
				if tt.want.result == report.Fail {
					wantEvidence(t, got[0], "events", "pod/client: FailedCreatePodSandBox")
					wantEvidence(t, got[0], "log of kubelet", "nothing")
				}
				if tt.fault == "others are not listed" {
					return // GC removed its network
				}
				for _, left := range got[1:] {
					if left.Result == report.Fail {
						t.Errorf("got left by %s: %s", left.Plugin, left.Reason)
					}
				}
			})
		}
	}
	t.Run("no DEL", func(t *testing.T) {
		holdLab(t)
		got := runThroughKubelet(t, bin, &kubelets{backend(), "no DEL", true}, pass())
		pass().compare(t, got[0])
		if !slices.ContainsFunc(got[1:], func(r report.Result) bool {
			return r.Result == report.Fail && strings.Contains(r.Evidence[0].Text,
				"+ file /var/lib/cni/networks/net/192.168.1.3: ")
		}) {
			t.Errorf("got %v at the end, want the addresses that nobody gave back", got[1:])
		}
	})
}

// runThroughKubelet returns the result of the scenario, and then the results about what it left.
func runThroughKubelet(t *testing.T, bin string, b *kubelets, want expected) []report.Result {
	t.Helper()
	path := writeConflist(t, "", macvlan, vethToHost)
	setVersion(t, path, "1.1.0")
	suite, err := e2e.New(e2e.Options{
		Conflist: path, BinDir: bin, Backend: b, Claims: scenario.Features(),
		Select: e2e.Selection{Scenarios: fstest.MapFS{"through-kubelet.yaml": {Data: []byte(throughKubelet)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if units := suite.Units(); len(units) != 1 {
		t.Fatalf("got %d units, want the scenario alone: a cluster's plugins are asked past their runtime by nobody",
			len(units))
	}
	result := suite.RunScenarioWanting(t.Context(), suite.Scenarios()[0], want.matches)
	r, err := suite.Finish()
	if err != nil {
		t.Fatal(err)
	}
	results := []report.Result{result}
	for _, other := range r.Results {
		if other.ID == "leaves-nothing" {
			results = append(results, other)
		}
	}
	return results
}

func wantEvidence(t *testing.T, r report.Result, title, text string) {
	t.Helper()
	if !slices.ContainsFunc(r.Evidence, func(e report.Evidence) bool { return e.Title == title && e.Text == text }) {
		t.Errorf("got evidence %v, want %s: %s", r.Evidence, title, text)
	}
}
