package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

func TestDiff(t *testing.T) {
	link := func(name string) Item { return Item{Kind: Link, Name: name, Text: "<UP>"} }
	rule := func(text string) Item { return Item{Kind: Nftables, Name: "rule ip nat post", Text: text} }
	sysctl := func(name, value string) Item { return Item{Kind: Sysctl, Name: name, Text: value} }
	inPod := func(item Item) Item {
		item.Scope = "pod/a"
		return item
	}
	pod := inPod(Item{Kind: Namespace, Name: "network"})
	for _, tt := range []struct {
		name          string
		before, after []Item
		want          []string
	}{
		{name: "nothing"},
		{name: "equal", before: []Item{link("a"), link("b")}, after: []Item{link("a"), link("b")}},
		{name: "unsorted", before: []Item{link("b"), link("a")}, after: []Item{link("a"), link("b")}},
		{
			name: "added and removed", before: []Item{link("a"), link("b")}, after: []Item{link("b"), link("c")},
			want: []string{"- link a: <UP>", "+ link c: <UP>"},
		},
		{
			name: "changed", before: []Item{sysctl("net.ipv4.ip_forward", "0")}, after: []Item{
				sysctl("net.ipv4.ip_forward", "1"),
			},
			want: []string{"~ sysctl net.ipv4.ip_forward: 0 -> 1"},
		},
		{
			name: "one more of the same", before: []Item{rule("x"), rule("y")}, after: []Item{
				rule("x"), rule("x"), rule("y"),
			},
			want: []string{"+ nftables rule ip nat post: x"},
		},
		{
			name: "several of one name", before: []Item{rule("w"), rule("x"), rule("y")},
			after: []Item{rule("y"), rule("z")},
			want: []string{
				"- nftables rule ip nat post: w", "- nftables rule ip nat post: x", "+ nftables rule ip nat post: z",
			},
		},
		{
			name: "what belongs to a new link",
			after: []Item{
				{Kind: Address, Name: "10.0.0.1/24 dev eno1.host", Text: "inet"},
				{Kind: Address, Name: "fe80::1/64 dev eno1.host", Text: "inet6"},
				link("eno1.host"),
				{Kind: Qdisc, Name: "dev eno1.host root", Text: "noqueue"},
				{Kind: Route, Name: "10.0.0.0/24 table main", Text: "dev eno1.host proto kernel"},
				{Kind: Route, Name: "10.0.0.9/32 table main", Text: "dev eno1.host proto boot"},
				sysctl("net.ipv4.conf.eno1/host.rp_filter", "0"), sysctl("net.ipv6.neigh.eno1/host.mcast_solicit", "3"),
				sysctl("net.ipv4.conf.eno1.rp_filter", "1"),
			},
			want: []string{
				"+ address 10.0.0.1/24 dev eno1.host: inet", "+ link eno1.host: <UP>",
				"+ route 10.0.0.9/32 table main: dev eno1.host proto boot", "+ sysctl net.ipv4.conf.eno1.rp_filter: 1",
			},
		},
		{
			name:   "same name in another namespace",
			before: []Item{pod},
			after:  []Item{link("eth0"), pod, inPod(sysctl("net.ipv4.conf.eth0.rp_filter", "0"))},
			want:   []string{"+ link eth0: <UP>", "+ pod/a sysctl net.ipv4.conf.eth0.rp_filter: 0"},
		},
		{
			name: "namespace gone", before: []Item{inPod(link("eth0")), pod, inPod(sysctl("net.ipv4.ip_forward", "0"))},
			want: []string{"- pod/a namespace network"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(lines(Diff(State{Items: tt.before}, State{Items: tt.after})), tt.want); diff != "" {
				t.Errorf("changes (-got +want):\n%s", diff)
			}
		})
	}
}

