//! A real OCI registry on loopback, filled with images made of Debian's busybox and our echo server.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::json;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::wait::eventually;

/// Debian's `docker-registry`, for as long as the value lives.
#[derive(Debug)]
pub struct Registry {
    server: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
    _storage: TempDir,
}

impl Registry {
    /// Reachable at its address from this machine and, for pulls, from every node.
    pub fn start(cluster: &Cluster) -> Result<Registry> {
        // Whoever was first has installed the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let storage = tempfile::tempdir()?;
        // The port is free between this bind and the server's own, as nothing else asks for it.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let config = storage.path().join("config.yml");
        let root = storage.path().join("data");
        std::fs::write(
            &config,
            json!({
                "version": "0.1",
                "log": {"level": "error"},
                "storage": {"filesystem": {"rootdirectory": root}},
                "http": {"addr": address},
            })
            .to_string(),
        )?;
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("run docker-registry (Debian package docker-registry)")?;
        let registry = Registry {
            server,
            address,
            _storage: storage,
        };
        eventually(Duration::from_secs(20), "the registry answers", || {
            Ok(std::net::TcpStream::connect(&registry.address)?)
        })?;
        let address: SocketAddr = registry.address.parse()?;
        for node in &cluster.nodes {
            node.lend_port(address.port())?;
        }
        Ok(registry)
    }

    /// Pushes busybox with the echo server as entry point, and returns the reference to pull.
    pub fn push_echo(&self, tag: &str) -> Result<String> {
        let reference = format!("{}/scenarios/echo:{tag}", self.address);
        let echo = std::env::var_os("VETCH_ECHO")
            .context("VETCH_ECHO names no program: run `cargo xtask test`")?;
        let busybox = std::fs::read("/bin/busybox")
            .context("read /bin/busybox (Debian package busybox-static)")?;
        let layers = [
            layer(&[("bin/busybox", &busybox), ("bin/sh", &busybox)])?,
            layer(&[("echo", &std::fs::read(echo)?)])?,
        ];
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": ["/echo"],
                "Env": ["PATH=/bin", format!("VERSION={tag}")],
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|layer| layer.sha256_digest()).collect::<Vec<_>>(),
            },
        });
        let client = Client::new(ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        });
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(client.push(
                &reference.parse::<Reference>()?,
                &layers,
                Config::oci_v1(config.to_string(), None),
                &RegistryAuth::Anonymous,
                None,
            ))
            .with_context(|| format!("push {reference}"))?;
        Ok(reference)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// An uncompressed layer: its digest is its diff id.
fn layer(files: &[(&str, &[u8])]) -> Result<ImageLayer> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(0);
        archive.append_data(&mut header, path, *content)?;
    }
    let mut bytes = archive.into_inner()?;
    bytes.flush()?;
    Ok(ImageLayer::oci_v1(bytes, None))
}
