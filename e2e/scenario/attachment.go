package scenario

// attachment is one CNI_IFNAME of one pod.
type attachment struct{ pod, ifname string }

func (t *stepChecker) ifname(path, name string) {
	if !ifnameForm.MatchString(name) {
		t.wrong(path, "%s %q cannot be CNI_IFNAME; write a name of at most 15 characters such as net1", leaf(path),
			name)
	}
}

func orDefault(ifname string) string {
	if ifname == "" {
		return DefaultInterface
	}
	return ifname
}

func (t *stepChecker) add(path string, s Step) {
	pod, ok := t.place(path+".add", s.Add, PodPlace)
	if !ok {
		return
	}
	a := attachment{pod.Name, orDefault(s.As)}
	switch {
	case t.churned[pod.Name]:
		t.wrong(path, "%s is churned and cannot be attached otherwise; use another pod", pod)
	case t.attached[a]:
		// SPEC.md, ADD: a runtime must not add the same container and interface again without a DEL between.
		t.wrong(path, "%s has %s already; put a del before this add, or name another interface with as", pod, a.ifname)
	}
	declared := t.pods[pod.Name]
	switch _, has := declared.Networks[a.ifname]; {
	case len(declared.Networks) > 0 && !has:
		t.wrong(path, "%s has no network on %s; add it to networks or change as", pod, a.ifname)
	case len(declared.Networks) > 0:
		t.test(SeveralNetworks, path)
	case a.ifname != DefaultInterface:
		t.test(SecondInterface, path)
	}
	t.attached[a], t.netns[pod.Name] = s.Fails == 0, true
}

func (t *stepChecker) release(path string, s Step) {
	pod, ok := t.place(path+".release", s.Release, PodPlace)
	a := attachment{pod.Name, DefaultInterface}
	if ok && !t.attached[a] {
		t.wrong(path, "%s has no %s whose address could be released; put an add before this release", pod, a.ifname)
	}
}

func (t *stepChecker) del(path string, s Step) {
	if s.Cache != "" {
		t.oneOf(path+".cache", "cache", s.Cache, CacheAbsent, CacheEmpty)
	}
	if s.Netns != "" && !t.oneOf(path+".netns", "netns", s.Netns, NetnsGone, NetnsEmpty) {
		return
	}
	pod, ok := t.place(path+".del", s.Del, PodPlace)
	if !ok {
		return
	}
	a := attachment{pod.Name, orDefault(s.As)}
	if _, added := t.attached[a]; !added {
		t.wrong(path, "%s has no %s yet; put an add before this del", pod, a.ifname)
		return
	}
	switch {
	case s.Netns == "" && !t.netns[pod.Name]:
		t.wrong(path, "the namespace of %s is gone; say netns: gone or netns: empty", pod)
	case s.Netns != "" && t.netns[pod.Name]:
		t.wrong(path, "the namespace of %s still exists; put remove: %s before this del or leave out netns", pod, pod)
	}
	t.attached[a] = false
}

// reboot removes the namespaces of the node's pods; what their ADD wrote to the disk still needs a DEL.
func (t *stepChecker) reboot(node Place) {
	delete(t.down, node.Name)
	delete(t.frozen, node.Name)
	delete(t.delayed, node.Name)
	for name := range t.netns {
		if t.pods[name].Node == node.Name {
			t.netns[name] = false
		}
	}
}

func (t *stepChecker) hasNetns(path string, pod Place, verb string) bool {
	there, made := t.netns[pod.Name]
	switch {
	case !made:
		t.wrong(path, "%s has no namespace yet; put an add before this %s", pod, verb)
	case !there:
		t.wrong(path, "the namespace of %s is gone; put an add before this %s", pod, verb)
	}
	return there
}

// reachable reports a mistake if a pod is not attached at this step. Only interface ifname counts, or any if it is
// empty.
func (t *stepChecker) reachable(path string, pod Place, ifname, verb string) {
	if verb == "check" || ifname != "" {
		ifname = orDefault(ifname)
	}
	for a, attached := range t.attached {
		if a.pod == pod.Name && attached && (ifname == "" || a.ifname == ifname) {
			t.hasNetns(path, pod, verb)
			return
		}
	}
	what := "is not attached"
	if ifname != "" {
		what = "has no " + ifname
	}
	t.wrong(path, "%s %s here; put an add before this %s", pod, what, verb)
}

func (t *stepChecker) churn(path string, c Churn) {
	if c.For == 0 {
		t.wrong(path, "for is missing; say how long, e.g. for: 3s")
	}
	pod, ok := t.place(path+".pod", c.Pod, PodPlace)
	if !ok {
		return
	}
	if _, made := t.netns[pod.Name]; made {
		t.wrong(path, "%s was added before; churn a pod of its own", pod)
	}
	t.churned[pod.Name] = true
}
