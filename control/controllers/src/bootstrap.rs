//! Bootstrap tokens: what they sign ([`sign`]), and their end ([`clean`]).

pub mod clean;
pub mod sign;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::key::{is_deleted, name_of};

const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAME_PREFIX: &str = "bootstrap-token-";

fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(TYPE)
}

fn data<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let data = secret.data.as_ref().and_then(|data| data.get(key));
    data.and_then(|bytes| std::str::from_utf8(&bytes.0).ok())
        .unwrap_or_default()
}

/// When the token ends; one whose time nobody can read has ended. None: it stays.
fn ends(secret: &Secret) -> Option<Timestamp> {
    match data(secret, "expiration") {
        "" => None,
        text => Some(text.parse().unwrap_or(Timestamp::MIN)),
    }
}

/// Id and secret of a token that is for signing.
fn signing(secret: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let (id, key) = (data(secret, "token-id"), data(secret, "token-secret"));
    let named = name_of(secret).strip_prefix(NAME_PREFIX) == Some(id);
    let good = is_token(secret)
        && !is_deleted(secret)
        && named
        && !id.is_empty()
        && !key.is_empty()
        && ends(secret).is_none_or(|ends| ends > now)
        && data(secret, "usage-bootstrap-signing") == "true";
    good.then_some((id, key))
}

#[cfg(test)]
mod testing {
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::json;

    pub fn token(id: &str, more: &[(&str, &str)]) -> Secret {
        let mut secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system", "uid": "u"},
            "type": super::TYPE,
        }))
        .unwrap();
        let data = [
            ("token-id", id),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-signing", "true"),
        ];
        let data = data.iter().chain(more);
        secret.data = Some(
            data.map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
                .collect(),
        );
        secret
    }
}

#[cfg(test)]
mod tests {
    use super::testing::token;
    use super::*;

    #[test]
    fn what_signs() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut misnamed = token("abcdef", &[]);
        misnamed.metadata.name = Some("bootstrap-token-other".into());
        let mut opaque = token("abcdef", &[]);
        opaque.type_ = Some("Opaque".into());
        for (secret, signs) in [
            (token("abcdef", &[]), true),
            (
                token("abcdef", &[("expiration", "2026-01-01T00:00:01Z")]),
                true,
            ),
            (
                token("abcdef", &[("expiration", "2026-01-01T00:00:00Z")]),
                false,
            ),
            (token("abcdef", &[("expiration", "soon")]), false),
            (token("abcdef", &[("usage-bootstrap-signing", "")]), false),
            (token("abcdef", &[("token-secret", "")]), false),
            (misnamed, false),
            (opaque, false),
        ] {
            assert_eq!(signing(&secret, now).is_some(), signs, "{secret:?}");
        }
    }
}
