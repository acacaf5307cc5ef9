package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// verb describes a verb of steps. Package runner has a function for each.
type verb struct {
	name string
	// set reports whether a step has the verb.
	set func(s Step) bool
	// text returns a step as a sentence.
	text func(s Step) string
	// check reports what is wrong with a step, and updates the state.
	check func(c *stepChecker, path string, s Step)
	// places returns the places of a step that may be hosts; nil if there are none.
	places func(s Step) []string
	// needs adds what a step needs from a backend in addition to hosts; nil if it needs nothing else.
	needs func(n *Needs, s Step)
	// takes returns how long a step waits by design; nil if it does not wait.
	takes func(s Step) time.Duration
}

// verbs returns the table of all verbs, in the order of lists.
func verbs() []verb {
	return slices.Concat(verbsOfPlaces(), verbsOfTraffic(), verbsOfMachines())
}

// verbsOfPlaces returns the verbs whose value is a place. They share the options of Step.
func verbsOfPlaces() []verb {
	of := func(name string, place func(s Step) string, check func(c *stepChecker, path string, s Step)) verb {
		return verb{
			name: name, check: check, set: func(s Step) bool { return place(s) != "" },
			text: func(s Step) string { return name + " " + place(s) + s.options() },
		}
	}
	reboot := of("reboot", func(s Step) string { return s.Reboot }, func(c *stepChecker, path string, s Step) {
		if node, ok := c.place(path+".reboot", s.Reboot, NodePlace); ok {
			c.reboot(node)
		}
	})
	reboot.needs = func(n *Needs, _ Step) { n.Reboot = true }
	return []verb{
		of("add", func(s Step) string { return s.Add }, (*stepChecker).add),
		of("check", func(s Step) string { return s.Check }, func(c *stepChecker, path string, s Step) {
			if pod, ok := c.place(path+".check", s.Check, PodPlace); ok {
				c.reachable(path, pod, s.As, "check")
			}
		}),
		of("del", func(s Step) string { return s.Del }, (*stepChecker).del),
		of("gc", func(s Step) string {
			return s.GC
		}, func(c *stepChecker, path string, s Step) { c.place(path+".gc", s.GC, NodePlace) }),
		of("status", func(s Step) string { return s.Status }, func(c *stepChecker, path string, s Step) {
			c.place(path+".status", s.Status, NodePlace)
		}),
		of("remove", func(s Step) string { return s.Remove }, func(c *stepChecker, path string, s Step) {
			if pod, ok := c.place(path+".remove", s.Remove, PodPlace); ok && c.hasNetns(path, pod, "remove") {
				c.netns[pod.Name] = false
			}
		}),
		of("release", func(s Step) string { return s.Release }, (*stepChecker).release),
		reboot,
	}
}

