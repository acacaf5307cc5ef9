package datastore

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// clock is a clock that the test sets.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newTestStore(enis ...ENI) (*Store, *clock) {
	c := &clock{time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)}
	s := New(Options{Cooling: 30 * time.Second, Now: c.now})
	s.Sync(enis)
	return s, c
}

func addrs(text string) []netip.Addr {
	var all []netip.Addr
	for _, field := range strings.Fields(text) {
		all = append(all, netip.MustParseAddr(field))
	}
	return all
}

func prefixes(text ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range text {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

func key(name string) Key { return Key{"net", name, "eth0"} }

// play performs steps: "+a" assigns to container a, "-a" releases, "30s" lets time pass, "sync" passes the second set
// of ENIs to Sync. It returns the result of each step.
func play(s *Store, c *clock, steps string, next ...ENI) string {
	var said []string
	for _, step := range strings.Fields(steps) {
		switch {
		case step == "sync":
			changes := s.Sync(next)
			said = append(said, fmt.Sprintf("sync:added=%v,removed=%v,inUse=%d", changes.Added, changes.Removed,
				len(changes.InUse)))
		case step[0] == '+':
			a, _, err := s.Assign(key(step[1:]), Pod{})
			said = append(said, cmp.Or(errorText(err), a.Address.String()+"@"+a.ENI))
		case step[0] == '-':
			a, found, _ := s.Release(key(step[1:]))
			said = append(said, fmt.Sprintf("%v:%v", a.Address, found))
		default:
			d, err := time.ParseDuration(step)
			if err != nil {
				return err.Error()
			}
			c.at = c.at.Add(d)
		}
	}
	return strings.Join(said, "\n")
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestStore(t *testing.T) {
	two := []ENI{
		{ID: "eni-0", Device: 0, Addresses: addrs("10.0.0.1 10.0.0.2")},
		{ID: "eni-1", Device: 1, Addresses: addrs("10.0.1.1 10.0.1.2")},
	}
	for _, tt := range []struct {
		name  string
		enis  []ENI
		next  []ENI
		steps string
		want  string
	}{{
		name: "the ENI with fewer pods is next", enis: two,
		steps: "+a +b +c -b +d",
		want:  "10.0.0.1@eni-0\n10.0.1.1@eni-1\n10.0.0.2@eni-0\n10.0.1.1:true\n10.0.1.2@eni-1",
	}, {
		name: "asked again", enis: two,
		steps: "+a +a -a -a -never",
		want:  "10.0.0.1@eni-0\n10.0.0.1@eni-0\n10.0.0.1:true\ninvalid IP:false\ninvalid IP:false",
	}, {
		name: "cooling", enis: two[:1],
		steps: "+a +b +c -a +c 29999ms +c 1ms +c",
		want: "10.0.0.1@eni-0\n10.0.0.2@eni-0\nno free address: 2 of 2 assigned, 0 cooling\n10.0.0.1:true\n" +
			"no free address: 1 of 2 assigned, 1 cooling\nno free address: 1 of 2 assigned, 1 cooling\n10.0.0.1@eni-0",
	}, {
		name: "the longest unused is next", enis: two[:1],
		steps: "+a -a 30s +b -b 30s +c",
		want:  "10.0.0.1@eni-0\n10.0.0.1:true\n10.0.0.2@eni-0\n10.0.0.2:true\n10.0.0.1@eni-0",
	}, {
		name: "delegated prefixes", enis: []ENI{{ID: "eni-0", Prefixes: prefixes("10.0.2.16/28", "10.0.3.5/30")}},
		steps: "+1 +2 +3 +4 +5 +6 +7 +8 +9 +10 +11 +12 +13 +14 +15 +16 +17 +18 +19 +20 +21",
		want: "10.0.2.16@eni-0\n10.0.2.17@eni-0\n10.0.2.18@eni-0\n10.0.2.19@eni-0\n10.0.2.20@eni-0\n10.0.2.21@eni-0\n10.0.2.22@eni-0\n10.0.2.23@eni-0\n" +
			"10.0.2.24@eni-0\n10.0.2.25@eni-0\n10.0.2.26@eni-0\n10.0.2.27@eni-0\n10.0.2.28@eni-0\n10.0.2.29@eni-0\n10.0.2.30@eni-0\n10.0.2.31@eni-0\n" +
			"10.0.3.4@eni-0\n10.0.3.5@eni-0\n10.0.3.6@eni-0\n10.0.3.7@eni-0\nno free address: 20 of 20 assigned, 0 cooling",
	}, {
		name: "an IPv6 prefix that nobody lists", enis: []ENI{{ID: "eni-0", Prefixes: prefixes("2001:db8::/80")}},
		next:  []ENI{{ID: "eni-0", Prefixes: prefixes("2001:db8::/80")}},
		steps: "+a +b -a sync +c 30s +d",
		want:  "2001:db8::1@eni-0\n2001:db8::2@eni-0\n2001:db8::1:true\nsync:added=[],removed=[],inUse=0\n2001:db8::3@eni-0\n2001:db8::1@eni-0",
	}, {
		name: "added, and an ENI added", enis: two[:1], next: []ENI{
			{ID: "eni-0", Addresses: addrs("10.0.0.1 10.0.0.2 10.0.0.3")}, two[1],
		},
		steps: "+a sync +b +c",
		want:  "10.0.0.1@eni-0\nsync:added=[10.0.0.3 10.0.1.1 10.0.1.2],removed=[],inUse=0\n10.0.1.1@eni-1\n10.0.0.2@eni-0",
	}, {
		name: "closed", enis: two, next: []ENI{
			two[0], {ID: "eni-1", Device: 1, Addresses: two[1].Addresses, Closed: true},
		},
		steps: "+a +b sync +b +c +d -b 30s +d",
		want: "10.0.0.1@eni-0\n10.0.1.1@eni-1\nsync:added=[],removed=[],inUse=0\n10.0.1.1@eni-1\n10.0.0.2@eni-0\n" +
			"no free address: 3 of 3 assigned, 0 cooling\n10.0.1.1:true\nno free address: 2 of 2 assigned, 0 cooling",
	}, {
		name: "removed", enis: two[:1], next: []ENI{{ID: "eni-0", Addresses: addrs("10.0.0.3")}},
		steps: "+a sync +a +b +c -a 30s +c sync",
		want: "10.0.0.1@eni-0\nsync:added=[10.0.0.3],removed=[10.0.0.2],inUse=1\n10.0.0.1@eni-0\n10.0.0.3@eni-0\nno " +
			"free address: 2 of 2 assigned, 0 cooling\n" +
			"10.0.0.1:true\nno free address: 1 of 1 assigned, 0 cooling\nsync:added=[],removed=[],inUse=0",
	}, {
		name: "removed while cooling", enis: two[:1], next: []ENI{{ID: "eni-0", Addresses: addrs("10.0.0.2")}},
		steps: "+a -a sync 30s +b +c",
		want:  "10.0.0.1@eni-0\n10.0.0.1:true\nsync:added=[],removed=[],inUse=0\n10.0.0.2@eni-0\nno free address: 1 of 1 assigned, 0 cooling",
	}, {
		name: "all of an ENI removed", enis: two, next: two[:1],
		steps: "+a +b sync sync -b 30s sync +c +d",
		want: "10.0.0.1@eni-0\n10.0.1.1@eni-1\nsync:added=[],removed=[10.0.1.2],inUse=1\nsync:added=[],removed=[],inUse=0\n10.0.1.1:true\n" +
			"sync:added=[],removed=[],inUse=0\n10.0.0.2@eni-0\nno free address: 2 of 2 assigned, 0 cooling",
	}, {
		name: "moved to another ENI while free", enis: two, next: []ENI{
			{ID: "eni-0", Addresses: addrs("10.0.0.1 10.0.0.2 10.0.1.1 10.0.1.2")},
		},
		steps: "+a sync +b +c +d +e",
		want:  "10.0.0.1@eni-0\nsync:added=[10.0.1.1 10.0.1.2],removed=[],inUse=0\n10.0.0.2@eni-0\n10.0.1.1@eni-0\n10.0.1.2@eni-0\nno free address: 4 of 4 assigned, 0 cooling",
	}, {
		name: "moved to another ENI while in use", enis: two[:1], next: []ENI{
			{ID: "eni-1", Device: 1, Addresses: addrs("10.0.0.1 10.0.0.2")},
		},
		steps: "+a sync +a +b +c -a 30s +c sync +c",
		want: "10.0.0.1@eni-0\nsync:added=[10.0.0.2],removed=[],inUse=1\n10.0.0.1@eni-0\n10.0.0.2@eni-1\nno free " +
			"address: 2 of 2 assigned, 0 cooling\n10.0.0.1:true\n" +
			"no free address: 1 of 1 assigned, 0 cooling\nsync:added=[10.0.0.1],removed=[],inUse=0\n10.0.0.1@eni-1",
	}} {
		t.Run(tt.name, func(t *testing.T) {
			s, c := newTestStore(tt.enis...)
			got := play(s, c, tt.steps, tt.next...)
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A prefix that is not listed is exhausted in the end too; then released addresses are assigned again.
func TestStore_Assign_vastPrefixEnds(t *testing.T) {
	s, c := newTestStore(ENI{ID: "eni-0", Prefixes: prefixes("2001:db8::/119")})
	for n := range 511 {
		if _, _, err := s.Assign(key(fmt.Sprint(n)), Pod{}); err != nil {
			t.Fatal(err)
		}
	}
	got := play(s, c, "+a -5 30s +a")
	want := "no free address: 511 of 511 assigned, 0 cooling\n2001:db8::6:true\n2001:db8::6@eni-0"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestStore_incompleteKey(t *testing.T) {
	s, _ := newTestStore(ENI{ID: "eni-0", Addresses: addrs("10.0.0.1")})
	for _, k := range []Key{{"", "c", "i"}, {"n", "", "i"}, {"n", "c", ""}} {
		if _, _, err := s.Assign(k, Pod{}); !errors.Is(err, ErrIncompleteKey) {
			t.Errorf("assign %+v: got %v, want %v", k, err, ErrIncompleteKey)
		}
		if _, _, err := s.Lookup(k); !errors.Is(err, ErrIncompleteKey) {
			t.Errorf("look up %+v: got %v, want %v", k, err, ErrIncompleteKey)
		}
	}
}

// Lookup finds an interface's address even if the cloud took it away, and changes nothing.
func TestStore_Lookup(t *testing.T) {
	s, c := newTestStore(ENI{ID: "eni-0", Addresses: addrs("10.0.0.1 10.0.0.2 10.0.0.3")})
	play(s, c, "+a +b -b")
	s.Sync([]ENI{{ID: "eni-0", Addresses: addrs("10.0.0.2 10.0.0.3")}})
	before, version := s.Snapshot()
	var got []string
	for _, k := range []Key{key("a"), key("b"), key("never"), {"other", "a", "eth0"}, {"net", "a", "net1"}} {
		a, found, err := s.Lookup(k)
		got = append(got, fmt.Sprintf("%v@%s %v %s", a.Address, a.ENI, found, errorText(err)))
	}
	want := []string{
		"10.0.0.1@eni-0 true ", "invalid IP@ false ", "invalid IP@ false ", "invalid IP@ false ", "invalid IP@ false ",
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	after, still := s.Snapshot()
	sameAddr := gocmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := gocmp.Diff(before, after, sameAddr); diff != "" || still != version {
		t.Errorf("got version %d, want %d (-want +got):\n%s", still, version, diff)
	}
}

func TestStore_ReleaseExcept(t *testing.T) {
	s, _ := newTestStore(ENI{ID: "eni-0", Prefixes: prefixes("10.0.0.0/28")})
	for _, k := range []Key{{"net", "a", "eth0"}, {"net", "a", "net1"}, {"net", "b", "eth0"}, {"other", "b", "eth0"}} {
		if _, _, err := s.Assign(k, Pod{}); err != nil {
			t.Fatal(err)
		}
	}
	released, version := s.ReleaseExcept("net", map[Key]bool{{"net", "a", "net1"}: true, {"other", "b", "eth0"}: true})
	var got []string
	for _, a := range released {
		got = append(got, a.ContainerID+"/"+a.IfName+"="+a.Address.String())
	}
	if diff := gocmp.Diff([]string{"a/eth0=10.0.0.0", "b/eth0=10.0.0.2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again, v := s.ReleaseExcept("net", map[Key]bool{{"net", "a", "net1"}: true}); again != nil || v != version {
		t.Errorf("got %v, %d, want none and version %d", again, v, version)
	}
	if diff := gocmp.Diff(Stats{Total: 16, Free: 12, Assigned: 2, Cooling: 2}, s.Stats()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A state restored into a new store is the same state, and none of its addresses is assigned again.
func TestStore_Restore(t *testing.T) {
	enis := []ENI{
		{ID: "eni-0", Addresses: addrs("10.0.0.1 10.0.0.2 10.0.0.3")},
		{ID: "eni-1", Device: 1, Addresses: addrs("10.0.1.1")},
	}
	before, c := newTestStore(enis...)
	play(before, c, "+a +b +c +d -c 10s")
	state, _ := before.Snapshot()

	after := New(Options{Cooling: 30 * time.Second, Now: c.now})
	if err := after.Restore(state); err != nil {
		t.Fatal(err)
	}
	changes := after.Sync([]ENI{{ID: "eni-0", Addresses: addrs("10.0.0.1 10.0.0.2 10.0.0.3")}}) // eni-1 is gone
	if len(changes.InUse) != 1 || changes.InUse[0].Address != netip.MustParseAddr("10.0.1.1") {
		t.Errorf("got %v in use, want 10.0.1.1", changes.InUse)
	}
	again, _ := after.Snapshot()
	for _, s := range []State{state, again} {
		slices.SortFunc(s.Assignments, func(a, b *Assignment) int { return a.Address.Compare(b.Address) })
	}
	sameAddr := gocmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := gocmp.Diff(state, again, sameAddr); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got := play(after, c, "+a +b +c +d +e +f 20s +f")
	want := "10.0.0.1@eni-0\n10.0.1.1@eni-1\nno free address: 3 of 4 assigned, 1 cooling\n10.0.0.3@eni-0\n" +
		"no free address: 3 of 4 assigned, 1 cooling\nno free address: 3 of 4 assigned, 1 cooling\n10.0.0.2@eni-0"
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStore_Restore_errors(t *testing.T) {
	held := func(container, ip, id string) *Assignment {
		addr, _ := netip.ParseAddr(ip)
		return &Assignment{Key: key(container), Address: addr, ENI: id}
	}
	for _, tt := range []struct {
		state State
		want  string
	}{
		{
			State{Assignments: []*Assignment{held("a", "10.0.0.1", "e"), held("a", "10.0.0.2", "e")}},
			"eth0 of container a in network net has two addresses, 10.0.0.1 and 10.0.0.2",
		},
		{State{Assignments: []*Assignment{held("a", "10.0.0.1", "e"), held("b", "10.0.0.1", "e")}}, "address 10.0.0.1 occurs twice"},
		{State{Assignments: []*Assignment{held("a", "10.0.0.1", "")}}, `want an address and its ENI, got "10.0.0.1" and ""`},
		{State{Assignments: []*Assignment{held("a", "", "e")}}, `want an address and its ENI, got "invalid IP" and "e"`},
		{State{Assignments: []*Assignment{held("a", "10.0.0.1", "e")}, Resting: []Resting{
			{Address: netip.MustParseAddr("10.0.0.1"), ENI: "e"},
		}}, "address 10.0.0.1 occurs twice"},
	} {
		if got := errorText(New(Options{}).Restore(tt.state)); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// After the clock was set back, an address does not rest longer than usual.
func TestStore_Restore_clockSetBack(t *testing.T) {
	s, c := newTestStore()
	since := c.at.Add(time.Hour)
	if err := s.Restore(State{Resting: []Resting{{netip.MustParseAddr("10.0.0.1"), "eni-0", 0, since}}}); err != nil {
		t.Fatal(err)
	}
	s.Sync([]ENI{{ID: "eni-0", Addresses: addrs("10.0.0.1")}})
	want := "no free address: 0 of 1 assigned, 1 cooling\n10.0.0.1@eni-0"
	if got := play(s, c, "+a 30s +a"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestStore_views(t *testing.T) {
	s, c := newTestStore(ENI{ID: "eni-1", Device: 1, Addresses: addrs("10.0.1.1 10.0.1.2")}, ENI{
		ID: "eni-0", Addresses: addrs("10.0.0.1"),
	})
	play(s, c, "+a +b -b sync", ENI{ID: "eni-1", Device: 1, Addresses: addrs("10.0.1.2")})
	want := []ENIUsage{
		{ID: "eni-0", Assigned: 1, Removed: true},
		{ID: "eni-1", Device: 1, Free: 1, Cooling: 1, Unused: addrs("10.0.1.2")},
	}
	sameAddr := gocmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := gocmp.Diff(want, s.ENIs(), sameAddr); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	assigned := []Assigned{
		{Assignment{Key: key("a"), Address: netip.MustParseAddr("10.0.0.1"), ENI: "eni-0", Since: c.at}, true},
	}
	if diff := gocmp.Diff(assigned, s.Assignments(), sameAddr); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(Stats{Total: 3, Free: 1, Assigned: 1, Cooling: 1, Removed: 1}, s.Stats()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whatever many callers and a changing cloud do, no address is assigned twice, and the counts agree.
func TestStore_concurrent(t *testing.T) {
	s := New(Options{})
	few, many := ENI{ID: "eni-0", Prefixes: prefixes("10.0.0.0/28")}, ENI{
		ID: "eni-1", Device: 1, Prefixes: prefixes("10.0.1.0/28"),
	}
	s.Sync([]ENI{few, many})
	var mu sync.Mutex
	owner := map[netip.Addr]Key{}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for n := range 500 {
				k := key(fmt.Sprint(worker, "-", n))
				a, _, err := s.Assign(k, Pod{})
				if err != nil {
					continue
				}
				mu.Lock()
				if other, taken := owner[a.Address]; taken {
					t.Errorf("%s belongs to %v and %v", a.Address, other, k)
				}
				owner[a.Address] = k
				mu.Unlock()
				runtime.Gosched()
				mu.Lock()
				delete(owner, a.Address)
				mu.Unlock()
				s.Release(k)
			}
		})
	}
	for n := range 200 {
		s.Sync([][]ENI{{few, many}, {few}}[n%2])
	}
	group.Wait()
	s.Sync([]ENI{few, many})
	s.Sync([]ENI{few, many})
	if diff := gocmp.Diff(Stats{Total: 32, Free: 32}, s.Stats()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// If the cloud takes an address away and gives it back, the store is as before.
func TestStore_Sync_back(t *testing.T) {
	full := ENI{ID: "eni-0", Addresses: addrs("10.0.0.1 10.0.0.2")}
	s, c := newTestStore(full)
	play(s, c, "+a +b -b")
	for _, tt := range []struct {
		enis []ENI
		want Stats
	}{
		{nil, Stats{Total: 2, Assigned: 1, Cooling: 1, Removed: 1}},
		{[]ENI{full}, Stats{Total: 2, Assigned: 1, Cooling: 1}},
		{[]ENI{{ID: "eni-0"}}, Stats{Total: 2, Assigned: 1, Cooling: 1, Removed: 1}},
		{[]ENI{full}, Stats{Total: 2, Assigned: 1, Cooling: 1}},
	} {
		s.Sync(tt.enis)
		if diff := gocmp.Diff(tt.want, s.Stats()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if got, want := play(s, c, "-a 30s +c +d"), "10.0.0.1:true\n10.0.0.2@eni-0\n10.0.0.1@eni-0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestStore_Withdraw(t *testing.T) {
	enis := []ENI{
		{ID: "eni-0", Addresses: addrs("10.0.0.1 10.0.0.2 10.0.0.3")},
		{ID: "eni-1", Device: 1, Addresses: addrs("10.0.1.1")},
	}
	s, c := newTestStore(enis...)
	play(s, c, "+a +b +c -c") // 10.0.0.1 and 10.0.1.1 assigned, 10.0.0.2 cooling
	got := s.Withdraw(addrs("10.0.0.1 10.0.0.2 10.0.0.3 10.9.9.9"))
	if diff := gocmp.Diff(addrs("10.0.0.3"), got, gocmp.Comparer(func(a, b netip.Addr) bool {
		return a == b
	})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s.WithdrawENI("eni-1") || s.WithdrawENI("eni-0") || s.WithdrawENI("eni-9") {
		t.Error("want that ENIs with assigned or cooling addresses stay")
	}
	play(s, c, "-b 30s")
	if !s.WithdrawENI("eni-1") {
		t.Error("want an idle ENI to go")
	}
	if diff := gocmp.Diff(Stats{Total: 2, Free: 1, Assigned: 1}, s.Stats()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, want := play(s, c, "+b +c sync +c", enis...), "10.0.0.2@eni-0\nno free address: 2 of 2 assigned, 0 "+
		"cooling\nsync:added=[10.0.0.3 10.0.1.1],removed=[],inUse=0\n10.0.1.1@eni-1"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
