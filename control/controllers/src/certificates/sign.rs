//! csrsigning: approved requests of the built-in signers get their certificates.
//!
//! Input: the requests. Output: the certificate in the status, or the condition Failed with what the signer does not
//! sign. The authority's key is out of reach here: a [`Signer`] signs, and checks what it can write.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tracing::info;
use vetch_api::csr::{Request, refusal};
use vetch_identity::{SignError, Signer};

use super::{has, is_issued, listen, usages, with_condition};
use crate::error::{Attempt as _, Error, Result, chain};
use crate::informer::Informer;
use crate::informers::Informers;
use crate::key::ObjectKey;
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

pub struct CertificateSigning {
    client: Client,
    signer: Signer,
    requests: Arc<Informer<CertificateSigningRequest>>,
}

impl CertificateSigning {
    pub fn new(
        client: Client,
        signer: Signer,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> CertificateSigning {
        CertificateSigning {
            client,
            signer,
            requests: listen(informers, queue, waits),
        }
    }
}

fn waits(csr: &CertificateSigningRequest) -> bool {
    has(csr, "Approved") && !has(csr, "Denied") && !has(csr, "Failed") && !is_issued(csr)
}

/// The patch of the status, if the request is one for a signer of ours. `Err`: the authority cannot sign now.
fn answer(
    csr: &CertificateSigningRequest,
    signer: &Signer,
    now: Timestamp,
) -> Result<Option<Value>, SignError> {
    let failed = |why: &str| with_condition(csr, "Failed", "SignerValidationFailure", why, now);
    let request = match Request::parse(&csr.spec.request.0) {
        Ok(request) => request,
        Err(error) => return Ok(Some(failed(&error.to_string()))),
    };
    let usages = usages(csr);
    match refusal(&csr.spec.signer_name, &request, &usages) {
        None => return Ok(None),
        Some(Err(why)) => return Ok(Some(failed(&why))),
        Some(Ok(())) => {}
    }
    let seconds = csr.spec.expiration_seconds;
    match signer.sign(&csr.spec.request.0, &usages, seconds, now) {
        Ok(pem) => Ok(Some(json!({
            "metadata": {"resourceVersion": csr.metadata.resource_version},
            "status": {"certificate": ByteString(pem.into_bytes())},
        }))),
        Err(error @ (SignError::Ended | SignError::Sign(_))) => Err(error),
        Err(error) => Ok(Some(failed(&chain(&error)))),
    }
}

impl Reconcile for CertificateSigning {
    type Key = ObjectKey;

    const NAME: &'static str = "csrsigning";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(csr) = self.requests.get(key).filter(|csr| waits(csr)) else {
            return Ok(Next::OnChange);
        };
        let patch = answer(&csr, &self.signer, Timestamp::now())
            .map_err(|error| Error::Incomplete(format!("sign request {key}: {}", chain(&error))))?;
        let Some(patch) = patch else {
            return Ok(Next::OnChange);
        };
        let signed = patch["status"].get("certificate").is_some();
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let written = api
            .patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        written.during(|| format!("answer request {key}"))?;
        info!(request = %key, signer = csr.spec.signer_name, signed, "answered");
        Ok(Next::OnChange)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use vetch_api::csr::{CLIENT, KUBELET_CLIENT, KUBELET_SERVING};
    use vetch_identity::Pki;

    use super::super::testing::csr;
    use super::*;

    const AT: &str = "2026-01-01T00:00:00Z";

    fn request() -> ByteString {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, "system:nodes");
        name.push(DnType::CommonName, "system:node:a");
        let key = KeyPair::generate().unwrap();
        ByteString(
            params
                .serialize_request(&key)
                .unwrap()
                .pem()
                .unwrap()
                .into(),
        )
    }

    #[test]
    fn each_signer_answers_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let signer = Pki::open(dir.path()).unwrap().signer();
        let now = Timestamp::now();
        for (name, failure) in [
            (KUBELET_CLIENT, Some(None)),
            (CLIENT, Some(None)),
            (
                KUBELET_SERVING,
                Some(Some("DNS or IP subjectAltName is required")),
            ),
            ("example.com/own", None),
        ] {
            let mut csr = csr(name, &["Approved"], AT);
            csr.spec.request = request();
            let patch = answer(&csr, &signer, now).unwrap();
            let told = patch.map(|patch| {
                assert_eq!(patch["metadata"]["resourceVersion"], "7");
                let signed = patch["status"]["certificate"].is_string();
                let message = patch["status"]["conditions"][1]["message"].clone();
                assert_eq!(signed, message.is_null(), "{patch}");
                message.as_str().map(str::to_owned)
            });
            assert_eq!(told, failure.map(|why| why.map(str::to_owned)), "{name}");
        }
        let broken = answer(&csr(CLIENT, &["Approved"], AT), &signer, now).unwrap();
        let message = &broken.unwrap()["status"]["conditions"][1]["message"];
        assert_eq!(message, "PEM block type must be CERTIFICATE REQUEST");
    }

    #[test]
    fn only_what_was_approved_waits() {
        for (kinds, waiting) in [
            (&[][..], false),
            (&["Approved"][..], true),
            (&["Denied"], false),
            (&["Approved", "Failed"], false),
        ] {
            assert_eq!(waits(&csr(CLIENT, kinds, AT)), waiting, "{kinds:?}");
        }
    }
}
