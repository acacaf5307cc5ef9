package monitor

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/server"
)

// Status is the answer to /v1/status.
type Status struct {
	InstanceID string           `json:"instanceID"`
	VPC        []netip.Prefix   `json:"vpc"`
	Addresses  datastore.Stats  `json:"addresses"`
	Unusable   []UnusableENI    `json:"unusable"`  // ENIs that pods cannot use
	Unmanaged  []UnmanagedENI   `json:"unmanaged"` // ENIs that are left alone
	Warnings   []string         `json:"warnings"`
	Reconciled *ReconcileStatus `json:"reconciled"`
}

// UnusableENI is an ENI that pods cannot use, and why.
type UnusableENI struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// UnmanagedENI is an ENI that ipamd leaves alone, and why.
type UnmanagedENI struct {
	ID     string `json:"id"`
	Card   int    `json:"networkCard"`
	Device int    `json:"deviceNumber"`
	Reason string `json:"reason"`
}

// ENI is an element of the answer to /v1/enis.
type ENI struct {
	datastore.ENIUsage
	Card int `json:"networkCard"`
	// Unmanaged says why the ENI is left alone; empty if it is not. Pods that had its addresses before keep them.
	Unmanaged string `json:"unmanaged,omitempty"`
}

// enis returns the ENIs whose addresses pods have or can have, by device number, then those that are left alone.
func enis(usage []datastore.ENIUsage, unmanaged []UnmanagedENI) []ENI {
	all := make([]ENI, 0, len(usage)+len(unmanaged))
	for _, u := range usage {
		all = append(all, ENI{ENIUsage: u})
	}
	for _, e := range unmanaged {
		at := slices.IndexFunc(all, func(other ENI) bool { return other.ID == e.ID })
		if at < 0 {
			at = len(all)
			all = append(all, ENI{ENIUsage: datastore.ENIUsage{ID: e.ID, Device: e.Device}})
		}
		all[at].Card, all[at].Unmanaged = e.Card, e.Reason
	}
	return all
}

// ReconcileStatus is the result of the last query of the cloud.
type ReconcileStatus struct {
	At    string `json:"at"` // RFC 3339
	Error string `json:"error,omitempty"`
}

// Handler answers /metrics and, as JSON, /v1/status, /v1/enis and /v1/assignments.
func Handler(store *datastore.Store, metrics *Metrics, status func() Status) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		s := status()
		s.Addresses = store.Stats()
		answer(w, s)
	})
	mux.HandleFunc("GET /v1/enis", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, enis(store.ENIs(), status().Unmanaged))
	})
	mux.HandleFunc("GET /v1/assignments", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, store.Assignments())
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "/v1/status       state of ipamd\n/v1/enis         ENIs and their addresses\n/v1/assignments  "+
			"which pod has which address\n/metrics         for Prometheus")
	})
	return mux
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(value) // fails only if the client is gone
}

// Listen listens for introspection on the path of a unix socket, or on a loopback address with a port. It refuses other
// addresses, so that nobody outside the node can see which pod has which address.
func Listen(where string) (net.Listener, error) {
	if strings.HasPrefix(where, "/") {
		return server.Listen(where)
	}
	address, err := netip.ParseAddrPort(where)
	if err != nil || !address.Addr().IsLoopback() {
		return nil, fmt.Errorf("introspection: want the path of a socket or a loopback address with a port, got %q",
			where)
	}
	listener, err := net.Listen("tcp", where)
	if err != nil {
		return nil, fmt.Errorf("introspection: %w", err)
	}
	return listener, nil
}
