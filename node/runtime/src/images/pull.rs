//! From a registry into the store.

mod blob;
mod clients;
mod hosts;
mod progress;
mod registry;
mod repository;
mod resume;
mod token;
mod words;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use oci_client::Reference;
use oci_client::secrets::RegistryAuth as OciAuth;
use tokio::io::AsyncReadExt;
use tokio_util::io::{StreamReader, SyncIoBridge};

pub use self::progress::{LayerProgress, Progress};
use self::registry::Registry;
use super::index::Index;
use super::manifest::{self, Config, Descriptor, Manifest};
use super::{ImageError, ImageStore, layer, reference};
use crate::types::{ImageStatus, RegistryAuth};

const MAX_CONFIG: u64 = 8 << 20;
/// As containerd's max_concurrent_downloads.
const LAYERS_AT_ONCE: usize = 3;

/// Of a registry that says nothing more, also in the middle of a layer. containerd gives a pull up
/// that makes no progress for five minutes (its image_pull_progress_timeout); reqwest's read_timeout
/// is for each read, so that a minute is enough for slow ones, and the kubelet tries again.
const SILENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct PullConfig {
    /// Registry traffic goes through this network namespace.
    pub netns: Option<PathBuf>,
    /// `host:port` spoken to without TLS, besides any on loopback.
    pub insecure_registries: Vec<String>,
    /// Of `REGISTRY/hosts.toml` in containerd's format: mirrors, certificates.
    pub hosts_dir: Option<PathBuf>,
    /// How long a registry may say nothing before it is given up.
    pub silence: Duration,
}

impl Default for PullConfig {
    fn default() -> PullConfig {
        PullConfig {
            netns: None,
            insecure_registries: Vec::new(),
            hosts_dir: None,
            silence: SILENCE,
        }
    }
}

pub enum PullError {
    Image(ImageError),
    Words(String),
}

impl From<ImageError> for PullError {
    fn from(error: ImageError) -> Self {
        PullError::Image(error)
    }
}

impl From<String> for PullError {
    fn from(words: String) -> Self {
        PullError::Words(words)
    }
}

pub struct Puller {
    config: PullConfig,
    /// Threads that live in the namespace, those that resolve names too.
    elsewhere: Option<tokio::runtime::Runtime>,
}

impl Puller {
    pub fn new(config: PullConfig) -> Result<Puller, ImageError> {
        // reqwest's clients need a default; one that is set already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let elsewhere = config.netns.as_ref().map(threads_in).transpose()?;
        Ok(Puller { config, elsewhere })
    }

    pub async fn run<T, F>(&self, work: F) -> Result<T, PullError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, PullError>> + Send + 'static,
    {
        let task = match &self.elsewhere {
            Some(runtime) => runtime.spawn(work),
            None => tokio::spawn(work),
        };
        task.await
            .map_err(|error| PullError::Words(format!("the puller died: {error}")))?
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        // Dropping it here and now could block, which async code must not.
        if let Some(runtime) = self.elsewhere.take() {
            runtime.shutdown_background();
        }
    }
}

fn threads_in(netns: &PathBuf) -> Result<tokio::runtime::Runtime, ImageError> {
    let fd = std::fs::File::open(netns).map_err(ImageError::store("opening", netns))?;
    let fd = Arc::new(fd);
    // Tried once here, where an error still has somebody to go to.
    std::thread::scope(|scope| {
        let join = || nix::sched::setns(&*fd, nix::sched::CloneFlags::CLONE_NEWNET);
        scope.spawn(join).join().unwrap_or(Err(nix::Error::EIO))
    })
    .map_err(|error| ImageError::store("joining", netns)(error.into()))?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("vetch-pull")
        .enable_all()
        .on_thread_start(move || {
            use nix::sched::{CloneFlags, setns};
            if let Err(error) = setns(&*fd, CloneFlags::CLONE_NEWNET) {
                // In the wrong network it must not speak to anybody.
                tracing::error!("joining the pull network namespace: {error}");
                std::process::abort();
            }
        })
        .build()
        .map_err(|error| ImageError::Store(format!("starting the puller: {error}")))
}

/// Loopback is plain HTTP by default, like containerd's and Docker's.
fn is_insecure(registry: &str, listed: &[String]) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
        || listed.iter().any(|entry| entry == registry)
}