// verbsOfTraffic returns the verbs that send, watch and assert.
func verbsOfTraffic() []verb {
	return []verb{
		{
			name: "probe", set: func(s Step) bool {
				return s.Probe != nil
			}, text: func(s Step) string { return s.Probe.String() },
			check:  func(c *stepChecker, path string, s Step) { c.probe(path+".probe", *s.Probe) },
			places: func(s Step) []string { return []string{s.Probe.From, s.Probe.To, s.Probe.Source} },
		},
		{
			name: "state", set: func(s Step) bool {
				return s.State != nil
			}, text: func(s Step) string { return s.State.String() },
			check: func(c *stepChecker, path string, s Step) { c.state(path+".state", *s.State) },
			needs: func(n *Needs, s Step) {
				n.Devices = n.Devices || slices.Contains(s.State.Unchanged, UnchangedDevices)
			},
		},
		{
			name: "lease", set: func(s Step) bool { return s.Lease != nil },
			text:  func(s Step) string { return fmt.Sprintf("lease of %s is %s", s.Lease.Of, s.Lease.Is) },
			check: func(c *stepChecker, path string, s Step) { c.lease(path+".lease", *s.Lease) },
			needs: func(n *Needs, _ Step) { n.Leases = true },
			takes: func(s Step) time.Duration {
				if s.Lease.Is == LeaseRenewed {
					return time.Minute
				}
				return 0
			},
		},
		{
			name: "neighbour", set: func(s Step) bool { return s.Neighbour != nil },
			text: func(s Step) string {
				return fmt.Sprintf("neighbour %s knows %s", s.Neighbour.Of, s.Neighbour.Knows)
			},
			check:  func(c *stepChecker, path string, s Step) { c.neighbour(path+".neighbour", *s.Neighbour) },
			places: func(s Step) []string { return []string{s.Neighbour.Of, s.Neighbour.Knows} },
		},
		{
			name: "flows", set: func(s Step) bool {
				return s.Flows != nil
			}, text: func(s Step) string { return s.Flows.String() },
			check:  func(c *stepChecker, path string, s Step) { c.startFlows(path, *s.Flows) },
			places: func(s Step) []string { return append([]string{s.Flows.From, s.Flows.To}, s.Flows.Between...) },
		},
		{
			name: "stop", set: func(s Step) bool {
				return s.Stop != nil
			}, text: func(s Step) string { return s.Stop.String() },
			check: func(c *stepChecker, path string, s Step) { c.stop(path, *s.Stop) },
		},
		{
			name: "endpoints", set: func(s Step) bool { return s.Endpoints != nil },
			text: func(s Step) string {
				return fmt.Sprintf("endpoints of %s are %s", s.Endpoints.Of, strings.Join(s.Endpoints.Are, ", "))
			},
			check:  func(c *stepChecker, path string, s Step) { c.endpoints(path+".endpoints", *s.Endpoints) },
			places: func(s Step) []string { return s.Endpoints.Are },
		},
		{
			name: "capture", set: func(s Step) bool { return s.Capture != nil },
			text: func(s Step) string {
				return fmt.Sprintf("capture at %s what goes to %s", s.Capture.At, s.Capture.To)
			},
			check:  func(c *stepChecker, path string, s Step) { c.capture(path, *s.Capture) },
			places: func(s Step) []string { return []string{s.Capture.At} },
			needs:  func(n *Needs, _ Step) { n.Capture = true },
		},
		{
			name: "captured", set: func(s Step) bool { return s.Captured != nil },
			text:  func(s Step) string { return fmt.Sprintf("captured at most %d packets each", s.Captured.Packets) },
			check: func(c *stepChecker, path string, s Step) { c.captured(path, *s.Captured) },
		},
	}
}

