// Package cni runs CNI plugins on a node as a runtime does, and keeps what each plugin got and answered.
//
// It has two drivers. Run uses libcni, with its cache and its rules for chains, as cnitool, CRI-O and containerd do.
// Exec runs one binary with exactly the environment and the input that the caller gives, since libcni hides what a
// contract test must see: two documents on stdout, text beside the result, exit statuses.
//
// The package runs in the agent, in the namespaces of the node; it knows nothing about scenarios or backends.
//
// Run its tests: go test ./e2e/cni
package cni

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/version"
)

// Verb is CNI_COMMAND.
type Verb string

// These are the verbs of the CNI specification 1.1.0, section 2.
const (
	Add     Verb = "ADD"
	Del     Verb = "DEL"
	Check   Verb = "CHECK"
	GC      Verb = "GC"
	Status  Verb = "STATUS"
	Version Verb = "VERSION"
)

// Since returns the first version of the specification that has the verb (CNI, Documentation/spec-upgrades.md).
func (v Verb) Since() string {
	switch v {
	case Check:
		return "0.4.0"
	case GC, Status:
		return "1.1.0"
	}
	return "0.1.0"
}

// In reports whether a version of the specification has the verb. A version that cannot be read has every verb.
func (v Verb) In(cniVersion string) bool {
	before, err := version.GreaterThan(v.Since(), cniVersion)
	return err != nil || !before
}

// DefaultTimeout is the time for one verb of one chain before its plugins are killed, in time that the machine gave
// (package machinetime). containerd and CRI-O give a whole pod sandbox between two and four minutes; a plugin that
// needs half a minute is broken.
const DefaultTimeout = 30 * time.Second

// Request is one verb for one network.
type Request struct {
	Verb Verb `json:"verb"`
	// Conflist is the network configuration list.
	Conflist []byte `json:"conflist"`
	// BinDirs is CNI_PATH, in order.
	BinDirs []string `json:"binDirs"`

	ContainerID string `json:"containerID,omitempty"`
	Netns       string `json:"netns,omitempty"`
	IfName      string `json:"ifName,omitempty"`
	// Args is CNI_ARGS, as keys and values.
	Args [][2]string `json:"args,omitempty"`
	// CapabilityArgs has the runtime's values for capabilities; libcni passes a plugin those that it declares.
	CapabilityArgs map[string]any `json:"capabilityArgs,omitempty"`
	// ValidAttachments are the attachments that GC must keep.
	ValidAttachments []Attachment `json:"validAttachments,omitempty"`

	// Timeout bounds the whole verb; 0 means DefaultTimeout.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Trace has kinds of the node's state (package snapshot) that are taken after each plugin, so that a change can be
	// attributed to it; empty takes none.
	Trace []string `json:"trace,omitempty"`
}

// Attachment names one attachment of a container to a network.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// Call is one execution of a plugin: what it got and what it answered.
type Call struct {
	// Plugin is the type of the plugin, which is the name of its binary.
	Plugin string `json:"plugin"`
	Verb   Verb   `json:"verb"`
	Path   string `json:"path"`
	// Env is the whole environment.
	Env    []string `json:"env"`
	Stdin  string   `json:"stdin"`
	Stdout string   `json:"stdout"`
	Stderr string   `json:"stderr"`
	// ExitCode is the exit status, -1 if the plugin was killed or could not be started.
	ExitCode int           `json:"exitCode"`
	Duration time.Duration `json:"duration"`
	// Failure says why the plugin was not run to its end: a timeout, a signal, a missing binary. Empty otherwise.
	Failure string `json:"failure,omitempty"`
}

// String returns the call as a shell would show it, on one line, without input and output.
func (c Call) String() string {
	var env []string
	for _, e := range c.Env {
		if strings.HasPrefix(e, "CNI_") && !strings.HasPrefix(e, "CNI_PATH=") {
			env = append(env, e)
		}
	}
	return fmt.Sprintf("%s %s (exit %d, %s)", strings.Join(env, " "), c.Path, c.ExitCode,
		c.Duration.Round(time.Millisecond))
}

// Failed reports whether the plugin reported an error, or did not run to its end.
func (c Call) Failed() bool { return c.ExitCode != 0 || c.Failure != "" }

// Transcript returns the call with its complete input and output, so that it can be repeated by hand.
func (c Call) Transcript() string {
	var b strings.Builder
	for _, e := range c.Env {
		fmt.Fprintf(&b, "%s\n", e)
	}
	fmt.Fprintf(&b, "$ %s\nstdin:  %s\n", c.Path, strings.TrimSpace(c.Stdin))
	fmt.Fprintf(&b, "stdout: %s\nstderr: %s\n", strings.TrimSpace(c.Stdout), strings.TrimSpace(c.Stderr))
	fmt.Fprintf(&b, "exit status %d after %s", c.ExitCode, c.Duration.Round(100*time.Microsecond))
	if c.Failure != "" {
		fmt.Fprintf(&b, ": %s", c.Failure)
	}
	return b.String()
}

// Error is a CNI error object (spec section 5) with the plugin that returned it.
type Error struct {
	// Plugin is the type of the plugin; empty if libcni itself refused.
	Plugin  string `json:"plugin,omitempty"`
	Code    uint   `json:"code"`
	Msg     string `json:"msg"`
	Details string `json:"details,omitempty"`
}

// Error returns the message with plugin, code and details.
func (e *Error) Error() string {
	who := e.Plugin
	if who == "" {
		who = "libcni"
	}
	text := fmt.Sprintf("%s: %s", who, e.Msg)
	// The stack trace of a panic is only in the whole call.
	if details, _, _ := strings.Cut(e.Details, "\n\ngoroutine "); details != "" {
		text += "; " + details
	}
	if e.Code != 0 {
		text += fmt.Sprintf(" (code %d)", e.Code)
	}
	return text
}

// Outcome is the outcome of a verb.
type Outcome struct {
	// Result is the final result of ADD in the version of the conflist; empty for other verbs and on errors.
	Result json.RawMessage `json:"result,omitempty"`
	// Failure is nil on success.
	Failure *Error `json:"failure,omitempty"`
	// Calls are the calls of plugins, in order, without those that a plugin delegates to.
	Calls    []Call        `json:"calls"`
	Duration time.Duration `json:"duration"`
}

// Err returns the failure as an error, nil on success.
func (o *Outcome) Err() error {
	if o.Failure == nil {
		return nil
	}
	return o.Failure
}
