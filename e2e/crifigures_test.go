package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/cri"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// TestCRI_figures prints what containerd and its calls of the plugins cost. It judges nothing.
func TestCRI_figures(t *testing.T) {
	if *criTools == "" {
		t.Skip("make e2e-cri runs it: it needs a containerd")
	}
	for name, chain := range map[string][]string{
		"macvlan + host-local + route": {macvlan, route}, "macvlan + host-local + veth-to-host": {macvlan, vethToHost},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeConflist(t, "", chain...)
			setVersion(t, path, "1.1.0")
			file, err := conflist.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			backend, err := cri.Open(cri.Options{Tools: *criTools, Command: backend().Command, Debug: true})
			if err != nil {
				t.Fatal(err)
			}
			c, err := backend.Start(t.Context(), cluster.Request{
				Conflist: file, BinDir: plugins(t).plugins, Nodes: []scenario.Node{{Name: "a"}}, Alone: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			figures{t, c, cri.ContainerdOf(c, c.Nodes()[0])}.print()
		})
	}
}

// figures measures on one node.
type figures struct {
	*testing.T
	cluster    cluster.Cluster
	containerd *cri.Containerd
}

func (f figures) print() {
	const rounds = 15
	f.attach("asker")
	var all, untilAnswer, part []time.Duration
	for i := range rounds {
		begin := time.Now()
		to := f.attach("web-" + strconv.Itoa(i))
		all = append(all, time.Since(begin))
		untilAnswer = append(untilAnswer, f.answer("asker", to, begin))
		part = append(part, f.cniTime())
	}
	f.Logf("RunPodSandbox, median of %d: %s, until the first answer %s; from the first plugin's start to the result of "+
		"ADD %s", rounds, median(all), median(untilAnswer), median(part))
	for _, networked := range []bool{false, true} {
		const polls = 60
		before := f.processorTime()
		for range polls {
			if networked {
				_, err := f.containerd.Conditions(f.Context())
				f.check(err)
			} else if _, err := f.containerd.Sandboxes(f.Context(), "none"); err != nil {
				f.Fatal(err)
			}
		}
		each := (f.processorTime() - before) / polls
		what := map[bool]string{false: "ListPodSandbox", true: "Status, which calls STATUS of each plugin"}[networked]
		f.Logf("%s: %s of a processor each, %.2f %% of one if it is asked every 5 s", what,
			each.Round(10*time.Microsecond), 100*each.Seconds()/5)
	}
}

func (f figures) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f figures) node() *cluster.Node { return f.cluster.Nodes()[0] }

func (f figures) attach(pod string) *cluster.Attachment {
	f.Helper()
	a, err := f.cluster.(cluster.Runtime).Attach(f.Context(), f.node(), pod)
	f.check(err)
	return a
}

// answer returns the time from begin until a pod answers another one.
func (f figures) answer(from string, to *cluster.Attachment, begin time.Time) time.Duration {
	f.Helper()
	a := f.node().Agent
	f.check(a.Listen(f.Context(), to.Netns, probe.ListenSpec{Protocol: probe.TCP, Port: 8080, Name: to.Pod}))
	result, err := cni.ParseResult(to.Result)
	f.check(err)
	attached, err := f.cluster.(cluster.Runtime).Attachments(f.Context(), f.node())
	f.check(err)
	i := slices.IndexFunc(attached, func(a cluster.Attachment) bool { return strings.HasSuffix(a.Pod, "/"+from) })
	reply, err := a.Probe(f.Context(), attached[i].Netns, probe.Spec{
		Protocol: probe.TCP, To: result.IPs[0].Address.IP.String(), Port: 8080, Within: 5 * time.Second,
	})
	f.check(err)
	if !reply.OK {
		f.Fatal(reply.Error)
	}
	return time.Since(begin)
}

// cniTime returns how long the last ADD took, by containerd's log.
func (f figures) cniTime() time.Duration {
	f.Helper()
	state, err := f.node().Agent.Daemon(f.Context(), "containerd")
	f.check(err)
	var times []time.Time
	for _, text := range []string{"begin cni setup", "cni result: "} {
		found := regexp.MustCompile(`time="([^"]+)"[^\n]*msg="`+text).FindAllStringSubmatch(state.Output, -1)
		if len(found) == 0 {
			f.Fatalf("no %q in containerd's log", text)
		}
		at, err := time.Parse(time.RFC3339Nano, found[len(found)-1][1])
		f.check(err)
		times = append(times, at)
	}
	return times[1].Sub(times[0])
}

// processorTime returns the time that containerd and its children had.
func (f figures) processorTime() (total time.Duration) {
	f.Helper()
	reply, err := f.node().Agent.Command(context.WithoutCancel(f.Context()), agent.CommandArgs{Argv: []string{
		"sh", "-c", `for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = containerd ] && cat $p/stat; done; true`,
	}})
	f.check(err)
	fields := strings.Fields(reply.Output)
	if len(fields) < 17 {
		f.Fatalf("stat of containerd: %q", reply.Output)
	}
	for _, ticks := range fields[13:17] {
		n, err := json.Number(ticks).Int64()
		f.check(err)
		total += time.Duration(n) * 10 * time.Millisecond
	}
	return total
}

func median(list []time.Duration) string {
	slices.Sort(list)
	return fmt.Sprint(list[len(list)/2].Round(100 * time.Microsecond))
}
