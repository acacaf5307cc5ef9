package service

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/internal/kerneltest"
	"github.com/cnitest/cnitest/e2e/probe"
)

// loader is one way to give the lab's node the rules for labServices.
type loader struct {
	name string
	// needs are the programs that it requires.
	needs []string
	load  func() error
	// rejectsOtherPorts and dropsInvalid are the differences between the dataplanes of kube-proxy.
	rejectsOtherPorts, dropsInvalid bool
	// answers are those that differ from asks, by the name of the request.
	answers map[string]map[string]string
}

func loaders() []loader {
	apply := func(dataplane string) func() error {
		return func() error { return Apply(context.Background(), Options{Dataplane: dataplane}, labServices()) }
	}
	recorded := func(files map[string]string) func() error {
		return func() error {
			for file, command := range files {
				text, err := os.ReadFile("testdata/" + file)
				if err != nil {
					return err
				}
				args := strings.Fields(command)
				if _, err := run(context.Background(), args[0], string(text), args[1:]...); err != nil {
					return err
				}
			}
			return nil
		}
	}
	iptables := []string{"iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore"}
	return []loader{
		{name: "nftables", load: apply(Nftables), rejectsOtherPorts: true, dropsInvalid: true},
		{name: "iptables", needs: iptables, load: apply(Iptables), dropsInvalid: true},
		{name: "ipvs", needs: []string{kernelIPVS}, load: apply(IPVS), rejectsOtherPorts: true, answers: ipvsAnswers()},
		{
			name: "nftables of kube-proxy", needs: []string{"nft"}, rejectsOtherPorts: true,
			load: recorded(map[string]string{"kube-proxy-nft.txt": "nft -f -"}),
		},
		{
			name: "iptables of kube-proxy", needs: iptables, dropsInvalid: true,
			load: recorded(map[string]string{
				"kube-proxy-iptables.txt": "iptables-restore", "kube-proxy-ip6tables.txt": "ip6tables-restore",
			}),
		},
	}
}

// need skips the test if a program is missing, or what a kernel may lack.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if program == kernelIPVS {
			if !hasIPVS() {
				kerneltest.Lacks(t, kernelIPVS)
			}
			continue
		}
		if _, err := exec.LookPath(program); err != nil {
			t.Skip((&MissingProgramError{Program: program}).Error())
		}
	}
}

// ask is a request to a service, and the expected answer. Addresses are IPv4; translated returns the corresponding IPv6
// addresses.
type ask struct {
	name     string
	from     func(*lab) *machine
	protocol probe.Protocol
	to       string
	port     uint16
	// want is the source address that each endpoint sees; exactly these endpoints answer.
	want map[string]string
	// wantErr is the reason why none answers.
	wantErr string
}

func client(l *lab) *machine { return l.client }
func node(l *lab) *machine   { return l.node }
func one(l *lab) *machine    { return l.one }

const (
	refused  = "connection refused"
	noAnswer = "no reply within 200ms"
)

// asks returns the requests whose outcome kube-proxy guarantees.
func asks() []ask {
	untouched := func(source string) map[string]string { return map[string]string{"one": source, "two": source} }
	// Masqueraded packets have the node's address on the link by which they leave.
	masqueraded := map[string]string{"one": "10.2.1.1", "two": "10.2.2.1"}
	return []ask{
		{"cluster IP", client, probe.TCP, "10.96.0.10", 80, untouched("10.1.0.2"), ""},
		{"cluster IP by UDP", client, probe.UDP, "10.96.0.10", 53, untouched("10.1.0.2"), ""},
		{"cluster IP of a Local service", client, probe.TCP, "10.96.0.20", 80, untouched("10.1.0.2"), ""},
		{"cluster IP from the node", node, probe.TCP, "10.96.0.10", 80, untouched("10.1.0.1"), ""},
		{"cluster IP from the node by UDP", node, probe.UDP, "10.96.0.10", 53, untouched("10.1.0.1"), ""},
		{"hairpin", one, probe.TCP, "10.96.0.50", 80, map[string]string{"one": "10.2.1.1"}, ""},
		{"hairpin by UDP", one, probe.UDP, "10.96.0.50", 53, map[string]string{"one": "10.2.1.1"}, ""},
		{"hairpin at random", one, probe.TCP, "10.96.0.10", 80, map[string]string{"one": "10.2.1.1", "two": "10.2.1.2"}, ""},
		{"node port", client, probe.TCP, "10.1.0.1", 30010, masqueraded, ""},
		{"node port by UDP", client, probe.UDP, "10.1.0.1", 30011, masqueraded, ""},
		{"node port on another address of the node", client, probe.TCP, "10.2.1.1", 30010, masqueraded, ""},
		{"node port from the node", node, probe.TCP, "10.1.0.1", 30010, masqueraded, ""},
		{"node port on loopback", node, probe.TCP, "127.0.0.1", 30010, nil, refused},
		{"port of a pod that is also a node port", client, probe.TCP, "10.2.2.2", 30010, nil, refused},
		{"Local node port", client, probe.TCP, "10.1.0.1", 30020, map[string]string{"one": "10.1.0.2"}, ""},
		{"Local node port by UDP", client, probe.UDP, "10.1.0.1", 30021, map[string]string{"one": "10.1.0.2"}, ""},
		{"Local node port from the node", node, probe.TCP, "10.1.0.1", 30020, masqueraded, ""},
		{"Local node port from its pod", one, probe.TCP, "10.1.0.1", 30020, map[string]string{"one": "10.2.1.1"}, ""},
		{"Local node port without local endpoint", client, probe.TCP, "10.1.0.1", 30030, nil, noAnswer},
		{"Local node port without local endpoint by UDP", client, probe.UDP, "10.1.0.1", 30031, nil, noAnswer},
		{"Local node port without local endpoint from the node", node, probe.TCP, "10.1.0.1", 30030, map[string]string{"two": "10.2.2.1"}, ""},
		{"no endpoint", client, probe.TCP, "10.96.0.40", 80, nil, refused},
		{"no endpoint by UDP", client, probe.UDP, "10.96.0.40", 53, nil, refused},
		{"no endpoint from the node", node, probe.TCP, "10.96.0.40", 80, nil, refused},
		{"no endpoint on the node port", client, probe.UDP, "10.1.0.1", 30041, nil, refused},
	}
}

