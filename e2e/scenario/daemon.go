package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// Daemon does something to the daemon of the plugin on a node.
type Daemon struct {
	// Node is the node's name.
	Node string `yaml:"node"`
	// Do is "stop" (SIGTERM), "kill" (SIGKILL), "start", "restart" (stop and start), "freeze" (SIGSTOP: it accepts
	// connections and answers nothing), "thaw" (SIGCONT), "doom" (SIGKILL as soon as it has written what it is asked
	// for, and before it answers), "delay" (the next request is held back, and others overtake it) or "deliver" (the
	// daemon gets that request, whose client is gone). Start ends when the daemon is ready.
	Do string `yaml:"do"`
	// With is the variant of the daemon that runs from now on, of Variants; empty means the daemon as at the start. It
	// belongs to start and restart.
	With string `yaml:"with"`
}

// These are the variants of a daemon, for each of which a target may have a command.
const (
	// NodeSNAT: what pods send beyond their cloud has the source address of their node.
	NodeSNAT = "node-snat"
	// LongCooling: an address that was released rests for 6 s before another pod gets it.
	LongCooling = "long-cooling"
)

// Variants returns the names of all variants, sorted.
func Variants() []string { return []string{LongCooling, NodeSNAT} }

// String returns the step as a sentence.
func (d Daemon) String() string {
	switch {
	case d.Do == Doom:
		return fmt.Sprintf("let the daemon on node/%s die before its next answer", d.Node)
	case d.Do == DelayRequest:
		return fmt.Sprintf("hold back the next request to the daemon on node/%s", d.Node)
	case d.Do == DeliverRequest:
		return fmt.Sprintf("the daemon on node/%s gets the request that was held back", d.Node)
	case d.With != "":
		return fmt.Sprintf("%s the daemon on node/%s as %s", d.Do, d.Node, d.With)
	}
	return fmt.Sprintf("%s the daemon on node/%s", d.Do, d.Node)
}

// These are the values of Daemon.Do.
const (
	StartDaemon   = "start"
	StopDaemon    = "stop"
	RestartDaemon = "restart"
	KillDaemon    = "kill"
	FreezeDaemon  = "freeze"
	ThawDaemon    = "thaw"
	// Doom lets the daemon die before its next answer.
	Doom = "doom"
	// DelayRequest holds back the next request to the daemon, DeliverRequest passes it on.
	DelayRequest   = "delay"
	DeliverRequest = "deliver"
)

// Cloud changes what the cloud gives a node. At the end of the scenario everything is as before.
type Cloud struct {
	// Node is the node's name.
	Node string `yaml:"node"`
	// Add is "eni", a network interface with its addresses, or "address", one more for the ENI that has the fewest.
	// Remove removes what an earlier step of the scenario added last.
	Add    string `yaml:"add"`
	Remove string `yaml:"remove"`
	// Of is the pod whose address is to be removed while it has it, or the prefix that the address belongs to.
	Of string `yaml:"of"`
}

// These are the things that a Cloud adds and removes.
const (
	AnENI     = "eni"
	AnAddress = "address"
)

// String returns the step as a sentence.
func (c Cloud) String() string {
	switch {
	case c.Add != "":
		return fmt.Sprintf("the cloud adds %s to node/%s", article(c.Add), c.Node)
	case c.Of != "":
		return fmt.Sprintf("the cloud removes the address of %s from node/%s", c.Of, c.Node)
	}
	return fmt.Sprintf("the cloud removes %s from node/%s", article(c.Remove), c.Node)
}

func article(thing string) string {
	if thing == AnENI {
		return "an ENI"
	}
	return "an address"
}

// nodeNamed reports a name that no node has.
func (v *validator) nodeNamed(path, name string) bool {
	if v.nodes[name] == nil {
		v.wrong(path, "node %q is not declared; %s", name, orOneOf(NodePlace, v.nodes))
		return false
	}
	return true
}

