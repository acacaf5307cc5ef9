package kind

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// api talks to a cluster's API server through `kubectl proxy`, which knows the server's address and the user's
// credentials. The proxy listens on a socket in a directory that nobody else can enter.
type api struct {
	kubectl []string
	dir     string
	cmd     *exec.Cmd
	stdin   io.Closer // cmd ends when it is closed
	client  *http.Client
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
	a.client = &http.Client{Timeout: requestTimeout, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	if err := a.get(ctx, "/api/v1/namespaces/default", nil); err != nil {
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

// refusal is an answer of the API server other than success.
type refusal struct {
	method, path string
	status       int
	message      string
}

func (e *refusal) Error() string {
	return fmt.Sprintf("%s %s: %d %s", e.method, e.path, e.status, e.message)
}

// isStatus reports whether an error is an answer with a status.
func isStatus(err error, status int) bool {
	var r *refusal
	return errors.As(err, &r) && r.status == status
}

// refused reports whether an error is an answer that stays the same if the request is repeated; 408 and 429 ask for a
// repetition.
func refused(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.status >= 400 && r.status < 500 && r.status != http.StatusRequestTimeout &&
		r.status != http.StatusTooManyRequests
}

// do makes a request; body and reply may be nil.
func (a *api) do(ctx context.Context, method, path string, body, reply any) error {
	var text io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		text = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, text)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	answer, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		var status struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(data, &status) != nil || status.Message == "" {
			status.Message = strings.TrimSpace(string(data))
		}
		return &refusal{method, path, answer.StatusCode, status.Message}
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(data, reply)
}

func (a *api) get(ctx context.Context, path string, reply any) error {
	return a.do(ctx, http.MethodGet, path, nil, reply)
}

// object is a Kubernetes object of any kind.
type object = map[string]any

func (a *api) create(ctx context.Context, path string, o, reply any) error {
	return a.do(ctx, http.MethodPost, path, o, reply)
}

// patch merges a change into an object; null deletes a field (RFC 7396).
func (a *api) patch(ctx context.Context, path string, change object) error {
	return a.do(ctx, http.MethodPatch, path, change, nil)
}

// remove deletes an object. It is no error if the object does not exist.
func (a *api) remove(ctx context.Context, path string) error {
	if err := a.do(ctx, http.MethodDelete, path, nil, nil); err != nil && !isStatus(err, http.StatusNotFound) {
		return err
	}
	return nil
}

// pollInterval is the interval of polls while waiting for a cluster: short compared with what kubelets do, long
// compared with a request.
const pollInterval = 100 * time.Millisecond

// until polls until done returns true or the API server refuses a request. It ignores other errors, such as those while
// etcd chooses a leader or after `kubectl proxy` lost its connection. If the limit passes, its error says what it
// waited for, and contains the last of these errors.
func until(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s: not within %s", what, limit))
	defer cancel()
	for {
		ok, err := done()
		if ok || refused(err) {
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
	return until(ctx, limit, what, func() (bool, error) {
		err := a.get(ctx, path, nil)
		if isStatus(err, http.StatusNotFound) {
			return true, nil
		}
		return false, err
	})
}
