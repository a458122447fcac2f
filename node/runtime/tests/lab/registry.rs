//! Debian's docker-registry on loopback, filled over its HTTP interface.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use reqwest::{Client, Method, Response};

use crate::image::{Image, digest};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const USER: &str = "someone";
pub const PASSWORD: &str = "secret";
const HTPASSWD: &str = "someone:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

pub struct Registry {
    child: Child,
    storage: PathBuf,
    /// `127.0.0.1:port`
    pub address: String,
    /// Its own network namespace, when it has one.
    netns: Option<File>,
    password: bool,
}

#[derive(Default)]
pub struct Options {
    pub password: bool,
    pub own_network: bool,
    pub tls: Option<Tls>,
}

/// PEM files.
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who signs its clients' certificates, without which it speaks to nobody.
    pub clients: PathBuf,
}

impl Registry {
    /// Returns when it listens, on a port that was free.
    pub fn start(dir: &Path, options: Options) -> Registry {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let storage = dir.join("storage");
        fs::create_dir_all(&storage).unwrap();
        let tls = options.tls.as_ref().map(|tls| {
            format!(
                ", tls: {{certificate: '{}', key: '{}', clientcas: ['{}']}}",
                tls.certificate.display(),
                tls.key.display(),
                tls.clients.display()
            )
        });
        let tls = tls.unwrap_or_default();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '127.0.0.1:0'{tls}}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}}}\n",
            storage.display()
        );
        if options.password {
            let file = dir.join("htpasswd");
            fs::write(&file, HTPASSWD).unwrap();
            config += &format!(
                "auth: {{htpasswd: {{realm: lab, path: '{}'}}}}\n",
                file.display()
            );
        }
        let path = dir.join("config.yml");
        fs::write(&path, config).unwrap();
        // A thread, since what it does to its namespaces stays with it.
        let (mut child, netns) = std::thread::spawn(move || {
            let netns = options.own_network.then(own_network);
            let child = Command::new("docker-registry")
                .arg("serve")
                .arg(path)
                .env_clear()
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("Debian's docker-registry");
            (child, netns)
        })
        .join()
        .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = said
            .by_ref()
            .map(|line| line.expect("the registry ended"))
            .find_map(|line| {
                Some(
                    line.split_once("listening on ")?
                        .1
                        .split(['"', ','])
                        .next()?
                        .to_owned(),
                )
            })
            .unwrap();
        // Its log must go somewhere.
        std::thread::spawn(move || said.for_each(drop));
        Registry {
            child,
            storage,
            address,
            netns,
            password: options.password,
        }
    }

    pub fn netns(&self) -> PathBuf {
        let file = self.netns.as_ref().expect("a network of its own");
        format!("/proc/self/fd/{}", file.as_raw_fd()).into()
    }

    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    async fn send(&self, method: Method, url: &str, kind: &str, body: Vec<u8>) -> Response {
        let url = if url.starts_with("http") {
            url.to_owned()
        } else {
            format!("http://{}/v2/{url}", self.address)
        };
        let mut request = Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .request(method, url)
            .header("content-type", kind)
            .body(body);
        if self.password {
            request = request.basic_auth(USER, Some(PASSWORD));
        }
        request.send().await.unwrap().error_for_status().unwrap()
    }

    pub async fn blob(&self, repository: &str, bytes: &[u8]) -> serde_json::Value {
        let uploads = format!("{repository}/blobs/uploads/");
        let begun = self.send(Method::POST, &uploads, "", Vec::new()).await;
        let place = begun.headers()["location"].to_str().unwrap();
        let put = format!("{place}&digest={}", digest(bytes));
        self.send(
            Method::PUT,
            &put,
            "application/octet-stream",
            bytes.to_vec(),
        )
        .await;
        serde_json::json!({"mediaType": LAYER, "digest": digest(bytes), "size": bytes.len()})
    }

    /// Under a tag, or without one under its digest.
    pub async fn manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        kind: &str,
        text: &serde_json::Value,
    ) -> serde_json::Value {
        let bytes = text.to_string().into_bytes();
        let digest = digest(&bytes);
        let size = bytes.len();
        let url = format!("{repository}/manifests/{}", tag.unwrap_or(&digest));
        self.send(Method::PUT, &url, kind, bytes).await;
        serde_json::json!({"mediaType": kind, "digest": digest, "size": size})
    }

    /// The image's manifest; layers go as `pack` makes them.
    pub async fn push(
        &self,
        repository: &str,
        tag: Option<&str>,
        image: &Image,
        pack: impl Fn(usize, &[u8]) -> Vec<u8>,
    ) -> serde_json::Value {
        let config = self.blob(repository, &image.config).await;
        let mut layers = Vec::new();
        for (number, layer) in image.layers.iter().enumerate() {
            layers.push(self.blob(repository, &pack(number, layer)).await);
        }
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        self.manifest(repository, tag, MANIFEST, &manifest).await
    }

    /// The file behind a blob: what is served is what is in there.
    pub fn file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = "docker/registry/v2/blobs/sha256";
        self.storage
            .join(blobs)
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Moves the thread into a new network whose loopback works.
fn own_network() -> File {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let up = Command::new("/bin/busybox")
        .args(["ip", "link", "set", "lo", "up"])
        .status()
        .unwrap();
    assert!(up.success());
    File::open("/proc/thread-self/ns/net").unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}
