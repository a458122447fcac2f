//! The probes of one pod and what they found.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use vetch_runtime::{ContainerId, ContainerState};

use super::task::ProbeTask;
use super::{Kind, Prober, Target};
use crate::pods::events::Recorder;
use crate::pods::seen::Seen;
use crate::pods::spec;
use crate::pods::status::previous;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub container: ContainerId,
    pub kind: Kind,
    pub success: bool,
}

/// What is believed of one container; `None` where nothing is known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Results {
    pub startup: Option<bool>,
    pub readiness: Option<bool>,
    pub liveness: Option<bool>,
}

impl Results {
    pub fn get(&self, kind: Kind) -> Option<bool> {
        match kind {
            Kind::Startup => self.startup,
            Kind::Readiness => self.readiness,
            Kind::Liveness => self.liveness,
        }
    }

    pub fn set(&mut self, kind: Kind, success: bool) {
        let result = match kind {
            Kind::Startup => &mut self.startup,
            Kind::Readiness => &mut self.readiness,
            Kind::Liveness => &mut self.liveness,
        };
        *result = Some(success);
    }

    /// Of a running container: past its startup probe, if it has one.
    pub fn started(&self, container: &Container) -> bool {
        container.startup_probe.is_none() || self.startup == Some(true)
    }

    pub fn ready(&self, container: &Container) -> bool {
        self.started(container)
            && (container.readiness_probe.is_none() || self.readiness == Some(true))
    }
}

pub type ProbeResults = HashMap<ContainerId, Results>;

pub struct ProbeSet {
    prober: Prober,
    recorder: Recorder,
    sender: mpsc::UnboundedSender<Report>,
    reports: mpsc::UnboundedReceiver<Report>,
    tasks: HashMap<(ContainerId, Kind), AbortOnDropHandle<()>>,
    results: ProbeResults,
}

impl ProbeSet {
    pub fn new(prober: Prober, recorder: Recorder) -> ProbeSet {
        let (sender, reports) = mpsc::unbounded_channel();
        ProbeSet {
            prober,
            recorder,
            sender,
            reports,
            tasks: HashMap::new(),
            results: HashMap::new(),
        }
    }

    pub fn results(&self) -> &ProbeResults {
        &self.results
    }

    /// The next change of what is believed; may be dropped and called again.
    pub async fn changed(&mut self) {
        // Our own sender keeps the channel open.
        if let Some(report) = self.reports.recv().await {
            self.take(report);
            while let Ok(report) = self.reports.try_recv() {
                self.take(report);
            }
        }
    }

    fn take(&mut self, report: Report) {
        // A container that is no more may have left one behind.
        if let Some(results) = self.results.get_mut(&report.container) {
            results.set(report.kind, report.success);
        }
    }

    /// Probes what runs and nothing else. With `ending`, only readiness.
    /// `held` is a container whose start is not complete.
    pub fn follow(
        &mut self,
        pod: &Arc<Pod>,
        seen: &Seen,
        pod_ip: Option<IpAddr>,
        held: Option<&str>,
        ending: bool,
    ) {
        let mut wanted: Vec<(ContainerId, Kind)> = Vec::new();
        for container in spec::all_containers(pod) {
            let Some(status) = seen.current(&container.name) else {
                continue;
            };
            if status.state != ContainerState::Running || held == Some(container.name.as_str()) {
                continue;
            }
            let results = self
                .results
                .entry(status.id.clone())
                .or_insert_with(|| previous::results(pod, &status.id));
            let started = results.started(container);
            let believed = *results;
            for kind in Kind::ALL {
                let Some(probe) = kind.of(container) else {
                    continue;
                };
                let due = match kind {
                    Kind::Startup => !started && believed.startup.is_none() && !ending,
                    Kind::Readiness => started,
                    Kind::Liveness => started && believed.liveness != Some(false) && !ending,
                };
                if !due {
                    continue;
                }
                let key = (status.id.clone(), kind);
                wanted.push(key.clone());
                self.tasks.entry(key).or_insert_with(|| {
                    let task = ProbeTask {
                        kind,
                        probe: probe.clone(),
                        target: Target {
                            pod: pod.clone(),
                            container: container.name.clone(),
                            id: status.id.clone(),
                            pod_ip,
                        },
                        started_at: status.started_at.unwrap_or_else(Timestamp::now),
                        believed: believed.get(kind),
                        prober: self.prober.clone(),
                        recorder: self.recorder.clone(),
                        reports: self.sender.clone(),
                    };
                    AbortOnDropHandle::new(tokio::spawn(task.run()))
                });
            }
        }
        self.tasks.retain(|key, _| wanted.contains(key));
        self.results
            .retain(|id, _| seen.containers().any(|container| container.id == *id));
    }
}
