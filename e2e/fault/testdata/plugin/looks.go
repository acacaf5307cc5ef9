package main

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
)

// looks are actions that change nothing, and say what they saw.
func looks() map[string]func(dir string) error {
	return map[string]func(dir string) error{
		"links": func(string) error {
			links, err := netlink.LinkList()
			fmt.Printf("%d links, %v\n", len(links), err)
			return nil
		},
		// The kernel is asked until it answers, or ten times.
		"links-again": func(string) error {
			for tries := range 10 {
				if links, err := netlink.LinkList(); err == nil {
					fmt.Printf("%d links after %d\n", len(links), tries+1)
					return nil
				}
			}
			fmt.Println("gave up")
			return nil
		},
		// Its socket sleeps, unlike those of package netlink.
		"interfaces": func(string) error {
			_, err := net.Interfaces()
			fmt.Println(err)
			return nil
		},
		"lo": func(string) error {
			_, err := netlink.LinkByName("lo")
			fmt.Println(err)
			return nil
		},
		"record": func(dir string) error {
			text, err := os.ReadFile(dir + "/record")
			fmt.Printf("%q %v\n", text, err)
			return nil
		},
	}
}
