package snapshot

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// programs returns the commands that write a family's legacy tables, the most reliable first.
func (f xtFamily) programs() []string {
	if f.domain == unix.AF_INET {
		return []string{"iptables-legacy", "iptables"}
	}
	return []string{"ip6tables-legacy", "ip6tables"}
}

// program returns the one that a node has. A program called iptables may write nftables instead, and then says so
// (iptables(8), --version).
func (f xtFamily) program() (string, error) {
	for _, name := range f.programs() {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		version, err := exec.Command(path, "--version").Output()
		if err == nil && !bytes.Contains(version, []byte("nf_tables")) {
			return path, nil
		}
	}
	return "", fmt.Errorf("the node has no %s to write legacy tables with", f.programs()[0])
}

// removeRule deletes the rule with a number, starting at 1, in a chain.
func (f xtFamily) removeRule(table, chain string, number int) error {
	return f.run("-t", table, "-D", chain, strconv.Itoa(number))
}

// removeChain deletes a user-defined chain and its rules.
func (f xtFamily) removeChain(table, chain string) error {
	if err := f.run("-t", table, "-F", chain); err != nil {
		return err
	}
	return f.run("-t", table, "-X", chain)
}

// run runs the program, which inherits the namespace of the thread. It waits up to 5 s for other writers.
func (f xtFamily) run(args ...string) error {
	path, err := f.program()
	if err != nil {
		return err
	}
	output, err := exec.Command(path, append([]string{"-w", "5"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, bytes.TrimSpace(output))
	}
	return nil
}