// verbsOfMachines returns the verbs that change nodes or wait.
func verbsOfMachines() []verb {
	return []verb{
		{
			name: "churn", set: func(s Step) bool { return s.Churn != nil },
			text: func(s Step) string { return fmt.Sprintf("churn %s for %s", s.Churn.Pod, s.Churn.For) },
			check: func(c *stepChecker, path string, s Step) {
				c.churn(path+".churn", *s.Churn)
				c.flowing += s.Churn.For
			},
			takes: func(s Step) time.Duration { return time.Duration(s.Churn.For) },
		},
		{
			name: "daemon", set: func(s Step) bool {
				return s.Daemon != nil
			}, text: func(s Step) string { return s.Daemon.String() },
			check: func(c *stepChecker, path string, s Step) { c.daemon(path+".daemon", *s.Daemon) },
			needs: func(n *Needs, s Step) {
				n.Daemon, n.Doom = true, n.Doom || s.Daemon.Do == Doom
				n.Delay = n.Delay || s.Daemon.Do == DelayRequest
				if s.Daemon.With != "" {
					n.Variants = append(n.Variants, s.Daemon.With)
				}
			},
		},
		{
			name: "install", set: func(s Step) bool { return s.Install != nil },
			text:  func(s Step) string { return s.Install.String() },
			check: func(c *stepChecker, path string, s Step) { c.install(path+".install", *s.Install) },
			needs: func(n *Needs, s Step) {
				n.OldVersion = true
				n.OldConflist = n.OldConflist || s.Install.twice()
			},
		},
		{
			name: "event", set: func(s Step) bool { return s.Event != nil },
			text:  func(s Step) string { return s.Event.String() },
			check: func(c *stepChecker, path string, s Step) { c.event(path+".event", *s.Event) },
			needs: func(n *Needs, s Step) { n.Events = append(n.Events, s.Event.Is) },
		},
		{
			name: "recovery", set: func(s Step) bool { return s.Recovery != nil },
			text:  func(s Step) string { return s.Recovery.String() },
			check: func(c *stepChecker, path string, s Step) { c.recovery(path+".recovery", *s.Recovery) },
			places: func(s Step) []string {
				var places []string
				for _, p := range s.Recovery.Probes {
					places = append(places, p.From, p.To, p.Source)
				}
				return places
			},
		},
		{
			name: "cloud", set: func(s Step) bool {
				return s.Cloud != nil
			}, text: func(s Step) string { return s.Cloud.String() },
			check: func(c *stepChecker, path string, s Step) { c.cloud(path+".cloud", *s.Cloud) },
			needs: func(n *Needs, _ Step) { n.Cloud = true },
		},
		{
			name: "advertise", set: func(s Step) bool { return s.Advertise != nil },
			text: func(s Step) string {
				return fmt.Sprintf("advertise %s from %s", s.Advertise.Prefix, Place{HostPlace, RouterHost})
			},
			check: func(c *stepChecker, path string, s Step) {
				c.autoconfPrefix(path+".advertise.prefix", s.Advertise.Prefix)
				c.test(NodeIntegrity, path)
			},
			places: func(Step) []string { return []string{Place{HostPlace, RouterHost}.String()} },
		},
		{
			name: "hostile", set: func(s Step) bool { return s.Hostile != nil },
			text:   func(s Step) string { return s.Hostile.String() },
			check:  func(c *stepChecker, path string, s Step) { c.hostile(path+".hostile", *s.Hostile) },
			places: func(s Step) []string { return []string{s.Hostile.As, s.Hostile.To} },
			needs: func(n *Needs, s Step) {
				n.Daemon = n.Daemon || s.Hostile.Does == HostileDaemon
				n.Cloud = n.Cloud || s.Hostile.Does == HostileMetadata
				n.Hostile = n.Hostile || s.Hostile.sends()
			},
		},
		{
			name: "wait", set: func(s Step) bool {
				return s.Wait != 0
			}, text: func(s Step) string { return fmt.Sprintf("wait %s", s.Wait) },
			check: func(c *stepChecker, _ string, s Step) { c.flowing += s.Wait },
			takes: func(s Step) time.Duration { return time.Duration(s.Wait) },
		},
	}
}

// Verbs returns the names of all verbs of steps, in the order of lists.
func Verbs() []string {
	var names []string
	for _, v := range verbs() {
		names = append(names, v.name)
	}
	return names
}

// verb returns the row of the step's verb; nil if it has none.
func (s Step) verb() *verb {
	for _, v := range verbs() {
		if v.set(s) {
			return &v
		}
	}
	return nil
}

// Verb returns the name of the step's verb; empty if it has none.
func (s Step) Verb() string {
	if v := s.verb(); v != nil {
		return v.name
	}
	return ""
}

// Takes returns how long the step waits by design.
func (s Step) Takes() time.Duration {
	if v := s.verb(); v != nil && v.takes != nil {
		return v.takes(s)
	}
	return 0
}

// String returns the step in one line, e.g. "probe tcp 8080 node/a → pod/server, seen as node/a".
func (s Step) String() string {
	if v := s.verb(); v != nil {
		return v.text(s)
	}
	return ""
}

// options returns the options of a verb of a place, in words.
func (s Step) options() string {
	text := ""
	if s.As != "" {
		text += " as " + s.As
	}
	if s.Fails != 0 {
		text += fmt.Sprintf(", fails with code %d", s.Fails)
	}
	if s.Within != 0 {
		text += ", within " + s.Within.String()
	}
	if s.Netns != "" {
		text += ", netns " + s.Netns
	}
	if s.Cache != "" {
		text += ", cache " + s.Cache
	}
	return text
}
