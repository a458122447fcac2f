//! What claims and volumes get beside what they say: DefaultStorageClass, StorageObjectInUseProtection,
//! PersistentVolumeClaimResize, and the time of a volume's phase.

use futures::FutureExt as _;
use futures::future::{self, BoxFuture};
use serde_json::{Value, json};
use vetch_api::kinds::storage_class::default_of;
use vetch_api::quantity::Quantity;
use vetch_server::Server;
use vetch_server::admission::{Admission, Attributes, Effects, Operation};
use vetch_server::request::storage_prefix;
use vetch_server::status::{Result, Status};

use super::{is, text};

const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";
const CLASSES: &str = "storageclasses";
const GROUP: &str = "storage.k8s.io";
const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
const BETA_CLASS: &str = "/metadata/annotations/volume.beta.kubernetes.io~1storage-class";
const REQUEST: &str = "/spec/resources/requests/storage";
const SINCE: &str = "lastPhaseTransitionTime";

/// A claim that names no class is of the default one, if there is one.
pub(super) struct DefaultStorageClass;

impl Admission for DefaultStorageClass {
    fn admit<'a>(
        &'a self,
        server: &'a Server,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        let outcome = match is(attributes, Operation::Create, CLAIMS, "") && !names_class(object) {
            true => default_class(server).map(|class| {
                if let (Some(class), true) = (class, object["spec"].is_object()) {
                    object["spec"]["storageClassName"] = class.into();
                }
            }),
            false => Ok(()),
        };
        Box::pin(future::ready(outcome.map(|()| Effects::default())))
    }
}

/// An empty name is one, too: that of no class.
fn names_class(claim: &Value) -> bool {
    claim["spec"]["storageClassName"].is_string() || claim.pointer(BETA_CLASS).is_some()
}

fn default_class(server: &Server) -> Result<Option<String>> {
    let row = server.row(GROUP, CLASSES)?;
    let classes = server.cache(row)?.list(&storage_prefix(row)).objects;
    let name = default_of(classes.iter().map(|class| &class.value));
    Ok(name.map(str::to_owned))
}

/// What is in use goes when nobody uses it any more.
pub(super) struct StorageObjectInUseProtection;

impl Admission for StorageObjectInUseProtection {
    fn admit<'a>(
        &'a self,
        _: &'a Server,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        for (plural, finalizer) in [(CLAIMS, CLAIM_PROTECTION), (VOLUMES, VOLUME_PROTECTION)] {
            if is(attributes, Operation::Create, plural, "") {
                protect(object, finalizer);
            }
        }
        if let (true, Some(old)) = (
            is(attributes, Operation::Update, VOLUMES, "status"),
            attributes.old,
        ) {
            stamp(object, old, jiff::Timestamp::now());
        }
        Box::pin(future::ready(Ok(Effects::default())))
    }
}

fn protect(object: &mut Value, finalizer: &str) {
    match object["metadata"]["finalizers"].as_array_mut() {
        Some(finalizers) if finalizers.iter().any(|own| own == finalizer) => {}
        Some(finalizers) => finalizers.push(finalizer.into()),
        None => object["metadata"]["finalizers"] = json!([finalizer]),
    }
}

/// Since when a volume has its phase, where the writer does not say (KEP-3762).
fn stamp(volume: &mut Value, old: &Value, now: jiff::Timestamp) {
    let changed = volume["status"]["phase"] != old["status"]["phase"];
    let said = volume["status"][SINCE] != old["status"][SINCE];
    if changed && !said && volume["status"].is_object() {
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        volume["status"][SINCE] = now.into();
    }
}

/// A bound claim asks for more only where its class says that volumes grow.
pub(super) struct PersistentVolumeClaimResize;

impl Admission for PersistentVolumeClaimResize {
    fn admit<'a>(
        &'a self,
        server: &'a Server,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        async move {
            let grown = is(attributes, Operation::Update, CLAIMS, "")
                && attributes.old.is_some_and(|old| grows(object, old));
            if !grown {
                return Ok(Effects::default());
            }
            let refused =
                |why: &str| Err(Status::forbidden(attributes.resource, attributes.name, why));
            if text(object, "/status/phase") != "Bound" {
                return refused("Only bound persistent volume claims can be expanded");
            }
            let class = text(object, "/spec/storageClassName");
            let found = match class {
                "" => None,
                class => server.find(GROUP, CLASSES, None, class).await?,
            };
            match found.is_some_and(|found| found.value["allowVolumeExpansion"] == true) {
                true => Ok(Effects::default()),
                false => refused(
                    "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
                ),
            }
        }
        .boxed()
    }
}

fn grows(new: &Value, old: &Value) -> bool {
    let amount = |claim: &Value| Quantity::parse(text(claim, REQUEST)).ok();
    matches!((amount(new), amount(old)), (Some(new), Some(old)) if new > old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_protected_is_so_once() {
        for (metadata, finalizers) in [
            (json!({}), json!(["f"])),
            (json!({"finalizers": ["a/b"]}), json!(["a/b", "f"])),
            (json!({"finalizers": ["f", "a/b"]}), json!(["f", "a/b"])),
        ] {
            let mut object = json!({"metadata": metadata});
            protect(&mut object, "f");
            assert_eq!(object["metadata"]["finalizers"], finalizers);
        }
    }

    #[test]
    fn only_no_name_at_all_asks_for_the_default() {
        let beta = json!({"annotations": {"volume.beta.kubernetes.io/storage-class": "slow"}});
        for (claim, names) in [
            (json!({"spec": {}}), false),
            (json!({"spec": {"storageClassName": null}}), false),
            (json!({"spec": {"storageClassName": ""}}), true),
            (json!({"spec": {"storageClassName": "fast"}}), true),
            (json!({"metadata": beta, "spec": {}}), true),
        ] {
            assert_eq!(names_class(&claim), names, "{claim}");
        }
    }

    #[test]
    fn a_new_phase_has_a_time() {
        let volume = |phase: &str, since: &str| json!({"status": {"phase": phase, SINCE: since}});
        let old = volume("Available", "t1");
        for (new, since) in [
            (volume("Available", "t1"), "t1"),
            (volume("Bound", "t1"), "1970-01-01T00:00:00Z"),
            (volume("Bound", "t2"), "t2"),
        ] {
            let mut stamped = new.clone();
            stamp(&mut stamped, &old, jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(stamped["status"][SINCE], since, "{new}");
        }
    }

    #[test]
    fn growth_is_more_storage() {
        let claim =
            |amount: &str| json!({"spec": {"resources": {"requests": {"storage": amount}}}});
        for (new, old, grown) in [
            ("2Gi", "1Gi", true),
            ("1Gi", "1024Mi", false),
            ("1", "2", false),
        ] {
            assert_eq!(grows(&claim(new), &claim(old)), grown, "{old} {new}");
        }
    }
}
