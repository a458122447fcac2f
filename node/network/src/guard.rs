//! Waiting for the programs at a pod's link.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use crate::Error;

/// The addresses whose links have their programs, which know what policies the pods
/// have; with the node's side of the link.
pub type Guarded = Arc<BTreeMap<IpAddr, u32>>;

/// For the programs of a daemon that starts, whom a busy machine's verifier keeps
/// waiting.
const LIMIT: Duration = Duration::from_secs(60);

/// Nobody waits where nobody guards.
#[derive(Debug, Default)]
pub struct Guard(OnceLock<watch::Receiver<Guarded>>);

impl Guard {
    pub fn set(&self, guarded: watch::Receiver<Guarded>) {
        // Who came first is who attaches the programs.
        let _ = self.0.set(guarded);
    }

    pub async fn wait(&self, sandbox_id: &str, ips: &[IpAddr], link: u32) -> Result<(), Error> {
        self.within(LIMIT, sandbox_id, ips, link).await
    }

    async fn within(
        &self,
        limit: Duration,
        sandbox_id: &str,
        ips: &[IpAddr],
        link: u32,
    ) -> Result<(), Error> {
        let Some(guarded) = self.0.get() else {
            return Ok(());
        };
        let mut guarded = guarded.clone();
        let all = guarded.wait_for(|known| ips.iter().all(|ip| known.get(ip) == Some(&link)));
        match timeout(limit, all).await {
            Ok(Ok(_)) => Ok(()),
            // Not in time, or the daemon is about to end.
            Ok(Err(_)) | Err(_) => Err(Error::Unguarded {
                sandbox_id: sandbox_id.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(all: &[(&str, u32)]) -> Guarded {
        let known = all.iter().map(|(ip, link)| (ip.parse().unwrap(), *link));
        Arc::new(known.collect())
    }

    #[tokio::test]
    async fn a_sandbox_waits_for_its_own_link() {
        let ips: Vec<IpAddr> = ["10.0.0.2", "fd00::2"].map(|ip| ip.parse().unwrap()).into();
        let guard = Guard::default();
        guard.wait("a", &ips, 7).await.unwrap();
        let (tell, told) = watch::channel(Guarded::default());
        guard.set(told);
        for (what, told) in [
            ("nothing", known(&[])),
            ("one family", known(&[("10.0.0.2", 7)])),
            ("an earlier link", known(&[("10.0.0.2", 6), ("fd00::2", 6)])),
        ] {
            tell.send_replace(told);
            let waited = guard.within(Duration::ZERO, "a", &ips, 7).await;
            assert!(matches!(waited, Err(Error::Unguarded { .. })), "{what}");
        }
        let (waited, _) = tokio::join!(guard.wait("a", &ips, 7), async {
            tell.send_replace(known(&[("10.0.0.2", 7), ("fd00::2", 7)]));
        });
        waited.unwrap();
    }
}
