//! From a write to its event at each of many watchers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use kube::Client;
use kube::api::{PostParams, WatchEvent, WatchParams};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::exchange::{Keep, exchange};
use super::operation::{MADE, Scope, bytes};
use crate::pods::timeline::milliseconds;

const NAME: &str = "watched";
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// After the last write.
const EVENT_LIMIT: Duration = Duration::from_secs(10);

/// What is read of the object: the number of the write.
#[derive(Clone, Debug, Deserialize)]
struct Watched {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// Of one write.
#[derive(Clone, Copy, Debug)]
struct Write {
    sent: Duration,
    acknowledged: Duration,
}

/// Milliseconds of each write to each watcher.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latencies {
    /// From the moment the write is sent.
    pub sent: Vec<f64>,
    /// From the answer to the write; below zero when the event was first.
    pub acknowledged: Vec<f64>,
}

/// When a watcher saw which write.
type Seen = Vec<(usize, Duration)>;

/// `writes` changes of one object, `rate` a second. Nothing when stopped.
///
/// # Errors
/// Also when a watcher missed a write, or saw one twice.
pub async fn hear(
    watchers: &[Client],
    scope: &Scope,
    writes: usize,
    rate: usize,
    stop: &CancellationToken,
) -> Result<Latencies> {
    let client = watchers.first().context("nobody watches")?;
    let measured = async {
        let version = put_first(client, scope).await?;
        let origin = Instant::now();
        let mut tasks = timeout(
            CONNECT_LIMIT,
            listen(watchers, scope, &version, writes, origin),
        )
        .await
        .context("the watches do not begin")??;
        let written = write(client, scope, writes, rate, origin).await?;
        let mut seen = Vec::new();
        let all = async {
            while let Some(one) = tasks.join_next().await {
                seen.push(one.context("a watcher")??);
            }
            Ok::<(), anyhow::Error>(())
        };
        match timeout(EVENT_LIMIT, all).await {
            Ok(done) => done?,
            Err(_) => bail!(
                "{} of {} watchers had not seen the last write {EVENT_LIMIT:?} later",
                watchers.len() - seen.len(),
                watchers.len()
            ),
        }
        latencies(&written, &seen)
    };
    // Dropped tasks are aborted, and their connections closed.
    tokio::select! {
        measured = measured => measured,
        () = stop.cancelled() => Ok(Latencies::default()),
    }
}

fn object(write: usize) -> Vec<u8> {
    bytes(&json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "labels": {MADE.0: MADE.1}},
        "data": {"write": write.to_string()},
    }))
}

/// Makes the object anew; with its resource version, from which watches begin.
async fn put_first(client: &Client, scope: &Scope) -> Result<String> {
    #[derive(Deserialize)]
    struct Made {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        resource_version: String,
    }
    // Of the same round with another number of watchers.
    let former = scope
        .config_maps()
        .delete(NAME, &kube::api::DeleteParams::default())?;
    let _ = exchange(client, former, Keep::Nothing).await;
    let request = scope
        .config_maps()
        .create(&PostParams::default(), object(0))?;
    let answer = exchange(client, request, Keep::Whole)
        .await
        .context("make the object to watch")?;
    let made: Made = serde_json::from_slice(&answer.body).context("read the object to watch")?;
    Ok(made.metadata.resource_version)
}

/// Returns when every watch has begun.
async fn listen(
    watchers: &[Client],
    scope: &Scope,
    version: &str,
    writes: usize,
    origin: Instant,
) -> Result<JoinSet<Result<Seen>>> {
    let wanted = WatchParams::default()
        .fields(&format!("metadata.name={NAME}"))
        .disable_bookmarks();
    let mut tasks = JoinSet::new();
    for client in watchers {
        let request = scope.config_maps().watch(&wanted, version)?;
        let events = client.request_events::<Watched>(request).await;
        let events = events.context("begin a watch")?.boxed();
        tasks.spawn(collect(events, writes, origin));
    }
    Ok(tasks)
}

