package service

import (
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The rules of this package are those of the recorded kube-proxy, except for the differences in the package comment.

func TestRecordedIptables(t *testing.T) {
	// Load balancers, health checks, the kubelet's chain, and chains by which kube-proxy notices that somebody flushed
	// its own.
	omitted := regexp.MustCompile(`KUBE-(PROXY-FIREWALL|FIREWALL|PROXY-CANARY)|kubernetes health check service ports`)
	for i, file := range []string{"testdata/kube-proxy-iptables.txt", "testdata/kube-proxy-ip6tables.txt"} {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string][]string{}
			table := ""
			for line := range strings.Lines(string(text)) {
				line = strings.TrimSuffix(line, "\n")
				if strings.HasPrefix(line, "*") {
					table = line[1:]
				}
				if rule, found := strings.CutPrefix(line, "-A "); found && !omitted.MatchString(line) {
					chain, _, _ := strings.Cut(rule, " ")
					want[table+" "+chain] = append(want[table+" "+chain], rule)
				}
			}
			got := map[string][]string{}
			for table, r := range newRuleset(split(Options{}, labServices())[i]) {
				// Each jump is inserted at the front.
				slices.Reverse(r.jumps)
				for _, rule := range append(r.jumps, r.rules...) {
					chain, _, _ := strings.Cut(rule, " ")
					got[table+" "+chain] = append(got[table+" "+chain], rule)
				}
			}
			// kube-proxy iterates over its services in random order.
			for _, rules := range []map[string][]string{got, want} {
				for _, chain := range []string{
					"nat KUBE-SERVICES", "nat KUBE-NODEPORTS", "filter KUBE-SERVICES", "filter KUBE-EXTERNAL-SERVICES",
				} {
					slices.Sort(rules[chain])
				}
			}
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("rules by table and chain (-got +want):\n%s", diff)
			}
		})
	}
}

func TestRecordedNftables(t *testing.T) {
	need(t, "nft")
	l := newLab(t)
	var listed []byte
	l.node.do(t, func() error {
		if err := Apply(t.Context(), Options{}, labServices()); err != nil {
			return err
		}
		var err error
		listed, err = exec.Command("nft", "list", "ruleset").Output()
		return err
	})
	recorded, err := os.ReadFile("testdata/kube-proxy-nft.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := blocks(string(recorded))
	// Load balancers.
	maps.DeleteFunc(want, func(name string, _ []string) bool {
		return strings.Contains(name, "firewall-") || strings.Contains(name, "-pre-dnat")
	})
	// The INVALID rule of kube-proxy's iptables.
	for _, family := range []string{"ip", "ip6"} {
		forward := "table " + family + " kube-proxy chain filter-forward"
		want[forward] = slices.Insert(want[forward], 1, "ct state invalid drop")
	}
	// See translate.
	got := blocks(strings.ReplaceAll(string(listed), ", 16777216 :", ", 1 :"))
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("lines by table and chain, set or map (-got +want):\n%s", diff)
	}
}

// blocks returns the content of each chain, set and map in nft's listing, without comments. Elements, which are listed
// in the order of a hash, are sorted.
func blocks(listing string) map[string][]string {
	comment := regexp.MustCompile(`\s*comment "[^"]*"`)
	all := map[string][]string{}
	table, block := "", ""
	for line := range strings.Lines(listing) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimSpace(comment.ReplaceAllString(line, ""))
		header, opens := strings.CutSuffix(line, " {")
		switch {
		case opens && table == "":
			table = header
		case opens:
			block = table + " " + header
			all[block] = nil
		case line == "}" && block != "":
			block = ""
		case line == "}":
			table = ""
		case line != "":
			all[block] = append(all[block], line)
		}
	}
	delete(all, "")
	for name, lines := range all {
		all[name] = sortElements(lines)
	}
	return all
}

// sortElements splits and sorts the elements that nft spreads over lines.
func sortElements(lines []string) []string {
	text := strings.Join(lines, "\n")
	before, rest, found := strings.Cut(text, "elements = {")
	if !found {
		return lines
	}
	var elements []string
	for element := range strings.SplitSeq(strings.TrimSuffix(rest, "}"), ",") {
		elements = append(elements, strings.TrimSpace(element))
	}
	slices.Sort(elements)
	return append(strings.Split(strings.TrimSpace(before), "\n"), elements...)
}
