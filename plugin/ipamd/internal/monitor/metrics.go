// Package monitor shows the state of ipamd: metrics for Prometheus, and as JSON which pod has which address.
//
// It is read-only.
//
// Tests: go test ./plugin/ipamd/internal/monitor
package monitor

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/state"
)

// Metrics contains the counters. It is safe for concurrent use.
type Metrics struct {
	registry   *prometheus.Registry
	requests   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	writes     *prometheus.HistogramVec
	callers    prometheus.Histogram
	reconciles *prometheus.CounterVec
	refused    prometheus.Counter
}

// NewMetrics returns metrics of a store, all 0, in a separate registry.
func NewMetrics(store *datastore.Store) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ipamd_requests_total", Help: "Calls of plugins, by method and gRPC code.",
		}, []string{"method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ipamd_request_duration_seconds", Help: "How long calls of plugins took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"method"}),
		writes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ipamd_state_write_duration_seconds", Help: "How long writing the state took, by result.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"result"}),
		callers: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ipamd_state_write_callers", Help: "How many calls shared one write of the state.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		reconciles: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ipamd_reconciles_total", Help: "How often the cloud was asked for ENIs and addresses, by result.",
		}, []string{"result"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ipamd_refused_connections_total", Help: "Connections of users who may not connect.",
		}),
	}
	m.registry.MustRegister(m.requests, m.duration, m.writes, m.callers, m.reconciles, m.refused, newAddresses(store),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Intercept counts a call.
func (m *Metrics) Intercept(ctx context.Context, in any, info *grpc.UnaryServerInfo,
	handle grpc.UnaryHandler,
) (any, error) {
	start := time.Now()
	out, err := handle(ctx, in)
	method := path.Base(info.FullMethod)
	m.requests.WithLabelValues(method, status.Code(err).String()).Inc()
	m.duration.WithLabelValues(method).Observe(time.Since(start).Seconds())
	return out, err
}

// Wrote counts a write of the state.
func (m *Metrics) Wrote(w state.Write) {
	m.writes.WithLabelValues(result(w.Err)).Observe(w.Duration.Seconds())
	m.callers.Observe(float64(w.Callers))
}

// Reconciled counts a query of the cloud.
func (m *Metrics) Reconciled(err error) { m.reconciles.WithLabelValues(result(err)).Inc() }

// Refused counts a refused connection.
func (m *Metrics) Refused(uint32) { m.refused.Inc() }

func result(err error) string {
	if err != nil {
		return "error"
	}
	return "success"
}

// addresses counts a store's addresses when the metrics are read.
type addresses struct {
	store     *datastore.Store
	addresses *prometheus.Desc
	removed   *prometheus.Desc
}

func newAddresses(store *datastore.Store) *addresses {
	return &addresses{
		store: store,
		addresses: prometheus.NewDesc("ipamd_addresses", "Addresses for pods, by ENI and state.",
			[]string{"eni", "device", "state"}, nil),
		removed: prometheus.NewDesc("ipamd_removed_addresses", "Addresses that pods have and the cloud took away.", nil,
			nil),
	}
}

// Describe names the metrics.
func (a *addresses) Describe(descs chan<- *prometheus.Desc) {
	descs <- a.addresses
	descs <- a.removed
}

// Collect counts.
func (a *addresses) Collect(metrics chan<- prometheus.Metric) {
	for _, eni := range a.store.ENIs() {
		device := fmt.Sprint(eni.Device)
		for name, n := range map[string]int64{"free": eni.Free, "assigned": eni.Assigned, "cooling": eni.Cooling} {
			metrics <- prometheus.MustNewConstMetric(a.addresses, prometheus.GaugeValue, float64(n), eni.ID, device,
				name)
		}
	}
	metrics <- prometheus.MustNewConstMetric(a.removed, prometheus.GaugeValue, float64(a.store.Stats().Removed))
}
