//! What a node needs of its machine: each refusal says what to do.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::Access;

/// The oldest kernel that has all of it: Debian 12's.
const KERNEL: (u32, u32) = (6, 1);

pub fn root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a node makes namespaces, cgroups and mounts: run it as root"
    );
    Ok(())
}

pub fn kernel() -> Result<()> {
    let uname = rustix::system::uname();
    new_enough(&uname.release().to_string_lossy())
}

fn new_enough(release: &str) -> Result<()> {
    let number = |text: Option<&str>| {
        let text = text.unwrap_or_default();
        let end = text
            .find(|digit: char| !digit.is_ascii_digit())
            .unwrap_or(text.len());
        text[..end].parse::<u32>().ok()
    };
    let mut parts = release.split('.');
    let version = number(parts.next()).zip(number(parts.next()));
    match version {
        Some(version) if version < KERNEL => bail!(
            "this machine runs Linux {release}, and a node needs {}.{} or newer: boot a newer kernel",
            KERNEL.0,
            KERNEL.1
        ),
        // One that names itself otherwise is tried.
        _ => Ok(()),
    }
}

/// The given one, or the one beside this program.
pub fn shim(given: Option<&Path>) -> Result<PathBuf> {
    let path = match given {
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_exe()
            .context("find this program's own path")?
            .with_file_name("vetch-shim"),
    };
    ensure!(
        path.is_file() && rustix::fs::access(&path, Access::EXEC_OK).is_ok(),
        "the supervisor of pods is no program at {}: build it, or say where it is with --shim",
        path.display()
    );
    Ok(path)
}

/// What --node-ip may be: by the kubelet's rules one address, or two of different families, each of
/// which others can reach.
pub fn node_ips(given: &[IpAddr]) -> Result<()> {
    match given {
        [_] => {}
        [one, other] if one.is_ipv4() != other.is_ipv4() => {}
        _ => bail!("--node-ip takes one address, or two of different address families"),
    }
    for ip in given {
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let why = if ip.is_loopback() {
            "a loopback address"
        } else if ip.is_multicast() {
            "a multicast address"
        } else if ip.is_unspecified() {
            "no address of a node's"
        } else if link_local {
            "a link-local address"
        } else {
            continue;
        };
        bail!("--node-ip {ip} is {why}: name one by which other nodes reach this one");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_node() {
        for (given, refusal) in [
            ("192.0.2.1", None),
            ("2001:db8::1", None),
            ("192.0.2.1 2001:db8::1", None),
            ("2001:db8::1 192.0.2.1", None),
            ("", Some("takes one address")),
            ("192.0.2.1 192.0.2.2", Some("different address families")),
            ("192.0.2.1 2001:db8::1 192.0.2.2", Some("takes one address")),
            ("127.0.0.1", Some("is a loopback address")),
            ("192.0.2.1 ::1", Some("--node-ip ::1 is a loopback address")),
            ("169.254.1.2", Some("is a link-local address")),
            ("fe80::1", Some("is a link-local address")),
            ("0.0.0.0", Some("is no address of a node's")),
            ("ff02::1", Some("is a multicast address")),
        ] {
            let ips: Vec<IpAddr> = given
                .split_whitespace()
                .map(|ip| ip.parse().unwrap())
                .collect();
            match (node_ips(&ips), refusal) {
                (Ok(()), None) => {}
                (Err(error), Some(words)) => {
                    assert!(error.to_string().contains(words), "{given}: {error}");
                }
                (result, _) => panic!("{given}: {result:?}"),
            }
        }
    }

    #[test]
    fn kernels() {
        for release in [
            "6.1.0-13-cloud-amd64",
            "6.18.44",
            "7.0-rc1",
            "10.2",
            "strange",
        ] {
            assert!(new_enough(release).is_ok(), "{release}");
        }
        for release in ["6.0.9", "5.15.0-91-generic", "4.19"] {
            let error = new_enough(release).unwrap_err().to_string();
            assert!(error.contains("needs 6.1 or newer"), "{error}");
        }
    }

    #[test]
    fn a_shim_is_a_program() {
        assert!(shim(Some(Path::new("/bin/sh"))).is_ok());
        for path in ["/no/such/file", "/etc/passwd", "/bin"] {
            let error = shim(Some(Path::new(path))).unwrap_err().to_string();
            assert!(error.contains("--shim"), "{error}");
        }
    }
}
