// Command careless is BROKEN ON PURPOSE: a negative control into which `make test` injects faults. Never install it.
//
// It is a chained plugin that adds a policy rule for the pod's address, and a record of it. Without a fault it survives
// kills and errors at every call; with the fault that the key `fault` of its configuration names it does not.
package main

import (
	"bytes"
	"cmp"
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
	"github.com/vishvananda/netlink"
)

// dir contains the records, one file for each container, on the disk if a fault is about reboots.
func (c *config) dir() string {
	if c.Fault == "insists-on-rule" {
		return "/var/lib/careless"
	}
	return "/run/careless"
}

// faults returns the faults, each with what fault injection shows of it.
func faults() map[string]string {
	return map[string]string{
		"":              "nothing",
		"record-last":   "ADD adds the rule before anybody could know of it: killed in between it stays",
		"temp-file":     "ADD leaves its temporary file behind when it is killed",
		"lock-kept":     "a lock that is a file outlives who made it",
		"half-record":   "ADD writes the record in place: killed half way it cannot be read, and DEL gives up",
		"ignores-error": "ADD succeeds without the rule that it could not add",
		"panics":        "ADD panics where the record cannot be written",
		"insists":       "ADD tries a busy device for ever",
		"no-record":     "DEL of an attachment without a record is an error",
		"forgets-first": "DEL removes the record before the rule",
		"del-shrugs":    "DEL removes the record of a rule that it could not delete",
		"gc-forgets":    "GC removes the record before the rule",
		"gc-shrugs":     "GC removes the record of a rule that it could not delete",

		"takes-as-whole":  "a list of rules that was interrupted counts as complete",
		"gives-up":        "a list of rules that was interrupted is an error at once",
		"torn-is-nothing": "a record that is torn or empty counts as none",
		"unread-is-empty": "GC takes a directory that it cannot read for an empty one",

		"trusts-setting":  "DEL looks for the rule with the priority that is configured now",
		"insists-on-rule": "DEL after a reboot, when the rule is gone and the record is there, is an error",
		"gc-takes-all":    "GC removes what is valid, too",
	}
}

type config struct {
	types.PluginConf
	Fault string `json:"fault"`
	// Priority is the one of the rules; 0 means 1500.
	Priority int `json:"priority"`
}

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check, GC: gc, Status: status}, version.All,
		"broken on purpose")
}

func parse(args *skel.CmdArgs) (*config, error) {
	c := &config{}
	if err := json.Unmarshal(args.StdinData, c); err != nil {
		return nil, err
	}
	if _, known := faults()[c.Fault]; !known {
		return nil, fmt.Errorf("fault %q: want one of %q", c.Fault, slices.Sorted(maps.Keys(faults())))
	}
	c.Priority = cmp.Or(c.Priority, 1500)
	return c, version.ParsePrevResult(&c.PluginConf)
}

func (c *config) path(id string) string { return filepath.Join(c.dir(), id+".json") }

// rule returns the rule for an address.
func (c *config) rule(address string) *netlink.Rule {
	r := netlink.NewRule()
	r.Src = &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(32, 32)}
	r.Table, r.Priority, r.Family = 254, c.Priority, netlink.FAMILY_V4
	return r
}

// deleteRule deletes the rule for an address if it is there.
func (c *config) deleteRule(address string) error {
	there, err := c.hasRule(address)
	if !there && err == nil && c.Fault == "insists-on-rule" {
		err = fmt.Errorf("no rule for %s", address)
	}
	if err != nil || !there {
		return err
	}
	if err := netlink.RuleDel(c.rule(address)); !errors.Is(err, syscall.ENOENT) {
		return err
	}
	return nil
}

// hasRule lists the rules, again if that was interrupted.
func (c *config) hasRule(address string) (bool, error) {
	var rules []netlink.Rule
	var err error
	for range 10 {
		//nolint:forbidigo // netlinksafe does not say that a list is not whole
		rules, err = netlink.RuleList(netlink.FAMILY_V4)
		if !errors.Is(err, netlink.ErrDumpInterrupted) || c.Fault == "gives-up" || c.Fault == "takes-as-whole" {
			break
		}
	}
	if errors.Is(err, netlink.ErrDumpInterrupted) && c.Fault == "takes-as-whole" {
		err = nil
	}
	return slices.ContainsFunc(rules, func(r netlink.Rule) bool {
		return r.Src != nil && r.Src.String() == address+"/32" && r.Priority == c.Priority
	}), err
}

