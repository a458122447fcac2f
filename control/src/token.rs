//! `token create|list|delete`: bootstrap tokens, through the running API server like any administrator.

mod secret;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use rand::Rng as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use vetch_identity::public_key_hash;

use crate::options::{CreateToken, TokenAccess, TokenCommand};
use secret::Token;

const NAMESPACE: &str = "kube-system";
/// For a control plane to start, and then for cluster-info to be there.
const START_LIMIT: Duration = Duration::from_secs(30);
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

pub async fn run(command: TokenCommand) -> Result<()> {
    match command {
        TokenCommand::Create(options) => create(options).await,
        TokenCommand::List { access } => {
            let tokens = secrets(&access).await?;
            print!("{}", list(&tokens).await?);
            Ok(())
        }
        TokenCommand::Delete { access, tokens } => {
            let secrets = secrets(&access).await?;
            for token in tokens {
                delete(&secrets, &token).await?;
            }
            Ok(())
        }
    }
}

async fn client(access: &TokenAccess) -> Result<Client> {
    let path: &Path = &access.kubeconfig;
    let text = Kubeconfig::read_from(path).with_context(|| {
        format!(
            "cannot read the administrator's kubeconfig {}: run this where the control plane runs, or name one with --kubeconfig",
            path.display()
        )
    })?;
    let mut config = kube::Config::from_custom_kubeconfig(text, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("the kubeconfig {} is not usable", path.display()))?;
    // What the environment names for web pages is no way to an API server.
    config.proxy_url = None;
    Ok(Client::try_from(config)?)
}

/// A control plane that was installed a moment ago is waited for: it writes the kubeconfig when it can be asked.
async fn served(access: &TokenAccess) -> Result<Client> {
    let begun = tokio::time::Instant::now();
    let mut said = false;
    loop {
        let why = match access.kubeconfig.exists() {
            false => format!("{} is not there yet", access.kubeconfig.display()),
            true => {
                let client = client(access).await?;
                match client.apiserver_version().await {
                    Ok(_) => return Ok(client),
                    Err(error @ kube::Error::Api(_)) => return Err(error.into()),
                    Err(error) => error.to_string(),
                }
            }
        };
        if begun.elapsed() > START_LIMIT {
            bail!("the API server cannot be asked: {why}");
        }
        if !said {
            eprintln!("vetch-control: waiting for the API server: {why}");
            said = true;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn secrets(access: &TokenAccess) -> Result<Api<Secret>> {
    Ok(Api::namespaced(client(access).await?, NAMESPACE))
}

async fn create(options: CreateToken) -> Result<()> {
    let client = served(&options.access).await?;
    let (id, secret) = match &options.token {
        Some(given) => secret::parts(given)
            .context("a token is six, a dot, and sixteen characters of a to z and 0 to 9")?,
        None => (random(6), random(16)),
    };
    let ttl = SignedDuration::try_from(options.ttl).context("--ttl is too long")?;
    let expires = match options.ttl.is_zero() {
        true => None,
        false => Some(
            Timestamp::now()
                .checked_add(ttl)
                .context("--ttl is too long")?,
        ),
    };
    let token = Token {
        id,
        secret,
        expires,
        description: options.description,
        usages: options.usages,
        groups: options.groups,
    };
    token.check().map_err(anyhow::Error::msg)?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    match secrets
        .create(&PostParams::default(), &token.to_secret())
        .await
    {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => bail!(
            "there is a token with the id {:?}: `vetch-control token delete {}` removes it",
            token.id,
            token.id
        ),
        made => drop(made.context("create the token")?),
    }
    let (server, hashes) = cluster(&client).await?;
    println!("{}", join_command(&server, &token, &hashes));
    Ok(())
}

/// Where nodes reach the API server, and by what they know it: as cluster-info says.
async fn cluster(client: &Client) -> Result<(String, Vec<String>)> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let read = async {
        loop {
            if let Some(map) = maps.get_opt("cluster-info").await? {
                return Ok::<_, kube::Error>(map);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let map = tokio::time::timeout(START_LIMIT, read).await;
    let map = map.context("there is no ConfigMap kube-public/cluster-info")??;
    let text = map
        .data
        .and_then(|mut data| data.remove("kubeconfig"))
        .context("the ConfigMap kube-public/cluster-info has no kubeconfig")?;
    known_by(&text)
}

fn known_by(kubeconfig: &str) -> Result<(String, Vec<String>)> {
    let config = Kubeconfig::from_yaml(kubeconfig).context("read cluster-info")?;
    let cluster = config
        .clusters
        .into_iter()
        .find_map(|named| named.cluster)
        .context("cluster-info names no cluster")?;
    let server = cluster.server.context("cluster-info names no server")?;
    let pem = STANDARD
        .decode(cluster.certificate_authority_data.unwrap_or_default())
        .context("the certificate authority in cluster-info")?;
    let hashes: Option<Vec<String>> = CertificateDer::pem_slice_iter(&pem)
        .map(|der| public_key_hash(&der.ok()?))
        .collect();
    let hashes = hashes
        .filter(|all| !all.is_empty())
        .context("the certificate authority in cluster-info cannot be read")?;
    let host = server.trim_start_matches("https://").trim_end_matches('/');
    Ok((host.to_owned(), hashes))
}

fn join_command(server: &str, token: &Token, hashes: &[String]) -> String {
    let hashes: String = hashes
        .iter()
        .map(|hash| format!(" --ca-hash {hash}"))
        .collect();
    format!(
        "vetch-node join {server} --token {}.{}{hashes}",
        token.id, token.secret
    )
}

async fn list(secrets: &Api<Secret>) -> Result<String> {
    let of_type = ListParams::default().fields("type=bootstrap.kubernetes.io/token");
    let found = secrets.list(&of_type).await.context("list the tokens")?;
    let now = Timestamp::now();
    let tokens = found.items.iter().filter_map(Token::from_secret);
    Ok(secret::table(&tokens.collect::<Vec<_>>(), now))
}

/// By id or whole.
async fn delete(secrets: &Api<Secret>, token: &str) -> Result<()> {
    let id = token.split('.').next().unwrap_or_default();
    let name = secret::name(id);
    match secrets.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            bail!("there is no token with the id {id:?}: `vetch-control token list` shows them")
        }
        gone => drop(gone.context("delete the token")?),
    }
    println!("bootstrap token {id:?} deleted");
    Ok(())
}

fn random(length: usize) -> String {
    let mut random = rand::rng();
    (0..length)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use vetch_identity::Pki;

    use super::*;

    #[test]
    fn the_command_names_server_token_and_authority() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let config = vetch_control::bootstrap::cluster_info("https://10.0.0.1:6443", pki.ca_pem());
        let (server, hashes) = known_by(&config).unwrap();
        let token = Token {
            id: random(6),
            secret: random(16),
            ..Token::default()
        };
        assert_eq!(
            join_command(&server, &token, &hashes),
            format!(
                "vetch-node join 10.0.0.1:6443 --token {}.{} --ca-hash {}",
                token.id,
                token.secret,
                public_key_hash(pki.ca_der()).unwrap()
            )
        );
        let bare = vetch_control::bootstrap::cluster_info("https://10.0.0.1:6443", "");
        assert!(known_by(&bare).is_err());
    }
}
