//! Readiness, liveness and startup probes.
//!
//! [`machine`] counts results without IO; [`task`] runs one probe of one
//! container on its schedule; [`set`] keeps the tasks of a pod and what they
//! found; the other files each ask in one way.

mod exec;
mod grpc;
mod http;
mod machine;
mod numbers;
mod port;
mod set;
mod task;
mod tcp;

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use vetch_runtime::{ContainerId, Runtime};

use super::spec;

pub use http::{client, get};
pub use numbers::{Asked, ProbeNumbers};
pub use port::resolve as resolve_port;
pub use set::{ProbeResults, ProbeSet, Results};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Readiness,
    Liveness,
    Startup,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Startup, Kind::Readiness, Kind::Liveness];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Readiness => "Readiness",
            Kind::Liveness => "Liveness",
            Kind::Startup => "Startup",
        }
    }

    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Readiness => container.readiness_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Startup => container.startup_probe.as_ref(),
        }
    }
}

/// What one question came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// As good as success, and worth telling.
    Warning(String),
    Failure(String),
    /// The question could not be asked; counts as nothing.
    Error(String),
}

/// Whom a probe asks.
#[derive(Clone)]
pub struct Target {
    pub pod: Arc<Pod>,
    pub container: String,
    pub id: ContainerId,
    pub pod_ip: Option<IpAddr>,
}

/// The ways to ask; cheap to clone.
#[derive(Clone)]
pub struct Prober {
    pub runtime: Runtime,
    pub http: reqwest::Client,
    pub numbers: ProbeNumbers,
}

impl Prober {
    pub async fn ask(&self, probe: &Probe, target: &Target) -> Outcome {
        let Some(container) = spec::container(&target.pod, &target.container) else {
            return Outcome::Error(format!("container {} is not in the pod", target.container));
        };
        let timeout = spec::probe_timeout(probe);
        if let Some(action) = &probe.exec {
            let command = action.command.as_deref().unwrap_or_default();
            return exec::ask(&self.runtime, &target.id, command, container, timeout).await;
        }
        let Some(ip) = target.pod_ip else {
            return Outcome::Error("the pod has no address".to_owned());
        };
        if let Some(action) = &probe.http_get {
            return http::ask(&self.http, action, container, ip, timeout).await;
        }
        if let Some(action) = &probe.tcp_socket {
            return tcp::ask(action, container, ip, timeout).await;
        }
        if let Some(action) = &probe.grpc {
            return grpc::ask(action, ip, timeout).await;
        }
        Outcome::Error(format!(
            "missing probe handler for {}:{}",
            super::text::pod_text(&target.pod),
            target.container
        ))
    }
}
