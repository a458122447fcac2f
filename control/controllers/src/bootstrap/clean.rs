//! tokencleaner: a bootstrap token's Secret goes when its time is over.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};
use tracing::info;

use super::{ends, is_token};
use crate::error::{Attempt as _, Result, found};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::ObjectKey;
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

pub struct TokenCleaner {
    client: Client,
    tokens: Arc<Informer<Secret>>,
}

impl TokenCleaner {
    pub fn new(
        client: Client,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> TokenCleaner {
        let keys = queue.clone();
        informers
            .bootstrap_tokens
            .listen(move |change: &Change<Secret>| {
                if let Some(token) = change.new.as_ref().filter(|token| ends(token).is_some()) {
                    keys.add(ObjectKey::of(token.as_ref()));
                }
            });
        TokenCleaner {
            client,
            tokens: informers.bootstrap_tokens.clone(),
        }
    }
}

/// How long it has; zero when it is over. None: it has no end.
fn left(token: &Secret, now: Timestamp) -> Option<Duration> {
    let ends = ends(token).filter(|_| is_token(token))?;
    Some(Duration::try_from(ends.duration_since(now)).unwrap_or_default())
}

impl Reconcile for TokenCleaner {
    type Key = ObjectKey;

    const NAME: &'static str = "tokencleaner";
    const WORKERS: usize = 1;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(token) = self.tokens.get(key) else {
            return Ok(Next::OnChange);
        };
        match left(&token, Timestamp::now()) {
            None => Ok(Next::OnChange),
            Some(Duration::ZERO) => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
                let parameters = DeleteParams::default().preconditions(Preconditions {
                    uid: token.metadata.uid.clone(),
                    resource_version: None,
                });
                found(api.delete(&key.name, &parameters).await)
                    .during(|| format!("delete token {key}"))?;
                info!(token = %key, "removed: it expired");
                Ok(Next::OnChange)
            }
            Some(left) => Ok(Next::After(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::token;
    use super::*;

    #[test]
    fn a_token_goes_when_its_time_is_over() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for (expiration, time) in [
            ("", None),
            ("2026-01-01T00:00:05Z", Some(5)),
            ("2026-01-01T00:00:00Z", Some(0)),
            ("2025-01-01T00:00:00Z", Some(0)),
            ("whenever", Some(0)),
        ] {
            let token = token("abcdef", &[("expiration", expiration)]);
            assert_eq!(
                left(&token, now),
                time.map(Duration::from_secs),
                "{expiration}"
            );
        }
    }
}