func TestDiffOfEqualStates(t *testing.T) {
	kinds := []string{Link, Address, Route, Sysctl, Nftables, Namespace}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		word := func() string { return string(rune('a' + random.IntN(3))) }
		var state State
		for range random.IntN(20) {
			state.Items = append(state.Items, Item{
				Scope: word(), Kind: kinds[random.IntN(len(kinds))], Name: word(), Text: word(),
			})
		}
		shuffled := State{Items: slices.Clone(state.Items)}
		random.Shuffle(len(shuffled.Items), func(i, j int) {
			shuffled.Items[i], shuffled.Items[j] = shuffled.Items[j], shuffled.Items[i]
		})
		if got := Diff(state, shuffled); got != nil {
			t.Fatalf("seed %d: got %q, want no change", seed, lines(got))
		}
	}
}

func TestJSON(t *testing.T) {
	isolateNode(t)
	state := take(t, Options{Kinds: networkKinds})
	if !slices.IsSortedFunc(state.Items, compare) {
		t.Error("got items in disorder, want them sorted by scope, kind, name and text")
	}
	encoded, err := json.Marshal(state)
	check(t, err)
	var decoded State
	check(t, json.Unmarshal(encoded, &decoded))
	if diff := cmp.Diff(decoded, state); diff != "" {
		t.Errorf("state after a round trip (-got +want):\n%s", diff)
	}
	encoded, err = json.Marshal(Change{
		Op: Changed, Item: Item{Scope: "pod/a", Kind: Link, Name: "eth0", Text: "<UP>"}, Before: "<>",
	})
	check(t, err)
	if got, want := string(encoded),
		`{"op":"changed","item":{"scope":"pod/a","kind":"link","name":"eth0","text":"\u003cUP\u003e"},"before":"\u003c\u003e"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTakeEndsWithItsContext(t *testing.T) {
	isolate(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Take(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
}

func TestSettle(t *testing.T) {
	machinetime.Process() // its heartbeat must not begin in a bubble, which could then not end
	before := State{Items: []Item{{Kind: Link, Name: "a"}}}
	left := State{Items: []Item{{Kind: Link, Name: "a"}, {Kind: Link, Name: "left"}}}
	other := State{Items: []Item{{Kind: Link, Name: "a"}, {Kind: Link, Name: "other"}}}
	fails := errors.New("no socket")
	for _, tt := range []struct {
		name    string
		states  []State // the last one stays
		err     error
		beyond  func([]Change) []Change
		limit   time.Duration
		want    []string
		wantErr error
		quiet   bool
	}{
		{name: "nothing differs", states: []State{before}, limit: time.Minute},
		{name: "cleans itself up", states: []State{left, other, before}, limit: time.Minute},
		{name: "something is left", states: []State{other, left}, limit: time.Minute, want: []string{"+ link left"}, quiet: true},
		{name: "something expected is left", states: []State{other, left}, beyond: func(all []Change) []Change {
			return slices.DeleteFunc(all, func(c Change) bool { return c.Item.Name == "left" })
		}, limit: time.Minute},
		{name: "context ends", states: []State{left}, limit: 2 * poll, want: []string{"+ link left"}},
		{name: "cannot look", err: fails, limit: time.Minute, wantErr: fails},
	} {
		// With a clock that advances only while everybody waits.
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				defer cancel()
				start, states := time.Now(), tt.states
				changes, err := Settle(ctx, func(context.Context) (State, error) {
					if len(states) > 1 {
						defer func() { states = states[1:] }()
					}
					if tt.err != nil {
						return State{}, tt.err
					}
					return states[0], nil
				}, before, tt.beyond)
				if !errors.Is(err, tt.wantErr) {
					t.Errorf("got error %v, want %v", err, tt.wantErr)
				}
				if diff := cmp.Diff(lines(changes), tt.want); diff != "" {
					t.Errorf("changes (-got +want):\n%s", diff)
				}
				if elapsed := time.Since(start); tt.quiet != (elapsed >= Quiet) {
					t.Errorf("got an answer after %v, want it after %v: %t", elapsed, Quiet, tt.quiet)
				}
			})
		})
	}
}
