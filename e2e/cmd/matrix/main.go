// Command matrix runs the suite on versions of other projects' plugins and says what came with a version and what went.
//
//	go run ./e2e/cmd/matrix --cnitest bin/cnitest                 # everything: some 30 minutes on two idle cores
//	go run ./e2e/cmd/matrix --cnitest bin/cnitest --plugins ptp,bridge --versions v1.9.1,v1.10.0
//	go run ./e2e/cmd/matrix --cnitest bin/cnitest --shard 1/4     # a part, on one of four machines
//
// Reports are kept under the hash of binaries, conflist and suite, so that a second run takes seconds. The shards of
// several machines are put together with cnitest report matrix.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/report/matrix"
	"github.com/cnitest/cnitest/e2e/versions"
)

func main() {
	r := &versions.Runner{Log: os.Stdout}
	flag.StringVar(&r.Cnitest, "cnitest", "bin/cnitest", "the program that is run")
	flag.StringVar(&r.Conflists, "conflists", "e2e/versions/net.d", "directory with PROJECT/PLUGIN.conflist for each "+
		"plugin")
	flag.StringVar(&r.Modules, "modules", "e2e/trackrecord/versions", "directory of the modules that pin the versions")
	flag.StringVar(&r.Programs, "programs", "bin/versions", "directory for the programs of the versions")
	flag.StringVar(&r.Out, "out", "_artifacts/matrix", "directory for the matrix and its reports")
	flag.IntVar(&r.Together, "together", 1, "number of plugins that run at the same time, each in "+
		"one version; each run uses two processors")
	plugins := flag.String("plugins", "", "plugins to run, separated by commas (default all)")
	only := flag.String("versions", "", "versions to run, separated by commas (default all)")
	shard := flag.String("shard", "", "part to run, K/N such as 1/4")
	flag.Parse()
	r.Plugins, r.Versions = split(*plugins), split(*only)
	if *shard != "" {
		part, err := e2e.ParseShard(*shard)
		if err != nil {
			fmt.Fprintln(os.Stderr, "matrix: --shard:", err)
			os.Exit(2)
		}
		r.Shard, r.Shards = part.Number, part.Of
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	begin := time.Now()
	m, err := r.Run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(2)
	}
	fmt.Println()
	for _, p := range m.Plugins {
		for _, step := range p.Steps() {
			fmt.Printf("%-12s %s, after %s: %d went, %d came, %d could not be asked before and failed %s\n", p.Name,
				step.To,
				step.From, len(step.Went), len(step.Came), len(step.Asked), step.CNI)
			for _, c := range step.Went {
				fmt.Printf("    went  %s (was %s): %s\n", c.ID, c.Before, strings.Join(strings.Fields(c.Reason), " "))
			}
		}
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &used); err == nil {
		cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
		fmt.Printf("in %s, with %s of processor time\n", time.Since(begin).Round(time.Second), cpu.Round(time.Second))
	}
	fmt.Println("page:", filepath.Join(r.Out, matrix.HTMLName))
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}
