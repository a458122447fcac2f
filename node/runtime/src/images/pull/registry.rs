//! A registry by all its doors: mirrors first, then itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use oci_client::Reference;
use oci_client::secrets::RegistryAuth as OciAuth;
use reqwest::Url;
use tokio::sync::OnceCell;

use super::clients::Clients;
use super::hosts::{self, Host};
use super::repository::{BlobStream, Repository};
use super::words;
use super::{PullConfig, is_insecure};
use crate::images::manifest::Descriptor;

pub struct Registry {
    name: Reference,
    auth: OciAuth,
    silence: Duration,
    doors: Vec<Door>,
}

struct Door {
    host: Host,
    /// Asked for a token when it is first needed.
    repository: OnceCell<Arc<Repository>>,
}

impl Registry {
    pub fn of(config: &PullConfig, name: &Reference, auth: OciAuth) -> Result<Registry, String> {
        let at = name.resolve_registry();
        let scheme = match is_insecure(at, &config.insecure_registries) {
            true => "http",
            false => "https",
        };
        let default = Url::parse(&format!("{scheme}://{at}/v2"))
            .map_err(|error| format!("registry {at:?}: {error}"))?;
        let hosts = hosts::of(config.hosts_dir.as_deref(), name.registry(), default)?;
        Ok(Registry {
            name: name.clone(),
            auth,
            silence: config.silence,
            doors: hosts
                .into_iter()
                .map(|host| Door {
                    host,
                    repository: OnceCell::new(),
                })
                .collect(),
        })
    }

    /// The manifest that the image's name stands for, and its digest.
    pub async fn named(&self) -> Result<(Bytes, String), String> {
        self.first(
            |host| host.resolves,
            |repository| Box::pin(async move { repository.named().await }),
        )
        .await
    }

    pub async fn by_digest(&self, digest: &str) -> Result<Bytes, String> {
        self.first(
            |host| host.pulls,
            |repository| {
                let digest = digest.to_owned();
                Box::pin(async move { repository.by_digest(&digest).await })
            },
        )
        .await
    }

    pub async fn blob(&self, blob: &Descriptor) -> Result<BlobStream, String> {
        self.first(
            |host| host.pulls,
            |repository| {
                let blob = blob.clone();
                Box::pin(async move { repository.blob(&blob).await })
            },
        )
        .await
    }

    /// Of the doors that can, the first that does; else what the last one said, which is the registry.
    async fn first<T>(
        &self,
        can: fn(&Host) -> bool,
        ask: impl Fn(Arc<Repository>) -> BoxFuture<'static, Result<T, String>>,
    ) -> Result<T, String> {
        let mut why = None;
        for door in self.doors.iter().filter(|door| can(&door.host)) {
            if let Some(words) = why.take() {
                tracing::info!(image = self.name.whole(), "a mirror does not help: {words}");
            }
            let answer = match self.repository(door).await {
                Ok(repository) => ask(repository).await,
                Err(words) => Err(words),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(words) => why = Some(words),
            }
        }
        Err(why.unwrap_or_else(|| {
            let name = self.name.registry();
            format!("no host of {name} has the capabilities to resolve and pull (hosts.toml)")
        }))
    }

    async fn repository(&self, door: &Door) -> Result<Arc<Repository>, String> {
        let open = || async { self.open(&door.host).await.map(Arc::new) };
        door.repository.get_or_try_init(open).await.cloned()
    }

    async fn open(&self, host: &Host) -> Result<Repository, String> {
        let clients = Clients::of(host, self.silence).await?;
        let auth = match host.own {
            true => self.auth.clone(),
            false => OciAuth::Anonymous,
        };
        let opened = Repository::open(clients, &self.name, host, auth).await;
        opened.map_err(|error| words::resolving(&self.name, &error))
    }
}
