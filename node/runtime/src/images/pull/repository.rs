//! A repository of a registry: its manifests and blobs, and no more of an answer than such a thing has.
//!
//! oci-client, whose words these are, reads whole answers into memory, so that one without an end would
//! take the daemon with it; and it knows no client certificates.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use oci_client::Reference;
use oci_client::errors::{OciDistributionError, OciEnvelope};
use oci_client::secrets::RegistryAuth as OciAuth;
use reqwest::{Response, StatusCode, Url, header};

use super::blob::Blob;
use super::clients::Clients;
use super::hosts::Host;
use super::{resume, token, words};
use crate::images::manifest::{self, Descriptor};

/// What a registry has to take at least (the distribution specification, "Pushing Manifests"), and
/// containerd's limit.
const MAX_MANIFEST: usize = 4 << 20;
/// Of an answer that says why not.
pub const MAX_WORDS: usize = 64 << 10;

pub struct Repository {
    clients: Clients,
    base: Url,
    /// `https://registry/v2/name`
    url: String,
    /// The registry whose images a mirror is asked for: `ns` in containerd's requests.
    of: Option<String>,
    name: Reference,
    /// The name that a token is asked for.
    here: String,
    auth: OciAuth,
    token: tokio::sync::Mutex<Option<String>>,
}

pub type BlobStream = Blob<BoxStream<'static, std::io::Result<Bytes>>>;

impl Repository {
    /// Asks for a token, where the registry gives such.
    pub async fn open(
        clients: Clients,
        name: &Reference,
        host: &Host,
        auth: OciAuth,
    ) -> Result<Repository, OciDistributionError> {
        let here = match host.prefix() {
            "" => name.repository().to_owned(),
            prefix => format!("{prefix}/{}", name.repository()),
        };
        let token = token::ask(&clients.tokens, &host.base, &here, &auth).await?;
        let base = host.base.as_str().trim_end_matches('/');
        Ok(Repository {
            clients,
            base: host.base.clone(),
            url: format!("{base}/{}", name.repository()),
            of: (!host.own).then(|| name.registry().to_owned()),
            name: name.clone(),
            here,
            auth,
            token: tokio::sync::Mutex::new(token),
        })
    }

    /// The manifest that the image's name stands for, and its digest.
    pub async fn named(&self) -> Result<(Bytes, String), String> {
        let tag = self.name.tag().unwrap_or("latest");
        match self.name.digest() {
            Some(digest) => self.manifest(digest, Some(digest)).await,
            None => self.manifest(tag, None).await,
        }
    }

    pub async fn by_digest(&self, digest: &str) -> Result<Bytes, String> {
        manifest::hash_of(digest)?;
        Ok(self.manifest(digest, Some(digest)).await?.0)
    }

    /// With its digest, which is the one that the registry says, too.
    async fn manifest(&self, name: &str, digest: Option<&str>) -> Result<(Bytes, String), String> {
        let failed = |error| words::resolving(&self.name, &error);
        let wrong = |words| {
            format!(
                "failed to resolve reference \"{}\": {words}",
                self.name.whole()
            )
        };
        let response = self.get("manifests", name).await.map_err(failed)?;
        let said = response.headers().get("docker-content-digest");
        let said = said
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = limited(response, MAX_MANIFEST)
            .await
            .map_err(failed)?
            .ok_or_else(|| wrong(format!("a manifest of over {MAX_MANIFEST} bytes")))?;
        let digest = checked(&body, [digest, said.as_deref()]).map_err(wrong)?;
        Ok((body, digest))
    }

    /// Its bytes as they come; an item is an error when they are others than those described.
    pub async fn blob(self: &Arc<Self>, blob: &Descriptor) -> Result<BlobStream, String> {
        let hash = manifest::hash_of(&blob.digest)?;
        let response = self.get("blobs", &blob.digest).await.map_err(|error| {
            format!("failed to fetch {}: {}", blob.digest, words::words(&error))
        })?;
        let bytes = resume::bytes(self.clone(), blob.digest.clone(), response);
        Ok(Blob::new(bytes, blob, hash))
    }

    /// The rest of a blob, or the whole from a registry that knows no ranges (RFC 9110, 14.2).
    pub async fn blob_from(&self, digest: &str, at: u64) -> Result<Response, OciDistributionError> {
        self.get_from("blobs", digest, at).await
    }

