package scenario

import "fmt"

// startFlows checks a step that starts flows.
func (t *stepChecker) startFlows(step string, f Flows) {
	path := step + ".flows"
	if len(t.flows) == 0 {
		t.flowing = 0
	}
	defer func() { t.flows = append(t.flows, step) }()
	known := t.oneOf(path+".protocol", "protocol", f.Protocol, TCP, UDP)
	if f.Port == 0 {
		t.wrong(path, "port is missing; flows need one")
	}
	if f.From != "" || f.To != "" {
		t.flowsFromTo(path, f, known)
		return
	}
	if len(f.Between) < 2 {
		t.wrong(path, "flows run between at least 2 places, got %d; name more in between, or one in from and one in to",
			len(f.Between))
	}
	var places []Place
	for i, text := range f.Between {
		at := fmt.Sprintf("%s.between[%d]", path, i)
		place, ok := t.place(at, text, NodePlace, PodPlace, HostPlace)
		if !ok {
			continue
		}
		if place.Kind == PodPlace {
			t.reachable(at, place, "", "flows")
		}
		if known {
			t.listening(at, place, f.Protocol, f.Port)
		}
		for _, other := range places {
			t.path(at, other, place, nil)
		}
		places = append(places, place)
	}
}

// flowsFromTo checks flows of one direction. known says whether the protocol is valid.
func (t *stepChecker) flowsFromTo(path string, f Flows, known bool) {
	if len(f.Between) > 0 {
		t.wrong(path+".between", "flows have between or from and to, got both; remove one of the two")
		return
	}
	from, fromOK := t.place(path+".from", f.From, NodePlace, PodPlace, HostPlace)
	to, toOK := t.place(path+".to", f.To, NodePlace, PodPlace, HostPlace, ServicePlace)
	if fromOK && from.Kind == PodPlace {
		t.reachable(path+".from", from, "", "flows")
	}
	if toOK && to.Kind == PodPlace {
		t.reachable(path+".to", to, DefaultInterface, "flows")
	}
	if fromOK && toOK && known {
		t.traffic(path, from, to, f.Protocol, f.Port)
	}
}

func (t *stepChecker) stop(path string, s Stop) {
	switch {
	case len(t.flows) == 0:
		t.wrong(path, "no flows run here; put flows before stop")
	case s.Lost < 0:
		t.wrong(path+".stop.lost", "lost is %d; want 0 or more", s.Lost)
	case s.Lost > 0 && s.Gap > 0:
		t.wrong(path+".stop.gap", "gap takes the place of lost, got both; remove one of the two")
	case s.Gap > 0 && t.flowing <= s.Gap:
		// Such a gap could not be distinguished from flows that never came back.
		t.wrong(path+".stop.gap", "gap is %s, and the flows run for %s only; put a longer wait before this stop", s.Gap,
			t.flowing)
	}
	t.flows = nil
}

// capture checks a step that starts a capture.
func (t *stepChecker) capture(step string, c Capture) {
	path := step + ".capture"
	if at, ok := t.place(path+".at", c.At, NodePlace, PodPlace, HostPlace); ok && at.Kind == PodPlace {
		t.hasNetns(path+".at", at, "capture")
	}
	t.place(path+".to", c.To, ServicePlace)
	t.captures = append(t.captures, step)
}

func (t *stepChecker) captured(path string, c Captured) {
	if len(t.captures) == 0 {
		t.wrong(path, "nothing is captured here; put a capture before captured")
	}
	if c.Packets < 0 {
		t.wrong(path+".captured.packets", "packets is %d; want 0 or more", c.Packets)
	}
	t.captures = nil
}
