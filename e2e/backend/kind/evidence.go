package kind

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// logLines is how much of each log is kept.
const logLines = "200"

// Trouble is what the watch on the nodes saw.
func (l *lab) Trouble() error { return l.backend.watch.trouble() }

// Evidence are the pods and the events of the suite's namespace, and of each node what its kubelet, its container runtime and libcni's
// cache say.
func (l *lab) Evidence(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	found := map[string]string{}
	for title, path := range map[string]string{
		"pods":   "/api/v1/namespaces/" + namespace + "/pods",
		"events": "/api/v1/namespaces/" + namespace + "/events",
	} {
		var list struct {
			Items []json.RawMessage `json:"items"`
		}
		if err := l.backend.api.get(ctx, path, &list); err != nil {
			found[title] = err.Error()
			continue
		}
		var lines []string
		for _, item := range list.Items {
			if line := summary(title, item); line != "" {
				lines = append(lines, line)
			}
		}
		found[title] = strings.Join(lines, "\n")
	}
	for i, n := range l.nodes {
		if l.backend.nodes[i].container == "" {
			continue
		}
		for _, unit := range []string{"kubelet", "containerd"} {
			text, err := output(ctx, nil, "docker", "exec", l.backend.nodes[i].container, "journalctl", "--no-pager", "-o", "short-precise", "-n", logLines, "-u", unit)
			if err != nil {
				text += err.Error()
			}
			found[fmt.Sprintf("log of %s on %s", unit, n.Name)] = text
		}
		names, _ := n.Agent.ListDir(ctx, resultsDir)
		found["CNI cache of "+n.Name] = strings.Join(names, "\n")
	}
	return found
}

// summary is a pod or an event in a line.
func summary(kind string, data json.RawMessage) string {
	var o struct {
		Metadata struct {
			Name              string `json:"name"`
			DeletionTimestamp string `json:"deletionTimestamp"`
		} `json:"metadata"`
		Spec struct {
			NodeName string `json:"nodeName"`
		} `json:"spec"`
		Status struct {
			Phase string `json:"phase"`
			PodIP string `json:"podIP"`
		} `json:"status"`
		LastTimestamp  string `json:"lastTimestamp"`
		Type           string `json:"type"`
		Reason         string `json:"reason"`
		Message        string `json:"message"`
		InvolvedObject struct {
			Name string `json:"name"`
		} `json:"involvedObject"`
	}
	if json.Unmarshal(data, &o) != nil {
		return ""
	}
	if kind == "events" {
		return fmt.Sprintf("%s %s %s %s: %s", o.LastTimestamp, o.Type, o.InvolvedObject.Name, o.Reason, o.Message)
	}
	state := o.Status.Phase
	if o.Metadata.DeletionTimestamp != "" {
		state = "Terminating"
	}
	return fmt.Sprintf("%s on %s: %s %s", o.Metadata.Name, o.Spec.NodeName, state, o.Status.PodIP)
}
