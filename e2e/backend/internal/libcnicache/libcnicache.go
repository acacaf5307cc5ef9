// Package libcnicache reads the results that libcni keeps on a node: what a container runtime that uses libcni has
// attached, and how.
package libcnicache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
)

// Dir is libcni's cache. Every runtime that uses libcni keeps the results of ADD there.
const Dir = "/var/lib/cni/results"

// entry is libcni's record of an attachment.
type entry struct {
	ContainerID string          `json:"containerId"`
	IfName      string          `json:"ifName"`
	Network     string          `json:"networkName"`
	Netns       string          `json:"netns"` // since version 1.3 of libcni
	Args        [][2]string     `json:"cniArgs"`
	Result      json.RawMessage `json:"result"`
}

// Attachments returns the attachments to a network on the node of an agent.
func Attachments(ctx context.Context, node *agent.Client, network string) ([]cluster.Attachment, error) {
	names, err := node.ListDir(ctx, Dir)
	if err != nil {
		return nil, err
	}
	var all []cluster.Attachment
	for _, name := range names {
		if !strings.HasPrefix(name, network+"-") {
			continue
		}
		file, err := node.ReadFile(ctx, path.Join(Dir, name))
		if err != nil {
			return nil, err
		}
		var e entry
		if !file.Found || json.Unmarshal(file.File.Data, &e) != nil || e.Network != network {
			continue // it was just removed, or is being written
		}
		a, err := e.attachment()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, a)
	}
	return all, nil
}

func (e *entry) attachment() (cluster.Attachment, error) {
	a := cluster.Attachment{ContainerID: e.ContainerID, IfName: e.IfName, Netns: e.Netns, Result: e.Result}
	args := map[string]string{}
	for _, pair := range e.Args {
		args[pair[0]] = pair[1]
	}
	a.Pod = args["K8S_POD_NAMESPACE"] + "/" + args["K8S_POD_NAME"]
	if a.Netns != "" {
		return a, nil
	}
	var result struct {
		Interfaces []struct {
			Name    string `json:"name"`
			Sandbox string `json:"sandbox"`
		} `json:"interfaces"`
	}
	if err := json.Unmarshal(e.Result, &result); err != nil {
		return a, err
	}
	for _, i := range result.Interfaces {
		if i.Name == e.IfName && i.Sandbox != "" {
			a.Netns = i.Sandbox
		}
	}
	if a.Netns == "" {
		return a, errors.New("its result names no sandbox for the pod's interface")
	}
	return a, nil
}

// Text returns the content of a directory that is a cache: the entries of pods of a Kubernetes namespace in full, and
// only the names of others.
func Text(ctx context.Context, node *agent.Client, dir, namespace string) (string, error) {
	names, err := node.ListDir(ctx, dir)
	var text strings.Builder
	for _, name := range names {
		file, readErr := node.ReadFile(ctx, path.Join(dir, name))
		if readErr != nil {
			return text.String(), readErr
		}
		fmt.Fprintln(&text, name)
		var e entry
		if json.Unmarshal(file.File.Data, &e) != nil || slices.Contains(e.Args, [2]string{
			"K8S_POD_NAMESPACE", namespace,
		}) {
			fmt.Fprintf(&text, "%s\n", file.File.Data)
		}
	}
	return text.String(), err
}
