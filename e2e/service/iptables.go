package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// MissingProgramError means that a program of the iptables dataplane is not in PATH.
type MissingProgramError struct {
	// Program is its name, such as ip6tables-restore.
	Program string
}

// Error implements error.
func (e *MissingProgramError) Error() string {
	return fmt.Sprintf("%s: not on PATH, and the iptables dataplane drives it", e.Program)
}

// programIptables replaces the chains of every family. If one family has services and the other one neither services
// nor programs, the latter is skipped: nobody can have made rules there.
func programIptables(ctx context.Context, families []family) error {
	served := slices.ContainsFunc(families, func(f family) bool { return !f.isEmpty() })
	for _, f := range families {
		var want ruleset
		if !f.isEmpty() {
			want = newRuleset(f)
		}
		err := replaceRules(ctx, f.ipv6, want)
		var missing *MissingProgramError
		if served && f.isEmpty() && errors.As(err, &missing) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// replaceRules replaces the rules of an earlier call by want, with one iptables-restore.
func replaceRules(ctx context.Context, ipv6 bool, want ruleset) error {
	program := "iptables"
	if ipv6 {
		program = "ip6tables"
	}
	saved, err := run(ctx, program+"-save", "")
	if err != nil {
		return err
	}
	change := want.change(saved)
	if change == "" {
		return nil
	}
	// Legacy iptables has a lock that others may hold; kube-proxy waits as long.
	_, err = run(ctx, program+"-restore", change, "--noflush", "--wait", "5")
	return err
}

func run(ctx context.Context, program, stdin string, args ...string) (stdout string, err error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", &MissingProgramError{Program: program}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// change returns the input for iptables-restore --noflush that changes saved, the output of iptables-save, to r. It is
// empty if both are empty. Each table is one transaction.
func (r ruleset) change(saved string) string {
	old := readSaved(saved)
	var text strings.Builder
	for _, name := range []string{"filter", "nat"} {
		was, want := old[name], r[name]
		if was.isEmpty() && want.isEmpty() {
			continue
		}
		fmt.Fprintf(&text, "*%s\n", name)
		stale := slices.DeleteFunc(slices.Clone(was.chains), func(c string) bool {
			return slices.Contains(want.chains, c)
		})
		// Declaring an existing chain empties it, so that chains to be deleted refer to nothing.
		for _, chain := range slices.Concat(want.chains, stale) {
			fmt.Fprintf(&text, ":%s - [0:0]\n", chain)
		}
		for _, rule := range was.jumps {
			fmt.Fprintf(&text, "-D %s\n", rule)
		}
		for _, rule := range want.jumps {
			fmt.Fprintf(&text, "-I %s\n", rule)
		}
		for _, rule := range want.rules {
			fmt.Fprintf(&text, "-A %s\n", rule)
		}
		for _, chain := range stale {
			fmt.Fprintf(&text, "-X %s\n", chain)
		}
		text.WriteString("COMMIT\n")
	}
	return text.String()
}

// readSaved returns kube-proxy's chains, and the jumps to them from chains of others, in the output of iptables-save.
func readSaved(saved string) ruleset {
	r := ruleset{}
	table := ""
	for line := range strings.Lines(saved) {
		kind, rest := line[:1], strings.TrimSuffix(line[1:], "\n")
		t := r[table]
		switch kind {
		case "*":
			table, t = rest, rules{}
		case ":":
			if chain, _, _ := strings.Cut(rest, " "); isOurs(chain) {
				t.chains = append(t.chains, chain)
			}
		case "-":
			rule := strings.TrimPrefix(rest, "A ")
			from, _, _ := strings.Cut(rule, " ")
			if to := strings.LastIndex(rule, " -j "); !isOurs(from) && to >= 0 && isOurs(rule[to+len(" -j "):]) {
				t.jumps = append(t.jumps, rule)
			}
		}
		r[table] = t
	}
	return r
}

// isOurs reports whether this package makes a chain. The kubelet's chains begin with KUBE- as well.
func isOurs(chain string) bool {
	for _, prefix := range []string{serviceChain, localChain, externalChain, endpointChain} {
		if strings.HasPrefix(chain, prefix) {
			return true
		}
	}
	return slices.Contains([]string{
		kubeServices, kubeExternalServices, kubeNodePorts, kubeForward, kubePostrouting, kubeMarkMasq,
	}, chain)
}
