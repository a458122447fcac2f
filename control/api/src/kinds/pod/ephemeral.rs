//! pods/ephemeralcontainers: the one way to add containers to a pod that runs. They are there to stay.

use serde_json::Value;

use super::{spec, update};
use crate::field::Path;
use crate::meta;
use crate::resource::FieldError;
use crate::value::ValueExt;

const LIST: &str = "ephemeralContainers";
/// On the API server's picture of a pod that only its node knows.
const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";

/// Nothing but the list comes from the client.
pub(super) fn prepare(new: &mut Value, old: &Value) {
    let wanted = std::mem::replace(new, old.clone());
    if let (Some(spec), Some(wanted)) = (new.get_mut("spec"), wanted.get("spec")) {
        spec.copy_key(wanted, LIST);
    }
    meta::next_generation(new, old);
}

pub(super) fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    if old.has(MIRROR) {
        // Kubernetes' empty path is shown so.
        let nowhere = Path::new("[]");
        return vec![nowhere.forbidden("static pods do not support ephemeral containers")];
    }
    let path = Path::new("spec");
    let mut errors = meta::validate_update(new, old);
    errors.extend(spec::validate(
        new.get("spec").unwrap_or(&Value::Null),
        &path,
        false,
    ));
    let at = path.child(LIST);
    let now = list(new);
    // A patch may have changed their order.
    for before in list(old) {
        let name = before.str_at("/name");
        match now.iter().find(|own| own.str_at("/name") == name) {
            None => errors.push(at.forbidden(&format!(
                "existing ephemeral containers {name:?} may not be removed\n"
            ))),
            Some(own) if own != before => errors.push(at.forbidden(&format!(
                "existing ephemeral containers {name:?} may not be changed\n{}",
                update::difference("EphemeralContainer", before, own)
            ))),
            Some(_) => {}
        }
    }
    errors
}

pub(super) fn validate_create(pod: &Value) -> Option<FieldError> {
    let path = Path::new("spec").child(LIST);
    (!list(pod).is_empty()).then(|| path.forbidden("cannot be set on create"))
}

fn list(pod: &Value) -> &[Value] {
    pod.list_at("/spec/ephemeralContainers")
}

#[cfg(test)]
mod tests;
