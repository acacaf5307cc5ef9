package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
)

const (
	// socket is where the daemon answers, table the file in which it keeps who has which number.
	socket = "/run/served.sock"
	table  = "/var/lib/served/table.json"
	// asks is how often the daemon asks the kernel for its links.
	asks = 50
)

// faults returns the faults of the daemon, each with what happens.
func faults() map[string]string {
	return map[string]string{
		"":              "nothing",
		"torn-is-empty": "at its start it takes a table that it cannot read for an empty one",
		"gives-up":      "at its start it does not list the links again if the kernel was interrupted",
		"saves-late":    "it writes a number down when the plugin has seen it, and never asks who has one",
		"unlocked":      "two calls at the same time look for a free number",
		"follows-links": "it writes its new table through a link in the place of that",
	}
}

// daemon keeps the numbers.
type daemon struct {
	fault   string
	mu      sync.Mutex
	numbers map[string]int
}

// serve runs the daemon.
func serve(fault string) error {
	if _, known := faults()[fault]; !known {
		return fmt.Errorf("fault %q: want one of %q", fault, slices.Sorted(maps.Keys(faults())))
	}
	d := &daemon{fault: fault, numbers: map[string]int{}}
	if err := errors.Join(d.load(), d.links()); err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			request, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil {
				return // others only look whether it is there
			}
			if number, err := d.answer(strings.Fields(request)); err == nil {
				fmt.Fprintln(conn, number)
			} else {
				fmt.Fprintln(conn, "error:", err)
			}
		}()
	}
}

// load reads the table.
func (d *daemon) load() error {
	if err := os.MkdirAll(filepath.Dir(table), 0o755); err != nil {
		return err
	}
	text, err := os.ReadFile(table)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, &d.numbers)
	}
	if d.fault == "torn-is-empty" {
		return nil
	}
	return err
}

// links lists the links, for which it has no use.
func (d *daemon) links() (err error) {
	for range asks {
		//nolint:forbidigo // how it takes an interruption is its fault
		if _, err = netlink.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) || d.fault == "gives-up" {
			break
		}
	}
	return err
}

// answer does what a request says, and returns a number.
func (d *daemon) answer(request []string) (int, error) {
	if len(request) == 0 {
		return 0, errors.New("no request")
	}
	if d.fault == "unlocked" && request[0] == "ADD" {
		n := d.free()
		if err := d.save(map[string]int{}, "looked"); err != nil {
			return 0, err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.numbers[request[1]] = n
		return n, d.save(d.numbers, "")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case request[0] == "SEEN" && d.fault == "saves-late":
	case (request[0] == "CHECK" || request[0] == "SEEN") && d.numbers[request[1]] == 0:
		return 0, fmt.Errorf("nobody knows %s", request[1])
	case request[0] == "CHECK" || request[0] == "SEEN":
		return d.numbers[request[1]], nil
	case request[0] == "DEL":
		delete(d.numbers, request[1])
	case request[0] == "GC":
		maps.DeleteFunc(d.numbers, func(id string, _ int) bool { return !slices.Contains(request[1:], id) })
	case d.numbers[request[1]] == 0:
		d.numbers[request[1]] = d.lowest()
		if d.fault == "saves-late" {
			return d.numbers[request[1]], nil
		}
	}
	return d.numbers[request[len(request)-1]], d.save(d.numbers, "")
}

func (d *daemon) free() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lowest()
}

// lowest returns the lowest number that nobody has; the caller holds the lock.
func (d *daemon) lowest() int {
	taken := slices.Collect(maps.Values(d.numbers))
	for n := 1; ; n++ {
		if !slices.Contains(taken, n) {
			return n
		}
	}
}

// save writes a table beside the old one, and puts it in its place.
func (d *daemon) save(numbers map[string]int, kind string) error {
	text, err := json.Marshal(numbers)
	if err != nil {
		return err
	}
	if kind != "" {
		return os.WriteFile(table+"."+kind, text, 0o600)
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if d.fault != "follows-links" {
		flags |= os.O_EXCL
		if err := os.Remove(table + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	file, err := os.OpenFile(table+".new", flags, 0o600)
	if err != nil {
		return err
	}
	if _, err := file.Write(text); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(table+".new", table)
}
