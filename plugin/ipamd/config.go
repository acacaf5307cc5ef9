package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
)

// Config contains the settings, which come from a file and from flags. README.md has a sentence about each.
type Config struct {
	Sockets       []string       `yaml:"sockets"`
	AllowedUsers  []uint         `yaml:"allowedUsers"`
	State         string         `yaml:"state"`
	Introspection string         `yaml:"introspection"`
	LogLevel      string         `yaml:"logLevel"`
	IPFamily      string         `yaml:"ipFamily"`
	Cooling       time.Duration  `yaml:"cooling"`
	Reconcile     time.Duration  `yaml:"reconcile"`
	Metadata      MetadataConfig `yaml:"metadata"`
	Kernel        KernelConfig   `yaml:"kernel"`
	Cloud         string         `yaml:"cloud"`
	EC2           EC2Config      `yaml:"ec2"`
}

// MetadataConfig says how to query the instance metadata service.
type MetadataConfig struct {
	Endpoint     string `yaml:"endpoint"`
	RequireToken bool   `yaml:"requireToken"`
}

// KernelConfig says what ipamd does to the node.
type KernelConfig struct {
	Enabled      bool   `yaml:"enabled"`
	ExternalSNAT bool   `yaml:"externalSNAT"`
	NodePorts    bool   `yaml:"nodePorts"`
	CheckSources bool   `yaml:"checkSources"`
	PodMetadata  bool   `yaml:"podMetadata"`
	Mark         uint32 `yaml:"mark"`
	VethPrefix   string `yaml:"vethPrefix"`
	MTU          int    `yaml:"mtu"`
}

// EC2Config says how many addresses ipamd keeps available if it may use the EC2 API.
type EC2Config struct {
	Endpoint         string `yaml:"endpoint"`
	PrefixDelegation bool   `yaml:"prefixDelegation"`
	WarmIPTarget     int    `yaml:"warmIPTarget"`
	MinimumIPTarget  int    `yaml:"minimumIPTarget"`
	WarmENITarget    int    `yaml:"warmENITarget"`
}

const (
	ipv4          = "ipv4"
	ipv6          = "ipv6"
	cloudMetadata = "metadata"
	cloudDescribe = "describe"
	cloudEC2      = "ec2"
)

// defaults returns the default configuration. The environment can set the targets of EC2, by amazon's names.
func defaults(getenv func(string) string) (Config, error) {
	cfg := Config{
		Sockets: []string{"/run/ipamd/ipamd.sock"}, AllowedUsers: []uint{0}, State: "/var/lib/ipamd/state.json",
		Introspection: "/run/ipamd/introspection.sock", LogLevel: "info", IPFamily: ipv4, Cooling: 30 * time.Second,
		Reconcile: time.Minute,
		Metadata:  MetadataConfig{Endpoint: "http://169.254.169.254"},
		Kernel: KernelConfig{
			Enabled: true, NodePorts: true, CheckSources: true, PodMetadata: true, Mark: 0x80, VethPrefix: "eni",
		},
		Cloud: cloudMetadata, EC2: EC2Config{WarmENITarget: 1},
	}
	var errs []error
	for name, target := range map[string]*int{
		"WARM_IP_TARGET": &cfg.EC2.WarmIPTarget, "MINIMUM_IP_TARGET": &cfg.EC2.MinimumIPTarget,
		"WARM_ENI_TARGET": &cfg.EC2.WarmENITarget,
	} {
		text := getenv(name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("environment: %s: want a number, got %q", name, text))
			continue
		}
		*target = n
	}
	return cfg, errors.Join(errs...)
}

