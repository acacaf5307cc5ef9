package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"

	"github.com/cnitest/cnitest/plugin/internal/chain"
)

const (
	defaultVethPrefix = "eni"
	defaultSocket     = "/run/ipamd/ipamd.sock" // ipamd's own default
	maxVethPrefix     = 4
)

// config is the plugin's configuration. Every key may be left out.
type config struct {
	chain.Config
	VethPrefix string `json:"vethPrefix"`
	// MTU may be a string, as in amazon's configuration.
	MTU    json.Number `json:"mtu"`
	Socket string      `json:"socket"`
	DNS    types.DNS   `json:"dns"`
	IPAM   types.IPAM  `json:"ipam"`

	mtu int // 0 means the MTU of the ENI
}

func parseConfig(stdin []byte) (*config, error) {
	conf := config{VethPrefix: defaultVethPrefix, Socket: defaultSocket}
	if err := json.Unmarshal(stdin, &conf); err != nil {
		return nil, chain.BadConfig("configuration: %w", err)
	}
	if err := conf.validate(); err != nil {
		return nil, chain.BadConfig("%w", err)
	}
	return &conf, nil
}

func (c *config) validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := utils.ValidateInterfaceName(c.VethPrefix); err != nil {
		report("vethPrefix %q: %w", c.VethPrefix, err)
	} else if len(c.VethPrefix) > maxVethPrefix {
		report("vethPrefix %q: want at most %d bytes, got %d", c.VethPrefix, maxVethPrefix, len(c.VethPrefix))
	}
	if c.MTU != "" {
		var err error
		if c.mtu, err = strconv.Atoi(c.MTU.String()); err != nil || c.mtu != 0 && (c.mtu < 1280 || c.mtu > 65535) {
			report("mtu %s: want 1280 to 65535, or leave it out to have that of the ENI", c.MTU)
		}
	}
	if !filepath.IsAbs(c.Socket) {
		report("socket %q: want an absolute path, as ipamd's --socket", c.Socket)
	}
	if c.IPAM.Type != "" {
		report("ipam %q: addresses come from ipamd: leave ipam out", c.IPAM.Type)
	}
	return errors.Join(errs...)
}
