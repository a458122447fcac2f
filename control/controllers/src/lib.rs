//! The controllers: each watches what it needs, decides in a pure function, and writes through the
//! API like any other client.
//!
//! What no client may do, signing certificates, is done by a signer that is handed in.
//! [`informer`] keeps one cache a kind, [`queue`] and [`worker`] run reconcilers that take no input
//! but a key, [`events`] tells people what was done.

mod bootstrap;
mod certificates;
mod deployment;
mod disruption;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
mod ephemeral_volume;
mod error;
mod events;
mod garbage;
mod informer;
mod informers;
mod ip_addresses;
mod key;
mod kinds;
mod load_balancer;
mod namespace;
mod node;
mod node_ipam;
mod node_lifecycle;
mod ownership;
mod pending;
mod persistent_volume;
mod pod;
mod pod_gc;
mod queue;
mod replica_set;
mod root_ca;
mod service;
mod service_account;
mod service_cidr;
mod taint_eviction;
mod volume_key;
mod volume_protection;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::bootstrap::clean::TokenCleaner;
use self::bootstrap::sign::BootstrapSigner;
use self::certificates::approve::CertificateApproval;
use self::certificates::clean::CertificateCleaner;
use self::certificates::sign::CertificateSigning;
use self::deployment::DeploymentController;
use self::disruption::DisruptionController;
use self::endpoint_slice::EndpointSliceController;
use self::endpoint_slice_mirroring::EndpointSliceMirroring;
use self::endpoints::EndpointsController;
use self::ephemeral_volume::EphemeralVolumes;
use self::events::Recorder;
use self::garbage::GarbageCollector;
use self::informers::Informers;
use self::ip_addresses::IpAddresses;
use self::load_balancer::LoadBalancers;
pub use self::load_balancer::{AddressRange, RangeError};
use self::namespace::NamespaceController;
use self::node_ipam::NodeIpam;
pub use self::node_ipam::{NodeMasks, RangesError};
use self::node_lifecycle::NodeLifecycle;
use self::persistent_volume::VolumeBinder;
use self::pod_gc::PodGc;
use self::queue::Queue;
use self::replica_set::ReplicaSetController;
use self::root_ca::RootCaPublisher;
use self::service_account::ServiceAccountController;
use self::service_cidr::ServiceCidrs;
use self::taint_eviction::TaintEviction;
use self::volume_protection::VolumeProtection;

#[derive(Clone, Debug)]
pub struct ControllersConfig {
    /// Each cut into one range a node: one network, or two of different families.
    pub pod_cidrs: Vec<IpNet>,
    /// Prefix lengths of nodes' ranges.
    pub node_masks: NodeMasks,
    /// What pods verify the API server with, in every namespace's kube-root-ca.crt.
    pub root_ca_pem: String,
    /// A node silent for longer is lost.
    pub node_monitor_grace_period: Duration,
    /// Where services of type LoadBalancer get their addresses from; without it they wait for somebody else.
    pub load_balancer_pool: Vec<AddressRange>,
    /// Signs what was approved.
    pub signer: vetch_identity::Signer,
    /// Where nodes make the directories of claims whose class is of the provisioner `kubernetes.io/host-path`.
    pub host_path_volumes: PathBuf,
}

