package netns_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// BenchmarkStart_large measures clusters far larger than a scenario's: the time until the nodes stand, the time until
// pods are attached to them by macvlan with host-local, the time until all of it has ended, and the memory that it
// takes, which is that of the agents and of the kernel. Run it with nothing beside: make bench-lab.
func BenchmarkStart_large(b *testing.B) {
	for _, size := range []struct{ nodes, pods int }{{nodes: 50}, {nodes: 20, pods: 1000}} {
		b.Run(fmt.Sprintf("%d_nodes_%d_pods", size.nodes, size.pods), func(b *testing.B) {
			req := request(b, macvlanConflist, 0)
			for i := range size.nodes {
				req.Nodes = append(req.Nodes, scenario.Node{Name: fmt.Sprintf("n%d", i)})
			}
			phases := map[string]time.Duration{}
			var memory int
			for b.Loop() {
				before, begin := availableMemory(b), time.Now()
				c, err := backend().Start(b.Context(), req)
				check(b, err)
				phases["nodes"] += time.Since(begin)
				begin = time.Now()
				attachAll(b, c, size.pods)
				phases["pods"] += time.Since(begin)
				memory = before - availableMemory(b)
				begin = time.Now()
				check(b, c.Close())
				phases["end"] += time.Since(begin)
			}
			for phase, took := range phases {
				b.ReportMetric(took.Seconds()/float64(b.N), "s-"+phase)
			}
			b.ReportMetric(float64(memory)/1024, "MiB")
		})
	}
}

func attachAll(b *testing.B, c cluster.Cluster, pods int) {
	b.Helper()
	var group errgroup.Group
	group.SetLimit(16)
	for i := range pods {
		group.Go(func() error {
			_, err := tryAttach(b.Context(), c.Nodes()[i%len(c.Nodes())], fmt.Sprintf("pod-%d", i))
			return err
		})
	}
	check(b, group.Wait())
}

// availableMemory returns how much memory the kernel can give without swapping, in KiB.
func availableMemory(tb testing.TB) int {
	tb.Helper()
	proc, err := procfs.NewDefaultFS()
	check(tb, err)
	info, err := proc.Meminfo()
	check(tb, err)
	if info.MemAvailable == nil {
		tb.Fatal("/proc/meminfo: no MemAvailable")
	}
	return int(*info.MemAvailable)
}
