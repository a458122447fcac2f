//! What a new pod gets: its account's token, its priority, and a while on a lost node.

use futures::FutureExt as _;
use futures::future::{self, BoxFuture};
use rand::Rng as _;
use serde_json::Value;
use vetch_api::kinds::pod::admission as pods;
use vetch_server::Server;
use vetch_server::admission::{Admission, Attributes, Effects, Operation};
use vetch_server::status::{Result, Status};

use super::text;

pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
/// The characters of generated names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A write to pods themselves, not to a subresource.
fn is_pod(attributes: &Attributes<'_>, operation: Operation) -> bool {
    attributes.operation == operation
        && attributes.resource.group.is_empty()
        && attributes.resource.plural == "pods"
        && attributes.subresource.is_empty()
}

pub(super) fn is_mirror(pod: &Value) -> bool {
    !pod["metadata"]["annotations"][MIRROR].is_null()
}

pub(super) struct ServiceAccount;

impl Admission for ServiceAccount {
    fn admit<'a>(
        &'a self,
        server: &'a Server,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        async move {
            // A mirror pod has no account: the API server does not make it run.
            if !is_pod(attributes, Operation::Create) || is_mirror(object) {
                return Ok(Effects::default());
            }
            let namespace = attributes.namespace.unwrap_or_default();
            let name = account_name(object).to_owned();
            let found = server
                .find("", "serviceaccounts", Some(namespace), &name)
                .await?;
            let Some(account) = found else {
                let why = format!(
                    "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
                );
                return Err(Status::forbidden(
                    attributes.resource,
                    attributes.name,
                    &why,
                ));
            };
            if text(object, "/spec/serviceAccountName").is_empty() && object["spec"].is_object() {
                object["spec"]["serviceAccountName"] = name.into();
            }
            pods::service_account(object, &account.value, &suffix());
            Ok(Effects::default())
        }
        .boxed()
    }
}

/// serviceAccount is serviceAccountName's old name.
fn account_name(pod: &Value) -> &str {
    let named = ["/spec/serviceAccountName", "/spec/serviceAccount"].map(|at| text(pod, at));
    named
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or("default")
}

fn suffix() -> String {
    let mut random = rand::rng();
    (0..5)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect()
}

pub(super) struct Priority;

impl Admission for Priority {
    fn admit<'a>(
        &'a self,
        _: &'a Server,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        let outcome = if is_pod(attributes, Operation::Create) {
            pods::priority(object)
                .map_err(|why| Status::forbidden(attributes.resource, attributes.name, &why))
        } else {
            if is_pod(attributes, Operation::Update)
                && let Some(old) = attributes.old
            {
                keep_priority(object, old);
            }
            Ok(())
        };
        Box::pin(future::ready(outcome.map(|()| Effects::default())))
    }
}

/// A pod written anew from its manifest keeps the number that was computed for it.
fn keep_priority(pod: &mut Value, old: &Value) {
    for field in ["priority", "preemptionPolicy"] {
        let known = &old["spec"][field];
        if !known.is_null() && pod["spec"].is_object() && pod["spec"][field].is_null() {
            pod["spec"][field] = known.clone();
        }
    }
}

pub(super) struct DefaultTolerationSeconds;

impl Admission for DefaultTolerationSeconds {
    fn admit<'a>(
        &'a self,
        _: &'a Server,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        if is_pod(attributes, Operation::Create) || is_pod(attributes, Operation::Update) {
            pods::tolerations(object);
        }
        Box::pin(future::ready(Ok(Effects::default())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_old_name_of_the_account_still_counts() {
        for (spec, name) in [
            (json!({}), "default"),
            (json!({"serviceAccount": "a"}), "a"),
            (
                json!({"serviceAccount": "a", "serviceAccountName": "b"}),
                "b",
            ),
        ] {
            assert_eq!(account_name(&json!({"spec": spec})), name);
        }
    }

    #[test]
    fn a_manifest_without_priority_keeps_it() {
        let old = json!({"spec": {"priority": 7, "preemptionPolicy": "Never"}});
        let mut new = json!({"spec": {}});
        keep_priority(&mut new, &old);
        assert_eq!(new, old);
        let mut other = json!({"spec": {"priority": 8, "preemptionPolicy": "Never"}});
        keep_priority(&mut other, &old);
        assert_eq!(other["spec"]["priority"], 8);
    }
}
