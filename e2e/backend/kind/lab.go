package kind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
)

// binDir and conflistDir are the default directories of runtimes.
const (
	binDir      = "/opt/cni/bin"
	conflistDir = "/etc/cni/net.d"
)

// lab is the cluster while one scenario uses it.
type lab struct {
	backend   *Backend
	name      string
	nodes     []*cluster.Node
	hosts     map[string]*cluster.Place
	processes []*process
	notes     []string
	// moves counts the pods that started or vanished, controlled the control pods, of which controls has one per node
	// at a time.
	moves, controlled atomic.Int64
	controls          singleflight.Group

	mu       sync.Mutex
	pods     map[string]*livePod // by their names in the scenario
	services map[string]*liveService
}

func (l *lab) start(ctx context.Context, req cluster.Request) error {
	l.hosts = map[string]*cluster.Place{}
	l.nodes = make([]*cluster.Node, len(req.Nodes))
	l.processes = make([]*process, len(req.Nodes))
	group, groupCtx := errgroup.WithContext(ctx)
	for i, want := range req.Nodes {
		group.Go(func() (err error) {
			l.nodes[i], l.processes[i], err = l.startNode(groupCtx, "node/"+want.Name, l.backend.nodes[i])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, o := range l.backend.outside {
		if req.Alone {
			break
		}
		place, p, err := o.start(ctx)
		if err != nil {
			return err
		}
		l.hosts[o.name], l.processes = place, append(l.processes, p)
	}
	for i, n := range req.Nodes {
		l.notes = append(l.notes, fmt.Sprintf("node/%s is %s", n.Name, l.backend.nodes[i].name))
	}
	return nil
}

// startNode starts an agent and reads the installed conflist from the node.
func (l *lab) startNode(ctx context.Context, name string, n *node) (*cluster.Node, *process, error) {
	p, err := startAgent(ctx, name, n.argv(l.backend.image))
	if err != nil {
		return nil, nil, err
	}
	made := &cluster.Node{
		Place:   cluster.Place{Name: name, Agent: p.agent, Interfaces: map[string][]netip.Addr{"uplink": n.addresses}},
		BinDirs: []string{binDir},
	}
	if made.Conflist, err = installed(ctx, p.agent, l.backend.options.Conflist.Network); err != nil {
		return nil, p, fmt.Errorf("%s (%s): %w", name, n.name, err)
	}
	links, err := p.agent.Links(ctx, "")
	if err != nil {
		return nil, p, err
	}
	for _, link := range links {
		for _, prefix := range link.Prefixes() {
			if made.Owns(prefix.Addr()) {
				made.Uplink, made.Networks = link.Name, append(made.Networks, prefix.Masked())
			}
		}
	}
	if made.Uplink == "" {
		return nil, p, fmt.Errorf("%s: no link has %v, which the cluster has for the node", name, n.addresses)
	}
	return made, p, nil
}

// installed returns the conflist of a network on a node.
func installed(ctx context.Context, a *agent.Client, network string) ([]byte, error) {
	names, err := a.ListDir(ctx, conflistDir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range names {
		switch path.Ext(name) {
		case ".conflist", ".conf", ".json":
		default:
			continue
		}
		file, err := a.ReadFile(ctx, path.Join(conflistDir, name))
		if err != nil {
			return nil, err
		}
		var list struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(file.File.Data, &list); err != nil {
			continue // not the file that a runtime uses
		}
		// Runtimes use the first file by name (containerd and CRI-O sort lexically).
		if len(found) == 0 && list.Name == network {
			return file.File.Data, nil
		}
		found = append(found, fmt.Sprintf("%s (%s)", name, list.Name))
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no conflist in %s; install the plugins and the conflist first, as kind/install does",
			conflistDir)
	}
	return nil, fmt.Errorf("the runtime takes the first conflist of %s, %s, and want the network %q", conflistDir,
		strings.Join(found, ", "), network)
}

// Nodes returns the nodes in the order of the request.
func (l *lab) Nodes() []*cluster.Node { return l.nodes }

// Hosts returns the hosts outside the cluster that exist.
func (l *lab) Hosts() map[string]*cluster.Place { return l.hosts }

// Fabric returns nil: the suite captures frames between nodes on the nodes themselves.
func (l *lab) Fabric() *cluster.Place { return nil }

// Cloud returns nil.
func (l *lab) Cloud() cluster.Cloud { return nil }

// Reboot returns an error: the nodes of a cluster cannot be rebooted.
func (l *lab) Reboot(context.Context, *cluster.Node) error {
	return errors.New("nodes of a cluster cannot be rebooted")
}

// Notes returns which node of the scenario is which node of the cluster.
func (l *lab) Notes() []string { return l.notes }

// Close ends the agents and deletes everything that the scenario made in the cluster.
func (l *lab) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	l.mu.Lock()
	pods, services := l.pods, l.services
	l.pods, l.services = map[string]*livePod{}, map[string]*liveService{}
	l.mu.Unlock()
	for _, p := range l.processes {
		if p != nil {
			p.close()
		}
	}
	l.processes = nil
	for _, p := range pods {
		errs = append(errs, l.backend.api.Remove(ctx, p.path()))
	}
	for _, s := range services {
		errs = append(errs, l.backend.api.Remove(ctx, s.path()))
	}
	for _, p := range pods {
		if !p.stuck {
			errs = append(errs, l.backend.api.gone(ctx, podTimeout, p.path(), p.object+" to go away"))
		}
	}
	return errors.Join(errs...)
}

// WayIn returns a command that enters a place from another terminal.
func (l *lab) WayIn(place *cluster.Place) string {
	for i, n := range l.nodes {
		if place.Agent != n.Agent {
			continue
		}
		enter := "docker exec -it " + l.backend.nodes[i].container
		if l.backend.nodes[i].container == "" {
			enter = strings.Join(l.backend.api.kubectl, " ") + " debug -it --profile=sysadmin --image=busybox node/" +
				l.backend.nodes[i].name + " -- chroot /host"
		}
		if place.Netns != "" {
			return enter + " nsenter --net=" + place.Netns + " bash"
		}
		return enter + " bash"
	}
	return "docker ps shows its container, which ends with the run"
}
