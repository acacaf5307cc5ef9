package kind

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/internal/libcnicache"
)

const (
	// logLines is the number of lines kept of each log.
	logLines = "200"
	// evidenceTimeout limits the collection.
	evidenceTimeout = 20 * time.Second
)

// Trouble returns the problem that the watch saw on the nodes.
func (l *lab) Trouble() error { return l.backend.watch.trouble() }

// Evidence returns the pods and events of the suite's namespace, and from each node the logs of kubelet and container
// runtime and libcni's cache, or the error if one cannot be read. It takes 20 s at most.
func (l *lab) Evidence(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, evidenceTimeout)
	defer cancel()
	found := map[string]string{}
	for title, path := range map[string]string{
		"pods":   podsPath,
		"events": eventsPath,
	} {
		var list struct {
			Items []json.RawMessage `json:"items"`
		}
		if err := l.backend.api.Get(ctx, path, &list); err != nil {
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
		for _, unit := range []string{"kubelet", "containerd"} {
			text, err := l.journal(ctx, i, unit)
			found[fmt.Sprintf("log of %s on %s", unit, n.Name)] = withError(text, err)
		}
		text, err := libcnicache.Text(ctx, n.Agent, libcnicache.Dir, namespace)
		found["CNI cache of "+n.Name] = withError(text, err)
	}
	return found
}

// withError returns a text, followed by the error that ended it, if any.
func withError(text string, err error) string {
	if err == nil {
		return text
	}
	return strings.TrimPrefix(text+"\n"+err.Error(), "\n")
}

// journal returns a unit's entries in a node's journal. On kind's nodes it uses Docker, which does not depend on the
// nodes' network, on others the agent.
func (l *lab) journal(ctx context.Context, i int, unit string) (string, error) {
	argv := []string{"journalctl", "--no-pager", "-o", "short-precise", "-n", logLines, "-u", unit}
	if container := l.backend.nodes[i].container; container != "" {
		return output(ctx, nil, append([]string{"docker", "exec", container}, argv...)...)
	}
	reply, err := l.nodes[i].Agent.Command(ctx, agent.CommandArgs{Argv: argv, Timeout: evidenceTimeout})
	if err == nil && reply.ExitCode != 0 {
		err = fmt.Errorf("journalctl: exit status %d", reply.ExitCode)
	}
	return reply.Output, err
}

// summary returns one line about a pod or an event.
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
