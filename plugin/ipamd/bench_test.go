package main

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

// BenchmarkSocket attaches and detaches over the socket of a daemon that already has pods. Each answer is durable. One
// operation is an AddNetwork and a DelNetwork.
func BenchmarkSocket(b *testing.B) {
	for _, pods := range []int{0, 250} {
		for _, callers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("pods=%d/callers=%d", pods, callers), func(b *testing.B) {
				benchmarkSocket(b, pods, callers)
			})
		}
	}
}

func benchmarkSocket(b *testing.B, pods, callers int) {
	l := newLab(b)
	inv := inventory("10.0.0.0/24", "10.0.1.0/24")
	l.service.Set(inv)
	p := l.start(childDaemon, l.args("--cooling", "0s", "--log-level", "error")...)
	l.connect(p).Close()
	clients := make([]rpc.CNIBackendClient, callers)
	for i := range clients {
		// A plugin is one process per pod, so each caller has its own connection.
		conn, err := grpc.NewClient("unix://"+l.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		clients[i] = rpc.NewCNIBackendClient(conn)
	}
	for pod := range pods {
		if _, err := clients[0].AddNetwork(b.Context(), add(fmt.Sprint("old-", pod))); err != nil {
			b.Fatal(err)
		}
	}
	durations := make([][]time.Duration, callers)
	var group sync.WaitGroup
	b.ResetTimer()
	for caller, client := range clients {
		group.Go(func() {
			for n := caller; n < b.N; n += callers {
				start := time.Now()
				if _, err := client.AddNetwork(b.Context(), add(fmt.Sprint("new-", n))); err != nil {
					b.Error(err)
				}
				added := time.Now()
				if _, err := client.DelNetwork(b.Context(), del(fmt.Sprint("new-", n))); err != nil {
					b.Error(err)
				}
				durations[caller] = append(durations[caller], added.Sub(start), time.Since(added))
			}
		})
	}
	group.Wait()
	b.StopTimer()
	all := slices.Concat(durations...)
	slices.Sort(all)
	b.ReportMetric(float64(len(all))/2/b.Elapsed().Seconds(), "add+del/s")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms/call")
}
