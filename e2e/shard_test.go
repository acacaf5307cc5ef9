package e2e

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/scenarios"
)

func TestParseShard(t *testing.T) {
	for _, tt := range []struct {
		in      string
		want    Shard
		wantErr string
	}{
		{"2/4", Shard{2, 4}, ""},
		{"1/1", Shard{1, 1}, ""},
		{"0/4", Shard{}, `shard "0/4": want one from 1/4 to 4/4`},
		{"5/4", Shard{}, `shard "5/4": want one from 1/4 to 4/4`},
		{"99999999999999999999/4", Shard{}, `shard "99999999999999999999/4": want one from 1/4 to 4/4`},
		{"2", Shard{}, `shard "2": want K/N, such as 2/4`},
		{"-1/2", Shard{}, `shard "-1/2": want K/N, such as 2/4`},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseShard(tt.in)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if got != tt.want || text != tt.wantErr {
				t.Errorf("got %v, %q, want %v, %q", got, text, tt.want, tt.wantErr)
			}
			if err == nil && got.String() != tt.in {
				t.Errorf("got %s, want %s", got, tt.in)
			}
		})
	}
}

// Each unit is in one shard, whose units stay in their order; what audits look at is in the shard of the audits.
func TestShard_of(t *testing.T) {
	all, err := scenario.Load(scenarios.Files)
	if err != nil {
		t.Fatal(err)
	}
	var units []*Unit
	for _, sc := range all {
		units = append(units, &Unit{ID: sc.Name, scenario: sc})
	}
	for _, r := range contract.Requirements() {
		for _, plugin := range []string{"macvlan", "host-local"} {
			if r.Checked() && r.Of(contract.Main) {
				units = append(units, &Unit{ID: r.ID, Plugin: plugin, requirement: r})
			}
		}
	}
	names := func(units []*Unit) (names []string) {
		for _, u := range units {
			names = append(names, u.Name())
		}
		return names
	}
	for of := 1; of <= 5; of++ {
		t.Run(fmt.Sprint(of), func(t *testing.T) {
			var dealt []string
			place := map[string]int{}
			for k := 1; k <= of; k++ {
				part := Shard{k, of}.of(units, podWithIPv4)
				if len(part) == 0 {
					t.Errorf("shard %d/%d has nothing to do", k, of)
				}
				if !slices.IsSortedFunc(part, func(a, b *Unit) int {
					return slices.Index(units,
						a) - slices.Index(units, b)
				}) {
					t.Errorf("shard %d/%d is in another order", k, of)
				}
				for _, u := range part {
					if u.requirement == nil || u.requirement.Sweeps() {
						continue
					}
					if at, known := place[u.Plugin]; known && at != k {
						t.Errorf("%s is in shard %d, others of %s are in %d", u.Name(), k, u.Plugin, at)
					}
					place[u.Plugin] = k
				}
				dealt = append(dealt, names(part)...)
			}
			slices.Sort(dealt)
			want := names(units)
			slices.Sort(want)
			if diff := cmp.Diff(want, dealt); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got := len((Shard{}).of(units, podWithIPv4)); got != len(units) {
		t.Errorf("without a shard: got %d units, want all %d", got, len(units))
	}
}
