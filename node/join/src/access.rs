//! Clients of the API server for somebody who is not a node yet.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::error::JoinError;
use crate::token::Token;

/// A connection into nowhere would hold a call for ever.
const CALL: Duration = Duration::from_secs(10);

/// Who vouches for the server.
pub(crate) enum Trust<'a> {
    /// Nobody: what it says is believed for other reasons.
    Nobody,
    /// An authority, PEM.
    Authority(&'a str),
}

pub(crate) async fn client(
    server: &str,
    trust: Trust<'_>,
    token: Option<&Token>,
) -> Result<Client, JoinError> {
    let mut cluster = json!({"server": server});
    match trust {
        Trust::Nobody => cluster["insecure-skip-tls-verify"] = true.into(),
        Trust::Authority(pem) => {
            cluster["certificate-authority-data"] = STANDARD.encode(pem).into();
        }
    }
    let user = match token {
        Some(token) => json!({"token": token.whole()}),
        None => json!({}),
    };
    let text = kubeconfig(&cluster, &user).to_string();
    let kubeconfig = Kubeconfig::from_yaml(&text)?;
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // As the daemon: a node reaches its API server directly.
    config.proxy_url = None;
    config.connect_timeout = Some(CALL);
    Client::try_from(config).map_err(|error| JoinError::Client(Box::new(error)))
}

pub(crate) fn kubeconfig(cluster: &Value, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "vetch", "cluster": cluster}],
        "users": [{"name": "node", "user": user}],
        "contexts": [{"name": "vetch", "context": {"cluster": "vetch", "user": "node"}}],
        "current-context": "vetch",
    })
}

/// A call that ends.
pub(crate) async fn limited<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    match tokio::time::timeout(CALL, call).await {
        Ok(result) => result,
        Err(_) => Err(kube::Error::Service(
            format!("no answer within {CALL:?}").into(),
        )),
    }
}
