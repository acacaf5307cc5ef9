package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e"
)

// upgrades returns conflists whose plugins are replaced by others of the same name while pods run.
func upgrades() []control {
	likeOther := map[string]expected{"upgrade": pass(), "upgrade-back": pass(), "upgrade-half-way": pass()}
	forgets := ipamd(plenty())
	// The daemon of the earlier version has its state elsewhere.
	forgets.Daemon.OldCommand = append(slices.Clone(forgets.Daemon.Command), "--state", "/var/lib/ipamd/old.json")
	both := map[string]expected{"upgrade-conflist-first": pass(), "upgrade-programs-first": pass()}
	refuses := failOf("broken", "del pod/leaves: pod/leaves: DEL: broken: attached without master")
	return []control{
		{
			name: "a chain that gets longer", chain: []string{macvlan, route}, oldChain: []string{macvlan},
			old: map[string]string{"route": "route"}, want: both,
		},
		{
			name: "a key that DEL relies on", old: map[string]string{"broken": "broken"},
			chain:    []string{macvlan, broken("master-since")},
			oldChain: []string{macvlan, strings.Replace(broken("master-since"), `"master": "eno1", `, "", 1)},
			want:     map[string]expected{"upgrade-conflist-first": refuses, "upgrade-programs-first": refuses},
		},
		{
			name: "a version like the other", chain: []string{macvlan, route},
			old: map[string]string{"route": "route", "host-local": "host-local"}, want: likeOther,
		},
		{
			name: "a daemon like the other", chain: []string{routedENI}, target: ipamd(plenty()),
			old:  map[string]string{"routed-eni": "routed-eni", "ipamd": "ipamd"},
			want: map[string]expected{"upgrade-daemon": pass()},
		},
		{
			name: "a daemon that reads another file", chain: []string{routedENI}, target: forgets,
			old:  map[string]string{"routed-eni": "routed-eni", "ipamd": "ipamd"},
			want: map[string]expected{"upgrade-daemon": fail("ADD gave 10.0.0.")},
		},
		{
			name: "a version that made nothing", chain: []string{macvlan, route}, old: map[string]string{"route": "tuning"},
			want: map[string]expected{
				"upgrade": failOf("route", "check pod/left: pod/left: CHECK: route"), "upgrade-back": failOf("route",
					"check pod/between"),
			},
		},
		{
			name: "DEL after half an ADD that fails", chain: []string{macvlan, broken("needs-result")},
			old: map[string]string{"broken": "broken"}, want: map[string]expected{
				"upgrade-half-way": failOf("broken",
					"after an ADD in the middle of the installation: pod/early-0: DEL: broken: no "+
						"result of ADD"),
			},
		},
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	runControls(t, sharedOut(t, upgrades()))
}

// oldPrograms returns a directory with links to plugins, by their names in it.
func oldPrograms(t *testing.T, b *binaries, programs map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, binary := range programs {
		if err := os.Link(filepath.Join(b.plugins, binary), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestNew_refuses_old_programs(t *testing.T) {
	bin, other := t.TempDir(), t.TempDir()
	for _, name := range []string{"macvlan", "route", "host-local"} {
		if err := os.WriteFile(filepath.Join(bin, name), nil, 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	options := e2e.Options{
		Backend: backend(), Conflist: writeConflist(t, "", macvlan, route), BinDir: bin, OldBinDir: other,
	}
	_, err := e2e.New(options)
	if want := "it has none of host-local, macvlan, route; put there"; err == nil || !strings.Contains(err.Error(),
		want) {
		t.Errorf("got error %v, want %s", err, want)
	}
	options.OldBinDir = filepath.Join(other, "none")
	_, err = e2e.New(options)
	if want := "name their directory with --old-bin-dir"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want %s", err, want)
	}
}
