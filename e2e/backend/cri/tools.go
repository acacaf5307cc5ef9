package cri

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/fault/stub"
)

// tools are the programs of a runtime on this machine.
type tools struct {
	dir     string // without symbolic links
	version string // of containerd, such as 2.4.2
	node    string // their directory on nodes
}

// toolNames are the files of the directory of tools.
func toolNames() []string {
	return []string{"containerd", "containerd-shim-runc-v2", "ctr", "pause.tar", "runc", "runc-nocgroup"}
}

// findTools finds the programs in a directory, which must have all of them. node is their directory on nodes.
func findTools(dir, node string) (*tools, error) {
	missing := func(err error) error {
		return &cluster.UnfitError{Reason: fmt.Sprintf("backend cri: %v; make cri-tools builds it, and --cri-tools "+
			"names its directory", err)}
	}
	for _, name := range toolNames() {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return nil, missing(err)
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	t := &tools{node: node}
	if t.dir, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(context.Background(), filepath.Join(t.dir, "containerd"), "--version").Output()
	if err != nil {
		return nil, &cluster.UnfitError{Reason: fmt.Sprintf("backend cri: %s/containerd --version: %v", t.dir, err)}
	}
	found := versionText.FindStringSubmatch(string(out))
	if found == nil {
		return nil, &cluster.UnfitError{Reason: fmt.Sprintf("backend cri: %s/containerd: want version 1.6 or later, "+
			"got %q", t.dir, strings.TrimSpace(string(out)))}
	}
	t.version = found[1]
	if t.first() {
		if _, err := os.Stat(filepath.Join(t.dir, loopback)); err != nil {
			return nil, missing(err)
		}
	}
	return t, nil
}

// versionText finds the version in what containerd --version prints: "containerd PATH VERSION REVISION".
var versionText = regexp.MustCompile(`^containerd \S+ v?((?:1\.[6-9]|[2-9])\.\S*)`)

// loopback is the plugin that a containerd 1.x calls in each pod.
const loopback = "loopback"

// first reports whether it is a containerd 1.x.
func (t *tools) first() bool { return strings.HasPrefix(t.version, "1.") }

// cniVersion returns the highest version of the CNI specification that a containerd of this version knows; empty if it
// knows all of them.
func (t *tools) cniVersion() string {
	if t.first() {
		return "1.0.0"
	}
	return ""
}

// config is the template of the configuration.
func (t *tools) config() *template.Template {
	if t.first() {
		return template.Must(template.New("config").Parse(firstConfigText))
	}
	return template.Must(template.New("config").Parse(configText))
}

var (
	//go:embed config.toml
	configText string
	//go:embed config1.toml
	firstConfigText string
)

// linkPlugins makes links to the plugins of all directories, and to loopback, in the last directory: a containerd 1.x
// looks in one. Those in earlier directories win, but not over the lab's stubs, of which there may be others.
func (t *tools) linkPlugins(ctx context.Context, node *agent.Client, dirs []string) error {
	links := map[string]string{loopback: path.Join(t.node, loopback)}
	last := len(dirs) - 1
	for _, dir := range slices.Backward(dirs[:last]) {
		names, err := node.ListDir(ctx, dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			links[name] = path.Join(dir, name)
		}
	}
	for _, name := range stub.Names() {
		delete(links, name)
	}
	for name, to := range links {
		link := agent.File{Path: path.Join(dirs[last], name), Mode: fs.ModeSymlink | 0o777, Data: []byte(to)}
		if err := errors.Join(node.RemoveFile(ctx, link.Path), node.WriteFile(ctx, link)); err != nil {
			return err
		}
	}
	return nil
}
