use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret as Typed;
use serde_json::{Value, json};

use super::config_map::{MAX_SIZE, immutable};
use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, name, number};
use crate::registry::BASE;
use crate::resource::{FieldError, Resource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

pub const ROW: Resource = Resource {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    storage_prefix: "secrets",
    decode: typed::<Typed>,
    default,
    validate_create: |secret| {
        let mut errors = meta::validate(secret, true, names::subdomain);
        validate_data(secret, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        if new.get("type") != old.get("type") {
            errors.push(Path::new("type").invalid(new.str_at("/type"), "field is immutable"));
        }
        immutable(new, old, &["data"], &mut errors);
        validate_data(new, &mut errors);
        errors
    },
    selectable_fields: |secret| vec![("type", secret.str_at("/type").to_string())],
    columns: &[
        NAME,
        column(
            "Type",
            "Used to facilitate programmatic handling of secret data. More info: https://kubernetes.io/docs/concepts/configuration/secret/#secret-types",
        ),
        number(
            "Data",
            "Data contains the secret data. Each key must consist of alphanumeric characters, '-', '_' or '.'. The serialized form of the secret data is a base64 encoded string, representing the arbitrary (possibly non-string) data value here. Described in https://tools.ietf.org/html/rfc4648#section-4",
        ),
        AGE,
    ],
    cells: |secret, now| {
        let count = secret.map_at("/data").map_or(0, |m| m.len());
        vec![
            name(secret),
            secret.str_at("/type").into(),
            count.into(),
            age(secret, now),
        ]
    },
    schema: "io.k8s.api.core.v1.Secret",
    types: register::<Typed>,
    ..BASE
};

/// `stringData` is write-only: it becomes `data`.
fn default(secret: &mut Value) {
    secret.default_to("type", "Opaque");
    if let Some(Value::Object(strings)) = secret.remove_key("stringData") {
        secret.default_to("data", json!({}));
        if let Some(data) = secret.get_mut("data").and_then(Value::as_object_mut) {
            for (key, value) in strings {
                data.insert(key, STANDARD.encode(value.as_str().unwrap_or("")).into());
            }
        }
    }
}

fn validate_data(secret: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("data");
    let mut size = 0;
    for (key, value) in secret.map_at("/data").into_iter().flatten() {
        errors.extend(
            names::config_key(key)
                .iter()
                .map(|m| path.key(key).invalid(key.as_str(), m)),
        );
        size += value.as_str().map_or(0, |v| v.len() / 4 * 3);
    }
    if size > MAX_SIZE {
        errors.push(path.too_long(MAX_SIZE));
    }
    let needs = |key: &str| {
        let present = secret.map_at("/data").is_some_and(|d| d.contains_key(key));
        (!present).then(|| path.key(key).required(""))
    };
    match secret.str_at("/type") {
        "kubernetes.io/tls" => errors.extend(["tls.crt", "tls.key"].into_iter().filter_map(needs)),
        "kubernetes.io/dockerconfigjson" => errors.extend(needs(".dockerconfigjson")),
        "kubernetes.io/dockercfg" => errors.extend(needs(".dockercfg")),
        "kubernetes.io/ssh-auth" => errors.extend(needs("ssh-privatekey")),
        "kubernetes.io/basic-auth" => {
            if let (Some(missing), Some(_)) = (needs("username"), needs("password")) {
                errors.push(missing);
                errors.extend(needs("password"));
            }
        }
        "kubernetes.io/service-account-token" => {
            let annotation = "kubernetes.io/service-account.name";
            let named = secret.map_at("/metadata/annotations").is_some_and(|a| {
                a.get(annotation)
                    .and_then(Value::as_str)
                    .is_some_and(|n| !n.is_empty())
            });
            if !named {
                errors.push(
                    Path::new("metadata")
                        .child("annotations")
                        .key(annotation)
                        .required(""),
                );
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_data_becomes_data() {
        let mut secret = json!({"stringData": {"a": "x"}, "data": {"b": "eQ=="}});
        default(&mut secret);
        assert_eq!(
            secret,
            json!({"type": "Opaque", "data": {"a": "eA==", "b": "eQ=="}})
        );
    }
}
