// Command served is BROKEN ON PURPOSE: a negative control whose daemon `make test` answers badly, and stops. Never
// install it.
//
// It is a chained plugin that gives each attachment a number, as an address in its result, and asks its daemon for it.
// The daemon is this program with the arguments daemon and the name of a fault; without one it keeps calls apart, and
// starts with what is on the disk.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

type config struct {
	types.PluginConf
	id string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "daemon" {
		fmt.Fprintln(os.Stderr, serve(strings.Join(os.Args[2:], "")))
		os.Exit(1)
	}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add: add, Del: del, Check: check, GC: gc, Status: func(*skel.CmdArgs) error { return nil },
	}, version.All, "broken on purpose")
}

func parse(args *skel.CmdArgs) (*config, error) {
	c := &config{id: args.ContainerID + "/" + args.IfName}
	if err := json.Unmarshal(args.StdinData, c); err != nil {
		return nil, err
	}
	return c, version.ParsePrevResult(&c.PluginConf)
}

// ask sends the daemon a request, and returns its answer, which is a number.
func ask(words ...string) (number int, err error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0, types.NewError(types.ErrTryAgainLater, "daemon", err.Error())
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, strings.Join(words, " ")); err != nil {
		return 0, err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(answer, &number); err != nil {
		return 0, errors.New(strings.TrimSpace(answer))
	}
	return number, nil
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
	number, err := ask("ADD", c.id)
	if err != nil {
		return err
	}
	if _, err := ask("SEEN", c.id); err != nil {
		return err
	}
	result.IPs = append(result.IPs, &current.IPConfig{
		Address: net.IPNet{IP: net.IPv4(10, 98, 0, byte(number)), Mask: net.CIDRMask(32, 32)},
	})
	return types.PrintResult(result, c.CNIVersion)
}

func del(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err == nil {
		_, err = ask("DEL", c.id)
	}
	return err
}

func check(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err == nil {
		_, err = ask("CHECK", c.id)
	}
	return err
}

func gc(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	words := []string{"GC"}
	for _, a := range c.ValidAttachments {
		words = append(words, a.ContainerID+"/"+a.IfName)
	}
	_, err = ask(words...)
	return err
}
