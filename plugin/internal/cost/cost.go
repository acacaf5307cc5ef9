// Package cost measures what calls of plugins cost, from starting the process to its end, for several plugins in turn:
// A B C A B C …, so that other load on the machine affects all of them alike. Ratios between plugins hold on other
// machines; milliseconds do not.
//
// It is not a test: nothing in it fails because a machine is slow.
package cost

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
)

// Subject is a plugin that is measured, with one pod that is attached and detached again and again.
type Subject struct {
	Name   string
	Binary string // its path
	Node   ns.NetNS
	Netns  string // the pod's
	ID     string // the pod's; empty means "measured"
	IfName string // empty means eth0
	Args   string // CNI_ARGS
	Conf   string // its configuration, with prevResult where it is a chained plugin
	// Result makes CHECK and DEL get the result of ADD as prevResult.
	Result bool
	// Verbs are measured in this order; ADD has to be among them.
	Verbs []string
}

// Times are how long the calls of one verb took.
type Times []time.Duration

// Quantile returns the time below which a share of the calls stayed; 0.5 is the median. Without calls it is 0.
func (t Times) Quantile(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// Run executes one call of a subject and returns how long it took. If a call fails, the error contains its output.
func (s Subject) Run(verb, prev string) (took time.Duration, out string, err error) {
	conf := s.Conf
	if prev != "" {
		conf = strings.TrimSuffix(strings.TrimSpace(conf), "}") + `,"prevResult":` + prev + "}"
	}
	in, err := file(conf)
	if err != nil {
		return 0, "", err
	}
	defer in.Close()
	to, err := file("")
	if err != nil {
		return 0, "", err
	}
	defer to.Close()
	var stderr bytes.Buffer
	cmd := exec.Command(s.Binary)
	// Files, because this process would have to serve pipes meanwhile.
	cmd.Stdin, cmd.Stdout = in, to
	cmd.Env = []string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + s.id(), "CNI_NETNS=" + s.Netns, "CNI_IFNAME=" + s.ifName(),
		"CNI_PATH=" + filepath.Dir(s.Binary), "CNI_ARGS=" + s.Args,
	}
	err = s.Node.Do(func(ns.NetNS) error {
		start := time.Now()
		err := cmd.Run()
		took = time.Since(start)
		return err
	})
	raw, readErr := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", to.Fd()))
	if err != nil || readErr != nil {
		return 0, "", fmt.Errorf("%s %s: %w: %s%s", s.Name, verb, cmp.Or(err, readErr), raw, &stderr)
	}
	return took, string(raw), nil
}

func (s Subject) id() string {
	if s.ID == "" {
		return "measured"
	}
	return s.ID
}

func (s Subject) ifName() string {
	if s.IfName == "" {
		return "eth0"
	}
	return s.IfName
}

// file returns an open file without a name that holds text.
func file(text string) (*os.File, error) {
	f, err := os.CreateTemp("", "cost-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.Seek(0, 0)
	return f, err
}

// Results are the times of each subject by verb.
type Results map[string]map[string]Times

// InTurn measures subjects one after the other, for a number of rounds. One more round before these does not count.
// Within a round each subject's verbs follow each other, so every round begins and ends with the pod not attached.
func InTurn(subjects []Subject, rounds int) (Results, error) {
	results := Results{}
	for _, s := range subjects {
		results[s.Name] = map[string]Times{}
	}
	for round := range rounds + 1 {
		for _, s := range subjects {
			prev := ""
			for _, verb := range s.Verbs {
				took, out, err := s.Run(verb, prev)
				if err != nil {
					return nil, err
				}
				if verb == "ADD" && s.Result {
					prev = strings.TrimSpace(out)
				}
				if round > 0 {
					results[s.Name][verb] = append(results[s.Name][verb], took)
				}
			}
		}
	}
	return results, nil
}

// AtOnce attaches many pods at the same time and detaches them again. It returns how long each ADD took, and how long
// all of them took together.
func AtOnce(pods []Subject) (Times, time.Duration, error) {
	times, errs := make(Times, len(pods)), make([]error, len(pods))
	all := func(verb string, prev []string) time.Duration {
		var wg sync.WaitGroup
		start := time.Now()
		for i, p := range pods {
			wg.Go(func() {
				took, out, err := p.Run(verb, prev[i])
				if err != nil {
					errs[i] = err
					return
				}
				if verb == "ADD" {
					times[i] = took
					if p.Result {
						prev[i] = strings.TrimSpace(out)
					}
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	prev := make([]string, len(pods))
	whole := all("ADD", prev)
	all("DEL", prev)
	for _, err := range errs {
		if err != nil {
			return nil, 0, err
		}
	}
	return times, whole, nil
}

// Milliseconds formats a time for a table.
func Milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }
