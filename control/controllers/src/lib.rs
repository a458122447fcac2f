//! The controllers: each watches what it needs, decides in a pure function, and writes through the
//! API like any other client.
//!
//! [`informer`] keeps one cache a kind, [`queue`] and [`worker`] run reconcilers that take no input
//! but a key, [`events`] tells people what was done.

mod deployment;
mod error;
mod events;
mod informer;
mod informers;
mod key;
mod ownership;
mod pending;
mod pod;
mod queue;
mod replica_set;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::deployment::DeploymentController;
use self::events::Recorder;
use self::informers::Informers;
use self::key::ObjectKey;
use self::queue::Queue;
use self::replica_set::ReplicaSetController;

#[derive(Clone, Debug)]
pub struct ControllersConfig {
    pub pod_cidr: IpNet,
    pub node_cidr_mask_size: u8,
    pub root_ca_pem: String,
    pub node_monitor_grace_period: Duration,
}

/// Runs all controllers until shutdown.
pub async fn run(client: Client, config: ControllersConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let informers = Informers::default();
    let (events, recording) = Recorder::new(client.clone(), shutdown.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(recording);

    // Listeners first: they hear of every object once.
    macro_rules! controller {
        ($new:expr) => {{
            let queue: Arc<Queue<ObjectKey>> = Arc::default();
            let reconciler = Arc::new($new(&queue));
            (reconciler, queue)
        }};
    }
    let deployments = controller!(|queue| DeploymentController::new(client.clone(), &events, &informers, queue));
    let replica_sets = controller!(|queue| ReplicaSetController::new(client.clone(), &events, &informers, queue));

    informers.spawn(&client, &mut tasks, &shutdown);
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = informers.wait_synced() => {}
    }
    worker::spawn(&mut tasks, deployments.0, deployments.1, &shutdown);
    worker::spawn(&mut tasks, replica_sets.0, replica_sets.1, &shutdown);
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}
