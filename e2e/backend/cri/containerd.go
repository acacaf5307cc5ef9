package cri

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// These are paths on the nodes.
const (
	toolDir    = "/opt/cni/containerd"
	oldToolDir = "/opt/cni/containerd-old"
	rootDir    = "/var/lib/containerd"
	stateDir   = "/run/containerd"
	socket     = stateDir + "/containerd.sock"
	configFile = stateDir + "/config.toml"
)

const (
	// daemonName is the agent's name of containerd.
	daemonName = "containerd"
	// image is the name of the sandboxes' image in pause.tar.
	image = "localhost/cnitest/pause:1"
	// imageNamespace is containerd's namespace for the CRI.
	imageNamespace = "k8s.io"
	// startTime is the time in which containerd must start and end. It takes about half a second.
	startTime = 30 * time.Second
	// lostTimeout limits the question whether a containerd still answers.
	lostTimeout = 20 * time.Second
)

// Mounts returns what a node needs beside what plugins do.
func Mounts() netns.Mounts {
	return netns.Mounts{Tmpfs: []string{rootDir, stateDir}, ControlGroups: true}
}

// Configuration is what a containerd of a node is told about its network.
type Configuration struct {
	// BinDirs are the directories of plugins; the last one is the lab's own.
	BinDirs     []string
	ConflistDir string
}

// Containerd is a containerd on a node.
type Containerd struct {
	node   *cluster.Node
	nodes  netns.Lab
	tools  *tools
	config Configuration
	conn   *grpc.ClientConn
	api    criapi.RuntimeServiceClient
	images criapi.ImageServiceClient
}

// start starts a containerd on a node of StartNodes, and gives it the sandboxes' image.
func (t *tools) start(
	ctx context.Context, nodes netns.Lab, node *cluster.Node, config Configuration,
) (_ *Containerd, err error) {
	c := &Containerd{node: node, nodes: nodes, tools: t, config: config}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", node.Name, err)
			c.close()
		}
	}()
	if err := c.boot(ctx); err != nil {
		return nil, err
	}
	return c, c.importImage(ctx)
}

// configure writes the configuration for the version of containerd.
func (c *Containerd) configure(ctx context.Context) error {
	if c.tools.first() {
		if err := c.tools.linkPlugins(ctx, c.node.Agent, c.config.BinDirs); err != nil {
			return err
		}
	}
	var text strings.Builder
	if err := c.tools.config().Execute(&text, map[string]any{
		"root": rootDir, "state": stateDir, "socket": socket, "image": image, "tools": c.tools.node,
		"binDirs": c.config.BinDirs, "lastDir": c.config.BinDirs[len(c.config.BinDirs)-1],
		"conflistDir": c.config.ConflistDir,
	}); err != nil {
		return err
	}
	return c.node.Agent.WriteFile(ctx, agent.File{Path: configFile, Mode: 0o644, Data: []byte(text.String())})
}

// boot starts containerd on a node on which none ran since the node started.
func (c *Containerd) boot(ctx context.Context) (err error) {
	if err := c.configure(ctx); err != nil {
		return err
	}
	// A containerd that starts again listens at the same path.
	c.conn, err = grpc.NewClient("unix://"+c.nodes.PathTo(&c.node.Place, socket),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 5 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond,
			},
			MinConnectTimeout: startTime,
		}))
	if err != nil {
		return err
	}
	c.api, c.images = criapi.NewRuntimeServiceClient(c.conn), criapi.NewImageServiceClient(c.conn)
	return c.Up(ctx)
}

// Up starts containerd when it does not run, and waits until it answers.
func (c *Containerd) Up(ctx context.Context) error {
	if err := c.node.Agent.StartDaemon(ctx, agent.DaemonArgs{
		Name: daemonName, Command: []string{path.Join(c.tools.node, "containerd"), "--config", configFile},
		Socket: socket, Within: startTime, Env: []string{"TMPDIR=" + stateDir},
	}); err != nil {
		return err
	}
	// It listens before it has found its sandboxes again.
	ctx, cancel := machinetime.WithTimeout(ctx, startTime)
	defer cancel()
	return c.poll(ctx, "containerd does not get ready", func() (bool, error) {
		_, err := c.api.ListPodSandbox(ctx, &criapi.ListPodSandboxRequest{})
		// Version 1.x has no code for it.
		if status.Code(err) == codes.Unavailable ||
			strings.HasSuffix(status.Convert(err).Message(), "server is not initialized yet") {
			return false, nil
		}
		return true, c.failed("ListPodSandbox", err)
	})
}

// poll calls done until it returns true or an error.
func (c *Containerd) poll(ctx context.Context, what string, done func() (bool, error)) error {
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Kill ends containerd as a crash does. Its sandboxes go on.
func (c *Containerd) Kill(ctx context.Context) error { return c.node.Agent.KillDaemon(ctx, daemonName) }

// Stop ends containerd as a service manager does. Its sandboxes go on.
func (c *Containerd) Stop(ctx context.Context) error { return c.node.Agent.StopDaemon(ctx, daemonName) }

// importImage loads the sandboxes' image, and waits until the CRI knows it.
func (c *Containerd) importImage(ctx context.Context) error {
	reply, err := c.node.Agent.Command(ctx, agent.CommandArgs{Argv: []string{
		path.Join(c.tools.node, "ctr"), "--address", socket, "--namespace", imageNamespace, "images", "import",
		path.Join(c.tools.node, "pause.tar"),
	}})
	if err != nil {
		return err
	}
	if reply.ExitCode != 0 {
		return fmt.Errorf("ctr images import: exit status %d: %s", reply.ExitCode, strings.TrimSpace(reply.Output))
	}
	return c.poll(ctx, "no image "+image, func() (bool, error) {
		reply, err := c.images.ImageStatus(ctx, &criapi.ImageStatusRequest{Image: &criapi.ImageSpec{Image: image}})
		return reply.GetImage() != nil, c.failed("ImageStatus", err)
	})
}

// log returns the end of what containerd printed.
func (c *Containerd) log(ctx context.Context) string {
	state, err := c.node.Agent.Daemon(ctx, daemonName)
	if err != nil {
		return err.Error()
	}
	return state.Output
}

// close closes the connection. Containerd ends with its node.
func (c *Containerd) close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
}