func (t *stepChecker) daemon(path string, d Daemon) {
	if slices.Contains(t.Features, DHCP) { // the daemon is that of dhcp
		t.test(DHCP, path)
	} else {
		t.test(DaemonRestart, path)
	}
	known := t.oneOf(path+".do", "do", d.Do, StartDaemon, StopDaemon, RestartDaemon, KillDaemon, FreezeDaemon,
		ThawDaemon, Doom, DelayRequest, DeliverRequest)
	if d.With != "" && !slices.Contains(Variants(), d.With) {
		t.wrong(path+".with", "unknown variant %q; want one of %s", d.With, strings.Join(Variants(), ", "))
	}
	if d.With != "" && d.Do != StartDaemon && d.Do != RestartDaemon {
		t.wrong(path+".with", "with belongs to do: start and do: restart; remove it")
	}
	if !t.nodeNamed(path+".node", d.Node) || !known {
		return
	}
	switch down, frozen := t.down[d.Node], t.frozen[d.Node]; {
	case down && d.Do != StartDaemon:
		t.wrong(path, "the daemon on node/%s does not run here; write do: start", d.Node)
	case !down && d.Do == StartDaemon:
		t.wrong(path, "the daemon on node/%s runs; put a stop or kill before this start", d.Node)
	case frozen && d.Do != ThawDaemon && d.Do != KillDaemon:
		t.wrong(path, "the daemon on node/%s is frozen here; write do: thaw or do: kill", d.Node)
	case !down && !frozen && d.Do == ThawDaemon:
		t.wrong(path, "the daemon on node/%s is not frozen; put a freeze before this thaw", d.Node)
	case d.Do == DeliverRequest && !t.delayed[d.Node]:
		t.wrong(path, "no request to the daemon on node/%s is held back; put a delay before this deliver", d.Node)
	case t.delayed[d.Node] && d.Do != DeliverRequest:
		t.wrong(path, "a request to the daemon on node/%s is held back here; write do: deliver", d.Node)
	}
	t.delayed[d.Node] = d.Do == DelayRequest
	// Nobody knows how long a doomed daemon runs.
	t.down[d.Node], t.frozen[d.Node] = d.Do == StopDaemon || d.Do == KillDaemon || d.Do == Doom, d.Do == FreezeDaemon
}

func (t *stepChecker) cloud(path string, c Cloud) {
	t.test(CloudENIs, path)
	if !t.nodeNamed(path+".node", c.Node) {
		return
	}
	switch {
	case c.Add != "" && c.Remove != "":
		t.wrong(path, "cloud adds and removes; make each a step of its own")
		return
	case c.Add == "" && c.Remove == "":
		t.wrong(path, "cloud changes nothing; say add or remove")
		return
	case c.Of != "" && c.Remove != AnAddress:
		t.wrong(path+".of", "of belongs to remove: address; remove one of the two")
		return
	case c.Add != "":
		if t.oneOf(path+".add", "add", c.Add, AnENI, AnAddress) {
			t.added[Cloud{Node: c.Node, Add: c.Add}]++
		}
		return
	}
	if !t.oneOf(path+".remove", "remove", c.Remove, AnENI, AnAddress) {
		return
	}
	if c.Of != "" {
		t.ownAddress(path, c)
		return
	}
	added := Cloud{Node: c.Node, Add: c.Remove}
	if t.added[added] == 0 {
		t.wrong(path, "no step added %s to node/%s that could be removed here", article(c.Remove), c.Node)
		return
	}
	t.added[added]--
}

// ownAddress reports a mistake unless the place is a pod of the node with an address.
func (t *stepChecker) ownAddress(path string, c Cloud) {
	pod, ok := t.place(path+".of", c.Of, PodPlace)
	if !ok {
		return
	}
	if t.nodeOf(pod) != c.Node {
		t.wrong(path+".of", "%s is on node/%s; write node: %s", pod, t.nodeOf(pod), t.nodeOf(pod))
		return
	}
	t.reachable(path+".of", pod, DefaultInterface, "cloud")
}

// mayFail checks the option fails of a step.
func (t *stepChecker) mayFail(path string, s Step) {
	if t.lines.Has(path+".fails") && s.Fails < 1 {
		t.wrong(path+".fails", "fails is %d; write the code of the CNI error that is wanted, e.g. 11", s.Fails)
	}
}
