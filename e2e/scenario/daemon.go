package scenario

import "fmt"

// Daemon does something to the daemon of the plugin on a node.
type Daemon struct {
	// Node is the node's name.
	Node string `yaml:"node"`
	// Do is "stop" (SIGTERM), "kill" (SIGKILL), "start", "restart" (stop and start), "freeze" (SIGSTOP: it accepts connections and answers
	// nothing) or "thaw" (SIGCONT). Start ends when the daemon is ready.
	Do string `yaml:"do"`
}

// String reads the step aloud.
func (d Daemon) String() string { return fmt.Sprintf("%s the daemon on node/%s", d.Do, d.Node) }

// Cloud changes what the cloud gives a node. At the end of the scenario everything is as before.
type Cloud struct {
	// Node is the node's name.
	Node string `yaml:"node"`
	// Add is "eni", a network interface with its addresses, or "address", one more for the ENI that has the fewest. Remove takes
	// away what an earlier step of the scenario added last.
	Add    string `yaml:"add"`
	Remove string `yaml:"remove"`
	// Of is the pod whose address is to be removed while it has it, or the prefix that the address is of.
	Of string `yaml:"of"`
}

// The things that a Cloud adds and removes.
const (
	AnENI     = "eni"
	AnAddress = "address"
)

// String reads the step aloud.
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

// nodeNamed reports a name that is no node's.
func (v *validator) nodeNamed(path, name string) bool {
	if v.nodes[name] == nil {
		v.wrong(path, "node %q is not declared; %s", name, orOneOf(NodePlace, v.nodes))
		return false
	}
	return true
}

func (t *teller) daemon(path string, d Daemon) {
	t.test(DaemonRestart, path)
	known := t.oneOf(path+".do", "do", d.Do, "start", "stop", "restart", "kill", "freeze", "thaw")
	if !t.nodeNamed(path+".node", d.Node) || !known {
		return
	}
	switch down, frozen := t.down[d.Node], t.frozen[d.Node]; {
	case down && d.Do != "start":
		t.wrong(path, "the daemon on node/%s does not run here; write do: start", d.Node)
	case !down && d.Do == "start":
		t.wrong(path, "the daemon on node/%s runs; put a stop or kill before this start", d.Node)
	case frozen && d.Do != "thaw" && d.Do != "kill":
		t.wrong(path, "the daemon on node/%s is frozen here; write do: thaw or do: kill", d.Node)
	case !down && !frozen && d.Do == "thaw":
		t.wrong(path, "the daemon on node/%s is not frozen; put a freeze before this thaw", d.Node)
	}
	t.down[d.Node], t.frozen[d.Node] = d.Do == "stop" || d.Do == "kill", d.Do == "freeze"
}

func (t *teller) cloud(path string, c Cloud) {
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

// ownAddress wants a pod of the node that has an address.
func (t *teller) ownAddress(path string, c Cloud) {
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

// mayFail reads the option fails of a step.
func (t *teller) mayFail(path string, s Step) {
	if t.lines.Has(path+".fails") && s.Fails < 1 {
		t.wrong(path+".fails", "fails is %d; write the code of the CNI error that is wanted, e.g. 11", s.Fails)
	}
}
