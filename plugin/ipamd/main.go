// Ipamd is the daemon of the routed-eni plugin: it knows the addresses that the cloud gave this node, sets up the
// node's ENIs, and assigns an address to each pod when the plugin requests one. It also serves the plugin of
// amazon-vpc-cni-k8s.
//
// It is not a CNI plugin, and does not talk to Kubernetes.
//
// Tests: go test ./plugin/ipamd/... (as root; without root, tests that need network namespaces are skipped)
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const long = `Ipamd gives pods addresses of the cloud's own network.

It reads from the instance metadata service which network interfaces (ENIs) this machine has and which addresses they
have, sets up the node so that each pod's packets leave by the ENI that owns its address, and answers the routed-eni
plugin on a unix socket. Each assignment is on disk before the plugin is told: ipamd may be killed and started again at
any moment.

Settings come from the flags below, or from the file named by --config, which has a key for each. Flags win:

  sockets: [/run/ipamd/ipamd.sock]
  cooling: 30s
  metadata: {endpoint: "http://169.254.169.254"}
  kernel: {externalSNAT: true}

Inspect it:

  curl --unix-socket /run/ipamd/introspection.sock http://ipamd/v1/assignments
  curl --unix-socket /run/ipamd/introspection.sock http://ipamd/metrics

SIGTERM ends it when the running calls have returned. Pods keep their addresses.`

const example = `  ipamd                                              # on an instance of EC2, with every ENI of it
  ipamd --cloud ec2 --warm-ip-target 5               # and attach more as pods come
  ipamd --socket /var/run/aws-node/ipamd.sock        # for amazon-vpc-cni-k8s' plugin
  ipamd --kernel=false --metadata-endpoint http://127.0.0.1:1338 --state /tmp/state.json --socket /tmp/ipamd.sock`

// usageError is a mistake in flags or in the configuration.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute returns the exit status: 0 after a signal, 2 for a mistake in the configuration, 1 for other errors.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := command(args, func(cfg Config) error {
		d, err := newDaemon(cfg, logger(cfg, stderr))
		if err != nil {
			return err
		}
		return d.run(ctx)
	})
	cmd.SetArgs(append([]string{}, args...)) // nil would mean the arguments of the process
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "ipamd: %v\n", err)
	if usage := (usageError{}); errors.As(err, &usage) {
		return 2
	}
	return 1
}

// command returns the command line. It calls start with the configuration.
func command(args []string, start func(Config) error) *cobra.Command {
	cfg, envErr := defaults(os.Getenv)
	var file string
	cmd := &cobra.Command{
		Use: "ipamd", Short: "Give pods addresses of the cloud's own network", Long: long, Example: example,
		Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			if envErr != nil {
				return usageError{envErr}
			}
			if err := cfg.loadUnder(file, args); err != nil {
				return usageError{err}
			}
			if err := cfg.validate(); err != nil {
				return usageError{err}
			}
			return start(cfg)
		},
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := cobra.NoArgs(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd.Flags().StringVar(&file, "config", "", "read settings from this YAML `file`")
	cfg.addFlags(cmd.Flags())
	return cmd
}

// loadUnder reads a file of defaults: it loads the file, and then parses the flags again, so that they win.
func (c *Config) loadUnder(file string, args []string) error {
	if file == "" {
		return nil
	}
	under, err := defaults(os.Getenv)
	if err != nil {
		return err
	}
	if err := under.load(file); err != nil {
		return err
	}
	flags := pflag.NewFlagSet("ipamd", pflag.ContinueOnError)
	flags.String("config", "", "")
	under.addFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	*c = under
	return nil
}

func (c *Config) level() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return level, fmt.Errorf("logLevel: want debug, info, warn or error, got %q", c.LogLevel)
	}
	return level, nil
}

// logger returns a logger that writes lines of key=value pairs; journald and kubectl show them as they are.
func logger(cfg Config, w io.Writer) *slog.Logger {
	level, _ := cfg.level() // already validated
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
