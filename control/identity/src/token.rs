//! Service-account tokens: JWTs bound to an account, and often to a pod, as KEP-1205 has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::User;

mod es256;

/// What the API server itself is called in tokens: its issuer, and the audience where a request names none.
pub const API_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// An object a token lives and dies with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    pub name: String,
    pub uid: String,
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub id: String,
    pub namespace: String,
    pub service_account: String,
    pub service_account_uid: String,
    pub pod: Option<Bound>,
    pub node: Option<Bound>,
    pub secret: Option<Bound>,
    pub audiences: Vec<String>,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

/// What a token is to say.
#[derive(Clone, Debug, Default)]
pub struct TokenRequest {
    pub namespace: String,
    pub service_account: String,
    pub service_account_uid: String,
    pub pod: Option<Bound>,
    pub node: Option<Bound>,
    pub secret: Option<Bound>,
    /// The API server itself when empty.
    pub audiences: Vec<String>,
    pub lifetime_seconds: i64,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    #[error("service account token has expired")]
    Expired,
    #[error("token audiences {found:?} is invalid for the target audiences {wanted:?}")]
    Audience {
        found: Vec<String>,
        wanted: Vec<String>,
    },
    #[error("the token is not one of this cluster's: {0}")]
    Invalid(String),
    #[error("the token cannot be signed: {0}")]
    Sign(String),
}

/// The JWT's body, in the names of KEP-1205.
#[derive(Serialize, Deserialize)]
struct Body {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    nbf: i64,
    iss: String,
    jti: String,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Serialize, Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Bound,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Bound>,
}

/// Signs and verifies tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Keys>);

struct Keys {
    id: String,
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl Tokens {
    /// ES256 over the key given.
    pub(crate) fn new(key: &KeyPair) -> Result<Tokens, jsonwebtoken::errors::Error> {
        es256::install();
        let public = key.public_key_pem();
        Ok(Tokens(Arc::new(Keys {
            id: Sha256::digest(public.as_bytes())
                .iter()
                .take(16)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            signing: EncodingKey::from_ec_pem(key.serialize_pem().as_bytes())?,
            verifying: DecodingKey::from_ec_pem(public.as_bytes())?,
        })))
    }

    /// The token, and when it ends.
    pub fn sign(
        &self,
        request: TokenRequest,
        now: Timestamp,
    ) -> Result<(String, Timestamp), TokenError> {
        let issued = now.as_second();
        let expires = issued.saturating_add(request.lifetime_seconds);
        let sub = format!(
            "system:serviceaccount:{}:{}",
            request.namespace, request.service_account
        );
        let aud = match request.audiences.is_empty() {
            true => vec![API_AUDIENCE.to_owned()],
            false => request.audiences,
        };
        let body = Body {
            aud,
            exp: expires,
            iat: issued,
            nbf: issued,
            iss: API_AUDIENCE.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub,
            kubernetes: Kubernetes {
                namespace: request.namespace,
                serviceaccount: Bound {
                    name: request.service_account,
                    uid: request.service_account_uid,
                },
                pod: request.pod,
                node: request.node,
                secret: request.secret,
            },
        };
        let header = Header {
            kid: Some(self.0.id.clone()),
            ..Header::new(Algorithm::ES256)
        };
        let token = jsonwebtoken::encode(&header, &body, &self.0.signing)
            .map_err(|error| TokenError::Sign(error.to_string()))?;
        let expires_at =
            Timestamp::from_second(expires).map_err(|error| TokenError::Sign(error.to_string()))?;
        Ok((token, expires_at))
    }

    /// Checks signature, issuer, time and audience. `audiences` are those the asker answers to: one of them must be
    /// the token's; empty stands for the API server.
    pub fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Claims, TokenError> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[API_AUDIENCE]);
        // The audience and the clock are compared here, where `now` and the wording are ours.
        validation.validate_aud = false;
        validation.validate_exp = false;
        let body = jsonwebtoken::decode::<Body>(token, &self.0.verifying, &validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                _ => TokenError::Invalid(error.to_string()),
            })?
            .claims;
        if body.exp <= now.as_second() {
            return Err(TokenError::Expired);
        }
        let own = [API_AUDIENCE.to_owned()];
        let wanted = if audiences.is_empty() {
            &own[..]
        } else {
            audiences
        };
        let common: Vec<String> = body
            .aud
            .iter()
            .filter(|audience| wanted.contains(audience))
            .cloned()
            .collect();
        if common.is_empty() {
            return Err(TokenError::Audience {
                found: body.aud,
                wanted: wanted.to_vec(),
            });
        }
        let time = |second: i64| {
            Timestamp::from_second(second).map_err(|error| TokenError::Invalid(error.to_string()))
        };
        Ok(Claims {
            id: body.jti,
            namespace: body.kubernetes.namespace,
            service_account: body.kubernetes.serviceaccount.name,
            service_account_uid: body.kubernetes.serviceaccount.uid,
            pod: body.kubernetes.pod,
            node: body.kubernetes.node,
            secret: body.kubernetes.secret,
            audiences: common,
            issued_at: time(body.iat)?,
            expires_at: time(body.exp)?,
        })
    }
}

