//! Pods end before the machine does: ordinary ones first, then critical ones, each with its part of the
//! time. The kubelet's pkg/kubelet/nodeshutdown.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::timeout_at;
use vetch_runtime::deadline;

use super::context::Context;
use super::preempt::CRITICAL;
use super::sentence::Sentence;
use super::spec;
use super::status::Verdict;
use crate::node::events;

const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

/// How long the machine waits for its pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Periods {
    /// For all; none of it: it does not wait.
    pub grace: Duration,
    /// Of that, for critical ones.
    pub critical: Duration,
}

impl Periods {
    /// In words what is wrong, as the kubelet validates them.
    pub fn check(self) -> Result<Periods, String> {
        let second = Duration::from_secs(1);
        for (flag, period) in [
            ("--shutdown-grace-period", self.grace),
            ("--shutdown-grace-period-critical-pods", self.critical),
        ] {
            if !period.is_zero() && period < second {
                return Err(format!("{flag} is 0, or a second at least"));
            }
        }
        if self.critical > self.grace {
            return Err(
                "--shutdown-grace-period-critical-pods is a part of --shutdown-grace-period: \
                 it is not longer"
                    .to_owned(),
            );
        }
        Ok(self)
    }
}

/// Who hears of the machine's end, and who is told of the node's.
#[derive(Clone, Debug)]
pub struct Shutdown {
    pub periods: Periods,
    /// The machine goes down, and waits. It may change its mind.
    pub going_down: watch::Receiver<bool>,
    /// The node is shutting down.
    pub state: watch::Sender<bool>,
    /// Its pods have ended: the machine need not wait any longer.
    pub ended: watch::Sender<bool>,
}

impl Shutdown {
    /// Of a node that nobody tells.
    pub fn never() -> Shutdown {
        Shutdown {
            periods: Periods::default(),
            going_down: watch::channel(false).1,
            state: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        }
    }
}

/// What a pod is told that comes too late.
pub fn refusal() -> Verdict {
    Verdict {
        reason: "NodeShutdown".to_owned(),
        message: "Pod was rejected as the node is shutting down.".to_owned(),
    }
}

/// For ever.
pub async fn keep(context: Arc<Context>) {
    let shutdown = &context.config.shutdown;
    let mut going_down = shutdown.going_down.clone();
    loop {
        let down = *going_down.borrow_and_update();
        if down != *shutdown.state.borrow() {
            shutdown.state.send_replace(down);
            tell(&context, down);
            if down {
                end_all(&context).await;
            }
            shutdown.ended.send_replace(down);
        }
        if going_down.changed().await.is_err() {
            // Nobody hears of it here.
            return std::future::pending().await;
        }
    }
}

fn tell(context: &Context, down: bool) {
    let what = if down { "event" } else { "cancellation" };
    let words = format!("Shutdown manager detected shutdown {what}");
    tracing::warn!("{words}");
    let client = context.client.clone();
    let node = context.config.node_name.clone();
    tokio::spawn(async move {
        events::tell(&client, &node, "NodeShutdown", words).await;
    });
}

async fn end_all(context: &Context) {
    for (grace, pods) in groups(context.config.shutdown.periods, context.candidates()) {
        let deadline = deadline(grace);
        for pod in &pods {
            let sentence = Sentence {
                verdict: Verdict {
                    reason: "Terminated".to_owned(),
                    message: MESSAGE.to_owned(),
                },
                grace: Some(grace),
                disruption: Some(MESSAGE.to_owned()),
            };
            context.sentence(spec::uid(pod), sentence);
        }
        let mut room = context.room();
        let left = || pods.iter().filter(|pod| context.has(spec::uid(pod)));
        while left().next().is_some() {
            // Its sender is in the context, which is here.
            if timeout_at(deadline, room.changed()).await.is_err() {
                tracing::warn!("{} pods have not ended in {grace:?}", left().count());
                break;
            }
        }
    }
}

/// Who ends together, and in what time; the first ones first.
fn groups(periods: Periods, pods: Vec<Arc<Pod>>) -> Vec<(Duration, Vec<Arc<Pod>>)> {
    let priority = |pod: &Pod| spec::spec(pod).priority.unwrap_or(0);
    let (critical, others): (Vec<_>, Vec<_>) =
        pods.into_iter().partition(|pod| priority(pod) >= CRITICAL);
    let all = [
        (periods.grace.saturating_sub(periods.critical), others),
        (periods.critical, critical),
    ];
    all.into_iter()
        .filter(|(_, pods)| !pods.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seconds(grace: u64, critical: u64) -> Periods {
        Periods {
            grace: Duration::from_secs(grace),
            critical: Duration::from_secs(critical),
        }
    }

    #[test]
    fn periods_that_make_sense() {
        for (periods, fits) in [
            (seconds(0, 0), true),
            (seconds(30, 10), true),
            (seconds(10, 10), true),
            (seconds(10, 11), false),
            (seconds(0, 1), false),
            (
                Periods {
                    grace: Duration::from_millis(500),
                    critical: Duration::ZERO,
                },
                false,
            ),
        ] {
            assert_eq!(periods.check().is_ok(), fits, "{periods:?}");
        }
    }

    #[test]
    fn critical_pods_end_last() {
        let pod = |uid: &str, priority: Option<i32>| -> Arc<Pod> {
            let pod =
                json!({"metadata": {"uid": uid}, "spec": {"containers": [], "priority": priority}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let all = vec![
            pod("system", Some(2_000_001_000)),
            pod("low", Some(-1)),
            pod("plain", None),
            pod("high", Some(1_000_000_000)),
        ];
        let shown = |groups: Vec<(Duration, Vec<Arc<Pod>>)>| -> Vec<(u64, Vec<String>)> {
            let uids =
                |pods: Vec<Arc<Pod>>| pods.iter().map(|pod| spec::uid(pod).to_owned()).collect();
            let groups = groups.into_iter();
            groups
                .map(|(grace, pods)| (grace.as_secs(), uids(pods)))
                .collect()
        };
        let names = |uids: &[&str]| uids.iter().map(|uid| (*uid).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            shown(groups(seconds(30, 10), all.clone())),
            [
                (20, names(&["low", "plain", "high"])),
                (10, names(&["system"]))
            ]
        );
        assert_eq!(
            shown(groups(seconds(30, 10), vec![all[0].clone()])),
            [(10, names(&["system"]))]
        );
    }
}
