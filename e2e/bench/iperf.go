package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

// iperfKind is the throughput by another program, which need not be installed.
const iperfKind, iperfPort = "TCP throughput by iperf3", "9202"

// crossCheck measures the throughput of the chain under test and of the bare pair with iperf3, if the machine has it.
func (b *bench) crossCheck(ctx context.Context, sites []*site) error {
	node := sites[1].spots["node"].agent
	found, err := node.Programs(ctx, []string{"iperf3"})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		b.miss("cross-check of the throughput", "iperf3 is not installed")
		return nil
	}
	b.options.Tell("throughput by iperf3, as a cross-check")
	base := 0.0
	for _, s := range sites[:2] {
		for _, p := range s.paths {
			if p.to == "service" {
				continue // it has no port for iperf3
			}
			rate, err := s.iperf(ctx, p)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				b.miss(fmt.Sprintf("%s of %s, %s", iperfKind, s.name, p.name), err.Error())
				continue
			}
			row := benchmark.Traffic{
				Chain: s.name, Path: p.name, Kind: iperfKind, Unit: "bit/s", Repeats: 1,
				Rate: estimate([]float64{rate}),
			}
			if s.name == bareName {
				base = rate
			} else if base > 0 {
				ratio := estimate([]float64{rate / base})
				row.Ratio = &ratio
			}
			b.doc.Traffic = append(b.doc.Traffic, row)
		}
	}
	return nil
}

// iperf returns the bits per second that arrive on a path.
func (s *site) iperf(ctx context.Context, p path) (float64, error) {
	from, to := s.spots[p.from], s.spots[p.to]
	served := make(chan error, 1)
	go func() {
		reply, err := to.agent.Command(ctx, agent.CommandArgs{
			Argv: []string{"iperf3", "--server", "--one-off", "--port", iperfPort}, Netns: to.netns,
			Timeout: 15 * time.Second,
		})
		if err == nil && reply.ExitCode != 0 {
			err = errors.New(reply.Output)
		}
		served <- err
	}()
	var rate float64
	var err error
	// The server needs a moment, until which it refuses connections. The exit status is 0 all the same with --json.
	for deadline := time.Now().Add(5 * time.Second); ctx.Err() == nil && time.Now().Before(deadline); {
		var out agent.CommandReply
		out, err = from.agent.Command(ctx, agent.CommandArgs{
			Argv: []string{
				"iperf3", "--client", to.address.String(), "--port", iperfPort, "--time", "1", "--json",
			},
			Netns: from.netns, Timeout: 15 * time.Second,
		})
		if err != nil {
			break
		}
		if rate, err = iperfRate([]byte(out.Output)); err == nil {
			return rate, <-served
		}
		time.Sleep(50 * time.Millisecond)
	}
	return 0, err
}

// iperfRate reads what iperf3 prints with --json.
func iperfRate(output []byte) (float64, error) {
	var result struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(output, &result); err != nil {
		return 0, fmt.Errorf("output of iperf3: %w", err)
	}
	if result.Error != "" {
		return 0, errors.New(result.Error)
	}
	return result.End.Received.Rate, nil
}
