package fault_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

// TestExplain checks the refusals that made a call fail: netlink messages, files and programs.
func TestExplain(t *testing.T) {
	m := newMacvlan(t)
	macvlan := func(edit ...string) fault.Command {
		c := m.command("ADD")
		c.Stdin = []byte(strings.NewReplacer(edit...).Replace(string(c.Stdin)))
		return c
	}
	for _, tt := range []struct {
		name    string
		command fault.Command
		// want is the last refusal; cause is the text about it.
		want fault.Refusal
	}{
		{"no such link", macvlan(`"eno1"`, `"eno9"`), fault.Refusal{Program: "macvlan", What: "RTM_GETLINK eno9", Errno: unix.ENODEV}},
		{"a directory that cannot be made", macvlan(m.store, "/sys/cnitest"), fault.Refusal{
			Program: "host-local", What: "mkdir /sys/cnitest", Errno: unix.EPERM,
		}},
		{
			"a MAC that is none of a link", macvlan(`"mode": "bridge"`, `"mode": "bridge", "mac": "01:00:5e:00:00:01"`),
			fault.Refusal{
				Program: "macvlan", What: "RTM_NEWLINK macvlan veth… link eno1 into another namespace",
				Errno: unix.EADDRNOTAVAIL,
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			trace, err := fault.Explain(ctx(t), tt.command)
			check(t, err)
			ended, _ := trace.EndedBy()
			if trace.Call.ExitCode == 0 || len(ended) == 0 {
				t.Fatalf("got exit status %d and the refusals %v, want a failure with some\n%s", trace.Call.ExitCode,
					trace.Refusals, trace.Call.Transcript())
			}
			got := ended[len(ended)-1]
			got.What = whats([]fault.Point{{What: got.What}})[0][len(": "):]
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(fault.Refusal{}, "Words")); diff != "" {
				t.Errorf("last refusal (-want +got):\n%s\nof %v\nof %v", diff, ended, trace.Refusals)
			}
		})
	}
}

// TestExplain_lacks checks that a feature which the kernel lacks is named with its option, if it has one, and with the
// message that the kernel refused.
func TestExplain_lacks(t *testing.T) {
	m := newMacvlan(t)
	ipam := fmt.Sprintf(`"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "192.168.0.0/16"}]]}`,
		m.store)
	for _, tt := range []struct {
		plugin, keys string
		// refused is the refusal, with … in place of a random name; feature is what the kernel lacks.
		refused, feature string
	}{
		{
			"bridge", `"bridge": "br-vlan", "vlan": 10, ` + ipam,
			"RTM_NEWLINK bridge br-vlan vlan_filtering 1: EOPNOTSUPP",
			"VLAN filtering of bridges (CONFIG_BRIDGE_VLAN_FILTERING)",
		},
		{
			"vlan", `"master": "eno1", "vlanId": 10, ` + ipam,
			"RTM_NEWLINK vlan veth… id 10 link eno1 into another namespace: EOPNOTSUPP",
			"links of the kind vlan (CONFIG_VLAN_8021Q)",
		},
		{
			"ipvlan", `"master": "eno1", "mode": "l2", ` + ipam,
			"RTM_NEWLINK ipvlan veth… link eno1 into another namespace: EOPNOTSUPP",
			"links of the kind ipvlan (CONFIG_IPVLAN)",
		},
		{
			"vrf", `"vrfname": "blue", "prevResult": {"cniVersion": "1.0.0", "interfaces": [], "ips": []}`,
			"RTM_NEWLINK vrf blue table 1: EOPNOTSUPP",
			"links of the kind vrf (CONFIG_NET_VRF)",
		},
	} {
		t.Run(tt.plugin, func(t *testing.T) {
			c := m.command("ADD")
			c.Path, c.Stdin = plugin(tt.plugin), fmt.Appendf(nil, `{"cniVersion": "1.0.0", "name": "net", "type": %q, %s}`,
				tt.plugin, tt.keys)
			trace, err := fault.Explain(ctx(t), c)
			check(t, err)
			refused := slices.IndexFunc(trace.Refusals, func(r fault.Refusal) bool { return r.Features != nil })
			if trace.Call.ExitCode == 0 {
				t.Skip("this kernel has " + tt.feature)
			}
			if refused < 0 {
				t.Fatalf("got %v of %s, want a refusal with a feature", trace.Refusals, trace.Call.Transcript())
			}
			got := trace.Refusals[refused]
			if text := whats([]fault.Point{{What: got.String()}})[0][len(": "):]; text != tt.refused {
				t.Errorf("got %s, want %s", text, tt.refused)
			}
			if got.Features[0].String() != tt.feature {
				t.Errorf("got %s, want %s", got.Features, tt.feature)
			}
		})
	}
}

// TestTrace_EndedBy_elsewhere wants the search for a program to be told also where PATH has other directories than
// services have.
func TestTrace_EndedBy_elsewhere(t *testing.T) {
	refused := fault.Refusal{Program: "mine", What: "stat /opt/tools/jq", Errno: unix.ENOENT}
	trace := fault.Trace{
		Call: cni.Call{ExitCode: 1, Stdout: `{"code": 999, "msg": "exec: \"jq\": executable file not found in $PATH"}`},
		Refusals: []fault.Refusal{
			refused, {Program: "mine", What: "open /etc/mine.conf", Errno: unix.ENOENT},
		},
	}
	ended, named := trace.EndedBy()
	if diff := cmp.Diff([]fault.Refusal{refused}, ended); diff != "" || !named {
		t.Errorf("got named %v, want true; (-want +got):\n%s", named, diff)
	}
}