/// Runs all controllers until shutdown.
///
/// # Errors
/// Where the configuration makes no sense, or a controller panicked.
pub async fn run(
    client: Client,
    config: ControllersConfig,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let informers = Informers::default();
    let (events, recording) = Recorder::new(client.clone(), shutdown.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(recording);

    // Listeners first: they hear of every object once.
    macro_rules! controller {
        (|$queue:ident| $new:expr) => {{
            let $queue = Arc::new(Queue::default());
            let reconciler = Arc::new($new);
            (reconciler, $queue)
        }};
    }
    let c = &client;
    let deployments =
        controller!(|queue| DeploymentController::new(c.clone(), &events, &informers, &queue));
    let replica_sets =
        controller!(|queue| ReplicaSetController::new(c.clone(), &events, &informers, &queue));
    let slices =
        controller!(|queue| EndpointSliceController::new(c.clone(), &events, &informers, &queue));
    let mirroring =
        controller!(|queue| EndpointSliceMirroring::new(c.clone(), &events, &informers, &queue));
    let endpoints =
        controller!(|queue| EndpointsController::new(c.clone(), &events, &informers, &queue));
    let namespaces = controller!(|queue| NamespaceController::new(c.clone(), &informers, &queue));
    let accounts =
        controller!(|queue| ServiceAccountController::new(c.clone(), &informers, &queue));
    let root_ca = controller!(|queue| {
        RootCaPublisher::new(c.clone(), config.root_ca_pem, &informers, &queue)
    });
    let grace = config.node_monitor_grace_period;
    let lifecycle =
        controller!(|queue| NodeLifecycle::new(c.clone(), grace, &events, &informers, &queue));
    let eviction = controller!(|queue| TaintEviction::new(c.clone(), &events, &informers, &queue));
    let ranges = config.node_masks.ranges(&config.pod_cidrs)?;
    let ipam = controller!(|queue| NodeIpam::new(c.clone(), ranges, &events, &informers, &queue));
    let pool = config.load_balancer_pool;
    let balancers = (!pool.is_empty()).then(|| {
        controller!(|queue| LoadBalancers::new(c.clone(), pool, &events, &informers, &queue))
    });
    let cidrs = controller!(|queue| ServiceCidrs::new(c.clone(), &informers, &queue));
    let addresses = controller!(|queue| IpAddresses::new(c.clone(), &events, &informers, &queue));
    let pod_gc = controller!(|queue| PodGc::new(c.clone(), &informers, &queue));
    let disruption = controller!(|queue| DisruptionController::new(c.clone(), &informers, &queue));
    let approval = controller!(|queue| CertificateApproval::new(c.clone(), &informers, &queue));
    let signer = config.signer;
    let signing =
        controller!(|queue| CertificateSigning::new(c.clone(), signer, &informers, &queue));
    let csr_cleaner = controller!(|queue| CertificateCleaner::new(c.clone(), &informers, &queue));
    let bootstrap_signer = controller!(|queue| BootstrapSigner::new(c.clone(), &informers, &queue));
    let token_cleaner = controller!(|queue| TokenCleaner::new(c.clone(), &informers, &queue));
    let directory = config.host_path_volumes;
    let binder =
        controller!(|queue| VolumeBinder::new(c.clone(), directory, &events, &informers, &queue));
    let protection = controller!(|queue| VolumeProtection::new(c.clone(), &informers, &queue));
    let ephemeral =
        controller!(|queue| EphemeralVolumes::new(c.clone(), &events, &informers, &queue));
    let removals = namespace::watch_removals(&informers, &namespaces.1);
    let garbage = GarbageCollector::new(
        client.clone(),
        &events,
        &informers,
        vec![Arc::new(removals)],
    );

    informers.spawn(&client, &mut tasks, &shutdown);
    tasks.spawn(garbage.run(informers.clone(), shutdown.clone()));
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = informers.wait_synced() => {}
    }
    for key in endpoints.0.leftovers() {
        endpoints.1.add(key);
    }
    macro_rules! work {
        ($($controller:ident),*) => {$(
            tasks.spawn(worker::run($controller.0, $controller.1, shutdown.clone()));
        )*};
    }
    work!(
        deployments,
        replica_sets,
        slices,
        mirroring,
        endpoints,
        namespaces,
        accounts,
        root_ca,
        lifecycle,
        eviction,
        ipam,
        cidrs,
        addresses,
        pod_gc,
        approval,
        signing,
        csr_cleaner,
        bootstrap_signer,
        token_cleaner,
        disruption,
        binder,
        protection,
        ephemeral
    );
    if let Some(balancers) = balancers {
        work!(balancers);
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}
