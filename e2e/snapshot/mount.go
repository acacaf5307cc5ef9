package snapshot

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// namespaceRoot matches the root of a bind mount of a namespace, with the number that the kernel gave it.
var namespaceRoot = regexp.MustCompile(`^(\w+):\[\d+\]$`)

func takeMounts() ([]object, error) {
	content, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	var objects []object
	top := map[string]int{}
	for line := range strings.Lines(string(content)) {
		item, err := parseMount(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		place := len(objects)
		// A mount over another mount follows it in the list.
		top[item.Name] = place
		objects = append(objects, object{Item: item, remove: func() error {
			if top[item.Name] != place {
				return errors.New("another mount covers it")
			}
			return unix.Unmount(unescapeMount(item.Name), unix.UMOUNT_NOFOLLOW)
		}})
	}
	return objects, nil
}

// parseMount reads a line of mountinfo (proc_pid_mountinfo(5)): ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [PROPAGATION
// ...] - TYPE SOURCE OPTIONS. It leaves out the numbers, which differ from run to run; names stay escaped as the kernel
// prints them.
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

// escaped matches a character that mountinfo writes as its octal number.
var escaped = regexp.MustCompile(`\\[0-7]{3}`)

// unescapeMount returns the path that mountinfo wrote with escapes.
func unescapeMount(path string) string {
	return escaped.ReplaceAllStringFunc(path, func(s string) string {
		// Three octal digits are a valid number.
		n, _ := strconv.ParseUint(s[1:], 8, 16)
		return string([]byte{byte(n)})
	})
}
