//! csrcleaner: requests that were answered, or that nobody answers, go after a while.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};
use tracing::info;

use super::{conditions, is_issued};
use crate::error::{Attempt as _, Result, found};
use crate::informer::Informer;
use crate::informers::Informers;
use crate::key::name_of;
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

/// kube-controller-manager's times.
const EVERY: Duration = Duration::from_secs(3600);
const ANSWERED: SignedDuration = SignedDuration::from_hours(1);
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// There is one thing to do: look at all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sweep;

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all requests for certificates")
    }
}

pub struct CertificateCleaner {
    client: Client,
    requests: Arc<Informer<CertificateSigningRequest>>,
}

impl CertificateCleaner {
    pub fn new(
        client: Client,
        informers: &Informers,
        queue: &Arc<Queue<Sweep>>,
    ) -> CertificateCleaner {
        queue.add(Sweep);
        CertificateCleaner {
            client,
            requests: informers.certificate_requests.clone(),
        }
    }
}

/// Why the request goes; None: it stays.
fn why(csr: &CertificateSigningRequest, now: Timestamp) -> Option<&'static str> {
    let older = |since: Option<Timestamp>, than: SignedDuration| {
        since.is_some_and(|since| now.duration_since(since) > than)
    };
    let conditions = conditions(csr);
    let created = csr.metadata.creation_timestamp.as_ref().map(|at| at.0);
    if conditions.is_empty() && older(created, PENDING) {
        return Some("nobody answered it");
    }
    for condition in conditions {
        let old = older(condition.last_update_time.as_ref().map(|at| at.0), ANSWERED);
        match condition.type_.as_str() {
            "Denied" if old => return Some("it was denied"),
            "Failed" if old => return Some("it failed"),
            "Approved" if is_issued(csr) && old => return Some("its certificate was issued"),
            _ => {}
        }
    }
    None
}

impl Reconcile for CertificateCleaner {
    type Key = Sweep;

    const NAME: &'static str = "csrcleaner";
    const WORKERS: usize = 1;

    async fn reconcile(&self, _: &Sweep) -> Result<Next> {
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let now = Timestamp::now();
        for csr in self.requests.all() {
            let Some(why) = why(&csr, now) else {
                continue;
            };
            let name = name_of(csr.as_ref());
            let parameters = DeleteParams::default().preconditions(Preconditions {
                uid: csr.metadata.uid.clone(),
                resource_version: None,
            });
            found(api.delete(name, &parameters).await)
                .during(|| format!("delete request {name}"))?;
            info!(request = name, why, "removed");
        }
        Ok(Next::After(EVERY))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::super::testing::csr;
    use super::*;

    #[test]
    fn answered_requests_go_after_an_hour_and_others_after_a_day() {
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        for (kinds, issued, at, goes) in [
            (&[][..], false, "2026-01-01T00:00:01Z", false),
            (&[], false, "2025-12-31T23:59:59Z", true),
            (&["Denied"][..], false, "2026-01-01T23:00:01Z", false),
            (&["Denied"], false, "2026-01-01T22:59:59Z", true),
            (&["Approved"], false, "2025-01-01T00:00:00Z", false),
            (&["Approved"], true, "2026-01-01T23:00:01Z", false),
            (&["Approved"], true, "2026-01-01T22:59:59Z", true),
            (&["Approved", "Failed"], false, "2026-01-01T22:59:59Z", true),
        ] {
            let mut csr = csr("s", kinds, at);
            if issued && let Some(status) = &mut csr.status {
                status.certificate = Some(ByteString(b"PEM".to_vec()));
            }
            assert_eq!(why(&csr, now).is_some(), goes, "{kinds:?} {issued} {at}");
        }
    }
}
