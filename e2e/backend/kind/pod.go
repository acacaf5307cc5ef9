package kind

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/backend/internal/libcnicache"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/probe"
)

// livePod is a pod that was made.
type livePod struct {
	object     string // its name in the cluster
	node       *cluster.Node
	attachment *cluster.Attachment // nil until it is attached
	// stuck is set if the pod was deleted and did not vanish within podTimeout. Its kubelet keeps trying.
	stuck bool
}

func (p *livePod) path() string { return podsPath + "/" + p.object }

// podStatus contains the fields of the API's object that are used here.
type podStatus struct {
	Metadata struct {
		UID string `json:"uid"`
	} `json:"metadata"`
	Status struct {
		Phase      string      `json:"phase"`
		PodIP      string      `json:"podIP"`
		Conditions []condition `json:"conditions"`
	} `json:"status"`
}

// clusterNode returns the cluster's node for a node of the scenario.
func (l *lab) clusterNode(n *cluster.Node) *node { return l.backend.nodes[slices.Index(l.nodes, n)] }

// podGrace is the grace period of a pod in seconds; the pod does not need it. With 0 the API server would not wait for
// the kubelet, and a pod that has vanished from the cluster would still have its network.
const podGrace = 5

// podSpec returns a pod of this program. It names the node, so that the scheduler has no say.
func (l *lab) podSpec(name string, n *node) object {
	return object{
		"metadata": object{"name": name, "labels": object{"app": "cnitest", "cnitest/lab": l.name}},
		"spec": object{
			"nodeName": n.name, "terminationGracePeriodSeconds": podGrace, "restartPolicy": "Always",
			"automountServiceAccountToken": false, "enableServiceLinks": false,
			"tolerations": []object{{"operator": "Exists"}},
			"containers": []object{{
				"name": "pod", "image": l.backend.image.ref, "imagePullPolicy": l.backend.image.policy(),
				"args":           []string{PodCommand},
				"readinessProbe": object{"httpGet": object{"path": "/", "port": PodPort}, "periodSeconds": 1},
			}},
		},
	}
}

func (i *podImage) policy() string {
	if i.pulled {
		return "IfNotPresent"
	}
	return "Never"
}

// Attach creates a pod and waits until its container runs. A kubelet starts the container when the network is ready.
func (l *lab) Attach(ctx context.Context, n *cluster.Node, name string) (*cluster.Attachment, error) {
	p := &livePod{object: l.name + "-" + name, node: n}
	l.mu.Lock()
	if was, exists := l.pods[name]; exists {
		l.mu.Unlock()
		if was.attachment != nil {
			return was.attachment, nil
		}
		return nil, fmt.Errorf("pod %s: it exists, but its network is not ready", was.object)
	}
	l.pods[name] = p
	l.mu.Unlock()
	var status podStatus
	if err := l.backend.api.Create(ctx, podsPath, l.podSpec(p.object, l.clusterNode(n)), &status); err != nil {
		return nil, err
	}
	err := l.await(ctx, podTimeout, n, "pod "+p.object+" to run", func() (bool, error) {
		if err := l.backend.api.Get(ctx, p.path(), &status); err != nil {
			return false, err
		}
		return status.Status.Phase == "Running" && status.Status.PodIP != "", nil
	})
	if err != nil {
		return nil, explain(err, l.complaints(context.WithoutCancel(ctx), p.object))
	}
	found, err := l.Attachments(ctx, n)
	if err != nil {
		return nil, err
	}
	for _, a := range found {
		if a.Pod == namespace+"/"+p.object {
			l.mu.Lock()
			p.attachment = &a
			l.mu.Unlock()
			return &a, nil
		}
	}
	return nil, fmt.Errorf("pod %s runs with %s, and %s on %s has no result of its ADD", p.object, status.Status.PodIP,
		libcnicache.Dir, n.Name)
}

// Detach deletes a pod and waits until it is gone. A kubelet removes a pod from the cluster after its runtime has
// deleted the network.
func (l *lab) Detach(ctx context.Context, name string) error {
	l.mu.Lock()
	p, exists := l.pods[name]
	stuck := exists && p.stuck
	l.mu.Unlock()
	if !exists {
		return nil
	}
	if err := l.backend.api.Remove(ctx, p.path()); err != nil {
		return err
	}
	what, gone := "pod "+p.object+" to go away (Terminating)", l.backend.api.isGone(ctx, p.path())
	var err error
	if stuck {
		err = until(ctx, time.Second, what, gone)
	} else {
		err = l.await(ctx, podTimeout, p.node, what, gone)
	}
	if err != nil {
		err = explain(err, l.complaints(context.WithoutCancel(ctx), p.object))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		p.stuck = true
		return err
	}
	delete(l.pods, name)
	return nil
}

// unhealthy is the reason in a kubelet's events about failed probes. Pods that start or end may have some.
const unhealthy = "Unhealthy"

// complaints returns the latest warnings about a pod, with failed probes last.
func (l *lab) complaints(ctx context.Context, pod string) string {
	var events struct {
		Items []struct {
			Type    string `json:"type"`
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"items"`
	}
	selector := "?fieldSelector=involvedObject.name=" + pod
	if err := l.backend.api.Get(ctx, eventsPath+selector, &events); err != nil {
		return err.Error()
	}
	var warnings []string
	for _, e := range events.Items {
		if text := e.Reason + ": " + e.Message; e.Type == "Warning" && !slices.Contains(warnings, text) {
			warnings = append(warnings, text)
		}
	}
	warnings = warnings[max(0, len(warnings)-3):]
	slices.SortStableFunc(warnings, func(a, b string) int {
		return cmp.Compare(strings.Index(a, unhealthy), strings.Index(b, unhealthy))
	})
	return strings.Join(warnings, "; ")
}

// Attachments returns the attachments in libcni's cache on the node.
func (l *lab) Attachments(ctx context.Context, n *cluster.Node) ([]cluster.Attachment, error) {
	all, err := libcnicache.Attachments(ctx, n.Agent, l.backend.options.Conflist.Network)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	return all, nil
}

// PodCommand is the name of the command that calls PodMain. PodPort is the port on which it answers kubelets.
const (
	PodCommand = "pod"
	PodPort    = 8099
)

// PodOptions are the options of PodMain.
type PodOptions struct {
	// Answer is the port on which the pod answers probes over TCP; 0 means none. Agents in its namespace answer
	// everything else.
	Answer uint16
	// Linger is how long the pod still answers after it was told to end.
	Linger time.Duration
}

// PodMain runs in a pod: it answers the kubelet's probes until it is told to end.
func PodMain(ctx context.Context, options PodOptions) error {
	if options.Answer != 0 {
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		listener, err := probe.Listen("", probe.ListenSpec{Protocol: probe.TCP, Port: options.Answer, Name: name})
		if err != nil {
			return err
		}
		defer listener.Close()
	}
	server := &http.Server{Addr: fmt.Sprintf(":%d", PodPort), ReadHeaderTimeout: 5 * time.Second}
	server.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	defer context.AfterFunc(ctx, func() {
		time.Sleep(options.Linger)
		_ = server.Close()
	})()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
