// Command ipam is BROKEN ON PURPOSE: a negative control on which `make test` runs scenarios. Never install it.
//
// It replaces host-local, under its name and with its configuration and files, and delegates to the real one, which is
// beside it as `host-local.real`. It has the one fault that the key `fault` of its configuration names:
//
//   - no-lock: ADDs at the same time choose the same address (D03);
//   - per-container: DEL of one interface releases the addresses of all interfaces of the container (E11);
//   - needs-netns: DEL does nothing if the pod's namespace is gone (D02, E02);
//   - keeps: DEL does nothing (D09).
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

const upstream = "host-local.real"

type config struct {
	types.PluginConf
	IPAM struct {
		Fault  string         `json:"fault"`
		Ranges [][]addresses  `json:"ranges"`
		Routes []*types.Route `json:"routes"`
	} `json:"ipam"`
}

type addresses struct {
	Subnet     types.IPNet `json:"subnet"`
	RangeStart netip.Addr  `json:"rangeStart"`
	Gateway    net.IP      `json:"gateway"`
}

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check}, version.All, "ipam, broken on purpose")
}

func parse(args *skel.CmdArgs) (*config, error) {
	c := &config{}
	return c, json.Unmarshal(args.StdinData, c)
}

func (c *config) dir() string { return filepath.Join("/var/lib/cni/networks", c.Name) }

func add(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	if c.IPAM.Fault == "no-lock" {
		return c.addUnlocked(args)
	}
	result, err := invoke.DelegateAdd(context.Background(), upstream, args.StdinData, nil)
	if err != nil {
		return err
	}
	return types.PrintResult(result, c.CNIVersion)
}

func (c *config) addUnlocked(args *skel.CmdArgs) error {
	if err := os.MkdirAll(c.dir(), 0o755); err != nil {
		return err
	}
	r := c.IPAM.Ranges[0][0]
	chosen := r.RangeStart
	for {
		_, err := os.Stat(filepath.Join(c.dir(), chosen.String()))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		chosen = chosen.Next()
	}
	time.Sleep(50 * time.Millisecond) // meanwhile others choose the same address
	owner := args.ContainerID + "\r\n" + args.IfName
	for name, text := range map[string]string{
		chosen.String(): owner, "last_reserved_ip.0": chosen.String(), "lock": "",
	} {
		if err := os.WriteFile(filepath.Join(c.dir(), name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return types.PrintResult(&current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		IPs: []*current.IPConfig{
			{Address: net.IPNet{IP: chosen.AsSlice(), Mask: r.Subnet.Mask}, Gateway: r.Gateway},
		},
		Routes: c.IPAM.Routes,
	}, c.CNIVersion)
}

func del(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	switch c.IPAM.Fault {
	case "keeps":
		return nil
	case "needs-netns":
		if _, err := os.Stat(args.Netns); err != nil {
			return nil
		}
	case "per-container":
		if err := c.releaseContainer(args.ContainerID); err != nil {
			return err
		}
	case "no-lock", "":
	default:
		return fmt.Errorf("fault %q: want no-lock, per-container, needs-netns or keeps", c.IPAM.Fault)
	}
	return invoke.DelegateDel(context.Background(), upstream, args.StdinData, nil)
}

func (c *config) releaseContainer(id string) error {
	entries, err := os.ReadDir(c.dir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(c.dir(), e.Name())
		if text, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(bytes.TrimSpace(text)), id) {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func check(args *skel.CmdArgs) error {
	return invoke.DelegateCheck(context.Background(), upstream, args.StdinData, nil)
}
