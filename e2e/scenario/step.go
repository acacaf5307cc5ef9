package scenario

import (
	"fmt"
	"strings"
)

// Verbs are the verbs of steps, in the order in which lists show them.
func Verbs() []string {
	return []string{
		"add", "check", "del", "gc", "status", "remove", "release", "reboot",
		"probe", "state", "neighbour", "flows", "stop", "endpoints", "capture", "captured", "churn", "daemon", "cloud", "advertise", "wait",
	}
}

// String reads the step aloud in one line, e.g. "probe tcp 8080 node/a → pod/server, seen as node/a".
func (s Step) String() string {
	switch {
	case s.Probe != nil:
		return s.Probe.String()
	case s.State != nil:
		return s.State.String()
	case s.Neighbour != nil:
		return fmt.Sprintf("neighbour %s knows %s", s.Neighbour.Of, s.Neighbour.Knows)
	case s.Flows != nil:
		return s.Flows.String()
	case s.Stop != nil:
		return s.Stop.String()
	case s.Endpoints != nil:
		return fmt.Sprintf("endpoints of %s are %s", s.Endpoints.Of, strings.Join(s.Endpoints.Are, ", "))
	case s.Capture != nil:
		return fmt.Sprintf("capture at %s what goes to %s", s.Capture.At, s.Capture.To)
	case s.Captured != nil:
		return fmt.Sprintf("captured at most %d packets each", s.Captured.Packets)
	case s.Daemon != nil:
		return s.Daemon.String()
	case s.Cloud != nil:
		return s.Cloud.String()
	case s.Churn != nil:
		return fmt.Sprintf("churn %s for %s", s.Churn.Pod, s.Churn.For)
	case s.Advertise != nil:
		return fmt.Sprintf("advertise %s from host/router", s.Advertise.Prefix)
	case s.Wait != 0:
		return fmt.Sprintf("wait %s", s.Wait)
	}
	return s.verbOfPlace()
}

func (s Step) verbOfPlace() string {
	text := ""
	for _, verb := range []struct{ name, place string }{
		{"add", s.Add}, {"check", s.Check}, {"del", s.Del}, {"gc", s.GC}, {"status", s.Status},
		{"remove", s.Remove}, {"release", s.Release}, {"reboot", s.Reboot},
	} {
		if verb.place != "" {
			text = verb.name + " " + verb.place
		}
	}
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

// String reads the probe aloud.
func (p Probe) String() string {
	text := "probe " + p.Protocol
	if p.Port != 0 {
		text += fmt.Sprintf(" %d", p.Port)
	}
	text += fmt.Sprintf(" %s → %s", p.From, p.To)
	if p.Interface != "" {
		text += " " + p.Interface
	}
	for _, option := range []struct {
		given bool
		text  string
	}{
		{p.Source != "", "seen as " + p.Source},
		{p.Bytes != 0, p.Bytes.String() + " each way"},
		{p.FullMTU, "packets of the full MTU"},
		{p.Count > 1, fmt.Sprintf("%d times", p.Count)},
		{p.Within != 0, "within " + p.Within.String()},
		{p.Attempts == 1, "first try"},
		{p.Attempts > 1, fmt.Sprintf("at most %d tries", p.Attempts)},
	} {
		if option.given {
			text += ", " + option.text
		}
	}
	return text
}

// String reads the flows aloud.
func (f Flows) String() string {
	text := fmt.Sprintf("flows %s %d ", f.Protocol, f.Port)
	if f.From != "" {
		return text + f.From + " → " + f.To
	}
	return text + "between " + strings.Join(f.Between, ", ")
}

// String reads the end of the flows aloud.
func (s Stop) String() string {
	if s.Gap != 0 {
		return fmt.Sprintf("stop flows, at most %s without a reply", s.Gap)
	}
	return fmt.Sprintf("stop flows, at most %d lost of each", s.Lost)
}

// String reads the assertion aloud.
func (s State) String() string {
	var parts []string
	if s.Cache != "" {
		parts = append(parts, "cache "+s.Cache)
	}
	if s.Address != "" {
		parts = append(parts, "address "+s.Address)
	}
	if len(s.Unchanged) > 0 {
		parts = append(parts, strings.Join(s.Unchanged, " and ")+" unchanged")
	}
	of := s.Of
	if s.As != "" {
		of += " " + s.As
	}
	return "state of " + of + ": " + strings.Join(parts, ", ")
}
