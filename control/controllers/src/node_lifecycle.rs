//! Nodes that fall silent: their conditions turn Unknown, taints follow, their pods leave the
//! endpoints. A node that speaks again is rid of its taints.

mod health;
mod pods;
mod taints;
mod zones;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference, Pod, Taint};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;
use tracing::{info, warn};

use self::health::{Heartbeat, Verdict, lost_conditions};
use self::taints::Eviction;
use self::zones::{Limiter, zone};
use crate::error::{Attempt as _, Result, chain};
use crate::events::{Note, Recorder};
use crate::informer::{Change, Informer};
use crate::informers::{Informers, NODE_LEASES};
use crate::key::{ObjectKey, name_of};
use crate::node::{Ready, ready};
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

/// The API server that does not answer in this time is out of reach.
const PROBE: Duration = Duration::from_secs(5);
/// One that takes longer than this, or than a good part of the grace, was out of reach until a
/// moment ago.
const SLOW: Duration = Duration::from_secs(1);

struct Known {
    heartbeat: Heartbeat,
    ready: Ready,
    /// The node has just stopped being ready, and its pods do not say so yet.
    pods_due: bool,
}

type AllKnown = Mutex<HashMap<String, Known>>;

pub struct NodeLifecycle {
    client: Client,
    events: Recorder,
    grace: Duration,
    nodes: Arc<Informer<Node>>,
    leases: Arc<Informer<Lease>>,
    pods: Arc<Informer<Pod>>,
    known: Arc<AllKnown>,
    limiter: Mutex<Limiter>,
    out_of_reach: AtomicBool,
}

impl NodeLifecycle {
    pub fn new(
        client: Client,
        grace: Duration,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> NodeLifecycle {
        let known: Arc<AllKnown> = Arc::default();
        let (keys, nodes) = (queue.clone(), informers.nodes.clone());
        informers
            .nodes
            .listen(move |change: &Change<Node>| node_changed(change, &nodes, &keys));
        let seen = known.clone();
        informers.node_leases.listen(move |change: &Change<Lease>| {
            if let Some(lease) = &change.new {
                let mut known = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(known) = known.get_mut(name_of(lease.as_ref())) {
                    known.heartbeat.see_lease(lease, Instant::now());
                }
            }
        });
        NodeLifecycle {
            client,
            events: events.of("node-controller"),
            grace,
            nodes: informers.nodes.clone(),
            leases: informers.node_leases.clone(),
            pods: informers.pods.clone(),
            known,
            limiter: Mutex::default(),
            out_of_reach: AtomicBool::new(false),
        }
    }
}

/// What happens to a lost node depends on how the others are.
fn node_changed(change: &Change<Node>, nodes: &Informer<Node>, queue: &Queue<ObjectKey>) {
    if let Some(node) = change.latest() {
        queue.add(ObjectKey::of(node.as_ref()));
    }
    let state = |node: &Option<Arc<Node>>| node.as_ref().map(|node| ready(node));
    if state(&change.old) == state(&change.new) {
        return;
    }
    for node in nodes.select("", |node| ready(node) != Ready::True) {
        queue.add(ObjectKey::of(node.as_ref()));
    }
}

impl Reconcile for NodeLifecycle {
    type Key = ObjectKey;

    const NAME: &'static str = "nodelifecycle";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(node) = self.nodes.get(key) else {
            if let Some(known) = self.with(|known| known.remove(&key.name)) {
                self.tell_removed(&key.name, known.heartbeat.uid());
            }
            return Ok(Next::OnChange);
        };
        let (mut next, mut lost) = (Next::OnChange, false);
        match self.judge(&node) {
            Verdict::Alive(wait) => next = Next::After(wait),
            Verdict::Silent(wait) => {
                self.probe(key).await;
                next = Next::After(wait);
            }
            Verdict::Lost => lost = true,
        }
        let mut node = node;
        if lost && let Some(conditions) = lost_conditions(&node, Timestamp::now()) {
            // The last word is the server's: a watch may be behind, or the server out of reach.
            self.probe(key).await;
            match self.judge(&node) {
                Verdict::Lost => {}
                Verdict::Alive(wait) | Verdict::Silent(wait) => return Ok(Next::After(wait)),
            }
            node = Arc::new(self.write_conditions(&node, conditions).await?);
        }
        self.follow(&node).await?;
        let wait = self.taint(&node).await?;
        Ok(next.at_most(wait))
    }
}

