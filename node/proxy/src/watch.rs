//! Watches Services and EndpointSlices and keeps the maps in step.
//!
//! Input: the two watch streams, and a timer. Output: the maps. Nothing is
//! written, and nothing attached, before both kinds have been listed once.

use std::{collections::BTreeSet, pin::pin, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Error,
    index::{Index, ObjectName},
    proxy::{Proxy, chain},
};

/// Changes that come within this of the last write are written together; a
/// change after a pause is written at once.
const BATCH: Duration = Duration::from_millis(50);

/// How often the maps are read back.
const AUDIT: Duration = Duration::from_secs(60);

pub async fn keep_in_step(
    client: Client,
    mut proxy: Proxy,
    proxy_name: Option<String>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let mut services = pin!(watch::<Service>(Api::all(client.clone())));
    let mut slices = pin!(watch::<EndpointSlice>(Api::all(client)));
    let mut index = Index::new(proxy_name);
    let mut audit = interval(AUDIT);
    audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut in_sync = false;
    let mut retry: BTreeSet<ObjectName> = BTreeSet::new();
    let mut next_write = Instant::now();
    loop {
        let due = index.complete() && (index.has_changes() || !in_sync);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(event) = services.next() => index.service(event),
            Some(event) = slices.next() => index.slice(event),
            () = sleep_until(next_write), if due => {
                let failed = if in_sync {
                    proxy.sync(&index.take_changes())
                } else {
                    first_sync(&mut proxy, &mut index)?
                };
                in_sync = true;
                retry.extend(failed);
                next_write = Instant::now() + BATCH;
            }
            _ = audit.tick(), if in_sync => {
                index.touch(std::mem::take(&mut retry));
                retry.extend(check(&mut proxy, &mut index));
            }
        }
    }
}

/// The maps first, then the programs that read them.
fn first_sync(proxy: &mut Proxy, index: &mut Index) -> Result<Vec<ObjectName>, Error> {
    let started = Instant::now();
    let failed = proxy.sync_all(&index.take_all());
    proxy.programs().attach()?;
    proxy.programs().remove_other_layouts()?;
    info!(frontends = proxy.frontends(), took = ?started.elapsed(), "service proxy in sync");
    Ok(failed)
}

/// Puts right what somebody else changed. What fails here was right once, so
/// the next audit may find it so again.
fn check(proxy: &mut Proxy, index: &mut Index) -> Vec<ObjectName> {
    let drifted = proxy
        .drifted()
        .inspect_err(|error| warn!(error = chain(error), "cannot check the service maps"));
    let failed = if drifted.unwrap_or(false) {
        warn!("the service maps were changed by somebody else; writing them anew");
        proxy.sync_all(&index.take_all())
    } else {
        Vec::new()
    };
    if let Err(error) = proxy.programs().attach() {
        warn!(error = chain(&error), "cannot check the service programs");
    }
    failed
}

/// The events of one kind, tried again for ever.
fn watch<K>(api: Api<K>) -> impl Stream<Item = Event<K>>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    watcher::watcher(api, watcher::Config::default()).default_backoff().filter_map(|event| async {
        event.inspect_err(|error| warn!(kind = %K::kind(&Default::default()), %error, "watch broke; trying again")).ok()
    })
}
