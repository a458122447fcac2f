//! Doing what was decided: bindings, conditions, evictions, and the events that tell of them.

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, PodCondition,
};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _};
use serde_json::{Value, json};
use tracing::{debug, warn};

use vetch_volumes::annotations::SELECTED_NODE;
use vetch_volumes::{bound_to, claim, volume};

use crate::pod_info::PodInfo;
use crate::scheduler::{Effect, NAME, Outcome};
use crate::volumes::Plan;

const UNSCHEDULABLE: &str = "Unschedulable";
const SCHEDULER_ERROR: &str = "SchedulerError";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("bind pod {pod} to {node}")]
    Bind {
        pod: String,
        node: String,
        source: kube::Error,
    },
    #[error("set condition {condition} of pod {pod}")]
    Condition {
        pod: String,
        condition: &'static str,
        source: kube::Error,
    },
    #[error("clear the nominated node of pod {pod}")]
    Nomination { pod: String, source: kube::Error },
    #[error("bind the claims of pod {pod} for {node}")]
    Claim {
        pod: String,
        node: String,
        source: kube::Error,
    },
    #[error("delete pod {pod}")]
    Delete { pod: String, source: kube::Error },
}

/// One effect at a time each, many beside each other.
#[derive(Clone)]
pub struct Effects {
    client: Client,
    reporter: Reporter,
    /// Counts repeated events up instead of writing them again.
    recorder: Recorder,
}

impl Effects {
    pub fn new(client: Client) -> Effects {
        let host = Reporter::from(NAME).instance.unwrap_or_default();
        let reporter = Reporter {
            controller: NAME.into(),
            instance: Some(format!("{NAME}-{host}")),
        };
        Effects {
            recorder: Recorder::new(client.clone(), reporter.clone()),
            reporter,
            client,
        }
    }

    pub async fn run(self, effect: Effect) -> Option<Outcome> {
        match effect {
            Effect::Bind { pod, node } => self.bind(&pod, &node).await,
            Effect::Claim { pod, node, plan } => Some(self.claim(&pod, &node, &plan).await),
            Effect::Refuse {
                pod,
                message,
                nominated,
            } => {
                let nominated = nominated.as_deref();
                self.refuse(&pod, UNSCHEDULABLE, &message, nominated).await;
                None
            }
            Effect::Preempt {
                pod,
                message,
                node,
                victims,
                displaced,
            } => {
                self.refuse(&pod, UNSCHEDULABLE, &message, Some(&node))
                    .await;
                for other in &displaced {
                    log(self.clear_nomination(other).await);
                }
                for victim in &victims {
                    log(self.evict(victim, &pod, &node).await);
                }
                let uid = pod.uid().to_owned();
                Some(Outcome::Preempted { uid })
            }
        }
    }

