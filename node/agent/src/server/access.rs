//! Whether a request may be answered: tokens and permissions are the API
//! server's to judge.

mod attributes;

use std::time::{Duration, Instant};

use http::HeaderMap;
use http::Method;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use tracing::warn;

use super::cache::Cache;
use super::user::User;
use crate::node::{chain, limited};

pub use attributes::Attributes;

/// The kubelet's webhook cache times.
pub const TOKEN_KEPT: Duration = Duration::from_secs(120);
pub const ALLOWED_KEPT: Duration = Duration::from_secs(300);
pub const REFUSED_KEPT: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("Unauthorized")]
    Unknown,
    #[error(
        "Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)={subresources:?})"
    )]
    Forbidden {
        user: String,
        verb: &'static str,
        subresources: Vec<&'static str>,
    },
    /// The API server gave no answer.
    #[error("Authorization error (user={user}): {message}")]
    Unjudged { user: String, message: String },
}

pub struct Access {
    client: Client,
    node_name: String,
    /// By token; `None` for one that is nobody's.
    tokens: Cache<String, Option<User>>,
    rights: Cache<(User, &'static str, &'static str), bool>,
}

impl Access {
    pub fn new(client: Client, node_name: &str) -> Access {
        Access {
            client,
            node_name: node_name.to_owned(),
            tokens: Cache::new(),
            rights: Cache::new(),
        }
    }

    /// `certificate` is that of the connection, verified.
    pub async fn check(
        &self,
        certificate: Option<&User>,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<User, Refusal> {
        let user = match certificate {
            Some(user) => user.clone(),
            None => {
                let token = bearer(headers).ok_or(Refusal::Unknown)?;
                self.token_user(token).await.ok_or(Refusal::Unknown)?
            }
        };
        if user.is_master() {
            return Ok(user);
        }
        let attributes = Attributes::of(method, path);
        for subresource in &attributes.subresources {
            if self.may(&user, attributes.verb, subresource).await? {
                return Ok(user);
            }
        }
        Err(Refusal::Forbidden {
            user: user.name,
            verb: attributes.verb,
            subresources: attributes.subresources,
        })
    }

    async fn token_user(&self, token: &str) -> Option<User> {
        if let Some(known) = self.tokens.get(&token.to_owned(), Instant::now()) {
            return known;
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let status = match limited(reviews.create(&PostParams::default(), &review)).await {
            Ok(review) => review.status.unwrap_or_default(),
            Err(error) => {
                warn!(error = chain(&error), "cannot have a token reviewed");
                return None;
            }
        };
        let user = status
            .user
            .filter(|_| status.authenticated == Some(true))
            .map(|user| User {
                name: user.username.unwrap_or_default(),
                uid: user.uid,
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            })
            .filter(|user| !user.name.is_empty());
        let keep = if user.is_some() {
            TOKEN_KEPT
        } else {
            REFUSED_KEPT
        };
        self.tokens
            .put(token.to_owned(), user.clone(), Instant::now(), keep);
        user
    }

    async fn may(
        &self,
        user: &User,
        verb: &'static str,
        subresource: &'static str,
    ) -> Result<bool, Refusal> {
        let key = (user.clone(), verb, subresource);
        if let Some(known) = self.rights.get(&key, Instant::now()) {
            return Ok(known);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: user.uid.clone(),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    name: Some(self.node_name.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = limited(reviews.create(&PostParams::default(), &review)).await;
        let status = answer
            .map_err(|error| Refusal::Unjudged {
                user: user.name.clone(),
                message: chain(&error),
            })?
            .status
            .unwrap_or_default();
        let allowed = status.allowed && status.denied != Some(true);
        let keep = if allowed { ALLOWED_KEPT } else { REFUSED_KEPT };
        self.rights.put(key, allowed, Instant::now(), keep);
        Ok(allowed)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}

#[cfg(test)]
mod tests;