// remember writes a record atomically.
func (c *config) remember(id, address string) error {
	if err := os.MkdirAll(c.dir(), 0o755); err != nil {
		return err
	}
	text := fmt.Appendf(nil, `{"address": %q, "priority": %d}`, address, c.Priority)
	temporary := filepath.Join(c.dir(), ".new")
	switch c.Fault {
	case "temp-file":
		temporary = filepath.Join(c.dir(), fmt.Sprintf(".new-%d", os.Getpid()))
	case "half-record":
		f, err := os.Create(c.path(id))
		if err != nil {
			return err
		}
		_, err = f.Write(text[:5])
		if err == nil {
			_, err = f.Write(text[5:])
		}
		return errors.Join(err, f.Close())
	}
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, c.path(id)); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

// recorded returns the address of a record; empty if there is none. The rule has the priority that it was made with.
func (c *config) recorded(id string) (string, error) {
	text, err := os.ReadFile(c.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var record struct {
		Address  string `json:"address"`
		Priority int    `json:"priority"`
	}
	err = json.Unmarshal(bytes.TrimSpace(text), &record)
	if c.Fault == "torn-is-nothing" {
		err = nil
	}
	if c.Fault != "trusts-setting" {
		c.Priority = cmp.Or(record.Priority, c.Priority)
	}
	return record.Address, err
}

// forget removes a record, and its directory if it is then empty.
func (c *config) forget(id string) error {
	if err := os.Remove(c.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.tidy()
}

// tidy removes leftovers of a killed ADD, and the directory if it is empty.
func (c *config) tidy() error {
	if err := os.Remove(filepath.Join(c.dir(), ".new")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(c.dir()); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}

// lock takes the lock of "lock-kept". Other faults do without it, since nothing calls them at the same time.
func (c *config) lock() (func(), error) {
	if c.Fault != "lock-kept" {
		return func() {}, nil
	}
	const name = "/run/careless.lock"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("another one is at work: %w", err)
	}
	_ = f.Close()
	return func() { _ = os.Remove(name) }, nil
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
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	address := result.IPs[0].Address.IP.String()
	steps := []func() error{
		func() error { return c.remember(args.ContainerID, address) },
		func() error { return c.addRule(address) },
	}
	if c.Fault == "record-last" {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			if c.Fault == "panics" {
				panic(err)
			}
			return err
		}
	}
	return types.PrintResult(result, c.CNIVersion)
}

func (c *config) addRule(address string) error {
	if there, err := c.hasRule(address); err != nil || there {
		return err
	}
	err := netlink.RuleAdd(c.rule(address))
	for c.Fault == "insists" && errors.Is(err, syscall.EBUSY) {
		// For ever: a caller that is told that something is busy must not get another answer.
	}
	if c.Fault == "ignores-error" {
		return nil
	}
	return err
}

func check(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	address, err := c.recorded(args.ContainerID)
	if err != nil {
		return err
	}
	there, err := c.hasRule(address)
	if err == nil && !there {
		err = fmt.Errorf("the rule for %s is missing", address)
	}
	return err
}

func status(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err == nil {
		_, err = c.hasRule("")
	}
	return err
}

func del(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	address, err := c.recorded(args.ContainerID)
	switch {
	case err != nil:
		return err
	case address == "" && c.Fault == "no-record":
		return fmt.Errorf("no record of %s", args.ContainerID)
	case address == "":
		return c.tidy()
	}
	return c.undo(args.ContainerID, address, c.Fault == "forgets-first", c.Fault == "del-shrugs")
}

// undo removes the rule and then its record, unless the fault changes that.
func (c *config) undo(id, address string, recordFirst, shrug bool) error {
	if recordFirst {
		return errors.Join(c.forget(id), c.deleteRule(address))
	}
	if err := c.deleteRule(address); err != nil && !shrug {
		return err
	}
	return c.forget(id)
}

// records returns the files of all records.
func (c *config) records() (files []string, err error) {
	if c.Fault == "unread-is-empty" {
		return filepath.Glob(c.path("*"))
	}
	entries, err := os.ReadDir(c.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".json" {
			files = append(files, filepath.Join(c.dir(), e.Name()))
		}
	}
	return files, nil
}

func gc(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	files, err := c.records()
	if err != nil {
		return err
	}
	for _, file := range files {
		id := filepath.Base(file[:len(file)-len(".json")])
		valid := slices.ContainsFunc(c.ValidAttachments, func(a types.GCAttachment) bool { return a.ContainerID == id })
		if valid && c.Fault != "gc-takes-all" {
			continue
		}
		address, err := c.recorded(id)
		if err != nil {
			return err
		}
		if err := c.undo(id, address, c.Fault == "gc-forgets", c.Fault == "gc-shrugs"); err != nil {
			return err
		}
	}
	return c.tidy()
}
