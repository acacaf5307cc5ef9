package kind

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cnitest/cnitest/e2e/internal/kubeapi"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// api talks to a cluster's API server through `kubectl proxy`, which knows the server's address and the user's
// credentials. The proxy listens on a socket in a directory that nobody else can enter.
type api struct {
	kubectl []string
	dir     string
	cmd     *exec.Cmd
	stdin   io.Closer // cmd ends when it is closed
	kubeapi.Client
}

func newAPI(ctx context.Context, kubeconfig, kubeContext string) (_ *api, err error) {
	a := &api{kubectl: []string{"kubectl"}}
	if kubeconfig != "" {
		a.kubectl = append(a.kubectl, "--kubeconfig="+kubeconfig)
	}
	if kubeContext != "" {
		a.kubectl = append(a.kubectl, "--context="+kubeContext)
	}
	if a.dir, err = os.MkdirTemp("", "cnitest-kube-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = a.close()
		}
	}()
	socket := filepath.Join(a.dir, "socket")
	argv := append([]string{"-c", proxyScript, a.dir}, a.kubectl...)
	a.cmd = exec.Command("sh", append(argv, "proxy", "--unix-socket="+socket)...)
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	a.cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	a.cmd.Stderr = &stderr
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if a.stdin, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("kubectl proxy: %w", err)
	}
	// It prints its address once it listens.
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		_ = a.cmd.Wait()
		return nil, fmt.Errorf("kubectl proxy: %w", explain(err, stderr.String()))
	}
	a.URL = "http://localhost"
	a.HTTP = &http.Client{Timeout: requestTimeout, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	if err := a.Get(ctx, "/api/v1/namespaces/default", nil); err != nil {
		return nil, fmt.Errorf("the cluster does not answer; does kubectl get nodes? %w", explain(err, stderr.String()))
	}
	return a, nil
}

// requestTimeout limits a request whose caller sets no limit.
const requestTimeout = time.Minute

// proxyScript runs a program until the script's input ends, which happens when the process that started it ends. It
// then removes the directory that is its first argument.
const proxyScript = `exec 3<&0
"$@" 3<&- & proxy=$!
{ read -r _ <&3; kill -9 $proxy; } >/dev/null 2>&1 & reader=$!
wait $proxy
status=$?
kill $reader 2>/dev/null
rm -rf "$0"
exit $status`

func (a *api) close() error {
	if a.cmd != nil && a.cmd.Process != nil {
		_ = a.stdin.Close()
		_ = a.cmd.Wait()
	}
	return os.RemoveAll(a.dir)
}

// object is a Kubernetes object of any kind.
type object = kubeapi.Object

// pollInterval is the interval of polls while waiting for a cluster: short compared with what kubelets do, long
// compared with a request.
const pollInterval = 100 * time.Millisecond

// until polls until done returns true or the API server refuses a request. It ignores other errors, such as those while
// etcd chooses a leader or after `kubectl proxy` lost its connection. If the limit, in time that the machine gives,
// passes, its error says what it waited for, and contains the last of these errors.
func until(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	limited, cancel := machinetime.WithTimeoutCause(ctx, limit, fmt.Errorf("%s: not within %s", what, limit))
	defer cancel()
	for {
		ok, err := done()
		if ok || kubeapi.Refused(err) {
			return err
		}
		select {
		case <-limited.Done():
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("%w: %w", context.Cause(limited), err)
			}
			return context.Cause(limited)
		case <-time.After(pollInterval):
		}
	}
}

// gone waits until there is no object at a path.
func (a *api) gone(ctx context.Context, limit time.Duration, path, what string) error {
	return until(ctx, limit, what, a.isGone(ctx, path))
}

// isGone returns a condition of until: there is no object at a path.
func (a *api) isGone(ctx context.Context, path string) func() (bool, error) {
	return func() (bool, error) {
		err := a.Get(ctx, path, nil)
		if kubeapi.IsStatus(err, http.StatusNotFound) {
			return true, nil
		}
		return false, err
	}
}
