//! Which of a node's runtime handlers a pod runs by, what that costs beside the pod, and which nodes have it
//! (KEP-585, KEP-688).

use k8s_openapi::api::node::v1::RuntimeClass as Typed;
use serde_json::Value;

use crate::decode::typed;
use crate::field::Path;
use crate::kinds::pod;
use crate::print::{AGE, NAME, age, column, name};
use crate::quantity::Quantity;
use crate::registry::BASE;
use crate::resource::{FieldError, Resource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

pub const ROW: Resource = Resource {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    namespaced: false,
    storage_prefix: "runtimeclasses",
    decode: typed::<Typed>,
    validate_create: |class| {
        let mut errors = meta::validate(class, false, names::subdomain);
        validate(class, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        if new.str_at("/handler") != old.str_at("/handler") {
            let at = Path::new("handler");
            errors.push(at.invalid(new.str_at("/handler"), "field is immutable"));
        }
        errors
    },
    columns: &[
        NAME,
        column(
            "Handler",
            "handler specifies the underlying runtime and configuration that the CRI implementation will use to handle pods of this class.",
        ),
        AGE,
    ],
    cells: |class, now| {
        vec![
            name(class),
            class.str_at("/handler").into(),
            age(class, now),
        ]
    },
    schema: "io.k8s.api.node.v1.RuntimeClass",
    types: register::<Typed>,
    ..BASE
};

fn validate(class: &Value, errors: &mut Vec<FieldError>) {
    let handler = class.str_at("/handler");
    let at = Path::new("handler");
    errors.extend(
        names::label(handler)
            .iter()
            .map(|words| at.invalid(handler, words)),
    );
    let fixed = Path::new("overhead").child("podFixed");
    for (resource, amount) in class.map_at("/overhead/podFixed").into_iter().flatten() {
        let at = fixed.key(resource);
        errors.extend(
            names::qualified(resource)
                .iter()
                .map(|words| at.invalid(resource.as_str(), words)),
        );
        let text = amount.as_str().unwrap_or_default();
        // One that is no quantity was refused before, with the JSON.
        if Quantity::parse(text).is_ok_and(|amount| amount.is_negative()) {
            errors.push(at.invalid(text, "must be greater than or equal to 0"));
        }
    }
    let Some(scheduling) = class.get("scheduling") else {
        return;
    };
    let path = Path::new("scheduling");
    for (key, value) in scheduling.map_at("/nodeSelector").into_iter().flatten() {
        let at = path.child("nodeSelector");
        errors.extend(
            names::qualified(key)
                .iter()
                .map(|words| at.invalid(key.as_str(), words)),
        );
        let value = value.as_str().unwrap_or_default();
        errors.extend(
            names::label_value(value)
                .iter()
                .map(|words| at.invalid(value, words)),
        );
    }
    pod::tolerations(scheduling, &path.child("tolerations"), errors);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(rest: Value) -> Value {
        let mut class = json!({"metadata": {"name": "fast"}, "handler": "vetch"});
        class
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        class
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (rest, wrong) in [
            (json!({}), vec![]),
            (json!({"handler": ""}), vec!["handler"]),
            (json!({"handler": "My_runtime"}), vec!["handler"]),
            (
                json!({"overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}}}),
                vec![],
            ),
            (
                json!({"overhead": {"podFixed": {"cpu": "-1"}}}),
                vec!["overhead.podFixed[cpu]"],
            ),
            (
                json!({"overhead": {"podFixed": {"c/p/u": "1"}}}),
                vec!["overhead.podFixed[c/p/u]"],
            ),
            (json!({"scheduling": {"nodeSelector": {"a": "b"}}}), vec![]),
            (
                json!({"scheduling": {"nodeSelector": {"a": "b c"}}}),
                vec!["scheduling.nodeSelector"],
            ),
        ] {
            let errors = (ROW.validate_create)(&class(rest.clone()));
            let mut fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            fields.dedup();
            assert_eq!(fields, wrong, "{rest}: {errors:?}");
        }
    }

    #[test]
    fn its_handler_stays() {
        let (old, new) = (class(json!({})), class(json!({"handler": "other"})));
        assert!((ROW.validate_update)(&old, &old).is_empty());
        assert_eq!((ROW.validate_update)(&new, &old)[0].field, "handler");
    }

    #[test]
    fn it_reads_as_in_kubectl() {
        let cells = (ROW.cells)(&class(json!({})), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells[..2], [json!("fast"), json!("vetch")]);
    }
}