pub async fn pull(
    store: &ImageStore,
    reference: Reference,
    auth: Option<RegistryAuth>,
    progress: Progress,
) -> Result<ImageStatus, PullError> {
    let dir = store.inner.dir.clone();
    let of = dir.clone();
    let _using = layer::blocking(move || layer::using(&of)).await?;
    let auth = match auth {
        Some(auth) => OciAuth::Basic(auth.username, auth.password),
        None => OciAuth::Anonymous,
    };
    let source = Source {
        registry: Registry::of(&store.inner.puller.config, &reference, auth)?,
        progress,
    };
    let (digest, manifests, config, layers) = source.resolve().await?;
    let text = source.config(&config).await?;
    let parsed = manifest::parse_config(&text)?;
    unpack_layers(store, &source, &parsed, &layers).await?;

    let size = manifest::whole_size(&config, &layers);
    let tag = reference::tag(&reference);
    let digest = reference::digest(&reference, &digest);
    let status = layer::blocking(move || {
        let mut blobs = Vec::new();
        for blob in manifests.iter().map(|bytes| &bytes[..]).chain([&text[..]]) {
            blobs.push(manifest::keep_blob(&dir, blob)?);
        }
        let mut record = parsed.into_record(&text, size, blobs);
        record.status.repo_tags.extend(tag);
        record.status.repo_digests.push(digest);
        Index::update(&dir, |index| Ok(index.insert(record)))
    });
    Ok(status.await?)
}

struct Source {
    registry: Registry,
    progress: Progress,
}

type Resolved = (String, Vec<bytes::Bytes>, Descriptor, Vec<Descriptor>);

impl Source {
    /// The digest asked for, the manifests on the way, and what they list for
    /// this machine.
    async fn resolve(&self) -> Result<Resolved, PullError> {
        let (bytes, digest) = self.registry.named().await?;
        let parsed = parse(&bytes)?;
        let entry = match parsed {
            Manifest::Image { config, layers } => {
                return Ok((digest, vec![bytes], config, layers));
            }
            Manifest::Index { manifests } => manifest::choose(&manifests)?.clone(),
        };
        let inner = self.registry.by_digest(&entry.digest).await?;
        match parse(&inner)? {
            Manifest::Image { config, layers } => Ok((digest, vec![bytes, inner], config, layers)),
            Manifest::Index { .. } => Err(PullError::Words(
                "an index within an index is not supported".into(),
            )),
        }
    }

    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>, PullError> {
        if config.size > MAX_CONFIG {
            return Err(PullError::Words(format!("config of {} bytes", config.size)));
        }
        let stream = self.registry.blob(config).await?;
        let mut text = Vec::new();
        // To its end, where the digest is compared, or one byte too far.
        StreamReader::new(stream)
            .take(MAX_CONFIG + 1)
            .read_to_end(&mut text)
            .await
            .map_err(|error| format!("failed to fetch {}: {error}", config.digest))?;
        if text.len() as u64 > MAX_CONFIG {
            return Err(PullError::Words(format!(
                "config of over {MAX_CONFIG} bytes"
            )));
        }
        Ok(text)
    }

    async fn layer(
        &self,
        store: &ImageStore,
        diff_id: &str,
        blob: &Descriptor,
    ) -> Result<(), PullError> {
        let dir = store.inner.dir.clone();
        let lock = store.inner.unpacking.of(diff_id);
        let _turn = lock.lock().await;
        if layer::present(&dir, diff_id) {
            self.progress.done(blob);
            return Ok(());
        }
        let stream = self.registry.blob(blob).await?;
        let (seen, of) = (self.progress.clone(), blob.digest.clone());
        let stream = stream.inspect_ok(move |bytes| seen.add(&of, bytes.len() as u64));
        let reader = SyncIoBridge::new(StreamReader::new(stream));
        let diff_id = diff_id.to_owned();
        tokio::task::spawn_blocking(move || layer::unpack(&dir, &diff_id, reader))
            .await
            .map_err(|error| format!("the unpacker died: {error}"))??;
        self.progress.done(blob);
        Ok(())
    }
}

async fn unpack_layers(
    store: &ImageStore,
    source: &Source,
    config: &Config,
    layers: &[Descriptor],
) -> Result<(), PullError> {
    let diff_ids = config.diff_ids();
    if diff_ids.len() != layers.len() {
        return Err(PullError::Words(format!(
            "mismatched image rootfs and manifest layers: {} and {}",
            diff_ids.len(),
            layers.len()
        )));
    }
    source.progress.begin(layers);
    let pairs: Vec<(String, Descriptor)> = diff_ids
        .iter()
        .cloned()
        .zip(layers.iter().cloned())
        .collect();
    futures::stream::iter(pairs)
        .map(|(diff_id, blob)| async move { source.layer(store, &diff_id, &blob).await })
        .buffer_unordered(LAYERS_AT_ONCE)
        .try_collect::<()>()
        .await
}

fn parse(bytes: &[u8]) -> Result<Manifest, PullError> {
    serde_json::from_slice(bytes).map_err(|error| PullError::Words(format!("manifest: {error}")))
}

#[cfg(test)]
mod tests {
    use super::is_insecure;

    #[test]
    fn who_is_spoken_to_in_the_clear() {
        let listed = vec!["registry.lan:5000".to_owned()];
        for (registry, want) in [
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("localhost", true),
            ("localhost:80", true),
            ("registry.lan:5000", true),
            ("registry.lan", false),
            ("localhost.example.com", false),
            ("127.0.0.1.example.com:5000", false),
            ("10.0.0.1:5000", false),
            ("docker.io", false),
        ] {
            assert_eq!(is_insecure(registry, &listed), want, "{registry}");
        }
    }
}
