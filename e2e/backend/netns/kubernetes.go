package netns

import (
	"context"
	"fmt"
	"net"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/lab/kubernetes"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/target"
)

// apiServer is a Kubernetes API in namespaces of its own. Clusters borrow it one after the other: its start takes
// seconds, and deleting what plugins stored in it milliseconds.
//
// Nodes reach it at kubernetes.Address, on their loopback interface as the nodes of many installers do. This process
// passes the connections on, so that nothing that a test does to a node's network, nor a plugin, stands between.
type apiServer struct {
	*machine
	crds   []string
	api    kubernetes.API
	client *kubernetes.Client
}

const (
	// idleAPI is how long an API server waits for another cluster.
	idleAPI = 30 * time.Second
	// startOfAPI bounds how long one may take to start, and to clear away what a cluster stored.
	startOfAPI = time.Minute
	apiDir     = "/run/kubernetes"
)

// startAPI borrows an API server if the target has one, or starts it.
func (l *lab) startAPI(ctx context.Context) (err error) {
	spec := l.req.Target.API()
	if spec == nil {
		return nil
	}
	if len(l.kubeconfigPaths()) == 0 {
		return fmt.Errorf("%s has no key kubeconfig, and so no plugin would find the Kubernetes API of the target; "+
			"name the file with kubernetes.kubeconfig in the target file", l.req.Conflist.Path)
	}
	ctx, cancel := machinetime.WithTimeout(ctx, startOfAPI)
	defer cancel()
	fits := func(s *apiServer) bool { return slices.Equal(s.crds, spec.CRDs) }
	for {
		kept, found := l.backend.apis.take(fits)
		if !found {
			break
		}
		if kept.client.Ready(ctx) == nil {
			l.api = kept
			return nil
		}
		kept.close()
	}
	m, err := l.startMachine(ctx, "kubernetes")
	if err != nil {
		return err
	}
	s := &apiServer{machine: m, crds: spec.CRDs, api: kubernetes.New(apiDir)}
	s.client = kubernetes.NewClient(s.api, s.dial)
	if err := s.start(ctx, spec); err != nil {
		s.close()
		return fmt.Errorf("kubernetes: %w", err)
	}
	l.api = s
	return nil
}

// close ends the API.
func (s *apiServer) close() {
	s.client.Close()
	s.machine.close()
}

// dial connects to the API server in its namespace.
func (s *apiServer) dial(ctx context.Context) (conn net.Conn, err error) {
	err = s.inside(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", kubernetes.Address)
		return err
	})
	return conn, err
}

func (s *apiServer) start(ctx context.Context, spec *target.Kubernetes) error {
	if err := s.loopback(); err != nil {
		return err
	}
	files, err := s.api.Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := s.agent.WriteFile(ctx, agent.File{Path: f.Path, Mode: 0o600, Data: f.Data}); err != nil {
			return err
		}
	}
	for _, program := range []struct {
		name    string
		command []string
		shows   string // what it makes early
	}{
		{kubernetes.Etcd, s.api.EtcdCommand(), path.Join(apiDir, "etcd/member")},
		{kubernetes.APIServer, s.api.APIServerCommand(), path.Join(apiDir, "certificates/apiserver.crt")},
	} {
		err := s.agent.StartDaemon(ctx, agent.DaemonArgs{
			Name: program.name, Command: program.command, BinDirs: []string{BinDir}, File: program.shows,
			Within: startOfAPI,
		})
		if err != nil && strings.Contains(err.Error(), "executable file not found") {
			return fmt.Errorf("no program %s in --bin-dir or in the PATH of nodes; `make kubernetes` of cnitest's "+
				"repository builds etcd and kube-apiserver into its bin", program.name)
		}
		if err != nil {
			return err
		}
	}
	if err := s.awaitReady(ctx); err != nil {
		return err
	}
	for _, file := range spec.CRDs {
		definitions, err := kubernetes.ReadDefinitions(file)
		if err != nil {
			return err
		}
		for _, d := range definitions {
			if err := s.client.Define(ctx, d); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return nil
}

// awaitReady waits until the API server serves.
func (s *apiServer) awaitReady(ctx context.Context) error {
	for {
		err := s.client.Ready(ctx)
		if err == nil {
			return nil
		}
		for _, name := range []string{kubernetes.Etcd, kubernetes.APIServer} {
			state, asked := s.agent.Daemon(context.WithoutCancel(ctx), name)
			if asked != nil {
				return asked
			}
			if !state.Running {
				return fmt.Errorf("%s ended: %s", name, state.LastLines(5))
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// returnAPI clears the API server when the nodes are gone, and leaves it to other clusters. It may be called again.
func (l *lab) returnAPI() {
	s := l.api
	if l.api = nil; s == nil {
		return
	}
	go func() {
		ctx, cancel := machinetime.WithTimeout(context.Background(), startOfAPI)
		defer cancel()
		if err := s.client.Clear(ctx); err != nil {
			s.close()
			return
		}
		l.backend.apis.give(s, idleAPI)
	}()
}

// kubeconfigPaths returns where plugins look for a kubeconfig.
func (l *lab) kubeconfigPaths() []string {
	spec := l.req.Target.API()
	if spec == nil {
		return nil
	}
	if spec.Kubeconfig != "" {
		return []string{spec.Kubeconfig}
	}
	return conflist.Kubeconfigs(l.plan.Nodes[0].Conflist)
}

// kubeconfigs returns the files with which plugins find the API.
func (l *lab) kubeconfigs() []agent.File {
	var files []agent.File
	for _, path := range l.kubeconfigPaths() {
		files = append(files, agent.File{Path: path, Mode: 0o600, Data: l.api.api.Kubeconfig(kubernetes.Address)})
	}
	return files
}

// serveAPI lets a node reach the API server, until the node ends.
func (l *lab) serveAPI(m *machine) error {
	if l.api == nil {
		return nil
	}
	var listener net.Listener
	if err := m.inside(func() (err error) {
		listener, err = net.Listen("tcp", kubernetes.Address)
		return err
	}); err != nil {
		return err
	}
	f := newForwarder(listener, l.api.dial)
	m.services = append(m.services, f)
	go f.serve()
	return nil
}
