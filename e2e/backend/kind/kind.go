// Package kind is the backend of Kubernetes clusters: those of kind, whose nodes are containers, and any other that
// kubectl reaches.
//
// Nodes are the cluster's own, in the order workers, control planes; an agent runs on each, in all of the node's
// namespaces: on kind by `docker exec`, elsewhere in a privileged DaemonSet by `kubectl exec`. Pods are Kubernetes pods
// of an image that holds this program alone, attached by kubelet and its container runtime with the conflist that
// somebody has installed; agents enter them by their namespaces, which libcni's cache names. Services are Service
// objects, programmed by the cluster's own proxy.
//
// It installs no plugin and no conflist: that is the part of whoever wants to know whether the installed ones work. It
// adds no hosts around the nodes but a container on the nodes' network (host/lan), and where kind/with-docker.sh made
// the Docker host, that one too.
//
// It needs kubectl, and docker for kind's clusters; no Kubernetes module. Run its tests: go test ./e2e/backend/kind
package kind

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Options say which cluster is meant.
type Options struct {
	// Kubeconfig and Context are as kubectl's flags; empty means kubectl's defaults.
	Kubeconfig, Context string
	// Conflist is the one that is installed on the nodes, of which each has a rendered copy. Required.
	Conflist *conflist.File
	// Binary is the path of this program, static and for the nodes' architecture. Required.
	Binary string
	// Image is an image for pods with this program as /cnitest, which the nodes pull; docker is not used then. If it is
	// empty, kind's nodes get an image that is made here; other clusters need one.
	Image string
	// Log is told what takes some time, in a line; nil means nobody.
	Log func(text string)
}

// Backend is a cluster to which a connection is open. Close it.
type Backend struct {
	options Options
	api     *api
	image   *podImage
	nodes   []*node
	outside []*outsider
	claim   *claim // nil before anything was made
	watch   *watch

	mu      sync.Mutex
	started int // clusters, of which each has a name for what it makes
}

// MissingProgramError is a program that the backend drives and that is not there.
type MissingProgramError struct{ Program, Install string }

// Error says how to install it.
func (e *MissingProgramError) Error() string {
	return fmt.Sprintf("backend kind: no program %s; %s", e.Program, e.Install)
}

// find looks for a program.
func find(program, install string) error {
	if _, err := exec.LookPath(program); err != nil {
		return &MissingProgramError{program, install}
	}
	return nil
}

func findKubectl() error {
	return find("kubectl", "kubernetes.io/docs/tasks/tools says how to install it; make kind-node-image builds one")
}

func findDocker() error {
	return find("docker", "docs.docker.com/engine/install says how to install it, on Debian apt-get install docker.io")
}

// Open connects to the cluster, makes a namespace in it and prepares its nodes. What an earlier run left is removed; a
// cluster that another run uses, or that has a namespace of that name from somebody else, is refused and left as it is.
// On an error nothing is left.
func Open(ctx context.Context, options Options) (_ *Backend, err error) {
	if err := findKubectl(); err != nil {
		return nil, err
	}
	if options.Log == nil {
		options.Log = func(string) {}
	}
	b := &Backend{options: options}
	defer func() {
		if err != nil {
			_ = b.Close()
		}
	}()
	if b.api, err = newAPI(ctx, options.Kubeconfig, options.Context); err != nil {
		return nil, err
	}
	if b.nodes, err = findNodes(ctx, b.api); err != nil {
		return nil, err
	}
	if b.image, err = newPodImage(options.Binary, options.Image); err != nil {
		return nil, err
	}
	if err := b.chooseWay(); err != nil {
		return nil, err
	}
	if err := b.api.nodesReady(ctx); err != nil {
		return nil, err
	}
	// Whatever refuses has refused by now: from here on the cluster is changed.
	if b.claim, err = b.api.claimNamespace(ctx, options.Log, renewPatience); err != nil {
		return nil, err
	}
	if err := b.claim.usable(ctx); err != nil {
		return nil, err
	}
	if err := b.uncordonLeft(ctx); err != nil {
		return nil, err
	}
	if err := b.prepareNodes(ctx); err != nil {
		return nil, err
	}
	if b.outside, err = b.startOutside(ctx); err != nil {
		return nil, err
	}
	b.watch = startWatch(b.api)
	return b, nil
}

