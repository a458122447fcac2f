//! The node's next client certificate, before this one ends.
//!
//! As the kubelet has it (k8s.io/client-go/util/certificate): at a random time between 70 and 90 % of its life, so
//! that the nodes of a cluster do not come all at once; the old one is in use until the new one is written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::config::Kubeconfig;
use rand::Rng as _;
use tracing::{info, warn};

use crate::certificate::Certificate;
use crate::files::{self, CURRENT};
use crate::request;

/// Sleep no longer: the clock may be set meanwhile, and a suspended machine's timers stand still.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// Between two tries, as the kubelet's back-off has it.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// For an answer to a request.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A certificate that this node is to keep from ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    pki: PathBuf,
}

impl Managed {
    /// Where the kubeconfig's user is what [`crate::join`] wrote. Another one is its writer's to renew.
    pub fn of(kubeconfig: &Kubeconfig) -> Option<Managed> {
        let context = kubeconfig.current_context.as_ref()?;
        let context = kubeconfig
            .contexts
            .iter()
            .find(|own| own.name == *context)?;
        let name = context.context.as_ref()?.user.as_ref()?;
        let user = kubeconfig.auth_infos.iter().find(|own| own.name == *name)?;
        let user = user.auth_info.as_ref()?;
        let (certificate, key) = (
            user.client_certificate.as_deref()?,
            user.client_key.as_deref()?,
        );
        let path = Path::new(certificate);
        let ours = certificate == key && path.file_name()? == CURRENT;
        ours.then(|| Managed {
            pki: path.parent().map(Path::to_owned).unwrap_or_default(),
        })
    }

    /// What is in use now; None: there is nothing that can be read.
    pub fn certificate(&self) -> Option<Certificate> {
        files::current(&self.pki).map(|(_, certificate)| certificate)
    }

    /// Certificate and key in one PEM.
    pub fn path(&self) -> PathBuf {
        self.pki.join(CURRENT)
    }
}

/// When a certificate is to be replaced; `part` of 0 to 1 is chance's.
pub fn due(certificate: &Certificate, part: f64) -> Timestamp {
    let life = certificate.ends.duration_since(certificate.begins);
    let share = 0.7 + 0.2 * part.clamp(0.0, 1.0);
    certificate.begins + SignedDuration::from_secs_f64(life.as_secs_f64() * share)
}

/// For ever: asks for the next certificate when it is due, keeps it, and calls `renewed` when it is there to be used.
pub async fn rotate(client: &Client, node: &str, managed: &Managed, mut renewed: impl FnMut()) {
    loop {
        let Some(certificate) = managed.certificate() else {
            warn!(
                path = %managed.path().display(),
                "this node's certificate cannot be read: it will not be renewed before it can"
            );
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        };
        let due = due(&certificate, rand::rng().random_range(0.0..1.0));
        info!(ends = %certificate.ends, renewed_at = %due, "this node's certificate");
        until(due).await;
        renew(client, node, managed).await;
        renewed();
    }
}

async fn until(due: Timestamp) {
    while let Ok(left) = Duration::try_from(due.duration_since(Timestamp::now())) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK_AGAIN)).await;
    }
}

/// Asks for the next certificate now, by this client, and keeps it; until there is one.
pub async fn renew(client: &Client, node: &str, managed: &Managed) {
    let mut pause = FIRST_PAUSE;
    loop {
        let kept = match request::certificate(client, node, PATIENCE).await {
            Ok(issued) => files::keep(&managed.pki, &issued.pem, Timestamp::now())
                .map(|()| issued.certificate)
                .map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        };
        match kept {
            Ok(certificate) => {
                info!(ends = %certificate.ends, "this node has a new certificate");
                return;
            }
            Err(error) => {
                let ends = managed.certificate().map(|now| now.ends.to_string());
                warn!(
                    error,
                    ends, "this node's certificate is not renewed; trying again"
                );
            }
        }
        let jittered = pause.mul_f64(rand::rng().random_range(1.0..1.1));
        tokio::time::sleep(jittered).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_is_asked_for_late_in_its_life_and_not_at_its_end() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let certificate = Certificate {
            user: "system:node:a".into(),
            begins: at("2026-01-01T00:00:00Z"),
            ends: at("2026-01-11T00:00:00Z"),
            key: Vec::new(),
        };
        for (part, wanted) in [
            (0.0, "2026-01-08T00:00:00Z"),
            (0.5, "2026-01-09T00:00:00Z"),
            (1.0, "2026-01-10T00:00:00Z"),
            (7.0, "2026-01-10T00:00:00Z"),
        ] {
            let off = due(&certificate, part).duration_since(at(wanted));
            assert!(off.abs() < SignedDuration::from_secs(1), "{part}: {off}");
        }
    }

    #[test]
    fn only_what_join_wrote_is_renewed() {
        let config = |user: &str| {
            let text = format!(
                r#"{{"current-context": "c", "contexts": [{{"name": "c", "context": {{"cluster": "c", "user": "u"}}}}],
                "clusters": [], "users": [{{"name": "other", "user": {{}}}}, {{"name": "u", "user": {user}}}]}}"#
            );
            Managed::of(&Kubeconfig::from_yaml(&text).unwrap())
        };
        let own = r#"{"client-certificate": "/e/pki/node-client-current.pem", "client-key": "/e/pki/node-client-current.pem"}"#;
        assert_eq!(config(own).unwrap().pki, PathBuf::from("/e/pki"));
        for other in [
            r#"{"client-certificate-data": "eA==", "client-key-data": "eA=="}"#,
            r#"{"client-certificate": "/e/a.pem", "client-key": "/e/a.pem"}"#,
            r#"{"client-certificate": "/e/pki/node-client-current.pem", "client-key": "/e/a.key"}"#,
            "{}",
        ] {
            assert_eq!(config(other), None, "{other}");
        }
    }
}
