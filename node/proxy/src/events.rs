//! Events at Services: what they ask for and do not get from this node. And at the Node, whose address another has.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::{debug, warn};

use crate::{
    announce::claims::Conflict,
    health::node_ports::Failed,
    index::{ObjectName, Report},
};

#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    node: String,
}

/// An address of this node's that another host on the link answers for.
const CONFLICT: &str = "AddressConflict";

impl Events {
    pub fn new(client: Client, node_name: String) -> Self {
        let reporter = Reporter {
            controller: "vetch-proxy".into(),
            instance: Some(node_name.clone()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
            node: node_name,
        }
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

    pub fn conflict(&self, conflict: &Conflict, service: ObjectName, uid: Option<String>) {
        warn!(%service, %conflict, "an address is not announced");
        let note = format!("{conflict}: it is not announced while that is so");
        self.warn(service, uid, CONFLICT, note);
    }

    pub fn node_conflict(&self, conflict: &Conflict) {
        warn!(%conflict, "two hosts have one address: what is sent to this node may get to the other");
        let note = format!("{conflict}, and it is this node's: give one of them another");
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(self.node.clone()),
            // The kubelet's: `kubectl describe node` looks for the name too.
            uid: Some(self.node.clone()),
            ..ObjectReference::default()
        };
        self.publish(object, CONFLICT, note);
    }

    fn warn(&self, service: ObjectName, uid: Option<String>, reason: &'static str, note: String) {
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Service".into()),
            namespace: Some(service.namespace().to_owned()),
            name: Some(service.name().to_owned()),
            uid,
            ..ObjectReference::default()
        };
        self.publish(object, reason, note);
    }

    /// Best effort: an Event is news, not state.
    fn publish(&self, object: ObjectReference, reason: &'static str, note: String) {
        let recorder = self.recorder.clone();
        tokio::spawn(async move {
            let event = Event {
                type_: EventType::Warning,
                reason: reason.into(),
                note: Some(note),
                action: "Sync".into(),
                secondary: None,
            };
            if let Err(error) = recorder.publish(&event, &object).await {
                debug!(%error, reason, "cannot record an event");
            }
        });
    }
}
