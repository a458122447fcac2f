//! What was said of what there is to serve, in the indices that make maps of it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
};
use kube::{
    ResourceExt,
    runtime::watcher::{self, Event},
};
use tracing::warn;

use super::Tell;
use crate::{
    ProxyConfig, Tap,
    health::DELETION_TAINT,
    index::Index,
    policy::{self, AdminKind},
};

/// When a controller saw what it then wrote into the slice.
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What was said, and is not written yet.
pub(super) struct Seen {
    node_name: String,
    pub(super) index: Index,
    pub(super) policies: policy::Index,
    tap: Option<Arc<dyn Tap>>,
    pub(super) tell: Tell,
    /// When the changes that are not written yet came to be.
    pub(super) triggers: Vec<Timestamp>,
}

impl Seen {
    pub(super) fn new(config: &ProxyConfig, tell: Tell) -> Self {
        let node_name = config.node_name.clone();
        let mut index = Index::new(node_name.clone(), config.service_proxy_name.clone());
        index.answer_here(config.own_service.clone());
        Self {
            policies: policy::Index::new(node_name.clone()),
            node_name,
            index,
            tap: config.tap.clone(),
            tell,
            triggers: Vec::new(),
        }
    }

    pub(super) fn service(&mut self, event: Event<Service>) {
        self.tell.metrics.service_changes.inc();
        if let Some(tap) = &self.tap {
            tap.service(&event);
        }
        self.index.service(event);
        self.note_change();
    }

    pub(super) fn slice(&mut self, event: Event<EndpointSlice>) {
        self.tell.metrics.endpoint_changes.inc();
        if let Some(tap) = &self.tap {
            tap.slice(&event);
        }
        let trigger = match &event {
            // What a LIST brings is old news.
            Event::Apply(slice) => slice
                .annotations()
                .get(TRIGGER_ANNOTATION)
                .and_then(|time| time.parse::<Timestamp>().ok()),
            _ => None,
        };
        self.index.slice(event);
        if self.index.has_changes() {
            self.triggers.extend(trigger);
        }
        self.note_change();
    }

    pub(super) fn node(&mut self, event: Event<Node>) {
        if let Event::Apply(node) | Event::InitApply(node) = &event
            && node.name_any() == self.node_name
        {
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
            let mut taints = taints.into_iter().flatten();
            let leaving = taints.any(|taint| taint.key == DELETION_TAINT);
            self.tell.health.set_eligible(!leaving);
        }
        self.policies.node(event.clone());
        self.index.node(event);
        self.note_change();
    }

    pub(super) fn policy(&mut self, event: Result<Event<NetworkPolicy>, watcher::Error>) {
        match event {
            Ok(event) => self.policies.policy(event),
            Err(error) if is_unknown_kind(&error) => self.policies.no_policies(),
            Err(error) => warn!(
                %error,
                "cannot read NetworkPolicies, and pods that are new here wait for them: this node's user must \
                 be allowed to list and watch networkpolicies.networking.k8s.io, namespaces and pods of the \
                 whole cluster; trying again"
            ),
        }
    }

    pub(super) fn admin_policy(&mut self, of: AdminKind, told: policy::Told) {
        match told {
            policy::Told::Event(event) => self.policies.admin_policy(of, event),
            policy::Told::NotServed => self.policies.no_admin_policies(of),
            policy::Told::Failed(error) => warn!(
                %error,
                "cannot read {plural}, and pods that are new here wait for them: this node's user must be \
                 allowed to list and watch {plural}.policy.networking.k8s.io; trying again",
                plural = of.plural(),
            ),
        }
    }

    pub(super) fn host_ports(&mut self, pods: Option<Arc<vetch_network::HostPorts>>) {
        if let Some(pods) = pods {
            self.index.host_ports(pods);
            self.note_change();
        }
    }

    fn note_change(&self) {
        if self.index.has_changes() {
            self.tell.health.change_waits(std::time::Instant::now());
        }
    }
}

/// Whether the API server does not serve the kind.
fn is_unknown_kind(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}
