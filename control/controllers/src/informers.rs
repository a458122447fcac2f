//! One watch a kind, shared by all controllers.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret,
    Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Config;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::endpoint_slice::of_service;
use crate::informer::{Change, Informer};
use crate::key::ObjectKind;

/// Where nodes keep their heartbeats.
pub const NODE_LEASES: &str = "kube-node-lease";
/// Where bootstrap tokens are.
pub const TOKENS: &str = "kube-system";

#[derive(Clone)]
pub struct Informers {
    /// Secrets of that type alone: nobody here needs others.
    pub bootstrap_tokens: Arc<Informer<Secret>>,
    pub certificate_requests: Arc<Informer<CertificateSigningRequest>>,
    pub config_maps: Arc<Informer<ConfigMap>>,
    pub deployments: Arc<Informer<Deployment>>,
    pub disruption_budgets: Arc<Informer<PodDisruptionBudget>>,
    pub endpoint_slices: Arc<Informer<EndpointSlice>>,
    pub endpoints: Arc<Informer<Endpoints>>,
    pub ip_addresses: Arc<Informer<IPAddress>>,
    pub namespaces: Arc<Informer<Namespace>>,
    pub node_leases: Arc<Informer<Lease>>,
    pub nodes: Arc<Informer<Node>>,
    pub persistent_volume_claims: Arc<Informer<PersistentVolumeClaim>>,
    pub persistent_volumes: Arc<Informer<PersistentVolume>>,
    pub pods: Arc<Informer<Pod>>,
    pub replica_sets: Arc<Informer<ReplicaSet>>,
    pub service_accounts: Arc<Informer<ServiceAccount>>,
    pub service_cidrs: Arc<Informer<ServiceCIDR>>,
    pub services: Arc<Informer<Service>>,
    pub storage_classes: Arc<Informer<StorageClass>>,
}

impl Default for Informers {
    fn default() -> Informers {
        Informers {
            bootstrap_tokens: Arc::default(),
            certificate_requests: Arc::default(),
            config_maps: Arc::default(),
            deployments: Arc::default(),
            disruption_budgets: Arc::default(),
            endpoint_slices: Arc::new(Informer::owned_by(of_service)),
            endpoints: Arc::default(),
            ip_addresses: Arc::default(),
            namespaces: Arc::default(),
            node_leases: Arc::default(),
            nodes: Arc::default(),
            persistent_volume_claims: Arc::default(),
            persistent_volumes: Arc::default(),
            pods: Arc::default(),
            replica_sets: Arc::default(),
            service_accounts: Arc::default(),
            service_cidrs: Arc::default(),
            services: Arc::default(),
            storage_classes: Arc::default(),
        }
    }
}

impl Informers {
    /// Begins all watches. Listeners must have been added: they hear of every object once.
    pub fn spawn(&self, client: &Client, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
        macro_rules! watch {
            ($informer:ident, $api:expr) => {{
                let (informer, shutdown) = (self.$informer.clone(), shutdown.clone());
                let api = $api;
                tasks.spawn(async move { informer.run(api, shutdown).await });
            }};
        }
        let (tokens, stop) = (self.bootstrap_tokens.clone(), shutdown.clone());
        let api = Api::namespaced(client.clone(), TOKENS);
        tasks.spawn(async move {
            let of_type = Config::default().fields("type=bootstrap.kubernetes.io/token");
            tokens.run_selected(api, of_type, stop).await;
        });
        watch!(certificate_requests, Api::all(client.clone()));
        watch!(config_maps, Api::all(client.clone()));
        watch!(deployments, Api::all(client.clone()));
        watch!(disruption_budgets, Api::all(client.clone()));
        watch!(endpoint_slices, Api::all(client.clone()));
        watch!(endpoints, Api::all(client.clone()));
        watch!(ip_addresses, Api::all(client.clone()));
        watch!(namespaces, Api::all(client.clone()));
        watch!(node_leases, Api::namespaced(client.clone(), NODE_LEASES));
        watch!(nodes, Api::all(client.clone()));
        watch!(persistent_volume_claims, Api::all(client.clone()));
        watch!(persistent_volumes, Api::all(client.clone()));
        watch!(pods, Api::all(client.clone()));
        watch!(replica_sets, Api::all(client.clone()));
        watch!(service_accounts, Api::all(client.clone()));
        watch!(service_cidrs, Api::all(client.clone()));
        watch!(services, Api::all(client.clone()));
        watch!(storage_classes, Api::all(client.clone()));
    }

    /// Until every cache holds what existed when its watch began: deciding on less creates doubles.
    pub async fn wait_synced(&self) {
        self.bootstrap_tokens.wait_synced().await;
        self.certificate_requests.wait_synced().await;
        self.config_maps.wait_synced().await;
        self.deployments.wait_synced().await;
        self.disruption_budgets.wait_synced().await;
        self.endpoint_slices.wait_synced().await;
        self.endpoints.wait_synced().await;
        self.ip_addresses.wait_synced().await;
        self.namespaces.wait_synced().await;
        self.node_leases.wait_synced().await;
        self.nodes.wait_synced().await;
        self.persistent_volume_claims.wait_synced().await;
        self.persistent_volumes.wait_synced().await;
        self.pods.wait_synced().await;
        self.replica_sets.wait_synced().await;
        self.service_accounts.wait_synced().await;
        self.service_cidrs.wait_synced().await;
        self.services.wait_synced().await;
        self.storage_classes.wait_synced().await;
    }

    /// Tells the listener of the metadata of every object of a kind that is watched whole, when
    /// owners, finalizers or deletion change, and whether it is gone. Answers which kinds that are.
    pub fn listen_metadata(
        &self,
        listener: impl Fn(&ObjectKind, &ObjectMeta, bool) + Clone + Send + Sync + 'static,
    ) -> Vec<ObjectKind> {
        let mut kinds = Vec::new();
        macro_rules! listen {
            ($($informer:ident: $kind:ty),*) => {$({
                let (kind, listener) = (ObjectKind::of::<$kind>(), listener.clone());
                kinds.push(kind.clone());
                self.$informer.listen(move |change: &Change<$kind>| {
                    if let Some(object) = change.latest().filter(|_| change.is_about_life()) {
                        listener(&kind, &object.metadata, change.new.is_none());
                    }
                });
            })*};
        }
        listen!(
            certificate_requests: CertificateSigningRequest, config_maps: ConfigMap, deployments: Deployment, disruption_budgets: PodDisruptionBudget, endpoint_slices: EndpointSlice,
            endpoints: Endpoints, ip_addresses: IPAddress, namespaces: Namespace, nodes: Node,
            pods: Pod, replica_sets: ReplicaSet, service_accounts: ServiceAccount,
            service_cidrs: ServiceCIDR, services: Service,
            persistent_volume_claims: PersistentVolumeClaim, persistent_volumes: PersistentVolume,
            storage_classes: StorageClass
        );
        kinds
    }
}
