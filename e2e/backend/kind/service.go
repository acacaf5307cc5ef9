package kind

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
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

// liveService is a Service and its EndpointSlices, one of each family.
type liveService struct {
	object string
	spec   scenario.Service
	// slices are the endpoints, as JSON, of the slices by their address types, which are those of the service's
	// addresses. Empty means that there is no slice yet.
	slices map[string]string
}

func (s *liveService) path() string {
	return servicesPath + "/" + s.object
}

func slicesPath() string {
	return "/apis/discovery.k8s.io/v1/namespaces/" + namespace + "/endpointslices"
}

// MakeService makes a Service without a selector, since the scenario chooses its endpoints.
func (l *lab) MakeService(ctx context.Context, spec scenario.Service) ([]netip.Addr, error) {
	s := &liveService{object: l.name + "-" + spec.Name, spec: spec, slices: map[string]string{}}
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
	for _, address := range made.Spec.ClusterIPs {
		s.slices[addressType(address)] = ""
	}
	return made.Spec.ClusterIPs, err
}

// addressType returns what EndpointSlices call the family of an address.
func addressType(address netip.Addr) string {
	if address.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// SetEndpoints writes the service's EndpointSlices. Endpoints of a family that the service does not have are left out:
// no proxy would notice them.
func (l *lab) SetEndpoints(ctx context.Context, name string, endpoints []cluster.Endpoint) error {
	l.mu.Lock()
	s := l.services[name]
	l.mu.Unlock()
	if s == nil {
		return fmt.Errorf("service/%s: it was not made", name)
	}
	lists := map[string][]object{}
	for _, e := range endpoints {
		o := object{"addresses": []string{e.Address.String()}, "conditions": object{
			"ready": true, "serving": true, "terminating": false,
		}}
		if e.Node != nil {
			o["nodeName"] = l.clusterNode(e.Node).name
		}
		family := addressType(e.Address)
		lists[family] = append(lists[family], o)
	}
	for _, family := range slices.Sorted(maps.Keys(s.slices)) {
		if err := l.setSlice(ctx, s, family, append([]object{}, lists[family]...)); err != nil {
			return err
		}
	}
	return nil
}

// setSlice writes a service's EndpointSlice of a family, if it is not as wanted already. None is made that would be
// empty.
func (l *lab) setSlice(ctx context.Context, s *liveService, family string, endpoints []object) error {
	text, err := json.Marshal(endpoints)
	if err != nil {
		return err
	}
	was := s.slices[family]
	if was == string(text) || was == "" && len(endpoints) == 0 {
		return nil
	}
	name := s.object + "-" + strings.ToLower(family)
	slice := object{
		"metadata": object{"name": name, "labels": object{
			"kubernetes.io/service-name": s.object, "endpointslice.kubernetes.io/managed-by": "cnitest",
		}},
		"addressType": family, "endpoints": endpoints,
		"ports": []object{{"name": "port", "protocol": strings.ToUpper(s.spec.Protocol), "port": s.spec.EndpointPort()}},
	}
	return l.proxied(ctx, func() error {
		s.slices[family] = string(text)
		if was != "" {
			return l.backend.api.Do(ctx, http.MethodPut, slicesPath()+"/"+name, slice, nil)
		}
		return l.backend.api.Create(ctx, slicesPath(), slice, nil)
	})
}

// proxyMetrics is the default address of kube-proxy's metrics (its --metrics-bind-address): 127.0.0.1, or ::1 in
// clusters without IPv4.
const proxyMetrics = "http://localhost:10249/metrics"

// proxyState is what kube-proxy has done.
type proxyState struct {
	queued  float64 // the time of the last change, in seconds
	written bool    // the rules of each family are newer than its last change
}

// metricPattern allows a label, since kube-proxy adds the address family if it serves both.
var metricPattern = regexp.MustCompile(
	`(?m)^kubeproxy_sync_proxy_rules_last_(queued_)?timestamp_seconds(\{[^}]*\})? (\S+)$`)

func proxyStateOf(ctx context.Context, n *cluster.Node) (proxyState, error) {
	text, err := n.Agent.Fetch(ctx, proxyMetrics)
	if err != nil {
		return proxyState{}, err
	}
	return parseProxyState(text)
}

func parseProxyState(text string) (proxyState, error) {
	var state proxyState
	behind := map[string]float64{} // by family, the time of its last change less that of its rules
	for _, match := range metricPattern.FindAllStringSubmatch(text, -1) {
		value, err := strconv.ParseFloat(match[3], 64)
		if err != nil {
			return state, err
		}
		if match[1] != "" {
			state.queued = max(state.queued, value)
			behind[match[2]] += value
		} else {
			behind[match[2]] -= value
		}
	}
	state.written = true
	for _, time := range behind {
		state.written = state.written && time <= 0
	}
	if state.queued == 0 {
		return proxyState{}, fmt.Errorf("%s: no time of a change", proxyMetrics)
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
			return now.queued > before[i].queued && now.written, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
