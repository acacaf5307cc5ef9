package netns_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// The lines that the harness prints before it is killed.
const (
	starting  = "starting"
	attaching = "attaching"
	hanging   = "hanging"
)

// harness starts a cluster, attaches pods, starts a plugin that never ends, and waits to be killed.
func harness() error {
	ctx := context.Background()
	fmt.Println(starting)
	file, err := conflist.Parse("harness.conflist", []byte(macvlanConflist))
	if err != nil {
		return err
	}
	c, err := backend().Start(ctx, cluster.Request{
		Conflist: file, BinDir: os.Args[2], Nodes: []scenario.Node{{Name: "a"}, {Name: "b", NICs: 2}},
	})
	if err != nil {
		return err
	}
	fmt.Println(attaching)
	var group errgroup.Group
	for i := range 8 {
		group.Go(func() error {
			pod, err := tryAttach(ctx, c.Nodes()[i%2], fmt.Sprintf("pod-%d", i))
			if err != nil {
				return err
			}
			return pod.Agent.Listen(ctx, pod.Netns, probe.ListenSpec{Protocol: probe.TCP, Port: 8080})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	_, err = c.Nodes()[0].Agent.Command(ctx, agent.CommandArgs{
		Argv: []string{"/bin/sh", "-c", "sleep 1000 </dev/null >/dev/null 2>&1 &"},
	})
	if err != nil {
		return err
	}
	fmt.Println(hanging)
	_, err = c.Nodes()[0].Agent.CNI(ctx, cni.Request{
		Verb: cni.Add, Conflist: []byte(`{"cniVersion": "1.0.0", "name": "never", "plugins": [{"type": "hang"}]}`),
		BinDirs: c.Nodes()[0].BinDirs, ContainerID: "c", Netns: "/run/netns/pod-0", IfName: "net1",
	})
	return errors.Join(errors.New("the plugin has ended"), err)
}

// hangingPlugins returns a directory of plugins. One of them ignores all signals that can be ignored and has a child.
func hangingPlugins(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	plugins, err := os.ReadDir(os.Getenv(pluginsEnv))
	check(tb, err)
	for _, plugin := range plugins {
		data, err := os.ReadFile(filepath.Join(os.Getenv(pluginsEnv), plugin.Name()))
		check(tb, err)
		check(tb, os.WriteFile(filepath.Join(dir, plugin.Name()), data, 0o755))
	}
	check(tb, os.WriteFile(filepath.Join(dir, "hang"),
		[]byte("#!/bin/sh\ntrap '' TERM INT HUP PIPE\nsleep 1000 &\nwait\nsleep 1000\n"), 0o755))
	return dir
}

// A killed harness leaves nothing behind, whenever it is killed.
func TestKill(t *testing.T) {
	before := stateBefore(t)
	plugins := hangingPlugins(t)
	whole := time.Duration(0)
	for _, stage := range []string{hanging, attaching, starting} {
		begin := time.Now()
		if last := killHarness(t, plugins, func(line string, kill func()) {
			if line == stage {
				kill()
			}
		}); last != stage {
			t.Fatalf("got a harness killed while %s, want %s", last, stage)
		}
		whole = max(whole, time.Since(begin))
		unchanged(t, before)
	}
	const rounds = 33
	seen := map[string]int{}
	for round := range rounds {
		last := killHarness(t, plugins, func(line string, kill func()) {
			if line == "" {
				time.AfterFunc(time.Duration(round)*whole/rounds, kill)
			}
		})
		seen[last]++
		unchanged(t, before)
	}
	t.Logf("killed within %s, while %v", whole, seen)
}

// killHarness starts a harness and waits until it ends. It calls watch with an empty line at the start and then with
// each line that the harness prints, and returns the last line.
func killHarness(t *testing.T, plugins string, watch func(line string, kill func())) (last string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "harness", plugins)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	kill := func() { _ = cmd.Process.Kill() }
	watch("", kill)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = lines.Text()
		watch(last, kill)
	}
	if err := cmd.Wait(); fmt.Sprint(err) != "signal: killed" {
		t.Fatalf("got %v after %q, want signal: killed", err, last)
	}
	return last
}