// otherPort expects a refusal only from the nftables mode of kube-proxy; in its iptables mode the packet follows the
// routes.
func otherPort() ask {
	return ask{"other port of a cluster IP", client, probe.UDP, "10.96.0.10", 81, nil, refused}
}

// in returns the request in the given family.
func (a ask) in(ipv6 bool) ask {
	if !ipv6 {
		return a
	}
	translated := strings.NewReplacer("10.1.0.", "fd00:1::", "10.2.1.", "fd00:21::", "10.2.2.", "fd00:22::", "10.96.0.",
		"fd96::",
		"127.0.0.1", "::1")
	a.to = translated.Replace(a.to)
	want := map[string]string{}
	for server, source := range a.want {
		want[server] = translated.Replace(source)
	}
	a.want = want
	return a
}

func (a ask) check(t *testing.T, l *lab) {
	t.Helper()
	if a.wantErr != "" {
		a.checkFailure(t, l)
		return
	}
	// The choice is random: the probability that only one of two endpoints gives this many answers is 2⁻⁶³.
	got := map[string]string{}
	for range 64 {
		r, err := probe.Run(t.Context(), a.from(l).path, probe.Spec{Protocol: a.protocol, To: a.to, Port: a.port})
		if err != nil {
			t.Fatal(err)
		}
		if !r.OK {
			t.Fatalf("%s %s port %d: %s", a.protocol, a.to, a.port, r.Error)
		}
		if source, again := got[r.Server]; again && source != r.PeerSeen {
			t.Fatalf("%s saw %s and %s", r.Server, source, r.PeerSeen)
		}
		got[r.Server] = r.PeerSeen
		if len(got) == len(a.want) && len(got) > 1 {
			break
		}
	}
	if diff := cmp.Diff(got, a.want); diff != "" {
		t.Errorf("source that each endpoint saw (-got +want):\n%s", diff)
	}
}

func (a ask) checkFailure(t *testing.T, l *lab) {
	t.Helper()
	within := patience
	if a.wantErr == noAnswer {
		within = 200 * time.Millisecond
	}
	r, err := probe.Run(t.Context(), a.from(l).path, probe.Spec{
		Protocol: a.protocol, To: a.to, Port: a.port, Attempts: 1, Within: within,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := a.wantErr
	if a.protocol == probe.TCP {
		want = "connect: " + want
	}
	if r.OK || r.Error != want {
		t.Errorf("got ok %t, error %q, want %q", r.OK, r.Error, want)
	}
	// A veth delivers the refusal during the call that sends the SYN, while the socket is locked and accepts no error
	// (tcp_v4_err in net/ipv4/tcp_ipv4.c). The retransmission after 1s receives it.
	if a.wantErr == refused && r.Duration > 2*time.Second {
		t.Errorf("got refused after %s, want at once", r.Duration)
	}
}

func TestTraffic(t *testing.T) {
	for _, loader := range loaders() {
		t.Run(loader.name, func(t *testing.T) {
			need(t, loader.needs...)
			l := newLab(t)
			l.node.do(t, loader.load)
			questions := asks()
			if loader.rejectsOtherPorts {
				questions = append(questions, otherPort())
			}
			for _, ipv6 := range []bool{false, true} {
				for _, a := range questions {
					if want, differs := loader.answers[a.name]; differs {
						a.want, a.wantErr = want, ""
					}
					t.Run(fmt.Sprintf("%s %s", ipVersion(ipv6), a.name), func(t *testing.T) { a.in(ipv6).check(t, l) })
				}
			}
		})
	}
}
