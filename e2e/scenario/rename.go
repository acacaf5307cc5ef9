package scenario

// Renamed returns the scenario with other names for interfaces of pods on several networks, or the scenario itself if
// it has no such pod.
func (s *Scenario) Renamed(names map[string]string) *Scenario {
	several := map[string]bool{}
	renamed := *s
	renamed.Pods = nil
	for _, p := range s.Pods {
		if len(p.Networks) > 0 {
			several[PodPlace+"/"+p.Name] = true
			networks := map[string]string{}
			for ifName, network := range p.Networks {
				networks[other(names, ifName)] = network
			}
			p.Networks = networks
		}
		renamed.Pods = append(renamed.Pods, p)
	}
	if len(several) == 0 || len(names) == 0 {
		return s
	}
	renamed.Steps = nil
	for _, step := range s.Steps {
		switch {
		case several[step.Add] || several[step.Check] || several[step.Del]:
			step.As = other(names, step.As)
		case step.State != nil && several[step.State.Of]:
			state := *step.State
			state.As = other(names, state.As)
			step.State = &state
		case step.Probe != nil:
			probe := *step.Probe
			if several[probe.To] {
				probe.Interface = other(names, probe.Interface)
			}
			if several[probe.Source] {
				probe.SourceInterface = other(names, probe.SourceInterface)
			}
			step.Probe = &probe
		}
		renamed.Steps = append(renamed.Steps, step)
	}
	return &renamed
}

func other(names map[string]string, name string) string {
	if instead, ok := names[name]; ok {
		return instead
	}
	return name
}
