package soak

import (
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// ID is the id of a soak's result, and the name of its scenario.
const ID = "soak"

// DefaultPods is the default number of pods that come and go.
const DefaultPods = 20

// port is the port on which all pods listen.
const port = 8080

// description says why the soak matters, as the description of a scenario does.
const description = "Pods come and go for a long time while traffic flows between others, and nothing is lost and " +
	"nothing stays. " +
	"Each new pod must have an address that no other has at that instant, be reached by everybody who must reach it, " +
	"pass CHECK and be deleted " +
	"again; each flow must lose no reply, and the pods that stay must pass CHECK. Races between ADD and DEL, and " +
	"leaks of a few bytes for each pod, " +
	"take hundreds of pods to show. It runs on request, in place of everything else: cnitest run CONFLIST " +
	"--bin-dir DIR --soak 10m."

// The pods of a soak: some stay, and others come and go meanwhile.
const (
	stayer = "stayer"
	comer  = "guest"
)

// Scenario returns the cluster of a soak as a scenario without steps. pods is the number of pods that come and go on
// both nodes together. Two more pods stay on each node, unless pods of different nodes need not reach each other.
func Scenario(pods int, crossNode bool) *scenario.Scenario {
	sc := &scenario.Scenario{
		Name: ID, Description: description, Nodes: environment.PlainNodes(),
		Features: []scenario.Feature{scenario.Attach, scenario.CleanUp, scenario.PodToPod},
		Covers:   []string{"A12", "D03", "E10", "H01"},
	}
	tcp, udp := scenario.Listen{Protocol: string(probe.TCP), Port: port}, scenario.Listen{
		Protocol: string(probe.UDP), Port: port,
	}
	stay := []string{stayer}
	if !crossNode {
		stay = append(stay, "second-"+stayer)
	}
	for i, node := range sc.Nodes {
		for _, name := range stay {
			sc.Pods = append(sc.Pods, scenario.Pod{
				Name: name + "-" + node.Name, Node: node.Name, Listen: []scenario.Listen{tcp, udp},
			})
		}
		// If the number cannot be divided evenly, the first nodes have one more.
		if count := (pods + len(sc.Nodes) - 1 - i) / len(sc.Nodes); count > 0 {
			sc.Pods = append(sc.Pods, scenario.Pod{
				Name: comer + "-" + node.Name, Node: node.Name, Count: count, Listen: []scenario.Listen{tcp},
			})
		}
	}
	return sc
}
