//! A machine becomes a node: repeated, it arrives at the same place.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use crate::access::{Trust, client, kubeconfig, limited};
use crate::certificate::{CaHash, Certificate};
use crate::discovery::{Found, discover};
use crate::error::{JoinError, is_code};
use crate::files::{self, CURRENT, Places};
use crate::request::{self, user};
use crate::token::Token;

/// Between two tries of what may pass.
const AGAIN: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// `HOST:PORT`
    pub server: String,
    pub token: Token,
    /// One of them is the authority's.
    pub ca_hashes: Vec<CaHash>,
    pub node_name: String,
    pub places: Places,
    /// For the server to be there, and for the certificate to come, each.
    pub patience: Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The API server's URL.
    pub server: String,
    /// There was a good certificate already, and it stays.
    pub kept: bool,
    pub ends: Timestamp,
}

/// Makes the kubeconfig and the certificate it names. The certificate of an earlier join stays, where it is of this
/// node and cluster, and good.
pub async fn join(options: &JoinOptions) -> Result<Joined, JoinError> {
    let found = until_found(options).await?;
    info!(server = found.server, "the cluster is the one of the token");
    let pki = options.places.pki();
    let now = Timestamp::now();
    let known = files::current(&pki).filter(|(pem, certificate)| {
        let ours = found.authorities.iter();
        certificate.user == user(&options.node_name)
            && certificate.is_good_at(now)
            && ours
                .into_iter()
                .any(|ca| Certificate::is_signed_by(pem, ca))
    });
    let (kept, ends) = match known {
        Some((_, certificate)) => (true, certificate.ends),
        None => {
            let trust = Trust::Authority(&found.ca_pem);
            let client = client(&found.server, trust, Some(&options.token)).await?;
            name_is_free(&client, &options.token, &options.node_name).await?;
            let issued =
                request::certificate(&client, &options.node_name, options.patience).await?;
            files::keep(&pki, &issued.pem, now)?;
            (false, issued.certificate.ends)
        }
    };
    options
        .places
        .write_kubeconfig(&node_kubeconfig(&found, &options.places))?;
    Ok(Joined {
        server: found.server,
        kept,
        ends,
    })
}

async fn until_found(options: &JoinOptions) -> Result<Found, JoinError> {
    let begun = Instant::now();
    let mut said = false;
    loop {
        match discover(&options.server, &options.token, &options.ca_hashes).await {
            Err(error) if begun.elapsed() + AGAIN < error.may_pass_within(options.patience) => {
                if !said {
                    info!("{error}; trying again");
                    said = true;
                }
                tokio::time::sleep(AGAIN).await;
            }
            result => return result,
        }
    }
}

/// A living node of this name is another machine: this one has no certificate of it.
async fn name_is_free(client: &Client, token: &Token, name: &str) -> Result<(), JoinError> {
    let nodes: Api<Node> = Api::all(client.clone());
    match limited(nodes.get_opt(name)).await {
        Ok(None) => Ok(()),
        Ok(Some(node)) if !is_ready(&node) => Ok(()),
        Ok(Some(_)) => Err(JoinError::NameTaken {
            name: name.to_owned(),
        }),
        Err(error) if is_code(&error, 401) => Err(JoinError::TokenRefused {
            id: token.id().to_owned(),
        }),
        // A cluster that does not let tokens look finds out by itself.
        Err(error) if is_code(&error, 403) => Ok(()),
        Err(error) => Err(JoinError::during("look for a node of this name")(error)),
    }
}

fn is_ready(node: &Node) -> bool {
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|own| own.type_ == "Ready" && own.status == "True")
}

/// JSON, which is YAML too.
fn node_kubeconfig(found: &Found, places: &Places) -> String {
    let cluster = json!({
        "server": found.server,
        "certificate-authority-data": STANDARD.encode(&found.ca_pem),
    });
    // One file for both: a rotation replaces them in one instant.
    let current = places.pki().join(CURRENT);
    let user = json!({"client-certificate": current, "client-key": current});
    format!("{:#}\n", kubeconfig(&cluster, &user))
}
