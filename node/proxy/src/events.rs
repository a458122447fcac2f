//! Events at Services: what they ask for and do not get from this node.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::{debug, warn};

use crate::{
    health::node_ports::Failed,
    index::{ObjectName, Report},
};

#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    pub fn new(client: Client, node_name: String) -> Self {
        let reporter = Reporter {
            controller: "vetch-proxy".into(),
            instance: Some(node_name),
        };
        Self(Recorder::new(client, reporter))
    }

    pub fn problem(&self, report: Report) {
        warn!(service = %report.service, problem = %report.problem, "a service is not served as it asks");
        let reason = report.problem.reason();
        self.warn(
            report.service,
            report.uid,
            reason,
            report.problem.to_string(),
        );
    }

    pub fn health_check(&self, failed: Failed, uid: Option<String>) {
        let note = format!(
            "cannot listen at healthCheckNodePort {}: {}",
            failed.port, failed.error
        );
        // kube-proxy's reason for it.
        self.warn(failed.service, uid, "FailedToStartServiceHealthcheck", note);
    }

    /// Best effort: an Event is news, not state.
    fn warn(&self, service: ObjectName, uid: Option<String>, reason: &'static str, note: String) {
        let recorder = self.0.clone();
        tokio::spawn(async move {
            let event = Event {
                type_: EventType::Warning,
                reason: reason.into(),
                note: Some(note),
                action: "Sync".into(),
                secondary: None,
            };
            let object = ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Service".into()),
                namespace: Some(service.namespace().to_owned()),
                name: Some(service.name().to_owned()),
                uid,
                ..ObjectReference::default()
            };
            if let Err(error) = recorder.publish(&event, &object).await {
                debug!(%error, reason, "cannot record an event");
            }
        });
    }
}
