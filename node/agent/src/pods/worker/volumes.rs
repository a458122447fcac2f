//! The worker's part in volumes: the objects they are made from, and the job.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Volume};
use kube::Resource;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::job::{Outcome, VolumesMade};
use crate::pods::claims;
use crate::pods::context::{Context, READ_LIMIT};
use crate::pods::objects::Followed;
use crate::pods::sources::{Known, Sources, references};
use crate::pods::spec;
use crate::pods::volumes::token::TokenStore;
use crate::pods::volumes::{Inputs, MountedVolumes, set_up, used};

/// The ConfigMaps and Secrets of a pod, watched as long as this lives.
pub struct FollowedObjects {
    config_maps: BTreeMap<String, Followed<ConfigMap>>,
    secrets: BTreeMap<String, Followed<Secret>>,
    pull_secrets: BTreeMap<String, Followed<Secret>>,
}

impl FollowedObjects {
    pub fn none() -> FollowedObjects {
        FollowedObjects {
            config_maps: BTreeMap::new(),
            secrets: BTreeMap::new(),
            pull_secrets: BTreeMap::new(),
        }
    }

    pub fn of(context: &Context, pod: &Pod, waker: &Arc<Notify>) -> FollowedObjects {
        let names = references(pod);
        let namespace = spec::namespace(pod);
        let secrets = |names: std::collections::BTreeSet<String>| {
            let follow = |name: String| {
                let followed = context.secrets.follow(namespace, &name, waker);
                (name, followed)
            };
            names.into_iter().map(follow).collect()
        };
        FollowedObjects {
            config_maps: names
                .config_maps
                .into_iter()
                .map(|name| {
                    let followed = context.config_maps.follow(namespace, &name, waker);
                    (name, followed)
                })
                .collect(),
            secrets: secrets(names.secrets),
            pull_secrets: secrets(names.pull_secrets),
        }
    }

    /// Once all were read, or could not be in time.
    pub async fn read(&self) -> Sources {
        let config_maps = futures::future::join_all(
            self.config_maps
                .iter()
                .map(async |(name, followed)| (name.clone(), followed.read(READ_LIMIT).await)),
        );
        let secrets = futures::future::join_all(
            self.secrets
                .iter()
                .map(async |(name, followed)| (name.clone(), followed.read(READ_LIMIT).await)),
        );
        let (config_maps, secrets) = tokio::join!(config_maps, secrets);
        Sources {
            config_maps: config_maps.into_iter().collect(),
            secrets: secrets.into_iter().collect(),
            ..Sources::default()
        }
    }

    /// For pulls: those that are there, and the names of those that are not.
    pub async fn pull_secrets(&self) -> (Vec<Arc<Secret>>, Vec<String>) {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (name, followed) in &self.pull_secrets {
            match followed.read(READ_LIMIT).await {
                Known::Present(secret) => found.push(secret),
                _ => missing.push(name.clone()),
            }
        }
        (found, missing)
    }

    /// Says which versions there are: different when anything is.
    pub fn print(&self) -> String {
        let mut text = String::new();
        for (name, followed) in &self.config_maps {
            text.push_str(&format!("{name}={};", version(&followed.get())));
        }
        for (name, followed) in &self.secrets {
            text.push_str(&format!("{name}={};", version(&followed.get())));
        }
        text
    }
}

fn version<K: Resource>(known: &Known<K>) -> String {
    match known {
        Known::Unread => "unread".to_owned(),
        Known::Unreadable(_) => "unreadable".to_owned(),
        Known::Missing => "missing".to_owned(),
        Known::Present(object) => object.meta().resource_version.clone().unwrap_or_default(),
    }
}

/// What the job needs.
pub struct VolumeJob {
    pub context: Arc<Context>,
    pub pod: Arc<Pod>,
    pub dir: PathBuf,
    pub objects: Arc<FollowedObjects>,
    pub pod_ips: Vec<IpAddr>,
    pub tokens: TokenStore,
    /// What was made before.
    pub before: Option<Arc<MountedVolumes>>,
    pub stopped: CancellationToken,
}

impl VolumeJob {
    pub async fn run(mut self) -> Outcome {
        let now = Timestamp::now();
        let gathered = async {
            let sources = self.objects.read();
            let tokens = self.tokens.gather(&self.context.client, &self.pod, now);
            let before = self.before.as_deref();
            let is_new =
                |volume: &&Volume| before.is_none_or(|before| !before.contains_key(&volume.name));
            let claimed = used(&self.pod).into_iter().filter(is_new).collect();
            let claims = claims::resolve(&self.context, &self.pod, claimed);
            tokio::join!(sources, tokens, claims)
        };
        let (sources, tokens, claims) = tokio::select! {
            () = self.stopped.cancelled() => return Outcome::Volumes(None),
            gathered = gathered => gathered,
        };
        // After the reads: what changes from here on makes another print.
        let print = print(&self.pod, &self.objects);
        let inputs = Inputs {
            dir: self.dir,
            sources,
            tokens,
            claims,
            before: self.before,
            node_ips: self.context.config.node_ips.clone(),
            pod_ips: self.pod_ips,
            allocatable: Arc::new(self.context.node.allocatable()),
            pod: self.pod,
            now,
        };
        let work = move || make(&inputs);
        let mounted = match tokio::task::spawn_blocking(work).await {
            Ok(mounted) => mounted,
            Err(error) => Err(vec![(String::new(), error.to_string())]),
        };
        Outcome::Volumes(Some(VolumesMade {
            print,
            mounted,
            tokens: self.tokens,
        }))
    }
}

/// The pod's own part is what the downward API shows of it.
pub fn print(pod: &Pod, objects: &FollowedObjects) -> String {
    format!(
        "{}{:?}{:?}",
        objects.print(),
        pod.metadata.labels,
        pod.metadata.annotations
    )
}

fn make(inputs: &Inputs) -> Result<MountedVolumes, Vec<(String, String)>> {
    let mut mounted = MountedVolumes::new();
    let mut failed = Vec::new();
    for volume in used(&inputs.pod) {
        match set_up(volume, inputs) {
            Ok(done) => {
                mounted.insert(volume.name.clone(), done);
            }
            Err(error) => failed.push((volume.name.clone(), error.to_string())),
        }
    }
    if failed.is_empty() {
        Ok(mounted)
    } else {
        Err(failed)
    }
}
