package scenario

import "slices"

// ChangesConflist is what a scenario does in place of a container runtime if it has a chain of its own: of
// Needs.Runtime the one that a runtime does not mind whose node gets its conflist before it starts.
const ChangesConflist = "changes the conflist"

// asRuntime lists what a scenario does in place of a container runtime, in words for people; nothing if a kubelet's own
// runtime does the same by creating and deleting pods.
func (s *Scenario) asRuntime() []string {
	var things []string
	deleted := map[string]bool{}
	for _, p := range s.Pods {
		switch {
		case p.ContainerID != "":
			things = append(things, "chooses container ids")
		case p.PodName != "":
			things = append(things, "gives pods the same name")
		case p.Network != "":
			things = append(things, "attaches pods to other networks")
		case len(p.Networks) > 0:
			things = append(things, "attaches pods to several networks")
		case p.Asks:
			things = append(things, "passes values of capabilities")
		case len(p.HostPorts) > 0:
			things = append(things, "passes host ports")
		}
	}
	if len(s.Chain.AfterMain)+len(s.Chain.Append) > 0 {
		things = append(things, ChangesConflist)
	}
	for _, step := range s.Steps {
		switch {
		case step.As != "" && step.As != DefaultInterface:
			things = append(things, "attaches a second interface")
		case step.Add != "" && step.Fails != 0:
			things = append(things, "wants the error of an ADD")
		case step.Add != "":
			delete(deleted, step.Add)
		case step.Del != "" && step.Netns != "":
			things = append(things, "deletes without the pod's namespace")
		case step.Del != "" && step.Cache != "":
			things = append(things, "deletes without the cached result")
		case step.Del != "" && deleted[step.Del]:
			things = append(things, "deletes twice")
		case step.Del != "":
			deleted[step.Del] = true
		case step.Release != "":
			things = append(things, "gives an address back while its pod runs")
		case step.Remove != "":
			things = append(things, "removes a pod's namespace")
		}
	}
	slices.Sort(things)
	return slices.Compact(things)
}
