package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
)

// listing returns the whole nftables ruleset of the calling thread's namespace, one line for each table, chain, rule,
// set and element, without handles. The rules of iptables-nft are among them.
func listing() ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	tables, err := conn.ListTables()
	if err != nil {
		return nil, err
	}
	lines := []string{}
	for _, table := range tables {
		prefix := fmt.Sprintf("table %d %s ", table.Family, table.Name)
		lines = append(lines, prefix)
		chains, err := conn.ListChainsOfTableFamily(table.Family)
		if err != nil {
			return nil, err
		}
		for _, chain := range chains {
			if chain.Table.Name != table.Name {
				continue
			}
			rules, err := conn.GetRules(table, chain)
			if err != nil {
				return nil, err
			}
			chain.Table = nil
			lines = append(lines, prefix+text(chain))
			for _, rule := range rules {
				lines = append(lines, prefix+chain.Name+" "+text(rule.Exprs))
			}
		}
		sets, err := conn.GetSets(table)
		if err != nil {
			return nil, err
		}
		for _, set := range sets {
			elements, err := conn.GetSetElements(set)
			if err != nil {
				return nil, err
			}
			set.Table, set.ID = nil, 0
			lines = append(lines, prefix+text(set))
			for _, element := range elements {
				lines = append(lines, prefix+set.Name+" "+text(element))
			}
		}
	}
	slices.Sort(lines)
	return lines, nil
}

func text(value any) string {
	bytes, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(bytes)
}

// saved returns the ruleset of both iptables, without counters and times.
func saved() ([]string, error) {
	changing := regexp.MustCompile(`(?m)^#.*\n| \[\d+:\d+\]$`)
	var lines []string
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		out, err := run(context.Background(), program, "")
		if err != nil {
			return nil, err
		}
		lines = append(lines, strings.Split(changing.ReplaceAllString(out, ""), "\n")...)
	}
	return lines, nil
}

// plane is a dataplane with functions that read it, and rules of others in it.
type plane struct {
	name    string
	needs   []string
	list    func() ([]string, error)
	foreign func() error
	// marks are those that TestMark sees.
	marks []string
}

func planes() []plane {
	// Only the first packet of a connection passes the NAT rules; the others have only the other bit.
	forwarded := []string{"forward 0x1", "forward 0x4001", "postrouting 0x1"}
	return []plane{
		{name: Nftables, list: listing, foreign: foreignTable, marks: forwarded},
		{
			name: Iptables, needs: []string{"iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore"},
			list: saved, foreign: foreignChains, marks: forwarded,
		},
		// IPVS sends requests on like those of the node itself: only replies are forwarded.
		{
			name: IPVS, needs: []string{kernelIPVS}, list: balanced, foreign: foreignTable,
			marks: []string{"forward 0x1", "postrouting 0x1"},
		},
	}
}

// foreignTable makes a table with the hook and priority of kube-proxy's, and a chain of the same name.
func foreignTable() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	for _, table := range []*nftables.Table{
		{Name: "kube-proxy-not", Family: nftables.TableFamilyIPv4}, {Name: "kube-proxy", Family: nftables.TableFamilyINet},
	} {
		conn.AddTable(table)
		policy := nftables.ChainPolicyAccept
		chain := conn.AddChain(&nftables.Chain{
			Name: "nat-postrouting", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
			Priority: nftables.ChainPriorityNATSource, Policy: &policy,
		})
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: isMarked()})
	}
	return conn.Flush()
}

// foreignChains makes a chain of the kubelet, whose name begins like kube-proxy's, and a rule whose comment mentions
// one of kube-proxy's.
func foreignChains() error {
	const rules = `*filter
:FOREIGN - [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "not -j KUBE-SERVICES" -j FOREIGN
-A FOREIGN -j ACCEPT
COMMIT
*nat
:KUBE-KUBELET-CANARY - [0:0]
-A POSTROUTING -m mark --mark 0x1 -j MASQUERADE
COMMIT
`
	for _, program := range []string{"iptables-restore", "ip6tables-restore"} {
		if _, err := run(context.Background(), program, rules); err != nil {
			return err
		}
	}
	return nil
}

// onPlanes runs a test in a new namespace for each dataplane.
func onPlanes(t *testing.T, test func(t *testing.T, p plane, m *machine)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	for _, p := range planes() {
		t.Run(p.name, func(t *testing.T) {
			need(t, p.needs...)
			test(t, p, newHost(t))
		})
	}
}

// rulesAfter returns the rules after each of the given states was applied.
func (p plane) rulesAfter(t *testing.T, m *machine, states ...[]Service) (lines []string) {
	t.Helper()
	m.do(t, func() (err error) {
		for _, services := range states {
			if err := Apply(t.Context(), Options{Dataplane: p.name}, services); err != nil {
				return err
			}
		}
		lines, err = p.list()
		return err
	})
	return lines
}

