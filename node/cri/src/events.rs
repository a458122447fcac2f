//! GetContainerEvents: what becomes of sandboxes and containers, as it happens.
//!
//! The runtime says that something of a sandbox has changed; what that is, is found by comparing. A
//! client that reads slower than things change sees each container's last stage, and no event twice.

use std::collections::BTreeMap;

use futures::Stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use vetch_cri_proto::v1::{ContainerEventResponse, ContainerEventType};
use vetch_runtime::{ContainerState, SandboxState, SandboxStatus};

use crate::Cri;

/// Events that wait for a client.
const WAITING: usize = 256;

/// How far one has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Created,
    Started,
    Stopped,
}

/// By id, of sandboxes and containers; with the sandbox it is in.
type Stages = BTreeMap<String, (Stage, String)>;

impl Cri {
    /// From now on.
    pub async fn events(
        &self,
    ) -> impl Stream<Item = Result<ContainerEventResponse, Status>> + Send + use<> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut changes = self.runtime.subscribe();
        let mut known = stages(&self.runtime.list().await);
        let cri = self.clone();
        tokio::spawn(async move {
            loop {
                let change = tokio::select! {
                    change = changes.recv() => change,
                    // The client is gone.
                    () = sender.closed() => return,
                };
                match change {
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
                let sandboxes = cri.runtime.list().await;
                let now = stages(&sandboxes);
                for (id, kind, sandbox) in differences(&known, &now) {
                    let sandbox = sandboxes.iter().find(|known| known.id.0 == sandbox);
                    let event = cri.event(id, kind, sandbox).await;
                    if sender.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
                known = now;
            }
        });
        ReceiverStream::new(receiver)
    }

    async fn event(
        &self,
        id: String,
        kind: ContainerEventType,
        sandbox: Option<&SandboxStatus>,
    ) -> ContainerEventResponse {
        let (sandbox, containers) = match sandbox {
            Some(sandbox) => {
                let (status, containers) = self.described(sandbox).await;
                (Some(status), containers)
            }
            None => (None, Vec::new()),
        };
        ContainerEventResponse {
            container_id: id,
            container_event_type: kind.into(),
            created_at: crate::now(),
            pod_sandbox_status: sandbox,
            containers_statuses: containers,
        }
    }
}

fn stages(sandboxes: &[SandboxStatus]) -> Stages {
    let mut stages = Stages::new();
    for sandbox in sandboxes {
        let of_sandbox = match sandbox.state {
            SandboxState::Ready => Stage::Started,
            SandboxState::NotReady => Stage::Stopped,
        };
        let id = &sandbox.id.0;
        stages.insert(id.clone(), (of_sandbox, id.clone()));
        for container in &sandbox.containers {
            let stage = match container.state {
                ContainerState::Created => Stage::Created,
                ContainerState::Running => Stage::Started,
                ContainerState::Exited | ContainerState::Unknown => Stage::Stopped,
            };
            stages.insert(container.id.0.clone(), (stage, id.clone()));
        }
    }
    stages
}

/// Every stage that was passed, in order; then what is gone. With the sandbox of each.
fn differences(before: &Stages, now: &Stages) -> Vec<(String, ContainerEventType, String)> {
    let mut events = Vec::new();
    for (id, (stage, sandbox)) in now {
        let passed = before.get(id).map(|(stage, _)| *stage);
        for (reached, kind) in [
            (Stage::Created, ContainerEventType::ContainerCreatedEvent),
            (Stage::Started, ContainerEventType::ContainerStartedEvent),
            (Stage::Stopped, ContainerEventType::ContainerStoppedEvent),
        ] {
            if passed < Some(reached) && reached <= *stage {
                events.push((id.clone(), kind, sandbox.clone()));
            }
        }
    }
    for (id, (_, sandbox)) in before {
        if !now.contains_key(id) {
            let kind = ContainerEventType::ContainerDeletedEvent;
            events.push((id.clone(), kind, sandbox.clone()));
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use vetch_cri_proto::v1::ContainerEventType::{
        ContainerCreatedEvent as Made, ContainerDeletedEvent as Gone,
        ContainerStartedEvent as Begun, ContainerStoppedEvent as Ended,
    };

    use super::*;

    #[test]
    fn every_stage_is_told_once() {
        use Stage::{Created, Started, Stopped};
        for (before, now, want) in [
            (None, Some(Created), &[Made][..]),
            (None, Some(Stopped), &[Made, Begun, Ended]),
            (Some(Created), Some(Started), &[Begun]),
            (Some(Created), Some(Stopped), &[Begun, Ended]),
            (Some(Started), Some(Started), &[]),
            (Some(Started), Some(Stopped), &[Ended]),
            (Some(Stopped), None, &[Gone]),
            (None, None, &[]),
        ] {
            let stages = |stage: Option<Stage>| -> Stages {
                let pair = |stage| ("c".to_owned(), (stage, "s".to_owned()));
                stage.map(pair).into_iter().collect()
            };
            let got = differences(&stages(before), &stages(now));
            let kinds: Vec<_> = got.iter().map(|(_, kind, _)| *kind).collect();
            assert_eq!(kinds, want, "{before:?} {now:?}");
            assert!(
                got.iter()
                    .all(|(id, _, sandbox)| id == "c" && sandbox == "s")
            );
        }
    }
}
