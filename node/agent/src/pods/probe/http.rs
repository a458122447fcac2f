//! Asking by an HTTP GET.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use http::header::{ACCEPT, HeaderName, HeaderValue, USER_AGENT};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use reqwest::redirect::Policy;
use vetch_streaming::dial_words;

use super::{Outcome, resolve_port};
use crate::pods::text::{chain, go_quote};

/// Who asks, as the kubelet says it.
const PROBE: &str = "kube-probe/1.36";
const HOOK: &str = "kube-lifecycle/1.36";
const MAX_REDIRECTS: usize = 10;
/// What of a body is told.
const MAX_BODY: usize = 10 * 1024;

#[derive(Debug, thiserror::Error)]
#[error("making the HTTP client of probes: {0}")]
pub struct ClientError(#[from] reqwest::Error);

/// A connection a question; certificates are not checked, redirects are
/// followed on the same host only.
pub fn client() -> Result<reqwest::Client, ClientError> {
    // One that is set already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let redirects = Policy::custom(|attempt| {
        let origin = attempt.previous().first().and_then(|url| url.host_str());
        if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("stopped after 10 redirects")
        } else if attempt.url().host_str() == origin {
            attempt.follow()
        } else {
            attempt.stop()
        }
    });
    Ok(reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .pool_max_idle_per_host(0)
        .redirect(redirects)
        .build()?)
}

/// The URL asked for, in words what is wrong with it otherwise.
pub fn url(
    action: &HTTPGetAction,
    container: &Container,
    pod_ip: IpAddr,
) -> Result<reqwest::Url, String> {
    let port = resolve_port(&action.port, container)?;
    let scheme = action.scheme.as_deref().unwrap_or("HTTP");
    let host = match action.host.as_deref() {
        Some(host) if !host.is_empty() => host.to_owned(),
        _ => pod_ip.to_string(),
    };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    let path = action.path.as_deref().unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let text = format!(
        "{}://{host}:{port}{slash}{path}",
        scheme.to_ascii_lowercase()
    );
    reqwest::Url::parse(&text).map_err(|error| format!("{text}: {error}"))
}

pub fn request(
    client: &reqwest::Client,
    action: &HTTPGetAction,
    url: reqwest::Url,
    agent: &'static str,
) -> Result<reqwest::RequestBuilder, String> {
    let mut headers = http::HeaderMap::new();
    for header in action.http_headers.iter().flatten() {
        let name: HeaderName = header
            .name
            .parse()
            .map_err(|error| format!("header {}: {error}", go_quote(&header.name)))?;
        let value: HeaderValue = header
            .value
            .parse()
            .map_err(|error| format!("header {}: {error}", header.name))?;
        headers.append(name, value);
    }
    for (name, value) in [(USER_AGENT, agent), (ACCEPT, "*/*")] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    Ok(client.get(url).headers(headers))
}

/// For lifecycle hooks: whether it was answered at all.
pub async fn get(
    client: &reqwest::Client,
    action: &HTTPGetAction,
    container: &Container,
    pod_ip: IpAddr,
) -> Result<(), String> {
    let url = url(action, container, pod_ip)?;
    let answer = request(client, action, url.clone(), HOOK)?.send().await;
    match answer {
        Ok(_) => Ok(()),
        Err(error) => Err(error_words(&url, &error)),
    }
}

pub async fn ask(
    client: &reqwest::Client,
    action: &HTTPGetAction,
    container: &Container,
    pod_ip: IpAddr,
    timeout: Duration,
) -> Outcome {
    let asked = url(action, container, pod_ip)
        .and_then(|url| Ok((request(client, action, url.clone(), PROBE)?, url)));
    let (request, url) = match asked {
        Ok(asked) => asked,
        Err(words) => return Outcome::Error(words),
    };
    let answer = match request.timeout(timeout).send().await {
        Ok(answer) => answer,
        Err(error) => return Outcome::Failure(error_words(&url, &error)),
    };
    let status = answer.status();
    if status.is_success() {
        Outcome::Success
    } else if status.is_redirection() {
        let mut body = answer.text().await.unwrap_or_default();
        body.truncate(body.floor_char_boundary(MAX_BODY));
        Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"))
    } else {
        Outcome::Failure(format!(
            "HTTP probe failed with statuscode: {}",
            status.as_u16()
        ))
    }
}

/// As Go words what happened on the way.
fn error_words(url: &reqwest::Url, error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned()
    } else if let Some(cause) = io_cause(error).filter(|_| error.is_connect()) {
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_matches(['[', ']']);
        dial_words(host, url.port_or_known_default().unwrap_or(0), cause)
    } else {
        error.source().map_or_else(|| error.to_string(), chain)
    };
    format!("Get {}: {what}", go_quote(url.as_str()))
}

fn io_cause(error: &reqwest::Error) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<io::Error>()
            && found.raw_os_error().is_some()
        {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

#[cfg(test)]
mod tests;