// Name returns "kind".
func (b *Backend) Name() string { return "kind" }

// Exclusive returns true: the nodes exist once.
func (b *Backend) Exclusive() bool { return true }

// HasRuntime returns true: kubelets attach the pods.
func (b *Backend) HasRuntime() bool { return true }

// Missing says why a scenario cannot run on a cluster.
func (b *Backend) Missing(_ context.Context, needs scenario.Needs) error {
	absent := slices.DeleteFunc(slices.Clone(needs.Hosts), func(name string) bool {
		return slices.ContainsFunc(b.outside, func(o *outsider) bool { return o.name == name })
	})
	if reason := beyond(needs); reason != "" {
		return &cluster.BeyondError{Reason: reason}
	}
	switch {
	case needs.Nodes > len(b.nodes):
		return fmt.Errorf("it takes %d nodes, and the cluster has %d", needs.Nodes, len(b.nodes))
	case len(absent) > 0:
		return fmt.Errorf("host/%s takes part, and around this cluster there is none", strings.Join(absent, ", host/"))
	}
	return nil
}

// beyond returns what a scenario asks that nobody asks of a cluster in use; empty where there is nothing.
func beyond(needs scenario.Needs) string {
	switch {
	case len(needs.Runtime) > 0:
		return "it takes the part of a container runtime, and here a kubelet's own has it: it " +
			strings.Join(needs.Runtime, ", ")
	case needs.Reboot:
		return "it reboots a node"
	case len(needs.Sysctls) > 0:
		return "it changes settings of nodes, which are the cluster's: " + strings.Join(needs.Sysctls, ", ")
	case needs.SecondNIC:
		return "it chooses the NICs of nodes, which are the cluster's"
	case needs.ForwardPolicy:
		return "it changes what the firewall of a node forwards, on which the cluster depends"
	case needs.LocalAddresses:
		return "it gives nodes addresses of their own"
	case needs.Cloud, needs.Daemon:
		return "it changes the plugin's daemon or its cloud, which are the cluster's"
	}
	return ""
}

// Start begins to use the cluster's nodes: in the order of the request, those of the cluster.
func (b *Backend) Start(ctx context.Context, req cluster.Request) (_ cluster.Cluster, err error) {
	if len(req.Nodes) > len(b.nodes) {
		return nil, fmt.Errorf("want %d nodes, and the cluster has %d", len(req.Nodes), len(b.nodes))
	}
	b.mu.Lock()
	b.started++
	l := &lab{
		backend: b, name: fmt.Sprintf("c%d", b.started), pods: map[string]*livePod{},
		services: map[string]*liveService{},
	}
	b.mu.Unlock()
	defer func() {
		if err != nil {
			_ = l.Close()
		}
	}()
	return l, l.start(ctx, req)
}

// closeTimeout bounds what the end takes. Pods have no grace period.
const closeTimeout = 2 * time.Minute

// Close takes everything out of the cluster that the backend made there, and where it made nothing, nothing. Its error
// has what the watch on the nodes saw after the last scenario. It may be called again.
func (b *Backend) Close() error {
	if b.api == nil {
		return nil
	}
	var errs []error
	if b.watch != nil {
		b.watch.stop()
		if trouble := b.watch.trouble(); trouble != nil {
			errs = append(errs, fmt.Errorf("after the last scenario: %w", trouble))
		}
	}
	if b.claim != nil {
		// The namespace goes last: without it the cluster is the next run's.
		ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
		errs = append(errs, b.clean(ctx))
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), closeTimeout)
		errs = append(errs, b.claim.release(ctx))
		cancel()
	}
	errs = append(errs, b.api.close())
	b.api, b.claim, b.watch, b.nodes, b.outside = nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

// binaryPath returns where a node has this program.
func (i *podImage) binaryPath() string { return filepath.Join(cacheDir, i.sum, "cnitest") }

// explain adds what a program said.
func explain(err error, stderr string) error {
	if text := strings.TrimSpace(stderr); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// output runs a program to its end.
func output(ctx context.Context, stdin *os.File, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if stdin != nil {
		cmd.Stdin = stdin
	}
	text, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(argv[:min(len(argv), 3)], " "), explain(cmp.Or(context.Cause(ctx), err),
			stderr.String()))
	}
	return string(text), err
}
