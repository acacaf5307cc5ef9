package main

import (
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/cni"
)

// cnitoolName is the name under which this program acts as cnitool in a lab.
const cnitoolName = "cnitool"

// newCnitoolCommand returns a command with the verbs, arguments and variables of cnitool (containernetworking/cni,
// cnitool).
func newCnitoolCommand() *cobra.Command {
	return &cobra.Command{
		Use:    cnitoolName + " add|check|del|gc|status NETWORK [NETNS]",
		Short:  "Run a verb of a network as cnitool does (NETCONFPATH, CNI_PATH, CNI_IFNAME, CNI_ARGS, CAP_ARGS)",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return cnitool(cmd, args)
		},
	}
}

func cnitool(cmd *cobra.Command, args []string) error {
	req, err := cnitoolRequest(args)
	if err != nil {
		return err
	}
	outcome, err := cni.Run(cmd.Context(), req, nil)
	if err != nil {
		return err
	}
	if err := outcome.Err(); err != nil {
		return &exitError{exitNotConformant, err}
	}
	if len(outcome.Result) > 0 {
		fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(string(outcome.Result)))
	}
	return nil
}

func cnitoolRequest(args []string) (cni.Request, error) {
	var req cni.Request
	if len(args) < 2 {
		return req,
			errors.New("want a verb (add, check, del, gc, status), the name of a network and the path of a namespace")
	}
	req.Verb = cni.Verb(strings.ToUpper(args[0]))
	switch req.Verb {
	case cni.Add, cni.Check, cni.Del:
		if len(args) != 3 {
			return req, fmt.Errorf("%s: want the name of a network and the path of a namespace", args[0])
		}
		path, err := filepath.Abs(args[2])
		if err != nil {
			return req, err
		}
		req.Netns = path
		// This is the container id that cnitool derives from the path.
		sum := sha512.Sum512([]byte(path))
		req.ContainerID = fmt.Sprintf("cnitool-%x", sum[:10])
	case cni.GC, cni.Status:
	default:
		return req, fmt.Errorf("verb %q: want add, check, del, gc or status", args[0])
	}
	if req.IfName = os.Getenv("CNI_IFNAME"); req.IfName == "" {
		req.IfName = "eth0"
	}
	confDir := os.Getenv("NETCONFPATH")
	if confDir == "" {
		confDir = "/etc/cni/net.d"
	}
	list, err := libcni.LoadConfList(confDir, args[1])
	if err != nil {
		return req, err
	}
	req.Conflist, req.BinDirs = list.Bytes, filepath.SplitList(os.Getenv("CNI_PATH"))
	if text := os.Getenv("CAP_ARGS"); text != "" {
		if err := json.Unmarshal([]byte(text), &req.CapabilityArgs); err != nil {
			return req, fmt.Errorf("CAP_ARGS: %w", err)
		}
	}
	if text := os.Getenv("CNI_ARGS"); text != "" {
		for _, pair := range strings.Split(text, ";") {
			key, value, ok := strings.Cut(pair, "=")
			if !ok {
				return req, fmt.Errorf("CNI_ARGS: want KEY=VALUE, got %q", pair)
			}
			req.Args = append(req.Args, [2]string{key, value})
		}
	}
	return req, nil
}