func TestApply(t *testing.T) {
	all := labServices()
	t.Run("twice", func(t *testing.T) {
		onPlanes(t, func(t *testing.T, p plane, m *machine) {
			want := p.rulesAfter(t, m, all)
			if len(want) < 100 {
				t.Errorf("want at least 100 lines, got %d:\n%s", len(want), strings.Join(want, "\n"))
			}
			if diff := cmp.Diff(p.rulesAfter(t, m, all), want); diff != "" {
				t.Errorf("second time (-got +want):\n%s", diff)
			}
		})
	})
	t.Run("replaces what was there", func(t *testing.T) {
		onPlanes(t, func(t *testing.T, p plane, m *machine) {
			fresh := p.rulesAfter(t, newHost(t), all[:1])
			if diff := cmp.Diff(p.rulesAfter(t, m, all, all[:1]), fresh); diff != "" {
				t.Errorf("services taken away (-got +want):\n%s", diff)
			}
		})
	})
	t.Run("leaves others alone", func(t *testing.T) {
		onPlanes(t, func(t *testing.T, p plane, m *machine) {
			m.do(t, p.foreign)
			var foreign []string
			m.do(t, func() (err error) {
				foreign, err = p.list()
				return err
			})
			with := p.rulesAfter(t, m, all)
			for _, line := range foreign {
				if !slices.Contains(with, line) {
					t.Errorf("want still there: %s", line)
				}
			}
			if diff := cmp.Diff(p.rulesAfter(t, m, all[:2], nil), foreign); diff != "" {
				t.Errorf("after the removal (-got +want):\n%s", diff)
			}
		})
	})
}

func TestRemove(t *testing.T) {
	onPlanes(t, func(t *testing.T, p plane, m *machine) {
		for _, state := range []string{"never applied", "applied", "removed"} {
			var got []string
			m.do(t, func() (err error) {
				if state == "applied" {
					if err := Apply(t.Context(), Options{Dataplane: p.name}, labServices()); err != nil {
						return err
					}
				}
				if err := Remove(t.Context(), Options{Dataplane: p.name}); err != nil {
					return err
				}
				got, err = p.list()
				return err
			})
			// iptables keeps its tables and their empty chains.
			kernels := regexp.MustCompile(`^(\*\w+|:\w+ ACCEPT|COMMIT|)$`)
			got = slices.DeleteFunc(got, kernels.MatchString)
			if diff := cmp.Diff(got, []string{}); diff != "" {
				t.Errorf("%s: what is left (-got +want):\n%s", state, diff)
			}
		}
	})
}

// TestConstantRules applies twice as many services and counts the rules of the chains that all packets pass.
func TestConstantRules(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	count := func(services []Service) (n int) {
		newHost(t).do(t, func() error {
			if err := Apply(t.Context(), Options{}, services); err != nil {
				return err
			}
			conn, err := nftables.New()
			if err != nil {
				return err
			}
			chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
			for _, chain := range chains {
				rules, err := conn.GetRules(chain.Table, chain)
				if err != nil {
					return err
				}
				if !strings.Contains(chain.Name, "/") {
					n += len(rules)
				}
			}
			return err
		})
		return n
	}
	many := make([]Service, 500)
	for i := range many {
		many[i] = Service{
			Name: fmt.Sprintf("many-%d", i), Protocol: TCP, Port: uint16(i + 1),
			ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.1.1"), netip.MustParseAddr("fd96::1:1")},
			NodePort:   uint16(30000 + i),
			Endpoints: []Endpoint{
				{Address: netip.MustParseAddr("10.2.1.2"), Port: 80},
				{Address: netip.MustParseAddr("fd00:21::2"), Port: 80},
			},
		}
	}
	if got, want := count(many), count(many[:1]); got != want {
		t.Errorf("got %d rules for %d services, want %d as for one", got, len(many), want)
	}
}

func TestNodePortAddresses(t *testing.T) {
	for _, p := range planes() {
		t.Run(p.name, func(t *testing.T) {
			need(t, p.needs...)
			l := newLab(t)
			l.node.do(t, func() error {
				return Apply(t.Context(), Options{Dataplane: p.name, NodePortAddresses: []netip.Addr{
					netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1"),
				}}, labServices())
			})
			for _, ipv6 := range []bool{false, true} {
				for _, a := range []ask{
					{"listed", client, "tcp", "10.1.0.1", 30020, map[string]string{"one": "10.1.0.2"}, ""},
					{"other", client, "tcp", "10.2.1.1", 30020, nil, refused},
				} {
					t.Run(ipVersion(ipv6)+" "+a.name, func(t *testing.T) { a.in(ipv6).check(t, l) })
				}
			}
		})
	}
}

func TestMissingProgram(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	t.Setenv("PATH", t.TempDir())
	newHost(t).do(t, func() error {
		err := Apply(t.Context(), Options{Dataplane: Iptables}, labServices())
		var missing *MissingProgramError
		if !errors.As(err, &missing) {
			t.Errorf("got %v, want a MissingProgramError", err)
			return nil
		}
		want := "services: iptables-save: not on PATH, and the iptables dataplane drives it"
		if diff := cmp.Diff(err.Error(), want); diff != "" {
			t.Errorf("error (-got +want):\n%s", diff)
		}
		return nil
	})
}
