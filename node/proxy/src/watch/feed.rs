//! What the API server and the node's network say, as it comes.

use futures::{Stream, StreamExt, stream::BoxStream};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use tracing::warn;

use super::{Sources, seen::Seen};
use crate::{
    HostPorts,
    policy::{self, AdminKind},
};

pub(super) struct Feed {
    services: BoxStream<'static, Event<Service>>,
    slices: BoxStream<'static, Event<EndpointSlice>>,
    nodes: BoxStream<'static, Event<Node>>,
    host_ports: HostPorts,
    client: Client,
    policies: BoxStream<'static, Result<Event<NetworkPolicy>, watcher::Error>>,
    admin: BoxStream<'static, policy::Told>,
    baseline: BoxStream<'static, policy::Told>,
    /// While there are policies.
    peers: Option<Peers>,
}

/// Whom policies may be about.
struct Peers {
    namespaces: BoxStream<'static, Event<Namespace>>,
    pods: BoxStream<'static, Event<Pod>>,
}

enum Peer {
    Namespace(Event<Namespace>),
    Pod(Event<Pod>),
}

impl Peers {
    fn new(client: &Client) -> Self {
        let everything = watcher::Config::default;
        Self {
            namespaces: watch(Api::all(client.clone()), everything()).boxed(),
            pods: watch(Api::all(client.clone()), everything()).boxed(),
        }
    }

    async fn next(peers: &mut Option<Self>) -> Peer {
        let Some(Self { namespaces, pods }) = peers else {
            return std::future::pending().await;
        };
        tokio::select! {
            Some(event) = namespaces.next() => Peer::Namespace(event),
            Some(event) = pods.next() => Peer::Pod(event),
            else => std::future::pending().await,
        }
    }
}

impl Feed {
    pub(super) fn new(sources: Sources) -> Self {
        let Sources {
            client,
            mut host_ports,
            owners: _,
        } = sources;
        // What was told before is news here.
        host_ports.mark_changed();
        let everything = watcher::Config::default;
        Self {
            services: watch(Api::all(client.clone()), everything()).boxed(),
            slices: watch(Api::all(client.clone()), everything()).boxed(),
            nodes: watch(Api::all(client.clone()), everything()).boxed(),
            host_ports,
            policies: watcher::watcher(Api::all(client.clone()), everything())
                .default_backoff()
                .boxed(),
            admin: policy::watch(&client, AdminKind::Admin),
            baseline: policy::watch(&client, AdminKind::Baseline),
            peers: None,
            client,
        }
    }

    /// Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self, seen: &mut Seen) {
        if !seen.policies.wants_peers() {
            self.peers = None;
        } else if self.peers.is_none() {
            self.peers = Some(Peers::new(&self.client));
        }
        tokio::select! {
            Some(event) = self.policies.next() => seen.policy(event),
            Some(told) = self.admin.next() => seen.admin_policy(AdminKind::Admin, told),
            Some(told) = self.baseline.next() => seen.admin_policy(AdminKind::Baseline, told),
            peer = Peers::next(&mut self.peers) => match peer {
                Peer::Namespace(event) => seen.policies.namespace(event),
                Peer::Pod(event) => seen.policies.pod(event),
            },
            Some(event) = self.services.next() => seen.service(event),
            Some(event) = self.slices.next() => seen.slice(event),
            Some(event) = self.nodes.next() => seen.node(event),
            // Without a network any more the daemon is about to end.
            Ok(()) = self.host_ports.changed() => {
                seen.host_ports(self.host_ports.borrow_and_update().clone());
            }
            // The streams try again for ever.
            else => std::future::pending().await,
        }
    }
}

/// The events of one kind, tried again for ever.
fn watch<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = Event<K>>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    watcher::watcher(api, config).default_backoff().filter_map(|event| async {
        event.inspect_err(|error| warn!(kind = %K::kind(&Default::default()), %error, "watch broke; trying again")).ok()
    })
}
