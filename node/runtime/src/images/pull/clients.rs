//! HTTP to one door of a registry: whom it believes, and who it says it is.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, Identity};

use super::hosts::Host;
use super::words;

const CONNECT: Duration = Duration::from_secs(30);
const USER_AGENT: &str = concat!("vetch/", env!("CARGO_PKG_VERSION"));

pub struct Clients {
    /// Asks for manifests and blobs.
    pub content: Client,
    /// Asks for tokens, of whoever the registry says: what a door is to be told is not for them.
    pub tokens: Client,
}

impl Clients {
    pub async fn of(host: &Host, silence: Duration) -> Result<Clients, String> {
        let mut roots = Vec::new();
        for path in &host.ca {
            let wrong = |error| format!("{}: {}", path.display(), words::with_causes(&error));
            roots.push(Certificate::from_pem(&read(path).await?).map_err(wrong)?);
        }
        let identity = identity(host).await?;
        let builder = || {
            let builder = Client::builder()
                .connect_timeout(host.dial_timeout.unwrap_or(CONNECT))
                .read_timeout(silence)
                .user_agent(USER_AGENT)
                .danger_accept_invalid_certs(host.skip_verify)
                .tls_certs_merge(roots.clone());
            match &identity {
                Some(identity) => builder.identity(identity.clone()),
                None => builder,
            }
        };
        let content = builder().default_headers(host.headers.clone()).build();
        Ok(Clients {
            content: content.map_err(|error| no_client(&error))?,
            tokens: builder().build().map_err(|error| no_client(&error))?,
        })
    }
}

async fn identity(host: &Host) -> Result<Option<Identity>, String> {
    let mut pem = Vec::new();
    for path in &host.client {
        pem.extend(read(path).await?);
        // The last line of a file may have no end.
        pem.push(b'\n');
    }
    let Some(first) = host.client.first() else {
        return Ok(None);
    };
    let identity = Identity::from_pem(&pem).map_err(|error| {
        let words = words::with_causes(&error);
        format!("client certificate {}: {words}", first.display())
    })?;
    Ok(Some(identity))
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = tokio::fs::read(path).await;
    read.map_err(|error| format!("reading {}: {error}", path.display()))
}

/// Without CA certificates on the machine, say, or where a key is another certificate's.
fn no_client(error: &reqwest::Error) -> String {
    let why = words::with_causes(error);
    format!("cannot make an HTTP client: {why}")
}
