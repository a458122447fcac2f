//! What a new pod gets: its account's token, its priority, and a while on a lost node.

use futures::FutureExt as _;
use futures::future::{self, BoxFuture};
use rand::Rng as _;
use serde_json::Value;
use vetch_api::kinds::pod::admission as pods;
use vetch_server::Server;
use vetch_server::admission::{Admission, Attributes, Effects, Operation};
use vetch_server::status::{Result, Status};

use super::{is, list, text};

pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
/// The characters of generated names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A write to pods themselves, not to a subresource.
pub(super) fn is_pod(attributes: &Attributes<'_>, operation: Operation) -> bool {
    is(attributes, operation, "pods", "")
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
            if !is_pod(attributes, Operation::Create) {
                return Ok(Effects::default());
            }
            // It has no account: the API server does not make it run.
            if is_mirror(object) {
                return match mirror_refusal(object) {
                    None => Ok(Effects::default()),
                    Some(why) => {
                        let (resource, name) = (attributes.resource, attributes.name);
                        Err(Status::forbidden(resource, name, why))
                    }
                };
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

/// What a mirror names would be read by a node that nobody gave it to.
fn mirror_refusal(pod: &Value) -> Option<&'static str> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Some("a mirror pod may not reference service accounts");
    }
    if names_secret(pod) {
        return Some("a mirror pod may not reference secrets");
    }
    let mut projections = list(pod, "/spec/volumes")
        .iter()
        .flat_map(|volume| list(volume, "/projected/sources"));
    let token = projections.any(|source| !source["serviceAccountToken"].is_null());
    token.then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

fn names_secret(pod: &Value) -> bool {
    let containers = ["/spec/initContainers", "/spec/containers"];
    let mut containers = containers.into_iter().flat_map(|at| list(pod, at));
    let of_volume = |volume: &Value| {
        let mut projected = list(volume, "/projected/sources").iter();
        !volume["secret"].is_null() || projected.any(|source| !source["secret"].is_null())
    };
    let of_container = |container: &Value| {
        let mut env = list(container, "/env").iter();
        let mut from = list(container, "/envFrom").iter();
        env.any(|env| !env["valueFrom"]["secretKeyRef"].is_null())
            || from.any(|from| !from["secretRef"].is_null())
    };
    !list(pod, "/spec/imagePullSecrets").is_empty()
        || list(pod, "/spec/volumes").iter().any(of_volume)
        || containers.any(of_container)
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
    fn a_mirror_names_nothing_of_the_cluster() {
        let (account, secret, token) = (
            Some("a mirror pod may not reference service accounts"),
            Some("a mirror pod may not reference secrets"),
            Some("a mirror pod may not use ServiceAccountToken volume projections"),
        );
        let sources = |source: Value| json!({"volumes": [{"projected": {"sources": [source]}}]});
        for (spec, want) in [
            (
                json!({"containers": [{"env": [{"name": "A", "value": "x"}]}]}),
                None,
            ),
            (sources(json!({"downwardAPI": {}})), None),
            (json!({"serviceAccountName": "a"}), account),
            (json!({"imagePullSecrets": [{"name": "s"}]}), secret),
            (
                json!({"volumes": [{"secret": {"secretName": "s"}}]}),
                secret,
            ),
            (sources(json!({"secret": {"name": "s"}})), secret),
            (
                json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}),
                secret,
            ),
            (
                json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]}),
                secret,
            ),
            (
                sources(json!({"serviceAccountToken": {"path": "t"}})),
                token,
            ),
        ] {
            assert_eq!(mirror_refusal(&json!({"spec": spec})), want, "{spec}");
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
