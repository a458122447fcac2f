//! bootstrapsigner: cluster-info in kube-public is signed by every token, so that who joins can tell that it is of
//! the cluster whose token they have.
//!
//! Input: the ConfigMap, the tokens. Output: `jws-kubeconfig-ID` in it, a detached JWS (RFC 7515 appendix F) over its
//! `kubeconfig`, by HMAC-SHA256 with the token's secret part.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use kube::{Api, Client};
use ring::hmac;

use super::{ends, signing};
use crate::error::{Attempt as _, Result};
use crate::informer::{Change, Informer};
use crate::informers::{Informers, TOKENS};
use crate::key::{ObjectKey, name_of, namespace_of};
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const CONTENT: &str = "kubeconfig";
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

/// There is one ConfigMap to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterInfo;

impl fmt::Display for ClusterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAMESPACE}/{NAME}")
    }
}

pub struct BootstrapSigner {
    client: Client,
    maps: Arc<Informer<ConfigMap>>,
    tokens: Arc<Informer<Secret>>,
}

impl BootstrapSigner {
    pub fn new(
        client: Client,
        informers: &Informers,
        queue: &Arc<Queue<ClusterInfo>>,
    ) -> BootstrapSigner {
        let keys = queue.clone();
        informers
            .config_maps
            .listen(move |change: &Change<ConfigMap>| {
                let own = |map: &Arc<ConfigMap>| {
                    namespace_of(map.as_ref()) == NAMESPACE && name_of(map.as_ref()) == NAME
                };
                if change.new.as_ref().is_some_and(own) {
                    keys.add(ClusterInfo);
                }
            });
        let keys = queue.clone();
        informers
            .bootstrap_tokens
            .listen(move |_: &Change<Secret>| keys.add(ClusterInfo));
        BootstrapSigner {
            client,
            maps: informers.config_maps.clone(),
            tokens: informers.bootstrap_tokens.clone(),
        }
    }
}

/// What to write; None: the signatures are what they should be, or there is nothing to sign.
fn plan(map: &ConfigMap, tokens: &[Arc<Secret>], now: Timestamp) -> Option<ConfigMap> {
    let data = map.data.as_ref()?;
    let content = data.get(CONTENT)?;
    let mut wanted: BTreeMap<String, String> = data
        .iter()
        .filter(|(key, _)| !key.starts_with(SIGNATURE_PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (id, secret) in tokens.iter().filter_map(|token| signing(token, now)) {
        let signature = detached(content, id, secret);
        wanted.insert(format!("{SIGNATURE_PREFIX}{id}"), signature);
    }
    (wanted != *data).then(|| ConfigMap {
        data: Some(wanted),
        ..map.clone()
    })
}

/// `HEADER..SIGNATURE`, the payload left out.
fn detached(content: &str, id: &str, secret: &str) -> String {
    // In the order Go writes it; an id is letters and digits.
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#));
    let payload = URL_SAFE_NO_PAD.encode(content);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A token that ends takes its signature with it, also before its Secret is gone.
fn until_next_end(tokens: &[Arc<Secret>], now: Timestamp) -> Option<Duration> {
    let ends = tokens.iter().filter_map(|token| ends(token));
    let next = ends.filter(|end| *end > now).min()?;
    Duration::try_from(next.duration_since(now)).ok()
}

impl Reconcile for BootstrapSigner {
    type Key = ClusterInfo;

    const NAME: &'static str = "bootstrapsigner";
    const WORKERS: usize = 1;

    async fn reconcile(&self, key: &ClusterInfo) -> Result<Next> {
        let Some(map) = self.maps.get(&ObjectKey::new(NAMESPACE, NAME)) else {
            return Ok(Next::OnChange);
        };
        let (tokens, now) = (self.tokens.select(TOKENS, |_| true), Timestamp::now());
        if let Some(wanted) = plan(&map, &tokens, now) {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), NAMESPACE);
            let written = api.replace(NAME, &PostParams::default(), &wanted).await;
            written.during(|| format!("sign {key}"))?;
        }
        Ok(Next::OnChange.at_most(until_next_end(&tokens, now)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::token;
    use super::*;

    /// The vector of Kubernetes' own tests (k8s.io/cluster-bootstrap/token/jws).
    #[test]
    fn a_signature_is_kubernetes() {
        let content = "Hello from the other side. I must have called a thousand times.";
        assert_eq!(
            detached(content, "joshua", "my voice is my passcode"),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
        );
    }

    #[test]
    fn every_token_signs_and_none_else() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let map = |data: &[(&str, &str)]| ConfigMap {
            data: Some(
                data.iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
            ),
            ..ConfigMap::default()
        };
        let tokens: Vec<Arc<Secret>> = vec![
            Arc::new(token("aaaaaa", &[("expiration", "2026-01-01T01:00:00Z")])),
            Arc::new(token("bbbbbb", &[("expiration", "2025-01-01T00:00:00Z")])),
        ];
        let bare = map(&[("kubeconfig", "K"), ("other", "x")]);
        let signed = plan(&bare, &tokens, now).unwrap();
        let keys: Vec<&String> = signed.data.as_ref().unwrap().keys().collect();
        assert_eq!(keys, ["jws-kubeconfig-aaaaaa", "kubeconfig", "other"]);
        assert_eq!(plan(&signed, &tokens, now), None);
        assert_eq!(plan(&signed, &[], now), Some(bare.clone()));
        let mut changed = signed.clone();
        let data = changed.data.get_or_insert_default();
        data.insert("kubeconfig".into(), "L".into());
        assert!(plan(&changed, &tokens, now).is_some());
        assert_eq!(plan(&map(&[("other", "x")]), &tokens, now), None);
        assert_eq!(
            until_next_end(&tokens, now),
            Some(Duration::from_secs(3600))
        );
        assert_eq!(until_next_end(&tokens[1..], now), None);
    }
}
