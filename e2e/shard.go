package e2e

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Shard is a part of a run: the Number-th of Of, from 1. cnitest report merge puts the reports of all parts together.
type Shard struct{ Number, Of int }

var shardForm = regexp.MustCompile(`^([0-9]+)/([0-9]+)$`)

// ParseShard reads a shard as the command line and reports write it, "2/4".
func ParseShard(text string) (Shard, error) {
	parts := shardForm.FindStringSubmatch(text)
	if parts == nil {
		return Shard{}, fmt.Errorf("shard %q: want K/N, such as 2/4", text)
	}
	number, err := strconv.Atoi(parts[1])
	of, err2 := strconv.Atoi(parts[2])
	if err != nil || err2 != nil || number < 1 || number > of {
		return Shard{}, fmt.Errorf("shard %q: want one from 1/%[2]s to %[2]s/%[2]s", text, parts[2])
	}
	return Shard{number, of}, nil
}

// String returns the form that ParseShard reads; empty for no shard.
func (s Shard) String() string {
	if s.Of == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Number, s.Of)
}

// of returns the units that are in the shard, in their order. The requirements of a plugin that inject no faults share
// its attachments, and audits look at the calls of all of them, so that they stay together. Otherwise what takes
// longest is dealt out first, each to the shard that has least to do. pod is how long a pod takes to come and to leave.
func (s Shard) of(units []*Unit, pod time.Duration) []*Unit {
	if s.Of == 0 {
		return units
	}
	blocks := map[string]*block{}
	var order []*block
	for _, u := range units {
		name := u.Name()
		if u.requirement != nil && !u.requirement.Sweeps() {
			name = u.Plugin
		}
		if blocks[name] == nil {
			blocks[name] = &block{}
			order = append(order, blocks[name])
		}
		blocks[name].units = append(blocks[name].units, u)
		blocks[name].time += u.patience(pod)
	}
	slices.SortStableFunc(order, func(a, b *block) int { return cmp.Compare(b.time, a.time) })
	busy, mine := make([]time.Duration, s.Of), map[*Unit]bool{}
	for _, b := range order {
		least := slices.Index(busy, slices.Min(busy))
		busy[least] += b.time
		for _, u := range b.units {
			mine[u] = least == s.Number-1
		}
	}
	return slices.DeleteFunc(slices.Clone(units), func(u *Unit) bool { return !mine[u] })
}

// block is what one shard runs together, and how long that may take.
type block struct {
	units []*Unit
	time  time.Duration
}
