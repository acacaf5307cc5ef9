package snapshot

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// TestRevertIptables checks the arguments of the program, since few machines have one.
func TestRevertIptables(t *testing.T) {
	const quiet = "exit 0"
	for _, tt := range []struct {
		name, rule string
		programs   map[string]string
		want       string
		wantErr    string
	}{
		{
			name: "second rule of a chain", rule: "ip filter rule FORWARD: ! -d 192.168.0.0/16 -j DROP",
			programs: map[string]string{"iptables-legacy": quiet},
			want:     "-w 5 -t filter -D FORWARD 2\n",
		},
		{
			name: "rule of a chain of a user", rule: "ip filter rule CNI-FORWARD: -m mark/1 0x004000000040 -j ACCEPT",
			programs: map[string]string{"iptables": quiet},
			want:     "-w 5 -t filter -D CNI-FORWARD 1\n",
		},
		{
			name: "chain", rule: "ip filter chain CNI-FORWARD: -", programs: map[string]string{
				"iptables-legacy": quiet,
			},
			want: "-w 5 -t filter -F CNI-FORWARD\n-w 5 -t filter -X CNI-FORWARD\n",
		},
		{
			name: "no program", rule: "ip filter chain CNI-FORWARD: -",
			wantErr: "revert iptables ip filter chain CNI-FORWARD: the node has no iptables-legacy to write legacy tables with",
		},
		{
			name: "program for nftables", rule: "ip filter chain CNI-FORWARD: -",
			programs: map[string]string{"iptables": "echo 'iptables v1.8.9 (nf_tables)'"},
			wantErr:  "revert iptables ip filter chain CNI-FORWARD: the node has no iptables-legacy to write legacy tables with",
		},
		{
			name:     "program that does not want to",
			rule:     "ip filter rule CNI-FORWARD: -m mark/1 0x004000000040 -j ACCEPT",
			programs: map[string]string{"iptables-legacy": `[ "$1" = --version ] || { echo busy >&2; exit 4; }`},
			want:     "-w 5 -t filter -D CNI-FORWARD 1\n",
			wantErr:  "revert iptables ip filter rule CNI-FORWARD: iptables-legacy -t filter -D CNI-FORWARD 1: exit status 4: busy",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			isolate(t)
			(&xtBuilder{xtFamily: xtFamilies[0]}).fill(t)
			opts := Options{Kinds: []string{Iptables}}
			var change Change
			for _, item := range take(t, opts).Items {
				if line(item.Name, item.Text) == tt.rule {
					change = Change{Op: Added, Item: item}
				}
			}
			dir := t.TempDir()
			for name, script := range tt.programs {
				script = "#!/bin/sh\n[ \"$1\" = --version ] || echo \"$@\" >>" + dir + "/asked\n" + script + "\n"
				check(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
			}
			t.Setenv("PATH", dir)
			err := Revert(t.Context(), change, opts)
			if got := errText(err); got != tt.wantErr {
				t.Errorf("got error %q, want %q", got, tt.wantErr)
			}
			asked, err := os.ReadFile(filepath.Join(dir, "asked"))
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(string(asked), tt.want); diff != "" {
				t.Errorf("asked (-got +want):\n%s", diff)
			}
		})
	}
}

// errText returns the text of an error; empty for none.
func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestRevertIptables_kernel(t *testing.T) {
	if _, err := xtFamilies[0].program(); err != nil {
		t.Skip(err)
	}
	for _, family := range xtFamilies {
		t.Run(family.word, func(t *testing.T) {
			isolate(t)
			opts := Options{Kinds: []string{Iptables}}
			before := take(t, opts)
			(&xtBuilder{xtFamily: family}).fill(t)
			// Only the chains that every table has are left; a user-defined chain is removed once nothing leads to it.
			changes := slices.DeleteFunc(Diff(before, take(t, opts)), func(c Change) bool {
				return Revertible(c) != nil
			})
			slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(b.Item.Name, a.Item.Name) })
			for _, c := range changes {
				check(t, Revert(t.Context(), c, opts))
			}
			want := []string{}
			for _, chain := range []string{"FORWARD: DROP", "INPUT: ACCEPT", "OUTPUT: ACCEPT"} {
				want = append(want, "+ iptables "+family.word+" filter chain "+chain)
			}
			if diff := gocmp.Diff(lines(Diff(before, take(t, opts))), want); diff != "" {
				t.Errorf("changes (-got +want):\n%s", diff)
			}
		})
	}
}
