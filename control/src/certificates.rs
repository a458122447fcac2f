//! What the running control plane signs for itself, and keeps from ending.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use vetch_control::connect::KUBELET_CLIENT;
use vetch_identity::{Kept, Pki, Usage, Wanted, kubeconfig, write_secret};

use crate::MASTERS;
use crate::options::Serve;

/// How often it is looked at what ends soon; certificates are renewed a month ahead.
const EVERY: Duration = Duration::from_secs(12 * 3600);

pub struct Certificates {
    pki: Pki,
    pub server: Arc<Kept>,
    pub kubelet_client: Arc<Kept>,
    admin: Admin,
}

/// Where admin.kubeconfig is written, and the URL in it.
struct Admin {
    path: PathBuf,
    cluster: String,
    server: String,
}

impl Certificates {
    /// Makes or reads everything below DIR/pki.
    pub fn open(pki: Pki, options: &Serve, service_ip: IpAddr) -> Result<Certificates> {
        let now = Timestamp::now();
        let wanted = Wanted {
            file: "apiserver",
            common_name: "kube-apiserver",
            organization: None,
            usage: Usage::Server(names(options, service_ip)),
        };
        let server = Kept::open(&pki, wanted, now).context("make the server's certificate")?;
        let kubelet_client =
            Kept::open(&pki, KUBELET_CLIENT, now).context("make the kubelets' certificate")?;
        Ok(Certificates {
            pki,
            server: Arc::new(server),
            kubelet_client: Arc::new(kubelet_client),
            admin: Admin {
                path: options.data_dir.join("admin.kubeconfig"),
                cluster: options.cluster_name.clone(),
                server: format!("https://{}", admins_address(options)),
            },
        })
    }

    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// A new certificate for the administrator; earlier ones go on working until they end.
    pub fn write_admin(&self) -> Result<()> {
        const USER: &str = "kubernetes-admin";
        let issued = self.pki.client(USER, Some(MASTERS))?;
        let Admin {
            path,
            cluster,
            server,
        } = &self.admin;
        let text = kubeconfig(cluster, server, self.pki.ca_pem(), USER, &issued);
        Ok(write_secret(path, &text)?)
    }

    /// Renews what ends soon, until shutdown.
    pub async fn keep(self, shutdown: CancellationToken) {
        let mut pause = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = pause.tick() => {}
            }
            if let Err(error) = self.renew(Timestamp::now()) {
                error!("certificates are not renewed: {error:#}");
            }
        }
    }

    fn renew(&self, now: Timestamp) -> Result<()> {
        for kept in [&self.server, &self.kubelet_client] {
            if kept.renew(&self.pki, now)? {
                info!(certificate = %kept.path().display(), "renewed");
                self.write_admin()?;
            }
        }
        Ok(())
    }
}

/// A loopback listener where there is one: it works whatever happens to the machine's addresses.
fn admins_address(options: &Serve) -> SocketAddr {
    let loopback = options.listen.iter().find(|it| it.ip().is_loopback());
    let port = options.listen.first().map_or(6443, SocketAddr::port);
    loopback
        .copied()
        .unwrap_or(SocketAddr::new(options.advertise_address, port))
}

/// Every name the API server answers to.
fn names(options: &Serve, service_ip: IpAddr) -> Vec<String> {
    let mut names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        "::1",
    ]
    .map(str::to_owned)
    .into();
    let listening = options.listen.iter().map(SocketAddr::ip);
    let addresses = [service_ip, options.advertise_address]
        .into_iter()
        .chain(listening.filter(|ip| !ip.is_unspecified()));
    names.extend(addresses.map(|ip| ip.to_string()));
    names.extend(options.sans.iter().cloned());
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::options::Options;

    fn serve(line: &str) -> Serve {
        let fixed = "vetch-control --data-dir d --advertise-address 10.0.0.9";
        let line = format!("{fixed} {line}");
        Options::parse_from(line.split_whitespace()).serve.unwrap()
    }

    #[test]
    fn the_server_answers_to_all_its_names() {
        let options = serve("--listen 10.0.0.1:1,0.0.0.0:2 --san api.example --san 10.0.0.1");
        let names = names(&options, "10.96.0.1".parse().unwrap());
        for name in [
            "10.0.0.1",
            "10.0.0.9",
            "10.96.0.1",
            "127.0.0.1",
            "api.example",
            "kubernetes.default.svc.cluster.local",
        ] {
            assert_eq!(names.iter().filter(|it| *it == name).count(), 1, "{name}");
        }
        assert!(!names.iter().any(|name| name == "0.0.0.0"));
    }

    #[test]
    fn the_administrator_comes_by_loopback_if_served_there() {
        for (listen, address) in [
            ("10.0.0.1:1,127.0.0.1:2", "127.0.0.1:2"),
            ("0.0.0.0:1", "10.0.0.9:1"),
            ("10.0.0.1:1", "10.0.0.9:1"),
        ] {
            let options = serve(&format!("--listen {listen}"));
            assert_eq!(admins_address(&options).to_string(), address);
        }
    }
}
