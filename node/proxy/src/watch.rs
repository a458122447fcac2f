//! Watches Services, EndpointSlices, Nodes and the host ports of pods, and keeps the maps in step.
//!
//! Input: the watch streams, the node's links, and a timer. Output: the maps,
//! the programs in the kernel, announcements, health checks, Events, metrics.
//! Nothing is written, and nothing attached, before all of them have been listed
//! once. They are listed while the programs are loaded.

use std::{pin::pin, sync::Arc, time::Duration};

use kube::Client;
use tokio::{
    sync::watch as watch_channel,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use vetch_network::Owners;

mod feed;
mod keeper;
mod seen;

use crate::{
    Error, HostPorts, ProxyConfig, TablePressure, events::Events, health::Health, hooks::Follow,
    metrics::Metrics, programs::maps_dir, proxy::Proxy, ring, sweep::Sweeps, trace,
};
use feed::Feed;
use keeper::Keeper;
use seen::Seen;

/// Changes that come within this of the last write are written together; a
/// change after a pause is written at once.
const BATCH: Duration = Duration::from_millis(50);

/// How often the maps are read back.
const AUDIT: Duration = Duration::from_secs(60);

/// How long a daemon that starts waits for policies before it serves without knowing
/// them. Who is held already stays so; who is new is let through when they are known.
const POLICIES_WAIT: Duration = Duration::from_secs(5);

/// Who is told what becomes of the services.
pub struct Tell {
    pub health: Health,
    pub metrics: Metrics,
    pub events: Events,
    pub pressure: TablePressure,
}

/// Who says what there is to serve.
pub struct Sources {
    pub client: Client,
    pub host_ports: HostPorts,
    pub owners: watch_channel::Receiver<Option<Arc<Owners>>>,
}

/// `opening` loads the programs: what there is to serve is listed meanwhile.
pub async fn keep_in_step(
    sources: Sources,
    opening: impl Future<Output = Result<(Proxy, Follow), Error>>,
    config: &ProxyConfig,
    tell: Tell,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let owners = sources.owners.clone();
    let mut feed = Feed::new(sources);
    let mut seen = Seen::new(config, tell);
    let mut opening = pin!(opening);
    let (mut proxy, links) = loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            opened = &mut opening => break opened?,
            () = feed.next(&mut seen) => {}
        }
    };
    let mut programs_log = pin!(trace::forward(trace::logger(proxy.programs().ebpf())));
    let maps_dir = maps_dir(&config.pin_dir);
    let mut room = pin!(ring::keep_room(&maps_dir));
    let mut sweeps = Sweeps::new(proxy.sweeper()?);
    let mut keeper = Keeper::new(config, owners, seen, proxy, links)?;
    let mut audit = interval(AUDIT);
    audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_write = Instant::now();
    let mut next_rules = next_write;
    let patience = next_write + POLICIES_WAIT;
    loop {
        // Services do not wait for ever for what policies say of pods.
        let begin = if keeper.in_sync || keeper.seen.policies.complete() {
            next_write
        } else {
            patience
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = &mut programs_log => return Ok(()),
            never = &mut room => match never {},
            () = feed.next(&mut keeper.seen) => {}
            () = sleep_until(begin), if keeper.due() => {
                keeper.write()?;
                keeper.tell().await;
                next_write = Instant::now() + BATCH;
            }
            () = sleep_until(next_rules), if keeper.in_sync && keeper.seen.policies.is_due() => {
                keeper.hold();
                next_rules = Instant::now() + BATCH;
            }
            () = keeper.links.due(), if keeper.in_sync => keeper.follow_pods(),
            swept = sweeps.next() => keeper.swept(&swept),
            conflicts = keeper.claimer.next(), if keeper.in_sync => keeper.claimed(conflicts),
            _ = audit.tick(), if keeper.in_sync => {
                keeper.check();
                keeper.tell().await;
            }
        }
    }
}
