//! The signature of cluster-info: a detached JWS (RFC 7515 appendix F), HMAC-SHA256 with a token's secret part.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::Value;

use crate::token::Token;

/// Whether `signature` (`HEADER..SIGNATURE`) is the token's over this content.
pub fn is_signed(content: &str, signature: &str, token: &Token) -> bool {
    let [header, "", given] = signature.split('.').collect::<Vec<_>>()[..] else {
        return false;
    };
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let head = decode(header).and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    // No algorithm but this one: what "none" signs is signed by nobody.
    let ours = head.is_some_and(|head| head["alg"] == "HS256" && head["kid"] == token.id());
    let Some(given) = decode(given).filter(|_| ours) else {
        return false;
    };
    let payload = URL_SAFE_NO_PAD.encode(content);
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret().as_bytes());
    hmac::verify(&key, format!("{header}.{payload}").as_bytes(), &given).is_ok()
}

#[cfg(test)]
pub fn sign(content: &str, header: &str, token: &Token) -> String {
    let header = URL_SAFE_NO_PAD.encode(header);
    let payload = URL_SAFE_NO_PAD.encode(content);
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret().as_bytes());
    let signature = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tokens_own_signature_counts() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let other: Token = "abcdef.fedcba9876543210".parse().unwrap();
        let head = r#"{"alg":"HS256","kid":"abcdef"}"#;
        let good = sign("content", head, &token);
        assert!(is_signed("content", &good, &token));
        assert!(!is_signed("contents", &good, &token));
        assert!(!is_signed("content", &good, &other));
        // Signed by the right key, and still not for this.
        for head in [
            r#"{"alg":"none","kid":"abcdef"}"#,
            r#"{"alg":"HS256","kid":"other1"}"#,
            r#"{"alg":"HS512","kid":"abcdef"}"#,
            "no json",
        ] {
            let signature = sign("content", head, &token);
            assert!(!is_signed("content", &signature, &token), "{head}");
        }
        let (header, _) = good.split_once("..").unwrap();
        let attached = good.replace("..", ".Y29udGVudA.");
        for bad in ["", "..", header, &format!("{header}.."), &attached] {
            assert!(!is_signed("content", bad, &token), "{bad}");
        }
    }
}
