package node

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/wattlehq/wattle/host"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/node/jobs"
)

// metrics are what /metrics shows. Most are read from the parts when asked for.
type metrics struct {
	registry  *prometheus.Registry
	calls     *prometheus.HistogramVec
	collected prometheus.Counter
	shuffle   jobs.ShuffleCounters
}

func newMetrics(n *Node) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wattle_call_seconds", Help: "Time of calls, by how they ended.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}, []string{"service", "function", "result"}),
		collected: prometheus.NewCounter(prometheus.CounterOpts{Name: "wattle_blobs_collected_total", Help: "Blobs removed because nothing referred to them."}),
	}
	counter := func(name, help string, f func() float64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, f))
	}
	gauge := func(name, help string, f func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	m.registry.MustRegister(m.calls, m.collected, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	counter("wattle_log_syncs_total", "Synced writes of the log store.", func() float64 { return float64(n.engine.Counts().Syncs) })
	counter("wattle_log_trimmed_total", "Log entries dropped because the state store has them.", func() float64 { return float64(n.engine.Counts().Trimmed) })
	counter("wattle_log_replayed_total", "Log entries applied again after the start.", func() float64 { return float64(n.engine.Counts().Replayed) })
	counter("wattle_tasks_started_total", "Attempts begun.", func() float64 { return float64(n.sched.Stats().Started) })
	counter("wattle_tasks_completed_total", "Attempts that completed.", func() float64 { return float64(n.sched.Stats().Completed) })
	counter("wattle_tasks_failed_total", "Attempts that failed.", func() float64 { return float64(n.sched.Stats().Failed) })
	counter("wattle_tasks_restarted_total", "Attempts whose start was recorded because they may repeat one.", func() float64 { return float64(n.sched.Stats().Restarted) })
	counter("wattle_tasks_given_total", "Attempts given to other nodes.", func() float64 { return float64(n.sched.Stats().Given) })
	counter("wattle_tasks_taken_total", "Attempts taken from other nodes.", func() float64 { return float64(n.sched.Stats().Taken) })
	counter("wattle_tasks_returned_total", "Attempts that had not begun where they were given, and came back.", func() float64 { return float64(n.sched.Stats().Returned) })
	counter("wattle_tasks_adopted_total", "Attempts of a leader before this one that went on.", func() float64 { return float64(n.sched.Stats().Adopted) })
	counter("wattle_tasks_lost_total", "Attempts of nodes that went silent.", func() float64 { return float64(n.sched.Stats().Lost) })
	counter("wattle_tasks_fenced_total", "Outcomes that did not count, since another attempt had taken over.", func() float64 { return float64(n.sched.Stats().Fenced) })
	counter("wattle_shuffle_spills_total", "Runs of records written to disk because memory was full.", func() float64 { return float64(m.shuffle.Spills.Load()) })
	counter("wattle_shuffle_merges_total", "Merges of runs and of map outputs.", func() float64 { return float64(m.shuffle.Merges.Load()) })
	counter("wattle_shuffle_records_total", "Records taken from guests.", func() float64 { return float64(m.shuffle.Records.Load()) })
	gauge("wattle_slots_idle", "Warm instances that wait for a call.", func() float64 { return float64(n.host.Counters().Idle) })
	counter("wattle_slots_retired_total", "Instances that could not be put back to their clean state and were closed.", func() float64 { return float64(n.host.Counters().Retired) })
	gauge("wattle_guest_memory_bytes", "What guests are charged with of the node's memory.", func() float64 { return float64(n.host.Counters().Memory) })
	gauge("wattle_guest_memory_limit_bytes", "What guests may be charged with.", func() float64 { return float64(n.cfg.GuestMemory) })
	gauge("wattle_calls_running", "Calls that run in the host now, tasks included.", func() float64 { return float64(n.host.Counters().Running) })
	gauge("wattle_calls_under_way", "Calls that came to this node or were passed on to it and run or wait here.", func() float64 { return float64(n.calls.Counts().Under) })
	gauge("wattle_calls_limit", "Calls that may be under way.", func() float64 { return float64(n.calls.Counts().Most) })
	gauge("wattle_calls_away", "Calls that other nodes run for this one now.", func() float64 { return float64(n.calls.Counts().Away) })
	counter("wattle_calls_forwarded_total", "Calls that other nodes ran for this one.", func() float64 { return float64(n.calls.Counts().Forwarded) })
	counter("wattle_calls_received_total", "Calls that this node ran for others.", func() float64 { return float64(n.calls.Counts().Received) })
	counter("wattle_calls_refused_total", "Calls refused because too many were under way.", func() float64 { return float64(n.calls.Counts().Refused) })
	counter("wattle_fuel_total", "Fuel that guests used.", func() float64 { return float64(n.host.Counters().Fuel) })
	for _, reason := range host.LimitReasons() {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "wattle_limits_reached_total", Help: "Calls that were ended or refused at a limit.", ConstLabels: prometheus.Labels{"limit": reason},
		}, func() float64 { return float64(n.host.Counters().Limits[reason]) }))
	}
	gauge("wattle_tasks_running", "Attempts that run now.", func() float64 { r, _ := n.sched.Load(); return float64(r) })
	gauge("wattle_shards_leading", "Shards this node leads.", func() float64 { _, l := n.sched.Load(); return float64(l) })
	gauge("wattle_blobs", "Blobs on this node.", func() float64 { b, _ := n.blobs.Usage(); return float64(b) })
	gauge("wattle_blob_bytes", "Bytes in the blobs on this node.", func() float64 { _, b := n.blobs.Usage(); return float64(b) })
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *metrics) observe(service, function string, took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = fault.Reason(err)
	}
	m.calls.WithLabelValues(service, function, result).Observe(took.Seconds())
}
