//! Deletes everything in a namespace, and tells what is still there.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use kube::Client;
use kube::api::{DeleteParams, ListParams};
use kube::core::DynamicObject;
use kube::discovery::verbs;

use crate::error::{Attempt as _, Error, Result, chain, found};
use crate::key::name_of;
use crate::kinds::{Kind, Metadata, discover};

/// How long something with a finalizer is expected to take.
const FINALIZERS_TAKE: Duration = Duration::from_secs(15);

#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// Why not all kinds are known.
    pub undiscovered: Option<String>,
    pub failures: Vec<String>,
    /// Objects left, by `resource.group`.
    pub remaining: BTreeMap<String, usize>,
    /// Objects that have a finalizer, by finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// How long what is left may take; None: nothing is left.
    pub wait: Option<Duration>,
}

/// One pass: pods, and once they are gone everything else. `grace` is what pods may still take.
pub async fn delete_all(client: &Client, namespace: &str, grace: SignedDuration) -> Outcome {
    let mut outcome = Outcome::default();
    let kinds = match discover(client).await {
        Ok(kinds) => kinds,
        Err(error) => {
            outcome.undiscovered = Some(chain(&error));
            outcome.failures.push(chain(&error));
            return outcome;
        }
    };
    let is_pods = |kind: &Kind| kind.resource.plural == "pods" && kind.resource.group.is_empty();
    let (pods, rest): (Vec<_>, Vec<_>) = kinds
        .into_iter()
        .filter(|kind| kind.namespaced && kind.can(verbs::DELETE) && kind.can(verbs::LIST))
        .partition(|kind| is_pods(kind));
    for (step, grace) in [(pods, grace), (rest, SignedDuration::ZERO)] {
        for kind in step {
            match delete_kind(client, namespace, &kind).await {
                Ok(left) => outcome.add(&kind, namespace, &left, grace),
                Err(error) => outcome.failures.push(chain(&error)),
            }
        }
        // A config map must not go before the pod that still reads it.
        if !outcome.remaining.is_empty() || !outcome.failures.is_empty() {
            break;
        }
    }
    outcome
}

impl Outcome {
    fn add(&mut self, kind: &Kind, namespace: &str, left: &[Metadata], grace: SignedDuration) {
        if left.is_empty() {
            return;
        }
        self.remaining.insert(kind.dotted(), left.len());
        let finalizers = left
            .iter()
            .flat_map(|object| object.metadata.finalizers.iter().flatten());
        let mut held = false;
        for finalizer in finalizers {
            held = true;
            *self.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        let wait = match Duration::try_from(grace) {
            Ok(grace) if !grace.is_zero() => grace,
            _ if held => FINALIZERS_TAKE,
            _ => {
                // Deleted, nothing holds them, and still there.
                self.failures.push(format!(
                    "unexpected items still remain in namespace: {namespace} for gvr: {}/{}, Resource={}",
                    kind.resource.group, kind.resource.version, kind.resource.plural
                ));
                return;
            }
        };
        self.wait = self.wait.max(Some(wait));
    }
}

/// Answers what is left.
async fn delete_kind(client: &Client, namespace: &str, kind: &Kind) -> Result<Vec<Metadata>> {
    let plural = &kind.resource.plural;
    let objects = kind.api::<Metadata>(client, namespace);
    let list = async || {
        let listed = objects.list(&ListParams::default()).await;
        let listed = listed.during(|| format!("list {plural} in {namespace}"))?;
        Ok::<_, Error>(listed.items)
    };
    let there = list().await?;
    // Most kinds have nothing in most namespaces.
    if there.is_empty() {
        return Ok(there);
    }
    let (whole, parameters) = (
        kind.api::<DynamicObject>(client, namespace),
        DeleteParams::background(),
    );
    if kind.can("deletecollection") {
        let deleted = whole
            .delete_collection(&parameters, &ListParams::default())
            .await;
        deleted.during(|| format!("delete all {plural} in {namespace}"))?;
    } else {
        for object in &there {
            let name = name_of(object);
            found(whole.delete(name, &parameters).await)
                .during(|| format!("delete {plural} {namespace}/{name}"))?;
        }
    }
    list().await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_is_waited_for_or_a_failure() {
        let pods = Kind::named("v1", "Pod", "pods", true);
        let object = |finalizers: &[&str]| -> Metadata {
            serde_json::from_value(json!({"metadata": {"name": "a", "finalizers": finalizers}}))
                .expect("metadata")
        };
        let seconds = SignedDuration::from_secs;
        // (what is left, grace) -> (wait, failures, objects with a finalizer)
        for (left, grace, wanted) in [
            (vec![], 0, (None, 0, 0)),
            (vec![object(&[])], 30, (Some(30), 0, 0)),
            (
                vec![object(&["a/b"]), object(&["a/b"])],
                0,
                (Some(15), 0, 2),
            ),
            (vec![object(&[])], 0, (None, 1, 0)),
        ] {
            let mut outcome = Outcome::default();
            outcome.add(&pods, "n", &left, seconds(grace));
            let held = outcome.finalizers.get("a/b").copied().unwrap_or(0);
            let told = (
                outcome.wait.map(|wait| wait.as_secs()),
                outcome.failures.len(),
                held,
            );
            assert_eq!(told, wanted, "{left:?} {grace}");
        }
    }
}