    async fn bind(&self, pod: &PodInfo, node: &str) -> Option<Outcome> {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": pod.namespace(), "name": pod.name(), "uid": pod.uid()},
            "target": {"kind": "Node", "name": node},
        });
        let posted: Result<Value, kube::Error> = self
            .pods(pod)
            .create_subresource("binding", pod.name(), &PostParams::default(), &binding)
            .await;
        let Err(source) = posted else {
            let note = format!("Successfully assigned {} to {node}", full_name(pod));
            // A recorder of its own: it never repeats, so there is nothing to remember.
            let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
            let event = event(EventType::Normal, "Scheduled", "Binding", note);
            publish(&recorder, &event, pod).await;
            return None;
        };
        // Gone, going, or bound by somebody else: nobody needs to hear of that.
        let is_moot =
            matches!(&source, kube::Error::Api(status) if matches!(status.code, 404 | 409));
        if is_moot {
            debug!(pod = full_name(pod), "not bound: {source}");
        } else {
            let message =
                format!("binding rejected: running Bind plugin \"DefaultBinder\": {source}");
            log(Err(Error::Bind {
                pod: full_name(pod),
                node: node.to_owned(),
                source,
            }));
            self.refuse(pod, SCHEDULER_ERROR, &message, None).await;
        }
        let uid = pod.uid().to_owned();
        Some(Outcome::BindingFailed { uid })
    }

    /// Volumes that are there are given to their claims, others are asked for where the pod will be. The volume
    /// controller does the rest.
    async fn claim(&self, pod: &PodInfo, node: &str, plan: &Plan) -> Outcome {
        let uid = pod.uid().to_owned();
        let Err(source) = self.write_claims(node, plan).await else {
            return Outcome::Claimed { uid };
        };
        let is_moot =
            matches!(&source, kube::Error::Api(status) if matches!(status.code, 404 | 409));
        if !is_moot {
            log(Err(Error::Claim {
                pod: full_name(pod),
                node: node.to_owned(),
                source,
            }));
        }
        let names = plan.bind.iter().map(|(_, volume)| volume::name(volume));
        Outcome::ClaimingFailed {
            uid,
            volumes: names.map(str::to_owned).collect(),
        }
    }

    async fn write_claims(&self, node: &str, plan: &Plan) -> Result<(), kube::Error> {
        for (claim, volume) in &plan.bind {
            let Some(bound) = bound_to(volume, claim) else {
                continue;
            };
            let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
            let name = volume::name(volume);
            volumes
                .replace(name, &PostParams::default(), &bound)
                .await?;
        }
        for claim in &plan.provision {
            if claim::selected_node(claim) == Some(node) {
                continue;
            }
            let metadata = &claim.metadata;
            let namespace = metadata.namespace.as_deref().unwrap_or_default();
            let claims: Api<PersistentVolumeClaim> =
                Api::namespaced(self.client.clone(), namespace);
            let patch = json!({"metadata": {
                "uid": metadata.uid, "resourceVersion": metadata.resource_version,
                "annotations": {SELECTED_NODE: node},
            }});
            let name = metadata.name.as_deref().unwrap_or_default();
            claims
                .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await?;
        }
        Ok(())
    }

    async fn refuse(&self, pod: &PodInfo, reason: &str, message: &str, nominated: Option<&str>) {
        let event = event(
            EventType::Warning,
            "FailedScheduling",
            "Scheduling",
            message.to_owned(),
        );
        publish(&self.recorder, &event, pod).await;
        let known = condition(pod, "PodScheduled");
        let is_same = known.is_some_and(|known| {
            known.status == "False"
                && known.reason.as_deref() == Some(reason)
                && known.message.as_deref() == Some(message)
        });
        if is_same && pod.nominated_node() == nominated {
            return;
        }
        let mut status = json!({
            "conditions": [new_condition(pod, "PodScheduled", "False", reason, message)],
        });
        if pod.nominated_node() != nominated {
            status["nominatedNodeName"] = nominated.into();
        }
        let patched = self.patch(pod, status).await;
        log(patched.map_err(|source| Error::Condition {
            pod: full_name(pod),
            condition: "PodScheduled",
            source,
        }));
    }

    async fn clear_nomination(&self, pod: &PodInfo) -> Result<(), Error> {
        let status = json!({"nominatedNodeName": null});
        let patched = self.patch(pod, status).await;
        patched.map_err(|source| Error::Nomination {
            pod: full_name(pod),
            source,
        })
    }

    async fn evict(&self, victim: &PodInfo, pod: &PodInfo, node: &str) -> Result<(), Error> {
        let condition = new_condition(
            victim,
            "DisruptionTarget",
            "True",
            "PreemptionByScheduler",
            &format!("{NAME}: preempting to accommodate a higher priority pod"),
        );
        let patched = self
            .patch(victim, json!({ "conditions": [condition] }))
            .await;
        patched.map_err(|source| Error::Condition {
            pod: full_name(victim),
            condition: "DisruptionTarget",
            source,
        })?;
        let options = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(victim.uid().to_owned()),
                ..Preconditions::default()
            }),
            ..DeleteParams::default()
        };
        let deleted = self.pods(victim).delete(victim.name(), &options).await;
        found(deleted).map_err(|source| Error::Delete {
            pod: full_name(victim),
            source,
        })?;
        let note = format!("Preempted by pod {} on node {node}", pod.uid());
        let event = Event {
            secondary: Some(reference(pod)),
            ..event(EventType::Normal, "Preempted", "Preempting", note)
        };
        publish(&self.recorder, &event, victim).await;
        Ok(())
    }

    /// The pod may be gone, or another by the same name: then there is nothing to patch.
    async fn patch(&self, pod: &PodInfo, status: Value) -> Result<(), kube::Error> {
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
        let patched = self
            .pods(pod)
            .patch_status(
                pod.name(),
                &PatchParams::default(),
                &Patch::Strategic(patch),
            )
            .await;
        found(patched)
    }

    fn pods(&self, pod: &PodInfo) -> Api<Pod> {
        Api::namespaced(self.client.clone(), pod.namespace())
    }
}

fn found<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

fn full_name(pod: &PodInfo) -> String {
    format!("{}/{}", pod.namespace(), pod.name())
}

fn condition<'a>(pod: &'a PodInfo, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn new_condition(pod: &PodInfo, kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let known = condition(pod, kind).filter(|known| known.status == status);
    let since = known.and_then(|known| known.last_transition_time.clone());
    // Times of conditions are whole seconds.
    let now = || {
        jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string()
    };
    json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": pod.pod.metadata.generation,
        "lastProbeTime": null,
        "lastTransitionTime": since.map_or_else(|| Value::from(now()), |time| json!(time)),
    })
}

fn event(type_: EventType, reason: &str, action: &str, note: String) -> Event {
    Event {
        type_,
        reason: reason.into(),
        note: Some(note),
        action: action.into(),
        secondary: None,
    }
}

/// Without the version: all of a pod's events are about the same pod.
fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        resource_version: None,
        ..pod.pod.object_ref(&())
    }
}

async fn publish(recorder: &Recorder, event: &Event, about: &PodInfo) {
    if let Err(error) = recorder.publish(event, &reference(about)).await {
        debug!(reason = event.reason, "event not written: {error}");
    }
}

fn log(result: Result<(), Error>) {
    if let Err(error) = result {
        let error = anyhow::Error::new(error);
        warn!("{error:#}");
    }
}
