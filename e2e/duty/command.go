package duty

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
)

// Command is a runtime that is a program with the command line and the variables of cnitool (containernetworking/cni,
// cnitool): PROGRAM add|check|del|gc|status NETWORK NETNS, with NETCONFPATH, CNI_PATH, CNI_IFNAME, CNI_ARGS and
// CAP_ARGS. Each operation is a process of its own.
type Command struct {
	title   string
	agent   *agent.Client
	program string
	env     []string
	orders  bool
	usage   string
	dir     string

	used int
	pods namespaces
}

// CommandOptions describe a Command.
type CommandOptions struct {
	// Name is the name in results.
	Name string
	// Program is the path of the program on the node.
	Program string
	// Env are further variables.
	Env []string
	// Orders says that the program itself keeps apart what must not run at once, and refuses what must not come then.
	Orders bool
}

// NewCommand returns a Command on the node of an agent. It runs the program once, with --help, to see its verbs.
func NewCommand(ctx context.Context, node *agent.Client, options CommandOptions) (*Command, error) {
	help, err := node.Command(ctx, agent.CommandArgs{Argv: []string{options.Program, "--help"}, Env: options.Env})
	if err != nil {
		return nil, err
	}
	return &Command{
		title: options.Name, agent: node, program: options.Program, env: options.Env, orders: options.Orders,
		usage: help.Output, pods: newNamespaces(node),
	}, nil
}

// Name returns the name of the options.
func (c *Command) Name() string { return c.title }

// Lacks takes a verb for missing if the program's help does not have the word.
func (c *Command) Lacks(ability Ability) string {
	switch ability {
	case CanCheck, CanGC, CanStatus:
		if !regexp.MustCompile(`\b` + strings.ToLower(string(ability)) + `\b`).MatchString(c.usage) {
			return fmt.Sprintf("%s --help has no command for %s", c.title, ability)
		}
	case TakesID:
		return c.title + " makes the container's id of the path of its namespace"
	case Orders:
		if !c.orders {
			return c.title + " does at once what its caller says, and leaves the order to the caller"
		}
	}
	return ""
}

// Use writes the files into a new directory.
func (c *Command) Use(ctx context.Context, files map[string]string) error {
	c.used++
	c.dir = fmt.Sprintf("/run/cnitest-runtime/net.d/%d", c.used)
	for name, text := range files {
		file := agent.File{Path: filepath.Join(c.dir, name), Mode: 0o644, Data: []byte(text)}
		if err := c.agent.WriteFile(ctx, file); err != nil {
			return err
		}
	}
	return nil
}

// Restart does nothing: no process outlives an operation.
func (c *Command) Restart(context.Context) error { return nil }

// Run runs the program.
func (c *Command) Run(ctx context.Context, op Operation) (Answer, error) {
	return c.runBy(ctx, op, c.agent.Command)
}

// Record runs the program and records what it does with files.
func (c *Command) Record(ctx context.Context, op Operation) (Answer, error) {
	return c.runBy(ctx, op, c.agent.RecordCommand)
}

func (c *Command) runBy(
	ctx context.Context, op Operation, command func(context.Context, agent.CommandArgs) (agent.CommandReply, error),
) (Answer, error) {
	namespace := agent.NamespacePath("none")
	if op.Pod != "" {
		var err error
		if namespace, err = c.pods.of(ctx, op.Pod); err != nil {
			return Answer{}, err
		}
	}
	capabilities := ""
	if op.Capabilities != nil {
		text, err := json.Marshal(op.Capabilities)
		if err != nil {
			return Answer{}, err
		}
		capabilities = string(text)
	}
	reply, err := command(ctx, agent.CommandArgs{
		Argv: []string{c.program, strings.ToLower(string(op.Verb)), op.Network, namespace},
		// Empty variables keep out those of this process, whose temporary directory the node may not have.
		Env: append([]string{
			"NETCONFPATH=" + c.dir, "CNI_PATH=" + stub.Dir, "CNI_IFNAME=" + cmp.Or(op.IfName, "eth0"),
			"CNI_ARGS=" + pairs(op.Args), "CAP_ARGS=" + capabilities, "TMPDIR=/tmp",
		}, c.env...),
		Timeout: cni.DefaultTimeout,
	})
	switch {
	case errors.Is(err, agent.ErrEnded), ctx.Err() != nil:
		return Answer{}, err
	case err != nil: // it does not end, or cannot be run
		return Answer{Failed: true, Text: err.Error()}, nil
	}
	return Answer{Failed: reply.ExitCode != 0, Text: strings.TrimSpace(reply.Output)}, nil
}

// pairs returns arguments as CNI_ARGS has them.
func pairs(args [][2]string) string {
	var list []string
	for _, a := range args {
		list = append(list, a[0]+"="+a[1])
	}
	return strings.Join(list, ";")
}
