//! `GET /metrics/resource`: the kubelet's resource metrics, which metrics-server reads for `kubectl top`
//! (<https://kubernetes.io/docs/reference/instrumentation/metrics/>).

use jiff::Timestamp;

use super::types::{
    ContainerStats, CpuStats, MemoryStats, NodeStats, PodStats, Summary, SwapStats,
};
use crate::server::prometheus::Kind::{self, Counter, Gauge};
use crate::server::prometheus::Text;

/// A number, and when it was measured where that is told.
type Measured = Option<(f64, Option<Timestamp>)>;

struct Row<T> {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&T) -> Measured,
}

const fn row<T>(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&T) -> Measured,
) -> Row<T> {
    Row {
        name,
        kind,
        help,
        value,
    }
}

const CONTAINER: &[Row<ContainerStats>] = &[
    row(
        "container_cpu_usage_seconds_total",
        Counter,
        "Processor time that the container used, in seconds",
        |of| cpu(&of.cpu),
    ),
    row(
        "container_memory_working_set_bytes",
        Gauge,
        "Memory of the container, without inactive pages of files",
        |of| memory(of.memory.as_ref()),
    ),
    row(
        "container_start_time_seconds",
        Gauge,
        "When the container was started, in seconds since 1970",
        |of| Some((seconds(of.start_time.0.as_nanosecond() as f64), None)),
    ),
    row(
        "container_swap_usage_bytes",
        Gauge,
        "Swap that the container has in use",
        |of| swap(of.swap.as_ref()),
    ),
];

const NODE: &[Row<NodeStats>] = &[
    row(
        "node_cpu_usage_seconds_total",
        Counter,
        "Processor time that the node used, in seconds",
        |of| cpu(&of.cpu),
    ),
    row(
        "node_memory_working_set_bytes",
        Gauge,
        "Memory of the node, without inactive pages of files",
        |of| memory(Some(&of.memory)),
    ),
    row(
        "node_swap_usage_bytes",
        Gauge,
        "Swap that the node has in use",
        |of| swap(Some(&of.swap)),
    ),
];

const POD: &[Row<PodStats>] = &[
    row(
        "pod_cpu_usage_seconds_total",
        Counter,
        "Processor time that the pod used, in seconds",
        |of| cpu(&of.cpu),
    ),
    row(
        "pod_memory_working_set_bytes",
        Gauge,
        "Memory of the pod, without inactive pages of files",
        |of| memory(of.memory.as_ref()),
    ),
    row(
        "pod_swap_usage_bytes",
        Gauge,
        "Swap that the pod has in use",
        |of| swap(of.swap.as_ref()),
    ),
];

fn cpu(stats: &CpuStats) -> Measured {
    let used = seconds(stats.usage_core_nano_seconds as f64);
    Some((used, Some(stats.time.0)))
}

fn memory(stats: Option<&MemoryStats>) -> Measured {
    stats.map(|of| (of.working_set_bytes as f64, Some(of.time.0)))
}

fn swap(stats: Option<&SwapStats>) -> Measured {
    stats.map(|of| (of.swap_usage_bytes as f64, Some(of.time.0)))
}

fn seconds(nanoseconds: f64) -> f64 {
    nanoseconds / 1e9
}

/// None is a node that could not be measured, which is a metric too.
pub fn text(summary: Option<&Summary>) -> Text {
    let mut text = Text::default();
    if let Some(summary) = summary {
        measured(&mut text, summary);
    }
    let failed = f64::from(u8::from(summary.is_none()));
    text.family(
        "resource_scrape_error",
        Gauge,
        "1 if the node could not be measured, 0 otherwise",
    )
    .sample(&[], failed, None);
    text
}

fn measured(text: &mut Text, summary: &Summary) {
    for row in CONTAINER {
        let mut family = text.family(row.name, row.kind, row.help);
        for pod in &summary.pods {
            let of = &pod.pod_ref;
            for container in &pod.containers {
                if let Some((value, at)) = (row.value)(container) {
                    let labels = [
                        ("container", container.name.as_str()),
                        ("namespace", of.namespace.as_str()),
                        ("pod", of.name.as_str()),
                    ];
                    family.sample(&labels, value, at);
                }
            }
        }
    }
    for row in NODE {
        if let Some((value, at)) = (row.value)(&summary.node) {
            text.family(row.name, row.kind, row.help)
                .sample(&[], value, at);
        }
    }
    for row in POD {
        let mut family = text.family(row.name, row.kind, row.help);
        for pod in &summary.pods {
            if let Some((value, at)) = (row.value)(pod) {
                let of = &pod.pod_ref;
                let labels = [
                    ("namespace", of.namespace.as_str()),
                    ("pod", of.name.as_str()),
                ];
                family.sample(&labels, value, at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vetch_runtime::MemoryUsage;

    use super::super::summary::{self, tests};
    use super::*;

    /// Samples, without what is said of their names.
    fn samples(summary: Option<&Summary>) -> Vec<String> {
        let text = String::from(text(summary));
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn as_metrics_server_reads_them() {
        let mut sample = tests::sample();
        sample.pods[0].load = tests::load(
            30,
            Some(MemoryUsage {
                swap: Some(4),
                ..tests::memory_of(600)
            }),
        );
        let container = r#"{container="app",namespace="shop",pod="web"}"#;
        let pod = r#"{namespace="shop",pod="web"}"#;
        let want = [
            format!("container_cpu_usage_seconds_total{container} 20 1000000"),
            format!("container_memory_working_set_bytes{container} 499 1000000"),
            format!("container_start_time_seconds{container} 101"),
            "node_cpu_usage_seconds_total 90 1000000".into(),
            "node_memory_working_set_bytes 500 1000000".into(),
            "node_swap_usage_bytes 30 1000000".into(),
            format!("pod_cpu_usage_seconds_total{pod} 30 1000000"),
            format!("pod_memory_working_set_bytes{pod} 599 1000000"),
            format!("pod_swap_usage_bytes{pod} 4 1000000"),
            "resource_scrape_error 0".into(),
        ];
        assert_eq!(samples(Some(&summary::of(&sample))), want);
    }

    #[test]
    fn memory_that_nobody_counts_is_not_there() {
        let mut sample = tests::sample();
        sample.pods[0].load = tests::load(30, None);
        sample.pods[0].containers[0].load = tests::load(20, None);
        let samples = samples(Some(&summary::of(&sample)));
        let of_pods = |line: &&String| line.contains("memory") && line.contains("pod");
        assert_eq!(samples.iter().filter(of_pods).count(), 0, "{samples:?}");
        assert!(samples.iter().any(|line| line.starts_with("pod_cpu_")));
    }

    #[test]
    fn a_node_that_cannot_be_measured_says_so() {
        assert_eq!(samples(None), ["resource_scrape_error 1"]);
    }
}
