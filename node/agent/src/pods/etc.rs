//! The files of /etc that Kubernetes writes for a pod: hosts, hostname, resolv.conf.

pub mod hostname;
pub mod hosts;
pub mod resolv;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use hostname::Hostname;
use resolv::Warning;

const NODE_HOSTS: &str = "/etc/hosts";
const NODE_RESOLV: &str = "/etc/resolv.conf";

/// Where they are on the node and in containers.
const FILES: [(&str, &str); 3] = [
    ("etc-hosts", "/etc/hosts"),
    ("etc-hostname", "/etc/hostname"),
    ("resolv.conf", "/etc/resolv.conf"),
];

#[derive(Debug, thiserror::Error)]
#[error("writing {path}: {source}", path = path.display())]
pub struct EtcError {
    path: PathBuf,
    source: io::Error,
}

/// The files and where containers see them.
pub fn files(dir: &Path) -> impl Iterator<Item = (PathBuf, &'static str)> {
    FILES
        .iter()
        .map(move |(name, target)| (dir.join(name), *target))
}

pub fn are_there(dir: &Path) -> bool {
    files(dir).all(|(path, _)| path.exists())
}

/// Writes them; what people are to be told about the resolver.
pub fn write(
    dir: &Path,
    pod: &Pod,
    ips: &[IpAddr],
    hostname: &Hostname,
    cluster_dns: &[IpAddr],
    cluster_domain: &str,
) -> Result<Vec<Warning>, EtcError> {
    // A node without these files has nothing to say.
    let node = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (resolver, warnings) =
        resolv::resolver(pod, cluster_dns, cluster_domain, &node(NODE_RESOLV));
    let contents = [
        hosts::content(pod, ips, hostname, &node(NODE_HOSTS)),
        format!("{}\n", hostname.kernel),
        resolver.text(),
    ];
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| EtcError { path, source }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    for ((path, _), content) in files(dir).zip(contents) {
        fs::write(&path, content).map_err(failed(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(failed(&path))?;
    }
    Ok(warnings)
}
