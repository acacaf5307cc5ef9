package snapshot

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// namespaceRoot is the root of a bind mount of a namespace, with the number that the kernel gave it.
var namespaceRoot = regexp.MustCompile(`^(\w+):\[\d+\]$`)

func takeMounts() ([]Item, error) {
	content, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	var items []Item
	for line := range strings.Lines(string(content)) {
		item, err := parseMount(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

// parseMount reads a line of mountinfo (proc_pid_mountinfo(5)): ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [PROPAGATION ...] - TYPE SOURCE OPTIONS.
// The numbers, which differ from run to run, are left out; names stay escaped as the kernel prints them.
func parseMount(line string) (Item, error) {
	mount, fs, found := strings.Cut(line, " - ")
	m, f := strings.Split(mount, " "), strings.Split(fs, " ")
	if !found || len(m) < 6 || len(f) < 3 {
		return Item{}, fmt.Errorf("mountinfo: want 6 fields, a dash and 3 fields, got %q", line)
	}
	w := words{f[0], f[1]}
	root := namespaceRoot.ReplaceAllString(m[3], "$1")
	w.addf(root != "/", "root %s", root)
	w.add(m[5], f[2])
	for _, propagation := range m[6:] {
		kind, _, _ := strings.Cut(propagation, ":")
		w.add(kind)
	}
	return Item{Name: m[4], Text: w.String()}, nil
}
