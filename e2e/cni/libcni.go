package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

// CacheDir is where libcni keeps the results of ADD unless a runtime says otherwise.
const CacheDir = "/var/lib/cni"

// Run runs a verb through libcni. The error concerns the request itself; the answers of the plugins are in the outcome.
// after, if not nil, is called after each plugin. Calls may be made concurrently for different containers.
func Run(ctx context.Context, req Request, after func(Call)) (*Outcome, error) {
	return RunBy(ctx, req, after, Exec)
}

// RunBy does the same as Run with another function to run a binary, which has the parameters of Exec.
func RunBy(ctx context.Context, req Request, after func(Call),
	exec func(ctx context.Context, path string, env []string, stdin []byte) Call,
) (*Outcome, error) {
	list, err := libcni.ConfListFromBytes(req.Conflist)
	if err != nil {
		return nil, fmt.Errorf("conflist: %w", err)
	}
	timeout := req.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := machinetime.WithTimeout(ctx, timeout)
	defer cancel()

	rec := &recorder{after: after, exec: exec}
	config := libcni.NewCNIConfigWithCacheDir(req.BinDirs, CacheDir, rec)
	rt := &libcni.RuntimeConf{
		ContainerID: req.ContainerID, NetNS: req.Netns, IfName: req.IfName,
		Args: req.Args, CapabilityArgs: req.CapabilityArgs,
	}
	start := time.Now()
	result, err := run(ctx, config, list, rt, req)
	out := &Outcome{Calls: rec.calls, Duration: time.Since(start), Failure: rec.failure(err)}
	if err == nil && result != nil {
		if out.Result, err = encode(result); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func run(ctx context.Context, c *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf,
	req Request,
) (types.Result, error) {
	switch req.Verb {
	case Add:
		return c.AddNetworkList(ctx, list, rt)
	case Check:
		return nil, c.CheckNetworkList(ctx, list, rt)
	case Del:
		return nil, c.DelNetworkList(ctx, list, rt)
	case Status:
		return nil, c.GetStatusNetworkList(ctx, list)
	case GC:
		// The list is never nil: an empty one says that no attachment is valid (SPEC.md, GC).
		args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
		for _, a := range req.ValidAttachments {
			args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{
				ContainerID: a.ContainerID, IfName: a.IfName,
			})
		}
		return nil, c.GCNetworkList(ctx, list, args)
	}
	return nil, fmt.Errorf("verb %q: libcni runs ADD, CHECK, DEL, GC and STATUS", req.Verb)
}

// encode returns the result in its own version, as the plugin gave it to libcni.
func encode(result types.Result) (json.RawMessage, error) {
	var buf bytes.Buffer
	if err := result.PrintTo(&buf); err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	return buf.Bytes(), nil
}

// recorder implements the interface by which libcni runs plugins (invoke.Exec). It keeps every call.
type recorder struct {
	version.PluginDecoder
	after func(Call)
	exec  func(ctx context.Context, path string, env []string, stdin []byte) Call

	calls []Call // libcni runs one plugin at a time
}

// ExecPlugin runs a plugin. Its error is the error that the plugin printed.
func (r *recorder) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	call := r.exec(ctx, path, Environ(environ), stdin)
	err := decodeFailure(call)
	r.calls = append(r.calls, call)
	if r.after != nil {
		r.after(call)
	}
	if err != nil {
		return nil, err
	}
	return []byte(call.Stdout), nil
}

// FindInPath finds a plugin's binary as libcni does.
func (r *recorder) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

// failure attributes an error of libcni to the plugin that caused it: the first one, if GC went on.
func (r *recorder) failure(err error) *Error {
	if err == nil {
		return nil
	}
	var plugin *Error
	if errors.As(err, &plugin) {
		return plugin
	}
	fail := &Error{Msg: err.Error()}
	var coded *types.Error
	if errors.As(err, &coded) {
		fail = &Error{Code: coded.Code, Msg: coded.Msg, Details: coded.Details}
	}
	if n := len(r.calls); n > 0 && r.calls[n-1].Verb == Add {
		// libcni stops at the first result that it cannot read.
		if last := r.calls[n-1]; !isResult(last.Stdout) {
			fail = &Error{
				Plugin: last.Plugin, Msg: fmt.Sprintf("stdout of ADD is no result: %v", err),
				Details: strings.TrimSpace(last.Stdout),
			}
		}
	}
	return fail
}

func isResult(stdout string) bool {
	_, err := create.CreateFromBytes([]byte(stdout))
	return err == nil
}

// decodeFailure returns the plugin's error object, or an error that says what the plugin printed instead.
func decodeFailure(call Call) *Error {
	if call.ExitCode == 0 && call.Failure == "" {
		return nil
	}
	fail := &Error{Plugin: call.Plugin}
	var object types.Error
	if call.Failure != "" {
		fail.Msg = call.Failure
	} else if err := json.Unmarshal([]byte(call.Stdout), &object); err == nil &&
		(object.Msg != "" || object.Code != 0) {
		fail.Code, fail.Msg, fail.Details = object.Code, object.Msg, object.Details
		return fail
	} else {
		fail.Msg = fmt.Sprintf("exit status %d without an error object on stdout", call.ExitCode)
	}
	if text := strings.TrimSpace(call.Stdout + "\n" + call.Stderr); text != "" {
		fail.Details = text
	}
	return fail
}

// CachePath returns the file in which libcni keeps the result of an attachment.
func CachePath(network, containerID, ifName string) string {
	return fmt.Sprintf("%s/results/%s-%s-%s", CacheDir, network, containerID, ifName)
}

// FindPlugin returns the path of a plugin's binary.
func FindPlugin(plugin string, binDirs []string) (string, error) {
	path, err := invoke.FindInPath(plugin, binDirs)
	if err != nil {
		return "", fmt.Errorf("plugin %s: no such binary in %s: %w", plugin,
			strings.Join(binDirs, string(os.PathListSeparator)), err)
	}
	return path, nil
}
