//! A sandbox's resolv.conf, hosts and hostname, for containers that bring none of their own: kubelets
//! mount their hosts and leave the other two to the runtime.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vetch_cri_proto::v1::DnsConfig;
use vetch_runtime::{Mount, MountSource, Propagation, SandboxId};

const DIR: &str = "cri";
/// Names of files, and where containers see them.
const FILES: [(&str, &str); 3] = [
    ("hosts", "/etc/hosts"),
    ("hostname", "/etc/hostname"),
    ("resolv.conf", "/etc/resolv.conf"),
];

#[derive(Clone)]
pub struct Files {
    dir: Arc<Path>,
}

/// What is written into them.
pub struct Contents<'a> {
    pub hostname: &'a str,
    /// None in the node's network: its hosts are the sandbox's.
    pub ips: Option<&'a [IpAddr]>,
    pub dns: Option<&'a DnsConfig>,
}

impl Files {
    pub fn new(run_dir: PathBuf) -> Files {
        Files {
            dir: run_dir.join(DIR).into(),
        }
    }

    fn of(&self, sandbox: &SandboxId) -> PathBuf {
        self.dir.join(&sandbox.0)
    }

    pub fn write(&self, sandbox: &SandboxId, contents: &Contents<'_>) -> io::Result<()> {
        // A node without such a file has nothing to say.
        let node = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let dir = self.of(sandbox);
        fs::create_dir_all(&dir)?;
        for ((name, target), text) in FILES.into_iter().zip([
            match contents.ips {
                Some(ips) => hosts(contents.hostname, ips),
                None => node("/etc/hosts"),
            },
            format!("{}\n", contents.hostname),
            match contents.dns.map(resolver) {
                Some(text) if !text.is_empty() => text,
                _ => node("/etc/resolv.conf"),
            },
        ]) {
            let path = dir.join(name);
            let failed = |error| io::Error::other(format!("{target} of the sandbox: {error}"));
            fs::write(&path, text).map_err(failed)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(failed)?;
        }
        Ok(())
    }

    /// But those that the container mounts itself.
    pub fn mounts(&self, sandbox: &SandboxId, own: &[Mount], readonly: bool) -> Vec<Mount> {
        let dir = self.of(sandbox);
        let missing = FILES.into_iter().filter(|(name, target)| {
            dir.join(name).exists()
                && !own
                    .iter()
                    .any(|mount| mount.container_path == Path::new(target))
        });
        let mount = |(name, target): (&str, &str)| Mount {
            source: MountSource::Host(dir.join(name)),
            container_path: target.into(),
            readonly,
            recursive_readonly: false,
            propagation: Propagation::Private,
        };
        missing.map(mount).collect()
    }

    /// Whether it is one of these, which its client did not ask for.
    pub fn has(&self, mount: &Mount) -> bool {
        mount
            .host_path()
            .is_some_and(|path| path.starts_with(&self.dir))
    }

    /// Gone already is fine.
    pub fn remove(&self, sandbox: &SandboxId) -> io::Result<()> {
        match fs::remove_dir_all(self.of(sandbox)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn hosts(hostname: &str, ips: &[IpAddr]) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for ip in ips {
        text.push_str(&format!("{ip}\t{hostname}\n"));
    }
    text
}

/// resolv.conf(5); empty where nothing is said.
fn resolver(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_says_what_it_was_given() {
        let dns = DnsConfig {
            servers: vec!["10.0.0.1".into(), "10.0.0.2".into()],
            searches: vec!["a.example".into(), "b".into()],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            resolver(&dns),
            "search a.example b\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:5\n"
        );
        assert_eq!(resolver(&DnsConfig::default()), "");
    }

    #[test]
    fn a_container_keeps_its_own_files() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path().to_owned());
        let sandbox = SandboxId("s".into());
        assert_eq!(files.mounts(&sandbox, &[], false), []);
        let ips = ["10.1.0.2".parse().unwrap()];
        let contents = Contents {
            hostname: "web",
            ips: Some(&ips),
            dns: None,
        };
        files.write(&sandbox, &contents).unwrap();
        let targets = |own: &[Mount]| -> Vec<PathBuf> {
            let mounts = files.mounts(&sandbox, own, true);
            assert!(mounts.iter().all(|mount| mount.readonly));
            mounts
                .into_iter()
                .map(|mount| mount.container_path)
                .collect()
        };
        let all: Vec<PathBuf> = FILES.map(|(_, target)| target.into()).into();
        assert_eq!(targets(&[]), all);
        let own = files.mounts(&sandbox, &[], false).remove(0);
        assert_eq!(targets(&[own]), all[1..]);
        let hosts = fs::read_to_string(dir.path().join("cri/s/hosts")).unwrap();
        assert!(hosts.ends_with("10.1.0.2\tweb\n"), "{hosts}");
        files.remove(&sandbox).unwrap();
        files.remove(&sandbox).unwrap();
        assert_eq!(files.mounts(&sandbox, &[], false), []);
    }
}
