package scenario

import "strings"

// attaches returns the place of the pods that are attached after the step by it; empty if there is none.
func (s Step) attaches() string {
	switch {
	case s.Add != "" && s.Fails == 0:
		return s.Add
	case s.Install != nil:
		return s.Install.During
	case s.Recovery != nil:
		return s.Recovery.Next
	}
	return ""
}

// Attachments returns the largest number of attachments to the conflist's network that exist at the same time. Pods of
// a count for which a node has no addresses are counted, too.
func (s *Scenario) Attachments() int {
	count := map[string]int{}
	for _, p := range s.Pods {
		count[PodPlace+"/"+p.Name] = max(p.Count, 1)
	}
	of := func(place string) int {
		if n, ok := count[place]; ok {
			return n
		}
		for name := range count {
			if strings.HasPrefix(place, name+"-") {
				return 1
			}
		}
		return 0
	}
	now, most := map[string]int{}, 0
	sum := func() (n int) {
		for _, k := range now {
			n += k
		}
		return n
	}
	for _, step := range s.Steps {
		key := step.As + "@"
		switch {
		case step.attaches() != "" && s.podNamed(podOf(step.attaches())).OfConflist(orDefault(step.As)):
			now[key+step.attaches()] = of(step.attaches())
		case step.Del != "":
			delete(now, key+step.Del)
		case step.Churn != nil:
			most = max(most, sum()+1)
		}
		most = max(most, sum())
		if step.Recovery != nil { // which deletes its pod
			delete(now, key+step.Recovery.Next)
		}
	}
	return most
}
