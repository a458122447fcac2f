//! The one watch that sees every pod of the run's namespace, and waiting on it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Event, watcher};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::timeline::{Sight, Step, Timelines, shown};

const BEGIN_LIMIT: Duration = Duration::from_secs(30);

/// All times of a run count from its start.
pub struct Watch {
    heard: UnboundedReceiver<Heard>,
    pub origin: Instant,
    pub timelines: Timelines,
    broken: Option<String>,
    task: AbortHandle,
}

enum Heard {
    /// What was there before the watch is told.
    Began,
    Seen(Sight),
    /// The stream broke and begins anew: moments may have been missed.
    Broke(String),
}

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited {
    All,
    /// Those that were not there in time.
    Late(Vec<String>),
    Stopped,
}

impl Watch {
    /// Returns when the stream has begun.
    pub async fn start(pods: Api<Pod>) -> Result<Watch> {
        let origin = Instant::now();
        let (tell, mut heard) = unbounded_channel();
        let task = tokio::spawn(listen(pods, origin, tell)).abort_handle();
        let began = async {
            loop {
                match heard.recv().await {
                    Some(Heard::Began) => return Ok(()),
                    Some(Heard::Seen(_)) => {}
                    Some(Heard::Broke(why)) => bail!("watch pods: {why}"),
                    None => bail!("the watch of pods ended"),
                }
            }
        };
        match timeout(BEGIN_LIMIT, began).await {
            Ok(began) => began?,
            Err(_) => bail!("a watch of pods has not begun after {BEGIN_LIMIT:?}"),
        }
        Ok(Watch {
            heard,
            origin,
            timelines: Timelines::default(),
            broken: None,
            task,
        })
    }

    /// Until each of the pods has been seen at this step.
    pub async fn until(
        &mut self,
        pods: &[String],
        step: Step,
        limit: Duration,
        stop: &CancellationToken,
    ) -> Waited {
        let deadline = tokio::time::Instant::now() + limit;
        let mut missing = pods.to_vec();
        loop {
            missing.retain(|pod| !self.timelines.has(pod, step));
            if missing.is_empty() {
                return Waited::All;
            }
            let heard = tokio::select! {
                () = stop.cancelled() => return Waited::Stopped,
                heard = timeout_at(deadline, self.heard.recv()) => heard,
            };
            match heard {
                Ok(Some(Heard::Seen(sight))) => self.timelines.see(&sight),
                Ok(Some(Heard::Broke(why))) => self.broken = Some(why),
                Ok(Some(Heard::Began)) => {}
                Ok(None) | Err(_) => return Waited::Late(missing),
            }
        }
    }

    /// Why moments since the last call may be wrong, if the stream broke.
    pub fn take_broken(&mut self) -> Option<String> {
        self.broken.take()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(pods: Api<Pod>, origin: Instant, tell: UnboundedSender<Heard>) {
    let mut events = watcher(pods, Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let heard = translate(event, origin.elapsed());
        if let Some(heard) = heard
            && tell.send(heard).is_err()
        {
            return;
        }
    }
}

fn translate(event: Result<Event<Pod>, watcher::Error>, at: Duration) -> Option<Heard> {
    let (pod, steps) = match event {
        Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
            let steps = shown(&pod);
            (pod, steps)
        }
        Ok(Event::Delete(pod)) => (pod, vec![Step::Gone]),
        Ok(Event::Init) => return None,
        Ok(Event::InitDone) => return Some(Heard::Began),
        Err(error) => return Some(Heard::Broke(error.to_string())),
    };
    let pod = pod.metadata.name?;
    Some(Heard::Seen(Sight { at, pod, steps }))
}
