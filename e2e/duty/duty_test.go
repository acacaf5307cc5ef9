package duty_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/duty"
	"github.com/cnitest/cnitest/e2e/internal/testbin"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// lab returns the agent of a node that has programs in netns.BinDir.
func lab(t *testing.T, packages ...string) *agent.Client {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	dir := t.TempDir()
	if len(packages) > 0 {
		check(t, testbin.Build(dir, packages...))
	}
	file, err := conflist.Parse("duty", []byte(`{"cniVersion": "1.1.0", "name": "duty", "plugins": [{"type": "macvlan",
		"master": "eth0", "ipam": {"type": "host-local", "ranges": [[{"subnet": "192.0.2.0/24"}]]}}]}`))
	check(t, err)
	c, err := (&netns.Backend{}).Start(t.Context(), cluster.Request{
		Conflist: file, BinDir: dir, Nodes: []scenario.Node{{Name: "a"}}, Alone: true,
	})
	check(t, err)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c.Nodes()[0].Agent
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// command returns the runtime that is a program of netns.BinDir.
func command(ctx context.Context, t *testing.T, node *agent.Client, options duty.CommandOptions) *duty.Command {
	t.Helper()
	options.Program = filepath.Join(netns.BinDir, options.Name)
	c, err := duty.NewCommand(ctx, node, options)
	check(t, err)
	return c
}
