//! The `resize` subresource: of a running pod, what its containers ask for of cpu and memory.
//!
//! The rules are those of Kubernetes 1.36, in which sidecars, init containers and the pod as a whole can be resized as
//! well (KEP-1287, KEP-5419).

use serde_json::{Map, Value};

use super::{qos_class, spec};
use crate::field::Path;
use crate::meta;
use crate::resource::FieldError;
use crate::value::ValueExt;

const MIRROR: &str = "kubernetes.io/config.mirror";
const LISTS: [&str; 2] = ["containers", "initContainers"];
const SIZES: [&str; 2] = ["cpu", "memory"];

/// All but the resources, and the policies that belong to them, stays as it was; containers that are not the same ones
/// are left for the validation to refuse.
pub(super) fn prepare(new: &mut Value, old: &Value) {
    let mut spec = old.get("spec").cloned().unwrap_or_default();
    if let Some(wanted) = new.get("spec") {
        spec.copy_key(wanted, "resources");
        for list in LISTS {
            if !names(wanted, list).eq(names(&spec, list)) {
                spec.copy_key(wanted, list);
                continue;
            }
            let wanted = wanted.list_at(&format!("/{list}"));
            for (container, wanted) in spec.list_mut(list).zip(wanted) {
                container.copy_key(wanted, "resources");
                container.copy_key(wanted, "resizePolicy");
            }
        }
    }
    if let Some(object) = new.as_object_mut() {
        object.insert("spec".into(), spec);
    }
    if let Some(metadata) = new.get_mut("metadata") {
        let before = old.get("metadata").unwrap_or(&Value::Null);
        for key in [
            "labels",
            "annotations",
            "finalizers",
            "ownerReferences",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            metadata.copy_key(before, key);
        }
    }
    meta::next_generation(new, old);
}

pub(super) fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let whole = Path::new("");
    if !old["metadata"]["annotations"][MIRROR].is_null() {
        return vec![whole.forbidden("static pods cannot be resized")];
    }
    if old.str_at("/spec/os/name") == "windows" {
        return vec![whole.forbidden("windows pods cannot be resized")];
    }
    let path = Path::new("spec");
    let (new_spec, old_spec) = (&new["spec"], &old["spec"]);
    let mut errors = meta::validate_update(new, old);
    errors.extend(spec::validate(new_spec, &path, false));
    if class(old) != qos_class(new_spec) {
        errors.push(path.invalid(
            new.str_at("/status/qosClass"),
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
    if !is_supported(old) {
        errors.push(path.forbidden("Pod running on node without support for resize"));
    }
    whole_pod(new_spec, old_spec, &path, &mut errors);
    if !same_containers(new_spec, old_spec, &path, &mut errors) {
        return errors;
    }
    for list in ["initContainers", "containers"] {
        let at = format!("/{list}");
        let pairs = new_spec.list_at(&at).iter().zip(old_spec.list_at(&at));
        for (i, (new, old)) in pairs.enumerate() {
            let at = path.child(list).index(i);
            nothing_removed(
                [&new["resources"], &old["resources"]],
                &at.child("resources"),
                "resource",
                &mut errors,
            );
            match list {
                "containers" if !only_sizes(new, old) => {
                    errors.push(path.forbidden("only cpu and memory resources are mutable"));
                }
                "initContainers" => init_container(new, old, &at, &mut errors),
                _ => {}
            }
        }
    }
    errors
}

/// As the pod was told at its creation.
fn class(pod: &Value) -> &str {
    match pod.str_at("/status/qosClass") {
        "" => qos_class(&pod["spec"]),
        told => told,
    }
}

/// A node that knows of resizes tells what a running container has.
fn is_supported(pod: &Value) -> bool {
    let statuses = pod.list_at("/status/containerStatuses");
    let running = statuses.iter().find(|status| status.has("/state/running"));
    running.is_none_or(|status| status.has("/resources"))
}

fn names<'a>(spec: &'a Value, list: &str) -> impl Iterator<Item = &'a str> {
    let containers = spec.list_at(&format!("/{list}"));
    containers.iter().map(|container| container.str_at("/name"))
}

