package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// TestNew_refuses tests every mistake of a caller. In texts DIR is the directory of the test. Its net.conflist is a
// valid file with macvlan and host-local, and its bin has both, and a route that cannot be executed.
func TestNew_refuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("net.conflist", `{"cniVersion": "1.0.0", "name": "net", "plugins": [`+macvlan+`]}`, 0o644)
	write("route.conflist", `{"cniVersion": "1.0.0", "name": "net", "plugins": [`+macvlan+`,`+route+`]}`, 0o644)
	write("ptp.conflist", `{"cniVersion": "1.0.0", "name": "net", "plugins": [`+ptp+`, {"type": "mine"}]}`, 0o644)
	write("cut.conflist", "{\n", 0o644)
	write("bin/macvlan", "", 0o755)
	write("bin/host-local", "", 0o755)
	write("bin/route", "", 0o644)
	for _, tt := range []struct {
		name    string
		options e2e.Options
		want    string
	}{
		{"no backend", e2e.Options{Conflist: "net.conflist"}, "options: no backend; pass one, e.g. &netns.Backend{…}"},
		{
			"no conflist",
			e2e.Options{Backend: backend(), Conflist: "none.conflist", BinDir: "bin"},
			"open DIR/none.conflist: no such file or directory",
		},
		{
			"a syntax error",
			e2e.Options{Backend: backend(), Conflist: "cut.conflist", BinDir: "bin"},
			"DIR/cut.conflist:1:2: the file ends too early; close what is open with quote, ] or }",
		},
		{
			"no directory of binaries",
			e2e.Options{Backend: backend(), Conflist: "net.conflist", BinDir: "none"},
			"plugin binaries: stat DIR/none: no such file or directory; name their directory with --bin-dir",
		},
		{
			"binaries are a file",
			e2e.Options{Backend: backend(), Conflist: "net.conflist", BinDir: "net.conflist"},
			"plugin binaries: DIR/net.conflist is not a directory",
		},
		{
			"plugins are missing",
			e2e.Options{Backend: backend(), Conflist: "ptp.conflist", BinDir: "bin"},
			`DIR/ptp.conflist:1: no program for plugin ptp: it is not in DIR/bin; build it from ` +
				`github.com/containernetworking/plugins, and put its program there, or name its directory with ` +
				`--bin-dir` + "\n" +
				`DIR/ptp.conflist:1: no program for plugin mine: it is not in DIR/bin; put its program there, or name its directory with --bin-dir`,
		},
		{
			"a plugin cannot be executed",
			e2e.Options{Backend: backend(), Conflist: "route.conflist", BinDir: "bin"},
			`DIR/route.conflist:2: no program for plugin route: DIR/bin/route is not an executable file; put its program there, or name its directory with --bin-dir`,
		},
		{
			"an unknown profile",
			e2e.Options{Backend: backend(), Conflist: "net.conflist", BinDir: "bin", Profile: "overlay"},
			`profile "overlay": want one of [cni underlay kubernetes production isolation]`,
		},
		{
			"an unknown feature",
			e2e.Options{Backend: backend(), Conflist: "net.conflist", BinDir: "bin", Claims: []scenario.Feature{"Magic"}},
			fmt.Sprintf(`feature "Magic": want one of %v`, scenario.Features()),
		},
		{
			"a plugin that is not in the chain",
			e2e.Options{Backend: backend(), Conflist: "net.conflist", BinDir: "bin", Plugins: []string{"route"}},
			`plugin under test "route": want one of the chain [macvlan host-local]`,
		},
		{
			"a pattern without a match",
			e2e.Options{Backend: backend(), Conflist: "net.conflist", BinDir: "bin", Select: e2e.Selection{Names: "teleport-*"}},
			"scenario pattern \"teleport-*\" matches none of NUMBER scenarios and requirements; see `cnitest list " +
				"scenarios` and `cnitest list requirements`",
		},
		{
			"one pattern of two without a match",
			e2e.Options{Backend: backend(), Conflist: "net.conflist", BinDir: "bin", Select: e2e.Selection{Names: "del-*,DELL-*"}},
			"scenario pattern \"DELL-*\" matches none of NUMBER scenarios and requirements; see `cnitest list " +
				"scenarios` and `cnitest list requirements`",
		},
		{
			"a soak of no time",
			e2e.Options{Backend: backend(), Conflist: "net.conflist", BinDir: "bin", Soak: e2e.Soak{For: time.Millisecond}},
			"soak of 1ms: want 1s or more",
		},
		{
			"a soak of less than no pods",
			e2e.Options{Backend: backend(), Conflist: "net.conflist", BinDir: "bin", Soak: e2e.Soak{For: time.Minute, Pods: -1}},
			"soak with -1 pods: want 1 or more",
		},
		{
			"a bad pattern",
			e2e.Options{Backend: backend(), Conflist: "net.conflist", BinDir: "bin", Select: e2e.Selection{Names: "[a"}},
			`scenario pattern "[a": syntax error in pattern`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.options.Conflist = filepath.Join(dir, tt.options.Conflist)
			if tt.options.BinDir != "" {
				tt.options.BinDir = filepath.Join(dir, tt.options.BinDir)
			}
			_, err := e2e.New(tt.options)
			got := ""
			if err != nil {
				got = number.ReplaceAllString(strings.ReplaceAll(err.Error(), dir, "DIR"), "none of NUMBER")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

// TestMatching_nothing selects what exists, but is asked of no plugin of this run.
func TestMatching_nothing(t *testing.T) {
	plugins(t)
	conflist := writeConflist(t, "", macvlan)
	for _, tt := range []struct {
		name    string
		options e2e.Options
		want    string
	}{
		{
			"an IPAM plugin",
			e2e.Options{Plugins: []string{"host-local"}, Select: e2e.Selection{Names: "KILL-*"}},
			"nothing that is selected is asked of the plugins under test (host-local); name others of the chain with " +
				"--plugin (macvlan, host-local)",
		},
		{
			"a quick run",
			e2e.Options{Plugins: []string{"macvlan"}, Select: e2e.Selection{Names: "KILL-*", Quick: true}},
			"nothing that is selected is asked of the plugins under test (macvlan) in a quick run; leave out --quick",
		},
		{
			"a shard",
			e2e.Options{Plugins: []string{"macvlan"}, Select: e2e.Selection{
				Names: "KILL-ADD", Shard: e2e.Shard{Number: 9, Of: 9},
			}},
			"nothing that is selected falls to shard 9/9; make fewer shards",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.options.Conflist = conflist
			units, err := newSuite(t, tt.options).Matching("")
			if units != nil || err == nil || err.Error() != tt.want {
				t.Errorf("got %v, %v, want the error %s", units, err, tt.want)
			}
		})
	}
}

// TestPrepare_unfit checks that a kernel that lacks something is distinguished from a plugin that fails.
func TestPrepare_unfit(t *testing.T) {
	ipvlan := strings.Replace(macvlan, `"macvlan"`, `"ipvlan"`, 1)
	for _, tt := range []struct {
		name    string
		options e2e.Options
		want    string
	}{
		{
			"the kernel has no ipvlan",
			e2e.Options{Conflist: writeConflist(t, "", ipvlan)},
			"node/a: this kernel lacks links of the kind ipvlan (CONFIG_IPVLAN), which CONFLIST needs; load the module or use another kernel",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plugins(t)
			var missing []string
			if err := (&agent.Server{}).LinkKinds([]string{"ipvlan"}, &missing); err != nil || len(missing) == 0 {
				t.Skipf("want a kernel without ipvlan, have one with it (%v)", err)
			}
			err := newSuite(t, tt.options).Prepare(context.Background())
			var unfit *cluster.UnfitError
			if !errors.As(err, &unfit) {
				t.Fatalf("got error %v, want one of type *cluster.UnfitError", err)
			}
			if diff := cmp.Diff(tt.want, strings.ReplaceAll(unfit.Reason, tt.options.Conflist,
				"CONFLIST")); diff != "" {
				t.Errorf("reason (-want +got):\n%s", diff)
			}
		})
	}
}
