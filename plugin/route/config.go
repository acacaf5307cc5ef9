package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/utils"
	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

const (
	maxLinkName = 15 // IFNAMSIZ without the terminating zero
	childSuffix = ".host"
)

// config is the plugin's configuration. Both keys may be left out.
type config struct {
	chain.Config
	Master string `json:"master"`
	Bridge string `json:"bridge"`
}

func parseConfig(stdin []byte) (*config, error) {
	var conf config
	if err := json.Unmarshal(stdin, &conf); err != nil {
		return nil, chain.BadConfig("configuration: %w", err)
	}
	for _, key := range []struct{ name, value string }{{"master", conf.Master}, {"bridge", conf.Bridge}} {
		if key.value == "" {
			continue
		}
		if err := utils.ValidateInterfaceName(key.value); err != nil {
			return nil, chain.BadConfig("%s %q: %w", key.name, key.value, err)
		}
	}
	if conf.Bridge != "" && conf.Bridge == conf.Master {
		return nil,
			chain.BadConfig("bridge %q is the master itself; leave bridge out or name a link that does not exist",
				conf.Bridge)
	}
	return &conf, nil
}

// masterName returns the configured master, or without one the link of the first default route that the kernel lists.
// Upstream's macvlan has the same default, and both plugins have to use the same master.
func (c *config) masterName(host *kernel.Namespace) (string, error) {
	if c.Master != "" {
		return c.Master, nil
	}
	name, err := host.DefaultLink()
	if name == "" && err == nil {
		err = errors.New("master is not set and the node has no default route to take it from")
	}
	return name, err
}

// child returns a description of the shared link. An error says what is wrong with the master.
func (c *config) child(host *kernel.Namespace) (*child, error) {
	name, err := c.masterName(host)
	if err != nil {
		return nil, err
	}
	return newChild(host, name, c.childName(name))
}

func newChild(host *kernel.Namespace, master, name string) (*child, error) {
	link, err := host.LinkByName(master)
	if kernel.IsNotFound(err) {
		return nil, fmt.Errorf("master %q does not exist on this node", master)
	}
	if err != nil {
		return nil, fmt.Errorf("master %q: %w", master, err)
	}
	c := &child{name: name, master: link, lower: link}
	if _, ok := link.(*netlink.Macvlan); ok {
		// The kernel puts a macvlan of a macvlan on the device below both (macvlan_common_newlink).
		if c.lower, err = host.LinkByIndex(link.Attrs().ParentIndex); err != nil {
			return nil, fmt.Errorf("master %q: device below it: %w", master, err)
		}
	}
	return c, nil
}

// childName returns the configured name of the child, or one made from the name of its master.
func (c *config) childName(master string) string {
	if c.Bridge != "" {
		return c.Bridge
	}
	return defaultChildName(master)
}

// defaultChildName appends ".host" if that fits. Otherwise it shortens the master's name and adds a part of its hash,
// which distinguishes masters whose names begin alike.
func defaultChildName(master string) string {
	room := maxLinkName - len(childSuffix)
	if len(master) <= room {
		return master + childSuffix
	}
	sum := sha256.Sum256([]byte(master))
	hash := hex.EncodeToString(sum[:])[:5]
	return strings.ToValidUTF8(master[:room-len(hash)], "") + hash + childSuffix
}
