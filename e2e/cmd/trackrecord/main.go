// Command trackrecord checks the table of defects that users of CNI plugins met: that this suite fails on the version
// that has a defect, for that reason, and passes on the version that has not.
//
//	go run ./e2e/cmd/trackrecord --cnitest bin/cnitest             # every row: builds the versions, some minutes
//	go run ./e2e/cmd/trackrecord --cnitest bin/cnitest NAME…       # these rows
//
// It exits with 1 if a row is not as the table says. Rows that need a program or a feature of the kernel that this
// machine lacks are listed, and not run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/cnitest/cnitest/e2e/trackrecord"
)

func main() {
	r := &trackrecord.Runner{}
	flag.StringVar(&r.Cnitest, "cnitest", "bin/cnitest", "the program that is run")
	flag.StringVar(&r.VM, "vm", "", "the program vmrun: run rows that need a kernel's feature in a virtual machine")
	flag.StringVar(&r.Dir, "dir", "e2e/trackrecord", "directory of record.yaml")
	flag.StringVar(&r.Programs, "programs", "bin/trackrecord", "directory for the programs of the versions")
	flag.StringVar(&r.Reports, "reports", "_artifacts/trackrecord", "directory for the reports")
	together := flag.Int("together", 2, "number of rows that are run at the same time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	wrong, err := r.Run(ctx, max(*together, 1), flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "trackrecord:", err)
		os.Exit(2)
	}
	if wrong > 0 {
		os.Exit(1)
	}
}
