//! A bearer token's account, if both still stand.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use vetch_identity::{Bound, Claims, Tokens, User};
use vetch_server::Server;

/// Kubernetes lets a token outlive the deletion of its object by this, so that a pod can finish with it.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// Who the token stands for: its signature, time and audience are good (`audiences`: one of those the asker
/// answers to; empty for the API server itself), and account and bound objects are still the same. `Err` says
/// what is wrong with it, fit for a TokenReview.
pub async fn authenticate_token(
    server: &Server,
    tokens: &Tokens,
    token: &str,
    audiences: &[String],
) -> Result<(User, Claims), String> {
    let now = Timestamp::now();
    let claims = tokens
        .verify(token, audiences, now)
        .map_err(|error| error.to_string())?;
    let account = Bound {
        name: claims.service_account.clone(),
        uid: claims.service_account_uid.clone(),
    };
    let namespace = Some(claims.namespace.as_str());
    let mut bound = vec![("service account", "serviceaccounts", namespace, &account)];
    bound.extend(claims.pod.iter().map(|pod| ("pod", "pods", namespace, pod)));
    bound.extend(
        claims
            .secret
            .iter()
            .map(|secret| ("secret", "secrets", namespace, secret)),
    );
    // Beside a pod or secret the node only tells where the token is used.
    if claims.pod.is_none() && claims.secret.is_none() {
        bound.extend(claims.node.iter().map(|node| ("node", "nodes", None, node)));
    }
    for (kind, plural, namespace, bound) in bound {
        let found = server
            .find("", plural, namespace, &bound.name)
            .await
            .map_err(|status| status.message)?;
        still_stands(kind, bound, found.as_ref().map(|object| &object.value), now)?;
    }
    Ok((claims.user(), claims))
}

/// Whether the object a token is bound to is the one it was issued for, and not long deleted.
fn still_stands(
    kind: &str,
    bound: &Bound,
    found: Option<&Value>,
    now: Timestamp,
) -> Result<(), String> {
    let Some(found) = found else {
        return Err("service account token has been invalidated".to_owned());
    };
    let metadata = &found["metadata"];
    let uid = metadata["uid"].as_str().unwrap_or_default();
    if uid != bound.uid {
        return Err(format!(
            "{kind} UID ({uid}) does not match claim ({})",
            bound.uid
        ));
    }
    let deleted = metadata["deletionTimestamp"]
        .as_str()
        .and_then(|text| text.parse::<Timestamp>().ok());
    match deleted {
        Some(deleted) if now.duration_since(deleted) > LEEWAY => {
            Err("service account token has been invalidated".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_falls_with_its_object() {
        let bound = Bound {
            name: "p".into(),
            uid: "u1".into(),
        };
        let going = |at: &str| Some(json!({"metadata": {"uid": "u1", "deletionTimestamp": at}}));
        for (found, stands) in [
            (Some(json!({"metadata": {"uid": "u1"}})), true),
            (Some(json!({"metadata": {"uid": "u2"}})), false),
            (None, false),
            (going("2026-01-01T00:01:00Z"), true),
            (going("2026-01-01T00:00:00Z"), true),
            (going("2025-12-31T23:59:59Z"), false),
        ] {
            let now = "2026-01-01T00:01:00Z".parse().unwrap();
            let told = still_stands("pod", &bound, found.as_ref(), now);
            assert_eq!(told.is_ok(), stands, "{found:?}: {told:?}");
        }
    }
}