fn same_containers(new: &Value, old: &Value, path: &Path, errors: &mut Vec<FieldError>) -> bool {
    let before = errors.len();
    for list in LISTS {
        let at = path.child(list);
        if names(new, list).count() != names(old, list).count() {
            let words = format!("{list} may not be added or removed on resize");
            errors.push(at.forbidden(&words));
            continue;
        }
        let words = format!("{list} may not be renamed or reordered on resize");
        let pairs = names(new, list).zip(names(old, list)).enumerate();
        let renamed = pairs.filter(|(_, (new, old))| new != old);
        errors.extend(renamed.map(|(i, _)| at.index(i).child("name").forbidden(&words)));
    }
    errors.len() == before
}

/// What was asked for once may become more or less, not nothing.
fn nothing_removed([new, old]: [&Value; 2], path: &Path, what: &str, errors: &mut Vec<FieldError>) {
    for list in ["requests", "limits"] {
        let at = format!("/{list}");
        let left = new.map_at(&at);
        let mut before = old.map_at(&at).into_iter().flat_map(Map::keys);
        if before.any(|name| left.is_none_or(|left| !left.contains_key(name))) {
            let words = format!("{what} {list} cannot be removed");
            errors.push(path.child(list).forbidden(&words));
        }
    }
}

fn init_container(new: &Value, old: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    if !only_sizes(new, old) {
        errors.push(
            path.forbidden(
                "only cpu and memory resources for init or sidecar containers are mutable",
            ),
        );
    }
    let restarts = new
        .list_at("/resizePolicy")
        .iter()
        .any(|policy| policy.str_at("/restartPolicy") == "RestartContainer");
    if new != old && new.str_at("/restartPolicy") != "Always" && restarts {
        errors.push(path.forbidden(
            "non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
        ));
    }
}

/// What the pod asks for as a whole, beside its containers.
fn whole_pod(new: &Value, old: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let asks = |spec: &Value| {
        let mut lists = ["/resources/requests", "/resources/limits"].into_iter();
        lists.any(|list| spec.map_at(list).is_some_and(|list| !list.is_empty()))
    };
    if !asks(new) && !asks(old) {
        return;
    }
    let at = path.child("resources");
    if old.has("/resources") && !new.has("/resources") {
        errors.push(at.forbidden("pod-level resources cannot be removed"));
        return;
    }
    nothing_removed(
        [&new["resources"], &old["resources"]],
        &at,
        "pod-level resource",
        errors,
    );
    if sized_as(new, old)["resources"] != sized_as(old, old)["resources"] {
        errors.push(path.forbidden("only cpu and memory resources are mutable at pod-level"));
    }
}

fn only_sizes(new: &Value, old: &Value) -> bool {
    sized_as(new, old) == sized_as(old, old)
}

/// A container, or a pod's spec, with the other's cpu and memory; lists without entries are none.
fn sized_as(holder: &Value, other: &Value) -> Value {
    let mut resources = holder.map_at("/resources").cloned().unwrap_or_default();
    for list in ["requests", "limits"] {
        let at = format!("/resources/{list}");
        let mut amounts = holder.map_at(&at).cloned().unwrap_or_default();
        for name in SIZES {
            match other.map_at(&at).and_then(|amounts| amounts.get(name)) {
                Some(amount) => amounts.insert(name.into(), amount.clone()),
                None => amounts.remove(name),
            };
        }
        match amounts.is_empty() {
            true => resources.remove(list),
            false => resources.insert(list.into(), amounts.into()),
        };
    }
    let mut sized = holder.clone();
    if let Some(object) = sized.as_object_mut() {
        object.insert("resources".into(), resources.into());
    }
    sized
}

#[cfg(test)]
mod tests;
