package main

import (
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// pausing is the argument with which the plugin keeps running as a daemon that stops for some seconds; a namespace
// follows.
const pausing = "pause"

// pauseLater starts such a daemon for the pod.
func pauseLater(c *call) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, pausing, c.Netns)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

// pause stops what arrives in a pod for three seconds, one second later.
func pause(netns string) error {
	time.Sleep(time.Second)
	return ns.WithNetNSPath(netns, func(ns.NetNS) error {
		if err := arriving().install([]expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}); err != nil {
			return err
		}
		time.Sleep(3 * time.Second)
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		conn.DelTable(&nftables.Table{Name: "broken", Family: nftables.TableFamilyIPv4})
		return conn.Flush()
	})
}
