//! Service account tokens bound to the pod, and when they are asked for anew.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::Api;
use kube::api::PostParams;

use super::VolumeError;
use crate::pods::spec;
use crate::pods::text::api_words;

const DEFAULT_EXPIRATION: i64 = 3600;
/// A token is renewed at this age, however long it lives.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Nodes and pods must not all ask in the same second.
const MAX_JITTER: Duration = Duration::from_secs(10);
/// When a request fails.
const RETRY: Duration = Duration::from_secs(5);

/// What a volume asks of a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenWish {
    /// Empty for the API server itself.
    pub audience: String,
    pub expiration: i64,
}

impl TokenWish {
    pub fn of(source: &ServiceAccountTokenProjection) -> TokenWish {
        TokenWish {
            audience: source.audience.clone().unwrap_or_default(),
            expiration: source.expiration_seconds.unwrap_or(DEFAULT_EXPIRATION),
        }
    }

    /// Those of all volumes of the pod.
    pub fn all(pod: &Pod) -> Vec<TokenWish> {
        let volumes = spec::spec(pod).volumes.iter().flatten();
        let mut wishes: Vec<TokenWish> = volumes
            .filter_map(|volume| volume.projected.as_ref()?.sources.as_ref())
            .flatten()
            .filter_map(|projection| projection.service_account_token.as_ref())
            .map(TokenWish::of)
            .collect();
        wishes.sort();
        wishes.dedup();
        wishes
    }
}

/// Tokens, or why there is none, by wish.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    by_wish: BTreeMap<TokenWish, Result<String, String>>,
}

impl Tokens {
    pub fn insert(&mut self, wish: TokenWish, token: Result<String, String>) {
        self.by_wish.insert(wish, token);
    }

    pub fn get(&self, wish: &TokenWish) -> Result<&str, VolumeError> {
        match self.by_wish.get(wish) {
            Some(Ok(token)) => Ok(token),
            Some(Err(words)) => Err(VolumeError::Token(words.clone())),
            None => Err(VolumeError::Token("it was not asked for".to_owned())),
        }
    }
}

#[derive(Clone, Debug)]
struct Held {
    token: String,
    expires: Timestamp,
    renew_at: Timestamp,
}

/// The tokens of one pod.
#[derive(Debug, Default)]
pub struct TokenStore {
    held: BTreeMap<TokenWish, Held>,
}

impl TokenStore {
    /// All that the pod's volumes want; renewed when it is time. One that
    /// cannot be renewed serves until it expires.
    pub async fn gather(&mut self, client: &kube::Client, pod: &Pod, now: Timestamp) -> Tokens {
        let mut tokens = Tokens::default();
        for wish in TokenWish::all(pod) {
            let due = self.held.get(&wish).is_none_or(|held| held.renew_at <= now);
            let mut refusal = None;
            if due {
                match request(client, pod, &wish).await {
                    Ok((token, expires)) => {
                        let jitter = MAX_JITTER.mul_f64(rand::random::<f64>());
                        let renew_at = renewal(now, expires, jitter);
                        let held = Held {
                            token,
                            expires,
                            renew_at,
                        };
                        self.held.insert(wish.clone(), held);
                    }
                    Err(words) => refusal = Some(words),
                }
            }
            if let (Some(_), Some(held)) = (&refusal, self.held.get_mut(&wish)) {
                held.renew_at = now.saturating_add(RETRY).unwrap_or(now);
            }
            let usable = self.held.get(&wish).filter(|held| held.expires > now);
            let token = match (usable, refusal) {
                (Some(held), _) => Ok(held.token.clone()),
                (None, refusal) => Err(refusal.unwrap_or_else(|| "it has expired".to_owned())),
            };
            tokens.insert(wish, token);
        }
        tokens
    }

    pub fn next_renewal(&self) -> Option<Timestamp> {
        self.held.values().map(|held| held.renew_at).min()
    }
}

/// After four fifths of its life, or a day.
fn renewal(issued: Timestamp, expires: Timestamp, jitter: Duration) -> Timestamp {
    let life = expires.duration_since(issued).unsigned_abs();
    let age = (life * 4 / 5).min(MAX_AGE).saturating_sub(jitter);
    issued.saturating_add(age).unwrap_or(expires)
}

async fn request(
    client: &kube::Client,
    pod: &Pod,
    wish: &TokenWish,
) -> Result<(String, Timestamp), String> {
    let account = spec::spec(pod)
        .service_account_name
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or("default");
    let audiences = match wish.audience.as_str() {
        "" => None,
        audience => Some(vec![audience.to_owned()]),
    };
    let body = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences,
            expiration_seconds: Some(wish.expiration),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), spec::namespace(pod));
    let answer: TokenRequest = accounts
        .create_subresource("token", account, &PostParams::default(), &body)
        .await
        .map_err(|error| api_words(&error))?;
    let status = answer.status.unwrap_or_default();
    match (status.token, status.expiration_timestamp) {
        (Some(token), Some(expires)) => Ok((token, expires.0)),
        _ => Err("the server answered without a token".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn renewed_in_time() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        for (life, jitter, want) in [
            (3600, 0, 2880),
            (3600, 10, 2870),
            (30 * 86_400, 0, 86_400),
            (600, 0, 480),
        ] {
            let got = renewal(at(0), at(life), Duration::from_secs(jitter));
            assert_eq!(got, at(want), "{life} {jitter}");
        }
    }

    #[test]
    fn each_wish_once() {
        let token = |audience: Option<&str>| json!({"serviceAccountToken": {"path": "t", "audience": audience}});
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "volumes": [
            {"name": "a", "projected": {"sources": [token(None), token(Some("vault"))]}},
            {"name": "b", "projected": {"sources": [token(None)]}},
        ]}}))
        .unwrap();
        let audiences: Vec<String> = TokenWish::all(&pod)
            .into_iter()
            .map(|wish| wish.audience)
            .collect();
        assert_eq!(audiences, ["", "vault"]);
    }
}
