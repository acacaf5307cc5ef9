// Package kind is the backend for Kubernetes clusters: those of kind, whose nodes are containers, and all others that
// kubectl reaches.
//
// Its nodes are the cluster's nodes, workers before control planes. An agent runs on each in all of the node's
// namespaces; it is started by `docker exec` on kind's nodes, and by `kubectl exec` in a privileged DaemonSet on
// others. Pods are Kubernetes pods of an image that contains only this program. Kubelets and their container runtimes
// attach them with the conflist that is installed on the nodes. Agents enter the pods through their namespaces, which
// they find in libcni's cache. Services are Service objects, and the cluster's own proxy writes their rules.
//
// It installs neither plugins nor conflists: that is up to the user, who wants to test the installed ones. The only
// hosts that it adds are a container on the nodes' network (host/lan) and, if kind/with-docker.sh made the Docker host,
// that host.
//
// It needs kubectl, and docker for kind's clusters. It does not import any module of Kubernetes. Run its tests: go test
// ./e2e/backend/kind
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

// Options select the cluster.
type Options struct {
	// Kubeconfig and Context are the values of kubectl's flags; empty means kubectl's defaults.
	Kubeconfig, Context string
	// Conflist is the conflist that is installed on the nodes. Each node may have its own rendered copy. Required.
	Conflist *conflist.File
	// Binary is the path of this program: static, and built for the nodes' architecture. Required.
	Binary string
	// Image is an image with this program as /cnitest, which the nodes pull; docker is then not used. If empty, an
	// image is made for kind's nodes; other clusters need one.
	Image string
	// Log is called with a line of text before each operation that takes some time; nil means that nothing is called.
	Log func(text string)
}

// Backend is a cluster with an open connection. Close it.
type Backend struct {
	options Options
	api     *api
	image   *podImage
	nodes   []*node
	outside []*outsider
	claim   *claim // nil until something was made in the cluster
	watch   *watch

	mu      sync.Mutex
	started int // number of clusters started; part of the names of objects, which must differ
}

// MissingProgramError is the error if a program that the backend runs is missing.
type MissingProgramError struct{ Program, Install string }

// Error names the program and says how to install it.
func (e *MissingProgramError) Error() string {
	return fmt.Sprintf("backend kind: no program %s; %s", e.Program, e.Install)
}

// find returns an error if a program is missing.
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

// Open connects to the cluster, makes a namespace in it and prepares its nodes. It removes leftovers of an earlier run.
// If another run uses the cluster, or if somebody else made a namespace of that name, it returns an error and changes
// nothing. After an error nothing is left behind.
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
	// All checks have passed: from here on the cluster is changed.
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

// Exclusive returns true: there is only one set of nodes.
func (b *Backend) Exclusive() bool { return true }

// HasRuntime returns true: kubelets attach the pods.
func (b *Backend) HasRuntime() bool { return true }

// Missing returns the reason why a scenario cannot run on a cluster, or nil.
func (b *Backend) Missing(_ context.Context, needs scenario.Needs) error {
	absent := slices.DeleteFunc(slices.Clone(needs.Hosts), func(name string) bool {
		return slices.ContainsFunc(b.outside, func(o *outsider) bool { return o.name == name })
	})
	if reason := beyond(needs); reason != "" {
		return &cluster.BeyondError{Reason: reason}
	}
	switch {
	case needs.Nodes > len(b.nodes):
		return fmt.Errorf("it needs %d nodes, and the cluster has %d", needs.Nodes, len(b.nodes))
	case len(absent) > 0:
		return fmt.Errorf("it uses host/%s, which does not exist around this cluster", strings.Join(absent, ", host/"))
	}
	return nil
}

// beyond returns the first need of a scenario that a cluster in use cannot meet, or an empty string.
func beyond(needs scenario.Needs) string {
	switch {
	case len(needs.Runtime) > 0:
		return "it plays a container runtime, and here the kubelet's own attaches pods: it " +
			strings.Join(needs.Runtime, ", ")
	case needs.Reboot:
		return "it reboots a node"
	case len(needs.Events) > 0:
		return "it takes uplinks down and flushes rules, on which the cluster depends: " +
			strings.Join(needs.Events, ", ")
	case len(needs.Sysctls) > 0:
		return "it changes settings of nodes, which are the cluster's: " + strings.Join(needs.Sysctls, ", ")
	case needs.SecondNIC:
		return "it chooses the NICs of nodes, which are the cluster's"
	case needs.ForwardPolicy:
		return "it changes what the firewall of a node forwards, on which the cluster depends"
	case needs.Hostile:
		return "it sends hostile traffic, and others use the cluster"
	case needs.LocalAddresses:
		return "it gives nodes addresses of their own"
	case needs.Cloud, needs.Daemon:
		return "it changes the plugin's daemon or its cloud, which are the cluster's"
	}
	return ""
}

// Start begins to use the cluster's nodes. The first node of the request is the cluster's first node, and so on.
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

// closeTimeout limits the end of a cluster. Pods have no grace period.
const closeTimeout = 2 * time.Minute

// Close removes everything that the backend made in the cluster. Its error includes problems that the watch saw on the
// nodes after the last scenario. It may be called again.
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
		// Delete the namespace last: without it another run may start.
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

// binaryPath returns the path of this program on a node.
func (i *podImage) binaryPath() string { return filepath.Join(cacheDir, i.sum, "cnitest") }

// explain adds the output of a program to its error.
func explain(err error, stderr string) error {
	if text := strings.TrimSpace(stderr); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// output runs a program and returns its output.
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
