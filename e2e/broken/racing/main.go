// Command racing is BROKEN ON PURPOSE: a negative control whose calls `make test` lets take turns. Never install it.
//
// It is a chained plugin that gives each attachment a number, as an address in its result, keeps a record of it, and
// makes one bridge for all attachments of the node, which the last DEL removes. Without a fault a lock keeps calls
// apart; with the fault that the key `fault` of its configuration names, calls at the same time go wrong.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/vishvananda/netlink"
)

const (
	// dir contains the records, one file for each attachment.
	dir    = "/run/racing"
	locks  = "/run/racing.lock"
	busy   = "/run/racing.busy"
	bridge = "racing0"
)

// faults returns the faults, each with what happens.
func faults() map[string]string {
	return map[string]string{
		"":                    "nothing",
		"insists-on-making":   "two ADDs look for the bridge, and both make it",
		"locks-too-late":      "ADD looks for the bridge before it takes the lock, and does not look again",
		"chooses-before-lock": "ADD chooses the number before it takes the lock",
		"removes-unlocked":    "DEL removes the bridge between another's look and record",
		"lists-first":         "DEL looks for other attachments before it removes its own record",
		"in-place":            "ADD and DEL write all records again, so that CHECK may read an empty one",
		"tries-lock":          "STATUS does not wait for the lock",
		"crossed-locks":       "ADD takes two locks, and DEL takes them in the other order",
		"comes-and-goes":      "ADD gives up if another one begins between its two looks: it takes two stops",
	}
}

type config struct {
	types.PluginConf
	Fault string `json:"fault"`
	id    string
}

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check, Status: status}, version.All,
		"broken on purpose")
}

func parse(args *skel.CmdArgs) (*config, error) {
	c := &config{id: args.ContainerID + "-" + args.IfName}
	if err := json.Unmarshal(args.StdinData, c); err != nil {
		return nil, err
	}
	if _, known := faults()[c.Fault]; !known {
		return nil, fmt.Errorf("fault %q: want one of %q", c.Fault, slices.Sorted(maps.Keys(faults())))
	}
	return c, version.ParsePrevResult(&c.PluginConf)
}

// lock takes a lock, and holds it to the end of the program.
func lock(name string, how int) error {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	held = append(held, file)
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|how)
}

var held []*os.File

// records returns the numbers by attachment; 0 for one that cannot be read.
func records() (map[string]int, error) {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := map[string]int{}
	for _, e := range list {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil {
			all[e.Name()], _ = strconv.Atoi(strings.TrimSpace(string(text)))
		}
	}
	return all, nil
}

func remember(id string, number int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, id), []byte(strconv.Itoa(number)), 0o600)
}

// again writes all records again, in place.
func again() error {
	all, err := records()
	for id, number := range all {
		err = errors.Join(err, remember(id, number))
	}
	return err
}

// free returns the lowest number that nobody has.
func free() (int, error) {
	all, err := records()
	taken := slices.Collect(maps.Values(all))
	for n := 1; ; n++ {
		if !slices.Contains(taken, n) {
			return n, err
		}
	}
}

// missing reports whether there is no bridge.
func missing() bool {
	_, err := netlink.LinkByName(bridge)
	return errors.As(err, &netlink.LinkNotFoundError{})
}

func makeBridge() error {
	return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}})
}

func removeBridge() error {
	link, err := netlink.LinkByName(bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

// enter waits until nobody is busy, and looks again.
func enter() error {
	for {
		if _, err := os.Stat(busy); err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := os.Lstat(busy); err == nil {
		return errors.New("another one has begun")
	}
	return os.WriteFile(busy, nil, 0o600)
}

func add(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	if c.PrevResult == nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "no prevResult", "")
	}
	result, err := current.NewResultFromResult(c.PrevResult)
	if err != nil {
		return err
	}
	number, err := c.attach()
	if err != nil {
		return err
	}
	result.IPs = append(result.IPs, &current.IPConfig{
		Address: net.IPNet{IP: net.IPv4(10, 99, 0, byte(number)), Mask: net.CIDRMask(32, 32)},
	})
	return types.PrintResult(result, c.CNIVersion)
}

// attach returns the number of the attachment.
func (c *config) attach() (number int, err error) {
	if c.Fault == "comes-and-goes" {
		if err := enter(); err != nil {
			return 0, err
		}
		defer os.Remove(busy)
	}
	if number, err = free(); err != nil {
		return 0, err
	}
	absent := missing()
	if c.Fault == "insists-on-making" && absent {
		if err := makeBridge(); err != nil {
			return 0, err
		}
		absent = false
	}
	if err := lock(locks, 0); err != nil {
		return 0, err
	}
	if c.Fault == "crossed-locks" {
		if err := lock(locks+"-2", 0); err != nil {
			return 0, err
		}
	}
	if c.Fault != "chooses-before-lock" {
		if number, err = free(); err != nil {
			return 0, err
		}
	}
	if c.Fault != "locks-too-late" {
		absent = missing()
	}
	if absent {
		if err := makeBridge(); err != nil && !errors.Is(err, syscall.EEXIST) {
			return 0, err
		}
	}
	if c.Fault == "in-place" {
		if err := again(); err != nil {
			return 0, err
		}
	}
	return number, remember(c.id, number)
}

func del(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	switch c.Fault {
	case "removes-unlocked", "lists-first":
	case "crossed-locks":
		err = errors.Join(lock(locks+"-2", 0), lock(locks, 0))
	default:
		err = lock(locks, 0)
	}
	if err != nil {
		return err
	}
	all, err := records()
	if err != nil {
		return err
	}
	if c.Fault == "in-place" {
		err = again()
	}
	if gone := os.Remove(filepath.Join(dir, c.id)); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if c.Fault != "lists-first" {
		var now error
		all, now = records()
		err = errors.Join(err, now)
	}
	delete(all, c.id)
	if err != nil || len(all) > 0 {
		return err
	}
	return removeBridge()
}

func check(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	all, err := records()
	if err == nil && all[c.id] == 0 {
		err = fmt.Errorf("no record of %s", c.id)
	}
	return err
}

func status(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil || c.Fault != "tries-lock" {
		return err
	}
	return lock(locks, syscall.LOCK_NB)
}
