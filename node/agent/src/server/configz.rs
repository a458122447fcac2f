//! `GET /configz`: the node's settings as a KubeletConfiguration of kubelet.config.k8s.io/v1beta1
//! (<https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/>).
//!
//! Only those that mean something here, with the values they have here; like the kubelet's, it does
//! not say its kind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use vetch_runtime::{MAX_LOG_FILES, MAX_LOG_SIZE};

use super::Shared;
use super::access::{ALLOWED_KEPT, REFUSED_KEPT, TOKEN_KEPT};
use super::settings::Settings;
use crate::node::image_gc::MINIMUM_AGE;
use crate::node::pressure::{HOLD, Threshold};
use crate::node::{LEASE_SECONDS, OBSERVE_EVERY, REPORT_EVERY};
use crate::pods::text::go_duration;
use crate::pods::{CPU_PERIOD, LAST_BACK_OFF};

pub async fn get(State(shared): State<Shared>) -> Json<Value> {
    let configuration = configuration(&shared.settings, shared.address);
    Json(json!({"kubeletconfig": configuration}))
}

fn configuration(settings: &Settings, address: SocketAddr) -> Value {
    json!({
        "enableServer": true,
        "address": address.ip(),
        "port": address.port(),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true, "cacheTTL": go_duration(TOKEN_KEPT)},
            "x509": {},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {
                "cacheAuthorizedTTL": go_duration(ALLOWED_KEPT),
                "cacheUnauthorizedTTL": go_duration(REFUSED_KEPT),
            },
        },
        "enableDebuggingHandlers": true,
        "registerNode": true,
        "nodeStatusUpdateFrequency": go_duration(OBSERVE_EVERY),
        "nodeStatusReportFrequency": go_duration(REPORT_EVERY),
        "nodeLeaseDurationSeconds": LEASE_SECONDS,
        "evictionPressureTransitionPeriod": go_duration(HOLD),
        "evictionHard": amounts(&settings.eviction.hard),
        "evictionSoft": amounts(&settings.eviction.soft),
        "evictionSoftGracePeriod": graces(&settings.eviction.soft),
        "evictionMaxPodGracePeriod": settings.eviction.max_pod_grace.as_secs(),
        "shutdownGracePeriod": go_duration(settings.shutdown.grace),
        "shutdownGracePeriodCriticalPods": go_duration(settings.shutdown.critical),
        "imageMinimumGCAge": go_duration(MINIMUM_AGE),
        "imageGCHighThresholdPercent": settings.image_gc.high,
        "imageGCLowThresholdPercent": settings.image_gc.low,
        "maxPods": settings.max_pods,
        "podPidsLimit": settings.pod_max_pids.unwrap_or(-1),
        "enforceNodeAllocatable": ["pods"],
        "featureGates": {"MemoryQoS": settings.memory_qos.is_some()},
        "memoryThrottlingFactor": settings.memory_qos.map(|qos| qos.throttling_factor),
        "memoryReservationPolicy": match settings.memory_qos.is_some_and(|qos| qos.reserves) {
            true => "TieredReservation",
            false => "None",
        },
        "memorySwap": {"swapBehavior": "NoSwap"},
        "clusterDNS": settings.cluster_dns,
        "clusterDomain": settings.cluster_domain,
        "cgroupRoot": settings.cgroup_root,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": true,
        "cpuCFSQuota": true,
        "cpuCFSQuotaPeriod": go_duration(Duration::from_micros(CPU_PERIOD)),
        "containerLogMaxSize": format!("{}Mi", MAX_LOG_SIZE >> 20),
        "containerLogMaxFiles": MAX_LOG_FILES,
        "podLogsDir": settings.pod_log_dir,
        "crashLoopBackOff": {"maxContainerRestartPeriod": go_duration(LAST_BACK_OFF)},
    })
}

fn amounts(thresholds: &[Threshold]) -> BTreeMap<&'static str, &str> {
    let all = thresholds.iter();
    all.map(|own| (own.signal.name(), own.text.as_str()))
        .collect()
}

fn graces(thresholds: &[Threshold]) -> BTreeMap<&'static str, String> {
    let all = thresholds.iter();
    all.filter_map(|own| Some((own.signal.name(), go_duration(own.grace?))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::machine::Machine;
    use crate::node::pressure::Eviction;
    use crate::pods::{MemoryQos, Periods};

    #[test]
    fn values_of_this_node() {
        let settings = Settings {
            node_name: "n1".into(),
            root_dir: "/root".into(),
            pod_log_dir: "/logs".into(),
            cgroup_root: "/cgroup".into(),
            machine: Machine::default(),
            max_pods: 42,
            pod_max_pids: None,
            memory_qos: Some(MemoryQos {
                throttling_factor: 0.8,
                reserves: true,
                allocatable: 1,
            }),
            image_gc: Default::default(),
            eviction: Eviction::parse(
                "memory.available<100Mi,nodefs.available<10%",
                "memory.available<1Gi",
                "memory.available=90s",
                Duration::from_secs(30),
            )
            .unwrap(),
            shutdown: Periods {
                grace: Duration::from_secs(30),
                critical: Duration::from_secs(10),
            },
            cluster_dns: vec!["10.96.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".into(),
        };
        let shown = configuration(&settings, "[::]:10250".parse().unwrap());
        for (field, want) in [
            ("/address", json!("::")),
            ("/port", json!(10250)),
            ("/maxPods", json!(42)),
            ("/podPidsLimit", json!(-1)),
            ("/featureGates/MemoryQoS", json!(true)),
            ("/memoryThrottlingFactor", json!(0.8)),
            ("/memoryReservationPolicy", json!("TieredReservation")),
            ("/imageGCHighThresholdPercent", json!(85)),
            ("/imageGCLowThresholdPercent", json!(80)),
            ("/imageMinimumGCAge", json!("2m0s")),
            ("/clusterDNS", json!(["10.96.0.10"])),
            ("/clusterDomain", json!("cluster.local")),
            ("/cgroupRoot", json!("/cgroup")),
            ("/podLogsDir", json!("/logs")),
            ("/containerLogMaxSize", json!("10Mi")),
            ("/cpuCFSQuotaPeriod", json!("100ms")),
            ("/evictionPressureTransitionPeriod", json!("5m0s")),
            (
                "/evictionHard",
                json!({"memory.available": "100Mi", "nodefs.available": "10%"}),
            ),
            ("/evictionSoft", json!({"memory.available": "1Gi"})),
            (
                "/evictionSoftGracePeriod",
                json!({"memory.available": "1m30s"}),
            ),
            ("/evictionMaxPodGracePeriod", json!(30)),
            ("/shutdownGracePeriod", json!("30s")),
            ("/shutdownGracePeriodCriticalPods", json!("10s")),
            ("/authentication/anonymous/enabled", json!(false)),
            ("/authorization/mode", json!("Webhook")),
        ] {
            assert_eq!(shown.pointer(field), Some(&want), "{field}");
        }
    }
}
