package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// node is a node of the cluster.
type node struct {
	name      string
	addresses []netip.Addr
	control   bool // plane
	// container is the name of the container of kind's node; empty on other clusters.
	container string
	// carrier is the pod through which a node without such a container is reached.
	carrier string
	// drained is true if a killed run drained the node.
	drained bool
	kubectl []string
}

// nodeList contains the fields of the API's object that are used here.
type nodeList struct {
	Items []struct {
		Metadata struct {
			Name        string            `json:"name"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Spec struct {
			ProviderID string `json:"providerID"`
		} `json:"spec"`
		Status struct {
			Addresses []struct {
				Type    string `json:"type"`
				Address string `json:"address"`
			} `json:"addresses"`
			Conditions []condition `json:"conditions"`
		} `json:"status"`
	} `json:"items"`
}

// condition is a condition of a node or pod.
type condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// findNodes returns workers before control planes, since the first node of a scenario is usually the most important
// one. It returns an error if there are no nodes.
func findNodes(ctx context.Context, a *api) ([]*node, error) {
	var list nodeList
	if err := a.Get(ctx, "/api/v1/nodes", &list); err != nil {
		return nil, err
	}
	var nodes []*node
	for _, item := range list.Items {
		n := &node{name: item.Metadata.Name, kubectl: a.kubectl}
		_, n.control = item.Metadata.Labels["node-role.kubernetes.io/control-plane"]
		_, n.drained = item.Metadata.Annotations[drainedAnnotation]
		for _, address := range item.Status.Addresses {
			if ip, err := netip.ParseAddr(address.Address); err == nil && address.Type == "InternalIP" {
				n.addresses = append(n.addresses, ip)
			}
		}
		if len(n.addresses) == 0 {
			return nil, fmt.Errorf("node %s: it has no InternalIP", n.name)
		}
		// The form of kind's provider IDs: kind://docker/CLUSTER/CONTAINER.
		if rest, ok := strings.CutPrefix(item.Spec.ProviderID, "kind://docker/"); ok {
			n.container = rest[strings.LastIndex(rest, "/")+1:]
		}
		nodes = append(nodes, n)
	}
	if len(nodes) == 0 {
		return nil, errors.New("the cluster has no nodes")
	}
	slices.SortStableFunc(nodes, func(a, b *node) int {
		switch {
		case a.control == b.control:
			return strings.Compare(a.name, b.name)
		case a.control:
			return 1
		}
		return -1
	})
	return nodes, nil
}

// chooseWay decides how the nodes are reached. Its error says what is missing.
func (b *Backend) chooseWay() error {
	if b.image.pulled {
		for _, n := range b.nodes {
			n.container = ""
		}
		return nil
	}
	if slices.ContainsFunc(b.nodes, func(n *node) bool { return n.container == "" }) {
		return errors.New("the nodes are not containers of kind: want --image, an image of this program (FROM " +
			"scratch, /cnitest) that they can pull")
	}
	return findDocker()
}

// prepareNodes copies this program and the pods' image to the nodes.
func (b *Backend) prepareNodes(ctx context.Context) error {
	if b.image.pulled {
		return b.carry(ctx)
	}
	archive, err := os.CreateTemp("", "cnitest-image-")
	if err != nil {
		return err
	}
	defer archive.Close()
	// The file stays open and readable. It is removed now, so that it is gone however this program ends.
	if err := os.Remove(archive.Name()); err != nil {
		return err
	}
	b.options.Log("loading the pods' image into the nodes")
	if err := b.image.archive(archive); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range b.nodes {
		group.Go(func() error {
			if err := n.install(ctx, b.image); err != nil {
				return fmt.Errorf("node %s: %w", n.name, err)
			}
			if err := n.importImage(ctx, fmt.Sprintf("/proc/self/fd/%d", archive.Fd())); err != nil {
				return fmt.Errorf("node %s: import the pods' image: %w", n.name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// install copies this program to a kind node. The file appears under its name only when it is complete.
func (n *node) install(ctx context.Context, image *podImage) error {
	file, err := os.Open(image.binary)
	if err != nil {
		return err
	}
	defer file.Close()
	path := image.binaryPath()
	_, err = output(ctx, file, "docker", "exec", "-i", n.container, "sh", "-c",
		fmt.Sprintf("mkdir -p %s && cat >%s.new && chmod 755 %s.new && mv %s.new %s", filepath.Dir(path), path, path,
			path, path))
	return err
}

// importImage imports the image as `kind load image-archive` does.
func (n *node) importImage(ctx context.Context, archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = output(ctx, file, "docker", "exec", "-i", n.container, "ctr", "--namespace=k8s.io", "images", "import",
		"--digests", "-")
	return err
}

// argv returns the command that starts an agent on the node.
func (n *node) argv(image *podImage) []string {
	if n.container != "" {
		return []string{"docker", "exec", "-i", n.container, image.binaryPath(), NodeAgentCommand}
	}
	return append(slices.Clone(n.kubectl), "exec", "-i", "--namespace="+namespace, n.carrier, "--", "/cnitest",
		NodeAgentCommand, hostRoot)
}

// process is an agent behind a program that connects to it.
type process struct {
	agent *agent.Client
	cmd   *exec.Cmd
	once  sync.Once
}

// startAgent starts an agent and waits for its first answer.
func startAgent(ctx context.Context, name string, argv []string) (_ *process, err error) {
	p := &process{cmd: exec.Command(argv[0], argv[1:]...)}
	// A terminal's interrupt must reach only the harness, which then ends its agents.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stderr bytes.Buffer
	p.cmd.Stderr = &stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: start agent: %w", name, err)
	}
	p.agent = agent.NewClient(name, agent.Pipe{ReadCloser: stdout, WriteCloser: stdin})
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := p.agent.Hello(ctx); err != nil {
		p.close()
		return nil, explain(err, stderr.String())
	}
	return p, nil
}

// close ends the agent by closing its input.
func (p *process) close() {
	p.once.Do(func() {
		_ = p.agent.Close()
		done := make(chan struct{})
		go func() {
			_ = p.cmd.Wait()
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			_ = p.cmd.Process.Kill()
			<-done
		}
	})
}

// NodeAgentCommand is the name of the command that calls NodeAgentMain.
const NodeAgentCommand = "node-agent"

// NodeAgentMain serves as the agent of an existing machine, in all of the machine's namespaces, until the input ends.
// If not empty, root is the path at which the machine's root is mounted.
func NodeAgentMain(root string, in io.ReadCloser, out io.WriteCloser) error {
	if root != "" {
		if err := errors.Join(syscall.Chroot(root), os.Chdir("/")); err != nil {
			return fmt.Errorf("root %s: %w", root, err)
		}
	}
	options := agent.Options{Kinds: nodeKinds()}
	for _, dir := range []string{cni.CacheDir, "/run/cni"} {
		options.Files = append(options.Files, snapshot.FileTree{Name: dir, FS: os.DirFS(dir)})
	}
	return agent.Serve(agent.Pipe{ReadCloser: in, WriteCloser: out}, options)
}

// nodeKinds returns the kinds of state that are compared on a node on which others work at the same time. Of the files
// only those are compared that runtimes and plugins write.
func nodeKinds() []string {
	return snapshot.KindsThat(func(k snapshot.Kind) bool { return k.Quiet })
}
