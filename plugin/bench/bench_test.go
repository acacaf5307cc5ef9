// Package bench measures what calls of the reference plugins cost, beside a plugin that does nothing and upstream's,
// with 10 to 3,000 attachments on the node, and with 64 callers at once. It holds no plugin and checks nothing: without
// -measure it measures one round of everything, to see that it works.
//
// Run: make bench-plugins
package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cnitest/cnitest/plugin/internal/cost"
	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

var (
	measure = flag.Bool("measure", false, "measure, and print tables; without, one round of everything")
	counts  = flag.String("counts", "10,100,1000,3000", "how many attachments stand on the node")
	rounds  = flag.Int("rounds", 30, "rounds of calls for each count")
	callers = flag.Int("callers", 64, "ADDs at once")
	plugins = flag.String("plugins", "route,veth-to-host", "the plugins that are measured")
)

func TestMain(m *testing.M) {
	const own = "github.com/cnitest/cnitest/plugin/"
	os.Exit(plugintest.Main(m, map[string]string{
		"noop": own + "bench/noop", "route": own + "route", "veth-to-host": own + "veth-to-host",
		"macvlan": plugintest.Upstream + "main/macvlan", "ptp": plugintest.Upstream + "main/ptp",
		"host-local": plugintest.Upstream + "ipam/host-local",
	}))
}

func TestCosts(t *testing.T) {
	if plugintest.BinDir() == "" {
		t.Skip("needs root for namespaces")
	}
	if !*measure {
		*counts, *rounds, *callers = "2", 1, 4
	}
	start := time.Now()
	var nodes []*node
	var subjects []cost.Subject
	for _, plugin := range strings.Split(*plugins, ",") {
		n := newNode(t, plugin)
		nodes, subjects = append(nodes, n), append(subjects, n.pod(0))
	}
	first := nodes[0]
	noop := first.chained(plugintest.NewNamespace(t, nil), "measured-0", "eth0", firstMeasured, nil)
	noop.Name, noop.Binary = "noop", filepath.Join(plugintest.BinDir(), "noop")
	subjects = append([]cost.Subject{noop}, subjects...)
	subjects = append(subjects, first.upstream("macvlan", 0), first.upstream("ptp", 0))
	byCount(t, nodes, subjects)
	atOnce(t, nodes)
	sizes(t, subjects)
	t.Logf("all of it took %s", time.Since(start).Round(time.Second))
}

// byCount measures one call after the other, with more and more attachments on the nodes of the plugins.
func byCount(t *testing.T, nodes []*node, subjects []cost.Subject) {
	t.Helper()
	var header []string
	all := map[string]cost.Results{}
	for _, text := range strings.Split(*counts, ",") {
		count, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for _, n := range nodes {
			n.fill(count)
		}
		filled := time.Now()
		results, err := cost.InTurn(subjects, *rounds)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d attachments: made in %s, measured in %s", count, filled.Sub(begin).Round(time.Second),
			time.Since(filled).Round(time.Second))
		header, all[text] = append(header, text), results
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n| median (p99), ms | %s |\n|---|%s\n", strings.Join(header, " | "), strings.Repeat("---|",
		len(header)))
	for _, s := range subjects {
		for _, verb := range s.Verbs {
			fmt.Fprintf(&b, "| %s %s |", s.Name, verb)
			for _, text := range header {
				times, base := all[text][s.Name][verb], all[text]["noop"]["ADD"].Quantile(0.5)
				median := times.Quantile(0.5)
				fmt.Fprintf(&b, " %s (%s) = %.2f noop |", cost.Milliseconds(median),
					cost.Milliseconds(times.Quantile(0.99)), float64(median)/float64(base))
			}
			b.WriteString("\n")
		}
	}
	t.Log(b.String())
}

// atOnce measures many ADDs at once, on the nodes as they are now.
func atOnce(t *testing.T, nodes []*node) {
	t.Helper()
	var names []string
	pods := map[string][]cost.Subject{}
	for number := range *callers {
		for _, n := range nodes {
			pods[n.plugin] = append(pods[n.plugin], n.pod(1+number))
		}
		for _, plugin := range []string{"macvlan", "ptp"} {
			pods[plugin] = append(pods[plugin], nodes[0].upstream(plugin, 1+number))
		}
	}
	for _, n := range nodes {
		names = append(names, n.plugin)
	}
	names = append(names, "macvlan", "ptp")
	times, whole := map[string]cost.Times{}, map[string]cost.Times{}
	for range max(1, *rounds/6) {
		for _, name := range names {
			each, all, err := cost.AtOnce(pods[name])
			if err != nil {
				t.Fatal(err)
			}
			times[name], whole[name] = append(times[name], each...), append(whole[name], all)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n| %d ADDs at once | per second | median, ms | p99, ms |\n|---|---|---|---|\n", *callers)
	for _, name := range names {
		fmt.Fprintf(&b, "| %s | %.0f | %s | %s |\n", name, float64(*callers)/whole[name].Quantile(0.5).Seconds(),
			cost.Milliseconds(times[name].Quantile(0.5)), cost.Milliseconds(times[name].Quantile(0.99)))
	}
	t.Log(b.String())
}

// sizes prints how much there is to load.
func sizes(t *testing.T, subjects []cost.Subject) {
	t.Helper()
	for _, s := range subjects {
		info, err := os.Stat(s.Binary)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f MB", s.Name, float64(info.Size())/1e6)
	}
}