// addFlags adds a flag for each setting, with its present value as the default.
func (c *Config) addFlags(flags *pflag.FlagSet) {
	flags.StringArrayVar(&c.Sockets, "socket", c.Sockets,
		"serve plugins on this unix `path`; may be given more than once")
	flags.UintSliceVar(&c.AllowedUsers, "allowed-users", c.AllowedUsers,
		"numeric `users` who may connect to the sockets")
	flags.StringVar(&c.State, "state", c.State, "keep in this `file` which pod has which address")
	flags.StringVar(&c.Introspection, "introspection", c.Introspection,
		"show state and metrics on this unix path or loopback `address`; empty for none")
	flags.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	flags.StringVar(&c.IPFamily, "ip-family", c.IPFamily, "give pods addresses of this family: ipv4 or ipv6")
	flags.DurationVar(&c.Cooling, "cooling", c.Cooling, "do not assign a released address again for this long")
	flags.DurationVar(&c.Reconcile, "reconcile", c.Reconcile, "ask the cloud for ENIs and addresses this often")
	flags.StringVar(&c.Metadata.Endpoint, "metadata-endpoint", c.Metadata.Endpoint,
		"`URL` of the instance metadata service")
	flags.BoolVar(&c.Metadata.RequireToken, "metadata-require-token", c.Metadata.RequireToken,
		"refuse a metadata service without tokens (IMDSv1)")
	flags.BoolVar(&c.Kernel.Enabled, "kernel", c.Kernel.Enabled,
		"set up ENIs, rules and routes of the node; false: only assign addresses")
	flags.BoolVar(&c.Kernel.ExternalSNAT, "external-snat", c.Kernel.ExternalSNAT,
		"something outside the node translates the source addresses of packets that leave the VPC")
	flags.BoolVar(&c.Kernel.NodePorts, "node-ports", c.Kernel.NodePorts,
		"make node ports work for pods on secondary ENIs")
	flags.BoolVar(&c.Kernel.CheckSources, "check-sources", c.Kernel.CheckSources,
		"drop what pods send with another source address than their own, or to the node's loopback")
	flags.BoolVar(&c.Kernel.PodMetadata, "pod-metadata", c.Kernel.PodMetadata,
		"let pods reach the instance metadata service")
	flags.Uint32Var(&c.Kernel.Mark, "mark", c.Kernel.Mark, "the `bit` that marks connections of the primary ENI")
	flags.StringVar(&c.Kernel.VethPrefix, "veth-prefix", c.Kernel.VethPrefix,
		"beginning of the names of pods' links on the node; the same as in the plugin's configuration")
	flags.IntVar(&c.Kernel.MTU, "mtu", c.Kernel.MTU, "MTU of ENIs; 0 leaves it alone")
	flags.StringVar(&c.Cloud, "cloud", c.Cloud, "metadata: use the attached ENIs; describe: except those that EC2 "+
		"describes as unmanaged, EFA-only or trunk; ec2: also attach and detach ENIs")
	flags.StringVar(&c.EC2.Endpoint, "ec2-endpoint", c.EC2.Endpoint,
		"`URL` of the EC2 API; empty for that of the machine's region")
	flags.BoolVar(&c.EC2.PrefixDelegation, "prefix-delegation", c.EC2.PrefixDelegation,
		"ask EC2 for /28 prefixes instead of single addresses")
	flags.IntVar(&c.EC2.WarmIPTarget, "warm-ip-target", c.EC2.WarmIPTarget,
		"keep `N` free addresses; 0: --warm-eni-target decides")
	flags.IntVar(&c.EC2.MinimumIPTarget, "minimum-ip-target", c.EC2.MinimumIPTarget,
		"have at least `N` addresses, free or not")
	flags.IntVar(&c.EC2.WarmENITarget, "warm-eni-target", c.EC2.WarmENITarget,
		"keep as many free addresses as `N` full ENIs have")
}

// load reads a file; its values replace the present ones. An unknown field is an error.
func (c *Config) load(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("config %s: %w", path, err)
	}
	return nil
}

// validate returns all mistakes.
func (c *Config) validate() error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	want(len(c.Sockets) > 0, "sockets: want at least one")
	for _, path := range c.Sockets {
		want(filepath.IsAbs(path), "sockets: want absolute paths, got %q", path)
	}
	want(len(c.AllowedUsers) > 0, "allowedUsers: want at least one")
	for _, user := range c.AllowedUsers {
		want(user < math.MaxUint32, "allowedUsers: want user numbers, got %d", user)
	}
	want(filepath.IsAbs(c.State), "state: want an absolute path, got %q", c.State)
	want(c.IPFamily == ipv4 || c.IPFamily == ipv6, "ipFamily: want ipv4 or ipv6, got %q", c.IPFamily)
	want(c.Cooling >= 0, "cooling: want 0 or more, got %s", c.Cooling)
	want(c.Reconcile >= 100*time.Millisecond, "reconcile: want at least 100ms, got %s", c.Reconcile)
	endpoint, err := url.Parse(c.Metadata.Endpoint)
	want(err == nil && endpoint.Host != "", "metadata.endpoint: want a URL, got %q", c.Metadata.Endpoint)
	want(!c.Kernel.NodePorts || c.Kernel.Mark != 0 && c.Kernel.Mark&(c.Kernel.Mark-1) == 0,
		"kernel.mark: want one bit, got %#x", c.Kernel.Mark)
	want(len(c.Kernel.VethPrefix) >= 1 && len(c.Kernel.VethPrefix) <= 4,
		"kernel.vethPrefix: want 1 to 4 characters, got %q", c.Kernel.VethPrefix)
	want(c.Kernel.MTU == 0 || c.Kernel.MTU >= 576 && c.Kernel.MTU <= 9216, "kernel.mtu: want 0 or 576 to 9216, got %d",
		c.Kernel.MTU)
	want(slices.Contains([]string{cloudMetadata, cloudDescribe, cloudEC2}, c.Cloud),
		"cloud: want metadata, describe or ec2, got %q", c.Cloud)
	want(c.Cloud != cloudEC2 || c.IPFamily == ipv4, "cloud: ec2 works for ipv4 only")
	want(c.EC2.WarmIPTarget >= 0 && c.EC2.MinimumIPTarget >= 0 && c.EC2.WarmENITarget >= 0,
		"ec2: want targets of 0 or more")
	if _, err := c.level(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Config) targets() cloud.Targets {
	return cloud.Targets{WarmIP: c.EC2.WarmIPTarget, MinimumIP: c.EC2.MinimumIPTarget, WarmENI: c.EC2.WarmENITarget}
}
