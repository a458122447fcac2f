//! What a registry wants to be asked with: nothing, a password, or a token that another server gives
//! (distribution's "Token Authentication Specification").

use http_auth::ChallengeParser;
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth as OciAuth;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use super::repository::{MAX_WORDS, limited};

/// Longer ones would not fit in a header anyway.
const MAX_TOKEN: usize = 64 << 10;

/// Who gives tokens.
#[derive(Debug, PartialEq)]
struct Giver {
    realm: String,
    service: Option<String>,
}

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    /// By the name of OAuth 2.0.
    access_token: Option<String>,
}

/// To pull from `repository` of the registry at `base`; `None` where it wants none.
pub async fn ask(
    client: &Client,
    base: &Url,
    repository: &str,
    auth: &OciAuth,
) -> Result<Option<String>, OciDistributionError> {
    if let OciAuth::Bearer(token) = auth {
        return Ok(Some(token.clone()));
    }
    let mut door = base.clone();
    door.set_path("/v2/");
    let answer = client.get(door).send().await?;
    let Some(giver) = giver(answer.headers()) else {
        return Ok(None);
    };
    let scope = format!("repository:{repository}:pull");
    let mut query = vec![("scope", scope.as_str())];
    if let Some(service) = &giver.service {
        query.push(("service", service));
    }
    let request = client.get(&giver.realm).query(&query);
    let request = match auth {
        OciAuth::Basic(user, password) => request.basic_auth(user, Some(password)),
        _ => request,
    };
    let answer = request.send().await?;
    let status = answer.status();
    if status != StatusCode::OK {
        let said = limited(answer, MAX_WORDS).await?.unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        return Err(OciDistributionError::AuthenticationFailure(said));
    }
    let said = limited(answer, MAX_TOKEN).await?;
    let read = said.map_or_else(
        || Err(format!("over {MAX_TOKEN} bytes")),
        |said| token(&said),
    );
    Ok(Some(
        read.map_err(OciDistributionError::RegistryTokenDecodeError)?,
    ))
}

/// `None` where no answer says one: a registry without users, or one that wants a password itself.
fn giver(headers: &HeaderMap) -> Option<Giver> {
    let lines = headers.get_all(WWW_AUTHENTICATE).into_iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut challenges = lines.flat_map(|line| ChallengeParser::new(line).flatten());
    challenges.find_map(|challenge| {
        let of = |name: &str| {
            let mut params = challenge.params.iter();
            let found = params.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        if !challenge.scheme.eq_ignore_ascii_case("Bearer") {
            return None;
        }
        Some(Giver {
            realm: of("realm")?,
            service: of("service"),
        })
    })
}

fn token(said: &[u8]) -> Result<String, String> {
    let given: Given = serde_json::from_slice(said).map_err(|error| error.to_string())?;
    let tokens = [given.token, given.access_token].into_iter().flatten();
    let mut tokens = tokens.filter(|token| !token.is_empty());
    tokens.next().ok_or_else(|| "no token in it".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_tokens() {
        let of = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(WWW_AUTHENTICATE, line.parse().unwrap());
            }
            giver(&headers)
        };
        let with = |service: Option<&str>| {
            Some(Giver {
                realm: "https://auth.example/token".into(),
                service: service.map(str::to_owned),
            })
        };
        for (lines, want) in [
            (&[][..], None),
            (&["Basic realm=\"them\""], None),
            (&["Bearer service=\"them\""], None),
            (&["Bearer realm=\"https://auth.example/token\""], with(None)),
            (
                &[
                    "bearer Realm=\"https://auth.example/token\",service=\"them, all\",scope=\"a:b:c\"",
                ],
                with(Some("them, all")),
            ),
            (
                &["Basic realm=\"x\", Bearer realm=\"https://auth.example/token\""],
                with(None),
            ),
            (
                &[
                    "Basic realm=\"x\"",
                    "Bearer realm=\"https://auth.example/token\"",
                ],
                with(None),
            ),
            (&["Bearer realm=\"unfinished"], None),
        ] {
            assert_eq!(of(lines), want, "{lines:?}");
        }
    }

    #[test]
    fn a_token_by_either_name() {
        for (said, want) in [
            (r#"{"token": "t"}"#, Ok("t")),
            (r#"{"access_token": "a", "expires_in": 60}"#, Ok("a")),
            (r#"{"token": "t", "access_token": "a"}"#, Ok("t")),
            (r#"{"token": "", "access_token": "a"}"#, Ok("a")),
            (r#"{"token": ""}"#, Err("no token in it")),
            ("{}", Err("no token in it")),
        ] {
            let got = token(said.as_bytes());
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{said}");
        }
        assert!(token(b"<html>").is_err());
    }
}
