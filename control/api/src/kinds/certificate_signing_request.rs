//! Requests for certificates: asked for by anybody, approved by one, signed by another.

mod conditions;
mod validation;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Typed;
use serde_json::Value;

use crate::decode::typed;
use crate::print::{AGE, NAME, age, column, human_duration, name, or_none};
use crate::registry::BASE;
use crate::resource::{Column, Resource, Subresource, SubresourceKind};
use crate::schema::register;
use crate::value::ValueExt;

pub use conditions::stamp;

const GROUP: &str = "certificates.k8s.io";
const KIND: &str = "CertificateSigningRequest";

pub const ROW: Resource = Resource {
    group: GROUP,
    kind: KIND,
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    namespaced: false,
    storage_prefix: "certificatesigningrequests",
    subresources: &[
        Subresource {
            name: "approval",
            kind: SubresourceKind::Part {
                prepare: prepare_approval,
                validate: validation::approval,
            },
            verbs: &["get", "patch", "update"],
            group: GROUP,
            version: "v1",
            object_kind: KIND,
        },
        Subresource::status(GROUP, "v1", KIND),
    ],
    decode: typed::<Typed>,
    // Nobody makes a request that is approved already. Who asks is written into the spec by admission.
    prepare_create: |csr| drop(csr.remove_key("status")),
    prepare_update: |new, old| {
        new.copy_key(old, "spec");
        new.copy_key(old, "status");
    },
    prepare_status: |new, old| new.copy_key(old, "spec"),
    validate_create: validation::create,
    validate_update: validation::update,
    validate_status: validation::status,
    selectable_fields: |csr| {
        vec![(
            "spec.signerName",
            csr.str_at("/spec/signerName").to_string(),
        )]
    },
    columns: COLUMNS,
    cells,
    schema: "io.k8s.api.certificates.v1.CertificateSigningRequest",
    types: register::<Typed>,
    ..BASE
};

/// The certificate is the signer's to write.
fn prepare_approval(new: &mut Value, old: &Value) {
    new.copy_key(old, "spec");
    let certificate = old.pointer("/status/certificate").cloned();
    match (
        new.get_mut("status").and_then(Value::as_object_mut),
        certificate,
    ) {
        (Some(status), Some(certificate)) => {
            status.insert("certificate".into(), certificate);
        }
        (Some(status), None) => drop(status.remove("certificate")),
        (None, Some(certificate)) => {
            if let Some(object) = new.as_object_mut() {
                object.insert(
                    "status".into(),
                    serde_json::json!({"certificate": certificate}),
                );
            }
        }
        (None, None) => {}
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    AGE,
    column(
        "SignerName",
        "signerName indicates the requested signer, and is a qualified name.\n\nList/watch requests for CertificateSigningRequests can filter on this field using a \"spec.signerName=NAME\" fieldSelector.",
    ),
    column(
        "Requestor",
        "request contains an x509 certificate signing request encoded in a \"CERTIFICATE REQUEST\" PEM block. When serialized as JSON or YAML, the data is additionally base64-encoded.",
    ),
    column(
        "RequestedDuration",
        "expirationSeconds is the requested duration of validity of the issued certificate.",
    ),
    column(
        "Condition",
        "conditions applied to the request. Known conditions are \"Approved\", \"Denied\", and \"Failed\".",
    ),
];

fn cells(csr: &Value, now: Timestamp) -> Vec<Value> {
    let duration = csr
        .opt_i64("/spec/expirationSeconds")
        .map(human_duration)
        .unwrap_or_default();
    vec![
        name(csr),
        age(csr, now),
        or_none(csr.str_at("/spec/signerName")),
        csr.str_at("/spec/username").into(),
        or_none(duration),
        state(csr).into(),
    ]
}

/// `Pending`, `Approved,Issued`, `Denied`, …
fn state(csr: &Value) -> String {
    let has = |kind: &str| {
        let conditions = csr.list_at("/status/conditions");
        conditions.iter().any(|own| own.str_at("/type") == kind)
    };
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !csr.str_at("/status/certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}

#[cfg(test)]
mod tests;
