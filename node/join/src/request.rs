//! A client certificate by the API: key, request, answer.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};
use tokio::time::Instant;
use tracing::debug;

use crate::access::limited;
use crate::certificate::Certificate;
use crate::error::JoinError;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const GROUP: &str = "system:nodes";
/// Between two looks at a request that waits.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A certificate with its key, PEM, and what it says.
pub(crate) struct Issued {
    pub pem: String,
    pub certificate: Certificate,
}

/// Asks for a certificate of `system:node:NAME` and waits until it is there, `limit` at most.
pub(crate) async fn certificate(
    client: &Client,
    node: &str,
    limit: Duration,
) -> Result<Issued, JoinError> {
    let key = KeyPair::generate()?;
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let wanted = request(&key, node)?;
    let made = limited(requests.create(&PostParams::default(), &wanted))
        .await
        .map_err(JoinError::during("ask for a certificate"))?;
    let name = made.metadata.name.clone().unwrap_or_default();
    debug!(request = name, "asked for a certificate");
    let began = Instant::now();
    let mut seen = made;
    loop {
        match state(&seen) {
            State::Issued(pem) => return accept(&pem, &key, node, Timestamp::now()),
            State::Refused(state, message) => {
                return Err(JoinError::Refused {
                    name,
                    state,
                    message,
                });
            }
            waiting if began.elapsed() >= limit => {
                let seconds = limit.as_secs();
                return Err(match waiting {
                    State::Approved => JoinError::NotSigned { name, seconds },
                    _ => JoinError::NotApproved { name, seconds },
                });
            }
            State::Pending | State::Approved => tokio::time::sleep(LOOK_EVERY).await,
        }
        match limited(requests.get(&name)).await {
            Ok(newer) => seen = newer,
            // Away for a moment, or for good: the limit tells.
            Err(error) if began.elapsed() < limit => debug!(%error, "look at the request"),
            Err(error) => return Err(JoinError::during("read the request")(error)),
        }
    }
}

fn request(key: &KeyPair, node: &str) -> Result<CertificateSigningRequest, JoinError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    let subject = &mut params.distinguished_name;
    subject.push(DnType::OrganizationName, GROUP);
    subject.push(DnType::CommonName, user(node));
    let pem = params.serialize_request(key)?.pem()?;
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("csr-".to_owned()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: SIGNER.to_owned(),
            // Without key encipherment, as the kubelet asks for keys that are not RSA's.
            usages: Some(vec![
                "digital signature".to_owned(),
                "client auth".to_owned(),
            ]),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    })
}

pub(crate) fn user(node: &str) -> String {
    format!("system:node:{node}")
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Pending,
    Approved,
    Issued(String),
    Refused(&'static str, String),
}

fn state(csr: &CertificateSigningRequest) -> State {
    let status = csr.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let find = |kind: &str| {
        let mut all = conditions.unwrap_or_default().iter();
        all.find(|own| own.type_ == kind && own.status == "True")
    };
    for (kind, words) in [("Denied", "denied"), ("Failed", "not signed")] {
        if let Some(condition) = find(kind) {
            let message = condition.message.clone().unwrap_or_default();
            return State::Refused(words, message);
        }
    }
    let certificate = status.and_then(|status| status.certificate.as_ref());
    let pem = certificate.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
    match (find("Approved"), pem.filter(|pem| !pem.is_empty())) {
        (Some(_), Some(pem)) => State::Issued(pem),
        (Some(_), None) => State::Approved,
        (None, _) => State::Pending,
    }
}

/// Is it for this key and this node, and good now?
fn accept(pem: &str, key: &KeyPair, node: &str, now: Timestamp) -> Result<Issued, JoinError> {
    let certificate = Certificate::of_pem(pem.as_bytes()).ok_or(JoinError::Foreign {
        why: "it cannot be read",
    })?;
    if certificate.key != key.subject_public_key_info() {
        return Err(JoinError::Foreign {
            why: "it is of another key",
        });
    }
    if certificate.user != user(node) {
        return Err(JoinError::Foreign {
            why: "it is of another user",
        });
    }
    if !certificate.is_good_at(now) {
        return Err(JoinError::Clock {
            begins: certificate.begins,
            ends: certificate.ends,
        });
    }
    Ok(Issued {
        pem: format!("{}\n{}", pem.trim_end(), key.serialize_pem()),
        certificate,
    })
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::{Value, json};

    use super::*;

    fn csr(kinds: &[&str], certificate: &str) -> CertificateSigningRequest {
        let conditions: Vec<Value> = kinds
            .iter()
            .map(|kind| json!({"type": kind, "status": "True", "message": "because"}))
            .collect();
        let mut csr: CertificateSigningRequest = serde_json::from_value(json!({
            "metadata": {"name": "csr-1"}, "spec": {"request": "", "signerName": "s"},
            "status": {"conditions": conditions},
        }))
        .unwrap();
        if let Some(status) = csr.status.as_mut().filter(|_| !certificate.is_empty()) {
            status.certificate = Some(ByteString(certificate.as_bytes().to_vec()));
        }
        csr
    }

    #[test]
    fn what_became_of_a_request() {
        for (kinds, certificate, wanted) in [
            (&[][..], "", State::Pending),
            (&[][..], "PEM", State::Pending),
            (&["Approved"][..], "", State::Approved),
            (&["Approved"], "PEM", State::Issued("PEM".into())),
            (&["Denied"], "", State::Refused("denied", "because".into())),
            (
                &["Approved", "Failed"],
                "",
                State::Refused("not signed", "because".into()),
            ),
        ] {
            assert_eq!(state(&csr(kinds, certificate)), wanted, "{kinds:?}");
        }
    }

    #[test]
    fn only_the_certificate_that_was_asked_for_is_taken() {
        let key = KeyPair::generate().unwrap();
        let signed = |key: &KeyPair, user: &str, begins: SignedDuration| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, user);
            let at = |time: Timestamp| std::time::SystemTime::from(time).into();
            params.not_before = at(Timestamp::now() + begins);
            params.not_after = at(Timestamp::now() + SignedDuration::from_hours(2));
            params.self_signed(key).unwrap().pem()
        };
        let (ago, ahead) = (
            SignedDuration::from_hours(-1),
            SignedDuration::from_hours(1),
        );
        let now = Timestamp::now();
        let good = signed(&key, "system:node:a", ago);
        let issued = accept(&good, &key, "a", now).unwrap();
        assert!(
            issued.pem.contains("BEGIN CERTIFICATE-----") && issued.pem.contains("PRIVATE KEY")
        );
        assert_eq!(
            Certificate::of_pem(issued.pem.as_bytes()),
            Some(issued.certificate)
        );
        for (pem, node) in [
            ("rubbish".to_owned(), "a"),
            (
                signed(&KeyPair::generate().unwrap(), "system:node:a", ago),
                "a",
            ),
            (good, "b"),
            (signed(&key, "system:node:a", ahead), "a"),
        ] {
            assert!(accept(&pem, &key, node, now).is_err(), "{node} {pem}");
        }
    }
}
