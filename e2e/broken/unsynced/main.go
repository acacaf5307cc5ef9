// Command unsynced is BROKEN ON PURPOSE: a negative control whose disk `make test` leaves as a power cut may. Never
// install it.
//
// It is a chained plugin that gives each attachment one of three numbers, as an address in its result. It keeps them on
// the disk: a record of each attachment, and a table of the numbers in use. Without a fault a file is written beside
// the old one, synced, renamed, and its directory synced, the record before the table; with the fault that the key
// `fault` of its configuration names, one of these steps is missing.
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
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

const (
	// dir contains the table, and a directory with the records.
	dir   = "/var/lib/unsynced"
	table = dir + "/table.json"
	locks = "/run/unsynced.lock"
	// numbers is how many there are.
	numbers = 3
)

// faults returns the faults, each with what happens.
func faults() map[string]string {
	return map[string]string{
		"":                   "nothing",
		"renames-first":      "ADD renames the table before its content is on the disk",
		"in-place":           "ADD writes the table in place",
		"directory-unsynced": "ADD does not sync the directory of the record before it writes the table",
		"del-in-place":       "DEL writes the table in place",
		"gc-in-place":        "GC writes the table in place",
	}
}

type config struct {
	types.PluginConf
	Fault string `json:"fault"`
	// Daemon means that ADD asks the daemon, which is this program with the argument daemon, and in-place for its
	// fault.
	Daemon bool `json:"daemon"`
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "daemon" {
		fmt.Fprintln(os.Stderr, serve(slices.Contains(os.Args, "in-place")))
		os.Exit(1)
	}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add: add, Del: del, Check: func(*skel.CmdArgs) error { return nil }, GC: gc,
		Status: func(*skel.CmdArgs) error { return nil },
	}, version.All, "broken on purpose")
}

func parse(args *skel.CmdArgs) (*config, error) {
	c := &config{}
	if err := json.Unmarshal(args.StdinData, c); err != nil {
		return nil, err
	}
	if _, known := faults()[c.Fault]; !known {
		return nil, fmt.Errorf("fault %q: want one of %q", c.Fault, slices.Sorted(maps.Keys(faults())))
	}
	return c, version.ParsePrevResult(&c.PluginConf)
}

// lock takes the lock, and holds it to the end of the program.
func lock() error {
	file, err := os.OpenFile(locks, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	held = append(held, file)
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
}

var held []*os.File

// load returns who has which number.
func load() (map[string]int, error) {
	all := map[string]int{}
	data, err := os.ReadFile(table)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", table, err)
	}
	return all, err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// how says which steps of a write are made.
type how struct{ inPlace, unsynced, directoryUnsynced bool }

// write writes a file.
func write(path string, data []byte, how how) error {
	if how.inPlace {
		return os.WriteFile(path, data, 0o600)
	}
	file, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if !how.unsynced {
		err = errors.Join(err, file.Sync())
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil || how.directoryUnsynced {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func save(all map[string]int, how how) error {
	data, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return write(table, data, how)
}

func id(args *skel.CmdArgs) string { return args.ContainerID + "-" + args.IfName }

func record(id string) string { return filepath.Join(dir, "records", id) }

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
	if c.Daemon {
		if err := ask(); err != nil {
			return fmt.Errorf("daemon: %w", err)
		}
	}
	number, err := c.attach(id(args))
	if err != nil {
		return err
	}
	result.IPs = append(result.IPs, &current.IPConfig{
		Address: net.IPNet{IP: net.IPv4(10, 99, 0, byte(number)), Mask: net.CIDRMask(32, 32)},
	})
	return types.PrintResult(result, c.CNIVersion)
}

// attach returns the number of an attachment.
func (c *config) attach(id string) (int, error) {
	if err := errors.Join(lock(), os.MkdirAll(filepath.Dir(record(id)), 0o755)); err != nil {
		return 0, err
	}
	all, err := load()
	if err != nil {
		return 0, err
	}
	taken := slices.Collect(maps.Values(all))
	number := 1
	for slices.Contains(taken, number) {
		number++
	}
	if number > numbers {
		return 0, fmt.Errorf("no number is left of %d", numbers)
	}
	all[id] = number
	text := fmt.Append(nil, number)
	if c.Fault == "directory-unsynced" {
		return number, errors.Join(save(all, how{}), write(record(id), text, how{directoryUnsynced: true}))
	}
	return number, errors.Join(
		write(record(id), text, how{}),
		save(all, how{inPlace: c.Fault == "in-place", unsynced: c.Fault == "renames-first"}))
}

func del(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	return errors.Join(lock(), release(id(args), how{inPlace: c.Fault == "del-in-place"}))
}

// release forgets an attachment, whose record says that there is something to forget.
func release(id string, how how) error {
	if _, err := os.Stat(record(id)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	all, err := load()
	if err != nil {
		return err
	}
	delete(all, id)
	if err := save(all, how); err != nil {
		return err
	}
	return os.Remove(record(id))
}

func gc(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	valid := []string{}
	for _, a := range c.ValidAttachments {
		valid = append(valid, a.ContainerID+"-"+a.IfName)
	}
	if err := lock(); err != nil {
		return err
	}
	list, err := os.ReadDir(filepath.Join(dir, "records"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range list {
		if filepath.Ext(e.Name()) != ".new" && !slices.Contains(valid, e.Name()) {
			err = errors.Join(err, release(e.Name(), how{inPlace: c.Fault == "gc-in-place"}))
		}
	}
	return err
}
