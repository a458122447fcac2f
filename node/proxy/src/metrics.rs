//! What Prometheus is told: kube-proxy's names where it has one for the thing,
//! ours for the rest.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse as _, routing::get};
use jiff::Timestamp;
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{Tap, pressure::Table, sweep::Swept};

mod kernel;
mod pods;
mod services;
mod tables;

pub use pods::PodCounters;

/// OpenMetrics 1.0, as the encoder writes it.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    sync: Histogram,
    full_sync: Histogram,
    programming: Histogram,
    last_sync: Gauge<f64, AtomicU64>,
    pub service_changes: Counter,
    pub endpoint_changes: Counter,
    pub drift: Counter,
    pub map_writes: Counter,
    tables: tables::Tables,
    sweep: Histogram,
    expired: Counter,
    orphans: Counter,
    conflicts: Gauge,
}

impl Metrics {
    /// `maps` is where the maps are pinned: what the kernel counted is read
    /// when somebody asks. `tap` adds its own, and `pods` those of attached pods.
    pub fn new(maps: PathBuf, tap: Option<&dyn Tap>, pods: Option<PodCounters>) -> Self {
        let mut registry = Registry::default();
        // kube-proxy's buckets, and finer ones below: 62.5 µs to 2 s.
        let seconds = || Histogram::new(exponential_buckets(0.000_062_5, 2.0, 16));
        let metrics = Self {
            sync: seconds(),
            full_sync: seconds(),
            // From a change in the cluster to its effect: 0.25 ms to 2 min.
            programming: Histogram::new(exponential_buckets(0.000_25, 2.0, 20)),
            last_sync: Gauge::default(),
            service_changes: Counter::default(),
            endpoint_changes: Counter::default(),
            drift: Counter::default(),
            map_writes: Counter::default(),
            tables: tables::Tables::default(),
            sweep: seconds(),
            expired: Counter::default(),
            orphans: Counter::default(),
            conflicts: Gauge::default(),
            registry: Arc::default(),
        };
        let own = &metrics;
        registry.register(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "Time of one write of changes to the maps",
            own.sync.clone(),
        );
        registry.register(
            "kubeproxy_sync_full_proxy_rules_duration_seconds",
            "Time of one write of everything to the maps",
            own.full_sync.clone(),
        );
        registry.register(
            "kubeproxy_network_programming_duration_seconds",
            "From a change of endpoints in the cluster to its effect here",
            own.programming.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "When changes were last written to the maps",
            own.last_sync.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_service_changes",
            "Events of Services",
            own.service_changes.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_endpoint_changes",
            "Events of EndpointSlices",
            own.endpoint_changes.clone(),
        );
        registry.register(
            "vetch_proxy_drift",
            "Audits that found the maps changed by somebody else",
            own.drift.clone(),
        );
        registry.register(
            "vetch_proxy_map_writes",
            "Entries of the maps written or removed for Services and their addresses",
            own.map_writes.clone(),
        );
        registry.register(
            "vetch_proxy_sweep_duration_seconds",
            "Time of one walk over the connection tables",
            own.sweep.clone(),
        );
        registry.register(
            "vetch_proxy_flows_expired",
            "Conversations forgotten because their time was over",
            own.expired.clone(),
        );
        registry.register(
            "vetch_proxy_flow_orphans",
            "Of the expired, those that a full table had left one half of",
            own.orphans.clone(),
        );
        registry.register(
            "vetch_proxy_address_conflicts",
            "Addresses of this node, or that it is to announce, which another host on the link has",
            own.conflicts.clone(),
        );
        registry.register_collector(Box::new(own.tables.clone()));
        registry.register_collector(Box::new(kernel::Counters { maps: maps.clone() }));
        registry.register_collector(Box::new(services::Services { maps }));
        if let Some(pods) = pods {
            registry.register_collector(Box::new(pods));
        }
        if let Some(tap) = tap {
            tap.register(&mut registry);
        }
        Self {
            registry: Arc::new(registry),
            ..metrics
        }
    }

    pub fn synced(&self, took: Duration, full: bool, now: Timestamp) {
        self.sync.observe(took.as_secs_f64());
        if full {
            self.full_sync.observe(took.as_secs_f64());
        }
        self.last_sync.set(now.as_millisecond() as f64 / 1000.0);
    }

    /// `tables` are those that the sweep walked, and the others.
    pub fn swept(&self, swept: &Swept, tables: Vec<Table>) {
        self.sweep.observe(swept.took.as_secs_f64());
        self.expired.inc_by(swept.found.expired.into());
        self.orphans.inc_by(swept.found.orphans.into());
        self.tables.set(tables, &swept.found);
    }

    /// How many addresses another host has.
    pub fn conflicts(&self, count: usize) {
        self.conflicts.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// `since`: when a controller saw the change.
    pub fn programmed(&self, since: Timestamp, now: Timestamp) {
        // Clocks of two machines may disagree by more than it took.
        let took = now.duration_since(since).as_secs_f64().max(0.0);
        self.programming.observe(took);
    }
}

/// `/metrics`.
pub fn router(metrics: Metrics) -> Router {
    Router::new()
        .route(
            "/metrics",
            get(|State(metrics): State<Metrics>| async move {
                // Maps are read for it, one call an entry.
                let text = tokio::task::spawn_blocking(move || {
                    let mut text = String::new();
                    encode(&mut text, &metrics.registry).map(|()| text)
                });
                let failed = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, error);
                match text.await {
                    Ok(Ok(text)) => {
                        ([(axum::http::header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
                    }
                    Ok(Err(error)) => failed(error.to_string()).into_response(),
                    Err(error) => failed(error.to_string()).into_response(),
                }
            }),
        )
        .with_state(metrics)
}

#[cfg(test)]
mod tests {
    use vetch_ebpf_common::{Phase, Protocol, Sweep};

    use super::*;

    #[test]
    fn names_are_those_of_kube_proxy() {
        let metrics = Metrics::new("/nowhere".into(), None, None);
        let now: Timestamp = "2026-01-01T00:00:01Z".parse().unwrap();
        metrics.synced(Duration::from_millis(3), true, now);
        metrics.programmed("2026-01-01T00:00:00.5Z".parse().unwrap(), now);
        metrics.endpoint_changes.inc();
        metrics.conflicts(2);
        let mut found = Sweep::at(0, 0);
        found.live[Sweep::index(Protocol::Udp as u8, Phase::Answered)] = 7;
        (found.expired, found.orphans) = (5, 1);
        let table = Table {
            name: "FLOWS",
            entries: 14,
            capacity: 128,
        };
        let swept = Swept {
            found,
            took: Duration::from_millis(1),
        };
        metrics.swept(&swept, vec![table]);
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap();
        for line in [
            "kubeproxy_sync_proxy_rules_duration_seconds_count 1",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_sum 0.003",
            "kubeproxy_network_programming_duration_seconds_sum 0.5",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds 1767225601.0",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 1",
            "vetch_proxy_address_conflicts 2",
            "vetch_proxy_drift_total 0",
            "vetch_proxy_map_writes_total 0",
            "vetch_proxy_table_entries{table=\"FLOWS\"} 14",
            "vetch_proxy_table_capacity{table=\"FLOWS\"} 128",
            "vetch_proxy_flows{protocol=\"UDP\",state=\"answered\"} 7",
            "vetch_proxy_flows{protocol=\"TCP\",state=\"new\"} 0",
            "vetch_proxy_flows_expired_total 5",
            "vetch_proxy_flow_orphans_total 1",
            "vetch_proxy_sweep_duration_seconds_count 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
    }
}