    async fn get(&self, kind: &str, name: &str) -> Result<Response, OciDistributionError> {
        self.get_from(kind, name, 0).await
    }

    async fn get_from(
        &self,
        kind: &str,
        name: &str,
        at: u64,
    ) -> Result<Response, OciDistributionError> {
        let url = format!("{}/{kind}/{name}", self.url);
        let token = self.token.lock().await.clone();
        let mut response = self.send(&url, at, token.as_deref()).await?;
        // Tokens live for minutes, and a pull may for longer.
        if response.status() == StatusCode::UNAUTHORIZED && token.is_some() {
            let token = self.renew(token).await?;
            response = self.send(&url, at, token.as_deref()).await?;
        }
        let status = response.status();
        if status == StatusCode::OK || at > 0 && status == StatusCode::PARTIAL_CONTENT {
            return Ok(response);
        }
        let said = limited(response, MAX_WORDS).await?.unwrap_or_default();
        Err(refusal(status, &said, url))
    }

    async fn send(&self, url: &str, at: u64, token: Option<&str>) -> reqwest::Result<Response> {
        // Blobs are not chosen by it.
        let accepted = manifest::ACCEPTED.join(", ");
        let request = self
            .clients
            .content
            .get(url)
            .header(header::ACCEPT, accepted + ", */*");
        let request = match &self.of {
            Some(of) => request.query(&[("ns", of)]),
            None => request,
        };
        let request = match at {
            0 => request,
            at => request.header(header::RANGE, format!("bytes={at}-")),
        };
        let request = match (token, &self.auth) {
            (Some(token), _) => request.bearer_auth(token),
            (None, OciAuth::Basic(user, password)) => request.basic_auth(user, Some(password)),
            (None, _) => request,
        };
        request.send().await
    }

    /// Once for all that had the old one.
    async fn renew(&self, old: Option<String>) -> Result<Option<String>, OciDistributionError> {
        let mut token = self.token.lock().await;
        if *token == old {
            let client = &self.clients.tokens;
            *token = token::ask(client, &self.base, &self.here, &self.auth).await?;
        }
        Ok(token.clone())
    }
}

/// `None` when it is longer.
pub async fn limited(
    mut response: Response,
    most: usize,
) -> Result<Option<Bytes>, OciDistributionError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// The manifest's digest, by the algorithm of those it must have.
fn checked(body: &[u8], wanted: [Option<&str>; 2]) -> Result<String, String> {
    let mut digest = None;
    for wanted in wanted.into_iter().flatten() {
        let got = manifest::digest_like(wanted, body)?;
        if got != wanted {
            return Err(format!("its manifest is {got}, not {wanted}"));
        }
        digest.get_or_insert(got);
    }
    Ok(digest.unwrap_or_else(|| manifest::digest_of(body)))
}

/// An answer that is no manifest, as oci-client says it of the other requests.
fn refusal(status: StatusCode, body: &[u8], url: String) -> OciDistributionError {
    if status == StatusCode::UNAUTHORIZED {
        return OciDistributionError::UnauthorizedError { url };
    }
    match serde_json::from_slice::<OciEnvelope>(body) {
        Ok(envelope) => OciDistributionError::RegistryError { envelope, url },
        Err(_) => OciDistributionError::ServerError {
            code: status.as_u16(),
            url,
            // A page of HTML, more often than not: its beginning says enough.
            message: String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_the_one_that_was_named() {
        let own = manifest::digest_of(b"{}");
        let long = manifest::digest_like(&format!("sha512:{}", "0".repeat(128)), b"{}").unwrap();
        let other = manifest::digest_of(b"other");
        for (wanted, want) in [
            ([None, None], Ok(&own)),
            ([None, Some(&own)], Ok(&own)),
            ([Some(&long), Some(&own)], Ok(&long)),
        ] {
            let wanted = wanted.map(|digest| digest.map(String::as_str));
            assert_eq!(checked(b"{}", wanted).as_ref(), want, "{wanted:?}");
        }
        for wanted in [
            [Some(&other), None],
            [None, Some(&other)],
            [Some(&own), Some(&other)],
        ] {
            let wanted = wanted.map(|digest| digest.map(String::as_str));
            assert_eq!(
                checked(b"{}", wanted).unwrap_err(),
                format!("its manifest is {own}, not {other}")
            );
        }
        assert_eq!(
            checked(b"{}", [None, Some("md5:00")]).unwrap_err(),
            "unsupported digest \"md5:00\""
        );
    }
}