impl NodeLifecycle {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<String, Known>) -> T) -> T {
        f(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell_removed(&self, name: &str, uid: Option<&str>) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(name.to_owned()),
            uid: uid.map(str::to_owned),
            ..ObjectReference::default()
        };
        let message = format!("Node {name} event: Removing Node {name} from Controller");
        self.events
            .record_about(about, Note::normal("RemovingNode", message));
    }

    /// Notes the node's signs of life, and judges them.
    fn judge(&self, node: &Node) -> Verdict {
        let now = Instant::now();
        let lease = self.leases.get(&ObjectKey::new(NODE_LEASES, name_of(node)));
        let (verdict, new) = self.with(|all| {
            let known = all.get(name_of(node));
            let new = known.is_none_or(|known| !known.heartbeat.is_of(node));
            if new {
                let known = Known {
                    heartbeat: Heartbeat::new(node, now),
                    ready: ready(node),
                    pods_due: false,
                };
                all.insert(name_of(node).to_owned(), known);
            }
            let Some(known) = all.get_mut(name_of(node)) else {
                return (Verdict::Alive(self.grace), new);
            };
            known.heartbeat.see_node(node, now);
            if let Some(lease) = lease {
                known.heartbeat.see_lease(&lease, now);
            }
            (known.heartbeat.judge(node, self.grace, now), new)
        });
        if new {
            let name = name_of(node);
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            self.events
                .record(node, Note::normal("RegisteredNode", message));
        }
        verdict
    }

    /// Reads the node's lease from the server. A server that does not answer excuses every node: none
    /// can have renewed anything.
    async fn probe(&self, key: &ObjectKey) {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), NODE_LEASES);
        let asked = Instant::now();
        let read = tokio::time::timeout(PROBE, api.get_opt(&key.name)).await;
        let now = Instant::now();
        let trouble = match read {
            Ok(Ok(_)) if now - asked > SLOW.min(self.grace / 10) => {
                Some("it answers slowly".to_owned())
            }
            Ok(Ok(Some(lease))) => {
                self.with(|all| {
                    if let Some(known) = all.get_mut(&key.name) {
                        known.heartbeat.see_lease(&lease, now);
                    }
                });
                None
            }
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some(format!("no answer within {} s", PROBE.as_secs())),
        };
        let was_out = self.out_of_reach.swap(trouble.is_some(), Ordering::Relaxed);
        match &trouble {
            None if was_out => info!("the API server answers again"),
            Some(trouble) if !was_out => {
                warn!("no node is marked lost: the API server is out of reach: {trouble}");
            }
            _ => {}
        }
        // Also when it is back: from then on nodes have their whole grace.
        if was_out || trouble.is_some() {
            self.with(|all| {
                all.values_mut()
                    .for_each(|known| known.heartbeat.excuse(now));
            });
        }
    }

    async fn write_conditions(&self, node: &Node, conditions: Vec<NodeCondition>) -> Result<Node> {
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = json!({
            "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
            "status": {"conditions": conditions},
        });
        let patched = api
            .patch_status(
                name_of(node),
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await;
        patched.during(|| format!("write conditions of node {}", name_of(node)))
    }

    /// Tells people and pods when a node stops being ready.
    async fn follow(&self, node: &Node) -> Result<()> {
        let now = ready(node);
        let well = matches!(now, Ready::True | Ready::Unsaid);
        let (left, due) = self.with(|all| {
            let Some(known) = all.get_mut(name_of(node)) else {
                return (false, false);
            };
            let left = std::mem::replace(&mut known.ready, now) == Ready::True && !well;
            known.pods_due = !well && (known.pods_due || left);
            // A silent node cannot object, so that this also holds after a restart in between.
            (left, known.pods_due || now == Ready::Unknown)
        });
        if left {
            let message = format!("Node {} status is now: NodeNotReady", name_of(node));
            self.events
                .record(node, Note::normal("NodeNotReady", message));
        }
        if due {
            pods::mark_not_ready(&self.client, &self.events, &self.pods, name_of(node)).await?;
            self.with(|all| {
                if let Some(known) = all.get_mut(name_of(node)) {
                    known.pods_due = false;
                }
            });
        }
        Ok(())
    }

    /// Answers when to look again because other nodes go first.
    async fn taint(&self, node: &Node) -> Result<Option<Duration>> {
        let zone = zone(node);
        let (eviction, wait) = self.eviction(node, &zone);
        let Some(taints) = taints::plan(node, eviction, Timestamp::now()) else {
            return Ok(wait);
        };
        let written = self.write_taints(node, taints).await;
        if written.is_err() && eviction == Eviction::Begin {
            self.limiter().give_back(&zone);
        }
        written.map(|()| wait)
    }

    fn eviction(&self, node: &Node, zone: &zones::Zone) -> (Eviction, Option<Duration>) {
        let begins = taints::wants_eviction(node);
        if !begins && !taints::is_evicted(node) {
            return (Eviction::Later, None);
        }
        // The cache may not show yet what was just written of this node.
        let mut nodes = self.nodes.select("", |own| name_of(own) != name_of(node));
        nodes.push(Arc::new(node.clone()));
        match zones::pace(&nodes, zone) {
            Err(eviction) => (eviction, None),
            Ok(_) if !begins => (Eviction::Later, None),
            Ok(pace) => match self.limiter().take(zone, pace, Instant::now()) {
                Ok(()) => (Eviction::Begin, None),
                Err(wait) => (Eviction::Later, Some(wait)),
            },
        }
    }

    fn limiter(&self) -> std::sync::MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write_taints(&self, node: &Node, taints: Vec<Taint>) -> Result<()> {
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = json!({
            "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
            "spec": {"taints": (!taints.is_empty()).then_some(taints)},
        });
        let patched = api
            .patch(
                name_of(node),
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await;
        patched.during(|| format!("write taints of node {}", name_of(node)))?;
        Ok(())
    }
}
