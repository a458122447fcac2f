//! Who may do what, until there is RBAC.
//!
//! Four kinds of users are known. Administrators (`system:masters`) and the control plane's own parts may do
//! everything; nodes may do what a kubelet and a service proxy need, for their own pods alone ([`node`]); who has a
//! bootstrap token may become a node ([`bootstrap`]); whoever else is authenticated, service accounts among them, may
//! discover the API and ask about themselves. Who shows nothing is `system:anonymous`, and reads cluster-info.
//! There are no roles and no bindings in this version.

mod bootstrap;
mod bootstrap_token;
mod decide;
mod facts;
mod node;
mod references;
mod rules;
mod token;

use std::borrow::Cow;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use tracing::debug;
use vetch_identity::{Tokens, User};
use vetch_server::Server;
use vetch_server::guard::{Action, Guard};
use vetch_server::upgrade;

pub use decide::decide;
pub use facts::Facts;
pub(crate) use references::is_made_on;
pub use rules::rules;
pub use token::authenticate_token;

use facts::Cached;

const AUTHENTICATED: &str = "system:authenticated";
const ANONYMOUS: &str = "system:anonymous";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// The API server's guard: client certificates, bootstrap and service-account tokens (a WebSocket's among its
/// subprotocols), then [`decide`].
#[derive(Clone)]
pub struct Access {
    tokens: Tokens,
}

impl Access {
    pub fn new(tokens: Tokens) -> Access {
        Access { tokens }
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Whom a bearer token stands for, and for which of the audiences asked about it is good. `Err` says what is
    /// wrong with it, fit for a TokenReview.
    pub async fn bearer_of(
        &self,
        server: &Server,
        token: &str,
        audiences: &[String],
    ) -> Result<(User, Vec<String>), String> {
        match bootstrap_token::authenticate(server, token).await {
            // Kubernetes' authenticators without audiences are the API server's own.
            Ok(Some(user)) => return Ok((user, audiences.to_vec())),
            Ok(None) => {}
            Err(why) => {
                debug!(why, "a bootstrap token is refused");
                return Err("the bootstrap token is not one of this cluster's, or ended".to_owned());
            }
        }
        let (user, claims) = authenticate_token(server, &self.tokens, token, audiences).await?;
        Ok((user, claims.audiences))
    }
}

impl Guard for Access {
    fn authenticate<'a>(
        &'a self,
        server: &'a Server,
        headers: &'a HeaderMap,
        certificate: Option<&'a User>,
    ) -> BoxFuture<'a, Option<User>> {
        async move {
            if let Some(user) = certificate {
                return Some(authenticated(user));
            }
            let shown = tokens(headers);
            if shown.is_empty() {
                return Some(User::new(ANONYMOUS, &[UNAUTHENTICATED]));
            }
            for token in shown {
                let judged = match token {
                    Ok(token) => self.bearer_of(server, &token, &[]).await,
                    Err(why) => Err(why.to_owned()),
                };
                match judged {
                    Ok((user, _)) => return Some(user),
                    Err(why) => debug!(why, "a bearer token is refused"),
                }
            }
            None
        }
        .boxed()
    }

    fn authorize<'a>(
        &'a self,
        server: &'a Server,
        user: &'a User,
        action: &'a Action<'a>,
    ) -> BoxFuture<'a, Result<(), String>> {
        may(server, user, action).boxed()
    }
}

/// Whether `user` may do `action` now. `Err` says why not, where there is more to say than that no rule allows it.
///
/// The caches answer; only where what they hold or lack stands in the way are they first brought up to etcd's
/// newest revision: a pod bound a moment ago must not cost its node a refusal.
pub async fn may(server: &Server, user: &User, action: &Action<'_>) -> Result<(), String> {
    let facts = Cached::new(server).map_err(|status| status.message)?;
    let first = decide(user, action, &facts);
    if !facts.may_be_stale(first.is_ok()) {
        return first;
    }
    facts.refresh().await?;
    decide(user, action, &facts)
}

/// Every certificate of the CA is somebody's.
fn authenticated(user: &User) -> User {
    let mut user = user.clone();
    if !user.is_in(AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

/// What a request shows for its user, in the order it is asked about: the header's token, then a WebSocket's own, for a
/// browser sends no header, or one for a proxy before this. `Err` says what is wrong with it.
fn tokens(headers: &HeaderMap) -> Vec<Result<Cow<'_, str>, &'static str>> {
    let header = headers.contains_key(AUTHORIZATION).then(|| {
        let token = bearer(headers).map(Cow::Borrowed);
        token.ok_or("the Authorization header has no bearer token")
    });
    let web_socket = upgrade::bearer(headers).transpose();
    let web_socket = web_socket.map(|token| token.map(Cow::Owned));
    header.into_iter().chain(web_socket).collect()
}

/// The token of an `Authorization: Bearer TOKEN` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HeaderName;

    use super::*;

    #[test]
    fn only_a_bearer_header_has_a_token() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic abc", None),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, header.parse().unwrap())]);
            assert_eq!(bearer(&headers), token, "{header:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn a_web_socket_has_a_second_place_for_it() {
        let web_socket = [("connection", "Upgrade"), ("upgrade", "websocket")];
        let header = ("authorization", "Bearer a");
        let basic = ("authorization", "Basic a");
        // Of `b`.
        let offered = (
            "sec-websocket-protocol",
            "base64url.bearer.authorization.k8s.io.Yg, binary.k8s.io",
        );
        let alone = (
            "sec-websocket-protocol",
            "base64url.bearer.authorization.k8s.io.Yg",
        );
        let (no_bearer, missing) = (
            Err("the Authorization header has no bearer token"),
            Err("missing additional subprotocol"),
        );
        for (upgrades, others, wanted) in [
            (false, &[][..], vec![]),
            (true, &[], vec![]),
            (false, &[header], vec![Ok("a")]),
            (false, &[offered], vec![]),
            (true, &[offered], vec![Ok("b")]),
            (true, &[header, offered], vec![Ok("a"), Ok("b")]),
            (true, &[basic, offered], vec![no_bearer, Ok("b")]),
            (true, &[alone], vec![missing]),
        ] {
            let handshake = web_socket.iter().filter(|_| upgrades);
            let pairs = handshake.chain(others);
            let named = pairs.map(|&(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            let headers = HeaderMap::from_iter(named);
            let wanted: Vec<_> = wanted
                .into_iter()
                .map(|token: Result<&str, _>| token.map(Cow::Borrowed))
                .collect();
            assert_eq!(tokens(&headers), wanted, "{upgrades} {others:?}");
        }
    }

    #[test]
    fn a_certificate_makes_authenticated_once() {
        let user = authenticated(&User::new("a", &["g"]));
        assert_eq!(user.groups, ["g", AUTHENTICATED]);
        assert_eq!(authenticated(&user), user);
    }
}
