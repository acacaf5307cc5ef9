package kind

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// proxyTimeout limits how long proxies take. kube-proxy writes its rules at most once per second.
const proxyTimeout = 20 * time.Second

// liveService is a Service and its EndpointSlice.
type liveService struct {
	object string
	spec   scenario.Service
	sliced bool // the slice exists
}

func (s *liveService) path() string {
	return servicesPath + "/" + s.object
}

func slicesPath() string {
	return "/apis/discovery.k8s.io/v1/namespaces/" + namespace + "/endpointslices"
}

// MakeService makes a Service without a selector, since the scenario chooses its endpoints.
func (l *lab) MakeService(ctx context.Context, spec scenario.Service) ([]netip.Addr, error) {
	s := &liveService{object: l.name + "-" + spec.Name, spec: spec}
	port := object{
		"name": "port", "protocol": strings.ToUpper(spec.Protocol), "port": spec.Port,
		"targetPort": spec.EndpointPort(),
	}
	body := object{"type": "ClusterIP", "ports": []object{port}, "ipFamilyPolicy": "PreferDualStack"}
	if spec.NodePort != 0 {
		body["type"], port["nodePort"] = "NodePort", spec.NodePort
		body["externalTrafficPolicy"] = scenario.ClusterPolicy
		if spec.ExternalTrafficPolicy != "" {
			body["externalTrafficPolicy"] = spec.ExternalTrafficPolicy
		}
	}
	var made struct {
		Spec struct {
			ClusterIPs []netip.Addr `json:"clusterIPs"`
		} `json:"spec"`
	}
	l.mu.Lock()
	l.services[spec.Name] = s
	l.mu.Unlock()
	err := l.proxied(ctx, func() error {
		return l.backend.api.Create(ctx, servicesPath,
			object{"metadata": object{"name": s.object}, "spec": body}, &made)
	})
	return made.Spec.ClusterIPs, err
}

// SetEndpoints writes the service's EndpointSlice.
func (l *lab) SetEndpoints(ctx context.Context, name string, endpoints []cluster.Endpoint) error {
	l.mu.Lock()
	s := l.services[name]
	l.mu.Unlock()
	if s == nil {
		return fmt.Errorf("service/%s: it was not made", name)
	}
	if !s.sliced && len(endpoints) == 0 {
		return nil
	}
	var list []object
	for _, e := range endpoints {
		if !e.Address.Is4() {
			continue
		}
		o := object{"addresses": []string{e.Address.String()}, "conditions": object{
			"ready": true, "serving": true, "terminating": false,
		}}
		if e.Node != nil {
			o["nodeName"] = l.clusterNode(e.Node).name
		}
		list = append(list, o)
	}
	slice := object{
		"metadata": object{"name": s.object, "labels": object{
			"kubernetes.io/service-name": s.object, "endpointslice.kubernetes.io/managed-by": "cnitest",
		}},
		"addressType": "IPv4", "endpoints": slices.Clip(list),
		"ports": []object{{"name": "port", "protocol": strings.ToUpper(s.spec.Protocol), "port": s.spec.EndpointPort()}},
	}
	if list == nil {
		slice["endpoints"] = []object{}
	}
	return l.proxied(ctx, func() error {
		if s.sliced {
			return l.backend.api.Do(ctx, http.MethodPut, slicesPath()+"/"+s.object, slice, nil)
		}
		s.sliced = true
		return l.backend.api.Create(ctx, slicesPath(), slice, nil)
	})
}

// proxyMetrics is the default address of kube-proxy's metrics (its --metrics-bind-address).
const proxyMetrics = "http://127.0.0.1:10249/metrics"

// proxyState contains the times of kube-proxy's last change and of its last rules, in seconds.
type proxyState struct{ queued, written float64 }

// metricPattern allows a label, since kube-proxy adds the address family if it serves both.
var metricPattern = regexp.MustCompile(
	`(?m)^kubeproxy_sync_proxy_rules_last_(queued_)?timestamp_seconds(?:\{[^}]*\})? (\S+)$`)

func proxyStateOf(ctx context.Context, n *cluster.Node) (proxyState, error) {
	text, err := n.Agent.Fetch(ctx, proxyMetrics)
	if err != nil {
		return proxyState{}, err
	}
	return parseProxyState(text)
}

func parseProxyState(text string) (proxyState, error) {
	var state proxyState
	for _, match := range metricPattern.FindAllStringSubmatch(text, -1) {
		value, err := strconv.ParseFloat(match[2], 64)
		if err != nil {
			return state, err
		}
		if match[1] != "" {
			state.queued = max(state.queued, value)
		} else {
			state.written = max(state.written, value)
		}
	}
	if state.queued == 0 {
		return state, fmt.Errorf("%s: no time of a change", proxyMetrics)
	}
	return state, nil
}

// proxied changes something in the cluster and waits until the proxies of all nodes have noticed the change and written
// their rules.
func (l *lab) proxied(ctx context.Context, change func() error) error {
	before := make([]proxyState, len(l.nodes))
	for i, n := range l.nodes {
		var err error
		if before[i], err = proxyStateOf(ctx, n); err != nil {
			return fmt.Errorf("%s: kube-proxy does not say what it has done: %w", n.Name, err)
		}
	}
	if err := change(); err != nil {
		return err
	}
	for i, n := range l.nodes {
		err := until(ctx, proxyTimeout, n.Name+": kube-proxy to write a changed service", func() (bool, error) {
			now, err := proxyStateOf(ctx, n)
			return now.queued > before[i].queued && now.written >= now.queued, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
