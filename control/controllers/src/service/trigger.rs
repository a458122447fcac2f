//! Since when a service's endpoints ought to be different: the earliest of the changes that no
//! earlier pass has seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};

use crate::key::{ObjectKey, name_of};
use crate::pod;

#[derive(Default)]
struct Seen {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

#[derive(Default)]
pub struct Triggers {
    services: Mutex<HashMap<ObjectKey, Seen>>,
}

impl Triggers {
    /// Notes what this pass sees. A service seen for the first time began to change when it was
    /// made; None: nothing has a newer time than before.
    pub fn since(&self, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let made = service
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0);
        let now: HashMap<String, Timestamp> = pods
            .iter()
            .filter_map(|pod| Some((name_of(pod.as_ref()).to_owned(), changed(pod)?)))
            .collect();
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = services.get_mut(&ObjectKey::of(service)) else {
            let seen = Seen {
                service: made,
                pods: now,
            };
            services.insert(ObjectKey::of(service), seen);
            return made;
        };
        let newer_pods = now
            .iter()
            .filter(|(name, at)| seen.pods.get(*name).is_none_or(|before| *at > before));
        let newer_service = made.filter(|at| seen.service.is_none_or(|before| *at > before));
        let since = newer_pods.map(|(_, at)| *at).chain(newer_service).min();
        *seen = Seen {
            service: made,
            pods: now,
        };
        since
    }

    pub fn forget(&self, key: &ObjectKey) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.remove(key);
    }
}

/// When the pod last turned ready or unready.
fn changed(pod: &Pod) -> Option<Timestamp> {
    let condition = pod::condition(pod, "Ready")?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(created: &str) -> Service {
        serde_json::from_value(
            json!({"metadata": {"namespace": "d", "name": "s", "creationTimestamp": created}}),
        )
        .expect("a service")
    }

    fn pods(ready: &[(&str, &str)]) -> Vec<Arc<Pod>> {
        let pod = |(name, at): &(&str, &str)| {
            let pod = json!({
                "metadata": {"namespace": "d", "name": name}, "spec": {"containers": []},
                "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at}]},
            });
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        };
        ready.iter().map(pod).collect()
    }

    #[test]
    fn the_earliest_unseen_change_counts() {
        let triggers = Triggers::default();
        let service = service("2026-01-01T00:00:00Z");
        let at = |text: &str| Some(text.parse::<Timestamp>().expect("a time"));
        type Pass = (&'static [(&'static str, &'static str)], Option<Timestamp>);
        let passes: [Pass; 5] = [
            (&[("a", "2026-01-01T00:00:10Z")], at("2026-01-01T00:00:00Z")),
            (&[("a", "2026-01-01T00:00:10Z")], None),
            (
                &[("a", "2026-01-01T00:00:30Z"), ("b", "2026-01-01T00:00:20Z")],
                at("2026-01-01T00:00:20Z"),
            ),
            (&[("b", "2026-01-01T00:00:20Z")], None),
            (&[("b", "2026-01-01T00:00:40Z")], at("2026-01-01T00:00:40Z")),
        ];
        for (number, (ready, wanted)) in passes.into_iter().enumerate() {
            assert_eq!(
                triggers.since(&service, &pods(ready)),
                wanted,
                "pass {number}"
            );
        }
        triggers.forget(&ObjectKey::new("d", "s"));
        assert_eq!(
            triggers.since(&service, &[]),
            at("2026-01-01T00:00:00Z"),
            "known no more"
        );
    }
}
