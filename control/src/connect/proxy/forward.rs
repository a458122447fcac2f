//! One request to a server in a pod, and its answer, as the client behind the proxy is to see them.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{HOST, LOCATION};
use http::{HeaderValue, Request, StatusCode};
use hyper::upgrade::OnUpgrade;
use rustls::ClientConfig;
use vetch_server::status::Result;
use vetch_server::upgrade;

use super::locate::{Place, unavailable};
use super::rewrite::{self, Hosts};
use crate::connect::carry;

/// `behind`: what of the request's path is the server's.
pub async fn forward(
    tls: &Arc<ClientConfig>,
    place: &Place,
    behind: &str,
    mut request: Request<Body>,
) -> Result<Response> {
    let path = request.uri().path();
    let prefix = path[..path.len() - behind.len()].to_owned();
    let query = request.uri().query().map(|query| format!("?{query}"));
    let query = query.unwrap_or_default();
    let upgrades = upgrade::protocol(request.headers()).is_some();
    if behind.is_empty() && !upgrades {
        return Ok(with_slash(&format!("{path}/{query}")));
    }
    let client = match upgrades {
        true => request.extensions_mut().remove::<OnUpgrade>(),
        false => None,
    };
    let asked = host(&request).unwrap_or_else(|| place.address.to_string());
    let target = format!("{}{query}", if behind.is_empty() { "/" } else { behind });
    let request = carry::outgoing(request, &target, &asked, &format!("{prefix}{behind}"))?;

    let failed = |why: String| unavailable(format!("error trying to reach service: {why}"));
    let mut answer = carry::carry(tls, place, request, client)
        .await
        .map_err(failed)?;
    let hosts = Hosts {
        server: &place.address.to_string(),
        client: &asked,
    };
    let headers = answer.headers_mut();
    let told = headers.get(LOCATION).and_then(|own| own.to_str().ok());
    let location = told.and_then(|own| rewrite::location(own, hosts, &prefix));
    if let Some(value) = location.and_then(|own| HeaderValue::try_from(own).ok()) {
        headers.insert(LOCATION, value);
    }
    Ok(answer)
}

/// Relative links of the server's first page lead astray without its slash.
fn with_slash(path: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(value) = HeaderValue::from_str(path) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

/// Whom the client asked, by header or, in HTTP/2, by authority.
fn host(request: &Request<Body>) -> Option<String> {
    let header = request
        .headers()
        .get(HOST)
        .and_then(|own| own.to_str().ok());
    let authority = request.uri().authority().map(|own| own.as_str());
    header.or(authority).map(str::to_owned)
}

#[cfg(test)]
mod tests;