impl Claims {
    /// The account as a user, with what KEP-1205 and KEP-4193 put into its extra fields.
    pub fn user(&self) -> User {
        let mut extra = BTreeMap::new();
        let mut add = |key: &str, value: String| {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        };
        add("credential-id", format!("JTI={}", self.id));
        for (kind, bound) in [("pod", &self.pod), ("node", &self.node)] {
            if let Some(bound) = bound {
                add(&format!("{kind}-name"), bound.name.clone());
                add(&format!("{kind}-uid"), bound.uid.clone());
            }
        }
        User {
            name: format!(
                "system:serviceaccount:{}:{}",
                self.namespace, self.service_account
            ),
            uid: self.service_account_uid.clone(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{}", self.namespace),
                "system:authenticated".to_owned(),
            ],
            extra,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens::new(&KeyPair::generate().unwrap()).unwrap()
    }

    fn request() -> TokenRequest {
        TokenRequest {
            namespace: "ns".into(),
            service_account: "app".into(),
            service_account_uid: "u1".into(),
            pod: Some(Bound {
                name: "p".into(),
                uid: "u2".into(),
            }),
            lifetime_seconds: 600,
            ..TokenRequest::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_token_tells_what_was_signed() {
        let tokens = tokens();
        let (token, expires) = tokens.sign(request(), at(1000)).unwrap();
        assert_eq!(expires, at(1600));
        let claims = tokens.verify(&token, &[], at(1599)).unwrap();
        assert_eq!(claims.pod, request().pod);
        let user = claims.user();
        assert_eq!(user.name, "system:serviceaccount:ns:app");
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
        assert!(user.is_in("system:serviceaccounts:ns"));
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let tokens = tokens();
        let (token, _) = tokens.sign(request(), at(1000)).unwrap();
        assert_eq!(
            tokens.verify(&token, &[], at(1600)),
            Err(TokenError::Expired)
        );
        let other = ["vault".to_owned()];
        assert!(matches!(
            tokens.verify(&token, &other, at(1001)),
            Err(TokenError::Audience { .. })
        ));
        assert!(matches!(
            self::tokens().verify(&token, &[], at(1001)),
            Err(TokenError::Invalid(_))
        ));
        let (head, tail) = token.split_once('.').unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIn0.{}", tail.split_once('.').unwrap().0);
        for bad in ["", "a.b.c", head, &unsigned, &format!("{unsigned}.")] {
            assert!(
                matches!(
                    tokens.verify(bad, &[], at(1001)),
                    Err(TokenError::Invalid(_))
                ),
                "{bad}"
            );
        }
    }

    #[test]
    fn audiences_are_those_in_common() {
        let tokens = tokens();
        let request = TokenRequest {
            audiences: vec!["a".into(), "b".into()],
            ..request()
        };
        let (token, _) = tokens.sign(request, at(1000)).unwrap();
        let wanted = ["b".to_owned(), "c".to_owned()];
        assert_eq!(
            tokens.verify(&token, &wanted, at(1001)).unwrap().audiences,
            ["b"]
        );
        assert!(tokens.verify(&token, &[], at(1001)).is_err());
    }
}