async fn collect(
    mut events: futures::stream::BoxStream<'static, kube::Result<WatchEvent<Watched>>>,
    writes: usize,
    origin: Instant,
) -> Result<Seen> {
    let mut seen = Vec::with_capacity(writes);
    while let Some(event) = events.next().await {
        let at = origin.elapsed();
        let object = match event.context("read a watch")? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => object,
            WatchEvent::Deleted(_) => bail!("the object was deleted while it was watched"),
            WatchEvent::Error(status) => bail!("a watch ended: {}", status.message),
            WatchEvent::Bookmark(_) => continue,
        };
        let number = object.data.get("write").context("a write without number")?;
        let number: usize = number.parse().context("the number of a write")?;
        seen.push((number, at));
        if number == writes {
            return Ok(seen);
        }
    }
    bail!("a watch ended after {} of {writes} writes", seen.len())
}

/// Write 1 is the first.
async fn write(
    client: &Client,
    scope: &Scope,
    writes: usize,
    rate: usize,
    origin: Instant,
) -> Result<Vec<Write>> {
    let mut pace = interval(Duration::from_secs(1) / u32::try_from(rate)?);
    // A slow write is followed by the next one at its pace, not by a burst.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written = Vec::with_capacity(writes);
    for number in 1..=writes {
        pace.tick().await;
        let request = scope
            .config_maps()
            .replace(NAME, &PostParams::default(), object(number))?;
        let sent = origin.elapsed();
        exchange(client, request, Keep::Nothing)
            .await
            .with_context(|| format!("write {number} of {writes}"))?;
        written.push(Write {
            sent,
            acknowledged: origin.elapsed(),
        });
    }
    Ok(written)
}

/// Every watcher must have seen every write once, in order.
fn latencies(written: &[Write], seen: &[Seen]) -> Result<Latencies> {
    let mut all = Latencies::default();
    for (watcher, events) in seen.iter().enumerate() {
        let numbers = events.iter().map(|(number, _)| *number);
        if !numbers.eq(1..=written.len()) {
            bail!(
                "watcher {} of {} has {} events for {} writes, or in another order",
                watcher + 1,
                seen.len(),
                events.len(),
                written.len()
            );
        }
        for ((_, at), write) in events.iter().zip(written) {
            all.sent.push(milliseconds(write.sent, *at));
            all.acknowledged.push(milliseconds(write.acknowledged, *at));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(events: &[(usize, u64)]) -> Seen {
        let events = events.iter();
        events
            .map(|(number, at)| (*number, Duration::from_millis(*at)))
            .collect()
    }

    #[test]
    fn every_watcher_sees_every_write_once_and_in_order() {
        let written = [(8, 10), (18, 20)].map(|(sent, acknowledged)| Write {
            sent: Duration::from_millis(sent),
            acknowledged: Duration::from_millis(acknowledged),
        });
        for (watchers, wanted) in [
            (vec![vec![(1, 11), (2, 25)]], Some(vec![1.0, 5.0])),
            // The event overtook the answer.
            (
                vec![vec![(1, 9), (2, 20)], vec![(1, 13), (2, 21)]],
                Some(vec![-1.0, 0.0, 3.0, 1.0]),
            ),
            (vec![vec![(1, 11)]], None),
            (vec![vec![(1, 11), (2, 25)], vec![(2, 25)]], None),
            (vec![vec![(1, 11), (1, 12), (2, 25)]], None),
            (vec![vec![(2, 11), (1, 25)]], None),
            (vec![vec![(1, 11), (2, 25), (3, 26)]], None),
            (vec![], Some(vec![])),
        ] {
            let watchers: Vec<Seen> = watchers.iter().map(|events| seen(events)).collect();
            let found = latencies(&written, &watchers).ok();
            let rounded = |all: &[f64]| -> Vec<f64> { all.iter().map(|ms| ms.round()).collect() };
            let acknowledged = found.as_ref().map(|all| rounded(&all.acknowledged));
            assert_eq!(acknowledged, wanted, "{watchers:?}");
            // Each write took 2 ms.
            let sent = found.as_ref().map(|all| rounded(&all.sent));
            let later = wanted.map(|all| all.iter().map(|ms| ms + 2.0).collect());
            assert_eq!(sent, later, "{watchers:?}");
        }
    }
}
