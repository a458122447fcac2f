//! csrapproving: client certificates of kubelets are approved where the asker may have them so.
//!
//! Input: the requests. Output: the condition Approved. Whether somebody may is asked of the API server, by the
//! subresources that exist for this alone: `nodeclient` for any node's, `selfnodeclient` for the asker's own.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tracing::info;
use vetch_api::csr::{KUBELET_CLIENT, Request, refusal};

use super::{has, is_issued, listen, usages, with_condition};
use crate::error::{Attempt as _, Result};
use crate::informer::Informer;
use crate::informers::Informers;
use crate::key::ObjectKey;
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

pub struct CertificateApproval {
    client: Client,
    requests: Arc<Informer<CertificateSigningRequest>>,
}

impl CertificateApproval {
    pub fn new(
        client: Client,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> CertificateApproval {
        CertificateApproval {
            client,
            requests: listen(informers, queue, is_open),
        }
    }

    async fn may(&self, csr: &CertificateSigningRequest, subresource: &str) -> Result<bool> {
        let spec = &csr.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    verb: Some("create".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        let answer = answer.during(|| format!("ask for {subresource}"))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

/// Nobody has decided yet.
fn is_open(csr: &CertificateSigningRequest) -> bool {
    !is_issued(csr) && !has(csr, "Approved") && !has(csr, "Denied")
}

/// What the asker must be allowed one of, with the message of the approval; in order.
fn recognised(csr: &CertificateSigningRequest) -> Vec<(&'static str, &'static str)> {
    if csr.spec.signer_name != KUBELET_CLIENT {
        return Vec::new();
    }
    let Ok(request) = Request::parse(&csr.spec.request.0) else {
        return Vec::new();
    };
    if refusal(KUBELET_CLIENT, &request, &usages(csr)) != Some(Ok(())) {
        return Vec::new();
    }
    let mut all = Vec::new();
    if csr.spec.username.as_ref() == Some(&request.common_name) {
        all.push((
            "selfnodeclient",
            "Auto approving self kubelet client certificate after SubjectAccessReview.",
        ));
    }
    all.push((
        "nodeclient",
        "Auto approving kubelet client certificate after SubjectAccessReview.",
    ));
    all
}

impl Reconcile for CertificateApproval {
    type Key = ObjectKey;

    const NAME: &'static str = "csrapproving";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(csr) = self.requests.get(key).filter(|csr| is_open(csr)) else {
            return Ok(Next::OnChange);
        };
        for (subresource, message) in recognised(&csr) {
            if !self.may(&csr, subresource).await? {
                continue;
            }
            let patch = with_condition(&csr, "Approved", "AutoApproved", message, Timestamp::now());
            let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
            let written = api
                .patch_approval(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await;
            written.during(|| format!("approve request {key}"))?;
            info!(request = %key, user = csr.spec.username, "approved");
            break;
        }
        // Nobody else's answer changes by itself: who may not now asks anew.
        Ok(Next::OnChange)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use vetch_api::csr::{CLIENT, KUBELET_SERVING};

    use super::super::testing::csr;
    use super::*;

    fn request(common_name: &str, organization: &str, names: &[&str]) -> ByteString {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, organization);
        name.push(DnType::CommonName, common_name);
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
    fn kubelets_client_certificates_are_recognised() {
        let at = "2026-01-01T00:00:00Z";
        let node = || request("system:node:a", "system:nodes", &[]);
        for (signer, request, username, tried) in [
            (
                KUBELET_CLIENT,
                node(),
                "system:bootstrap:x",
                &["nodeclient"][..],
            ),
            (
                KUBELET_CLIENT,
                node(),
                "system:node:a",
                &["selfnodeclient", "nodeclient"],
            ),
            (KUBELET_CLIENT, node(), "system:node:b", &["nodeclient"]),
            (CLIENT, node(), "system:node:a", &[]),
            (KUBELET_SERVING, node(), "system:node:a", &[]),
            (
                KUBELET_CLIENT,
                request("system:node:a", "system:masters", &[]),
                "system:node:a",
                &[],
            ),
            (
                KUBELET_CLIENT,
                request("admin", "system:nodes", &[]),
                "admin",
                &[],
            ),
            (
                KUBELET_CLIENT,
                request("system:node:a", "system:nodes", &["a"]),
                "system:node:a",
                &[],
            ),
            (KUBELET_CLIENT, ByteString(b"x".to_vec()), "x", &[]),
        ] {
            let mut csr = csr(signer, &[], at);
            csr.spec.request = request;
            csr.spec.username = Some(username.to_owned());
            let found: Vec<&str> = recognised(&csr).iter().map(|(sub, _)| *sub).collect();
            assert_eq!(found, tried, "{signer} {username}");
        }
        let mut odd = csr(KUBELET_CLIENT, &[], at);
        odd.spec.request = node();
        odd.spec.usages = Some(vec!["server auth".to_owned()]);
        assert!(recognised(&odd).is_empty());
    }

    #[test]
    fn what_was_decided_is_left_alone() {
        let at = "2026-01-01T00:00:00Z";
        for (kinds, open) in [
            (&[][..], true),
            (&["Approved"][..], false),
            (&["Denied"], false),
            (&["Failed"], true),
        ] {
            assert_eq!(is_open(&csr(KUBELET_CLIENT, kinds, at)), open, "{kinds:?}");
        }
        let now = at.parse().unwrap();
        let before = csr(KUBELET_CLIENT, &["Failed"], at);
        let patch = with_condition(&before, "Approved", "r", "m", now);
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["status"]["conditions"].as_array().unwrap().len(), 2);
    }
}
