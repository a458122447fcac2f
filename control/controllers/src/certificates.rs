//! Requests for certificates: approved ([`approve`]), signed ([`sign`]) and forgotten ([`clean`]).

pub mod approve;
pub mod clean;
pub mod sign;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::events::whole_seconds;
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::ObjectKey;
use crate::queue::Queue;

/// Has the queue look at each request that is one of these, now and after each change.
fn listen(
    informers: &Informers,
    queue: &Arc<Queue<ObjectKey>>,
    wanted: fn(&CertificateSigningRequest) -> bool,
) -> Arc<Informer<CertificateSigningRequest>> {
    let keys = queue.clone();
    let requests = &informers.certificate_requests;
    requests.listen(move |change: &Change<CertificateSigningRequest>| {
        if let Some(csr) = change.new.as_ref().filter(|csr| wanted(csr)) {
            keys.add(ObjectKey::of(csr.as_ref()));
        }
    });
    requests.clone()
}

fn conditions(csr: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    let status = csr.status.as_ref();
    status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
}

fn has(csr: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(csr)
        .iter()
        .any(|own| own.type_ == kind && own.status == "True")
}

fn is_issued(csr: &CertificateSigningRequest) -> bool {
    let status = csr.status.as_ref();
    let certificate = status.and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|pem| !pem.0.is_empty())
}

fn usages(csr: &CertificateSigningRequest) -> Vec<&str> {
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    usages.iter().map(String::as_str).collect()
}

/// A merge patch replaces lists, so that all conditions are in it; the version keeps others' from being lost.
fn with_condition(
    csr: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Value {
    let mut all = conditions(csr).to_vec();
    let now = Some(Time(whole_seconds(now)));
    all.push(CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: now.clone(),
        last_transition_time: now,
    });
    json!({
        "metadata": {"resourceVersion": csr.metadata.resource_version},
        "status": {"conditions": all},
    })
}

#[cfg(test)]
mod testing {
    use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
    use serde_json::{Value, json};

    /// Of a signer, with these conditions since `at`.
    pub fn csr(signer: &str, kinds: &[&str], at: &str) -> CertificateSigningRequest {
        let conditions: Vec<Value> = kinds
            .iter()
            .map(|kind| json!({"type": kind, "status": "True", "lastUpdateTime": at}))
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "c", "resourceVersion": "7", "creationTimestamp": at},
            "spec": {"signerName": signer, "request": "", "usages": ["client auth", "digital signature"],
                "username": "system:bootstrap:abcdef", "groups": ["system:bootstrappers"]},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }
}
