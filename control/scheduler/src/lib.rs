//! The scheduler: pods without a node get one.
//!
//! [`scheduler`] holds what is known and decides, pod by pod, without IO: [`queue`] says which pod
//! is next, [`filter`] which nodes can run it, [`score`] which should, [`preempt`] who would have to
//! go; [`effects`] does what was decided. [`run`] joins watches, decisions and effects.

mod affinity;
mod cache;
mod decide;
mod diagnosis;
mod effects;
mod filter;
mod hints;
mod mirror;
mod node_info;
mod pod_info;
mod preempt;
mod queue;
mod resources;
mod scheduler;
mod score;
mod selector;
mod spread;
mod taints;
#[cfg(test)]
mod testing;
mod volumes;

use std::future::{pending, ready};

use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::effects::Effects;
use self::scheduler::{Input, Scheduler};

/// Effects under way at once. Decisions wait for them beyond that: an API server that lags behind
/// is not helped by more.
const EFFECTS: usize = 64;

/// Schedules pods of `default-scheduler` until shutdown. Watches that fail are begun again.
///
/// # Errors
/// An effect panicked.
pub async fn run(client: Client, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut inputs = inputs(&client);
    let mut scheduler = Scheduler::new(rand::random());
    let effects = Effects::new(client);
    let mut under_way = JoinSet::new();
    loop {
        let next_tick = scheduler.next_tick();
        let tick = async {
            match next_tick {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        let may_decide = under_way.len() < EFFECTS && scheduler.is_ready();
        // What is observed comes first: a decision should know all there is to know.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(input) = inputs.next() => scheduler.observe(input),
            Some(ended) = under_way.join_next() => {
                if let Some(outcome) = ended? {
                    scheduler.finish(outcome, Instant::now());
                }
            }
            () = tick => scheduler.tick(Instant::now()),
            () = ready(()), if may_decide => {
                let decided = scheduler.decide(Instant::now(), jiff::Timestamp::now());
                if let Some(effect) = decided {
                    under_way.spawn(effects.clone().run(effect));
                }
                // Nothing above waits while there are pods; effects and watches want a turn.
                tokio::task::yield_now().await;
            }
        }
    }
    info!("scheduler stops");
    Ok(())
}

fn inputs(client: &Client) -> SelectAll<BoxStream<'static, Input>> {
    // Pods that have ended hold nothing, and leave this selection as if deleted.
    let alive = "status.phase!=Succeeded,status.phase!=Failed";
    let pods: Api<Pod> = Api::all(client.clone());
    let all = watcher::Config::default;
    futures::stream::select_all([
        watched(Api::all(client.clone()), all(), Input::Node),
        watched(Api::all(client.clone()), all(), Input::Namespace),
        watched(Api::all(client.clone()), all(), Input::Service),
        watched(Api::all(client.clone()), all(), Input::Claim),
        watched(Api::all(client.clone()), all(), Input::Volume),
        watched(Api::all(client.clone()), all(), Input::Class),
        watched(pods, all().fields(alive), Input::Pod),
    ])
}

fn watched<K>(
    api: Api<K>,
    config: watcher::Config,
    input: fn(watcher::Event<K>) -> Input,
) -> BoxStream<'static, Input>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let events = watcher(api, config).default_backoff();
    let known = events.filter_map(move |event| {
        ready(match event {
            Ok(event) => Some(input(event)),
            Err(error) => {
                warn!(kind = %K::kind(&()), "watch: {:#}", anyhow::Error::new(error));
                None
            }
        })
    });
    known.boxed()
}
