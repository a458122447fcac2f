//! What one machine alone has: its name, its addresses, who it is to the API server. Pure.

use std::net::Ipv4Addr;

/// Of the link between the machines; nodes are counted from 1 on.
const LOAD_BALANCER_POOL: &str = "192.168.76.240-192.168.76.254";

/// Files and symbolic links laid over the root file system at every boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seed {
    pub files: Vec<SeedFile>,
    /// Path and what it points to.
    pub links: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedFile {
    pub path: String,
    pub content: Vec<u8>,
    pub mode: u32,
}

/// One machine of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// From 1 on; the first has the control plane too.
    pub number: u8,
    pub name: String,
    /// On the link between the machines.
    pub address: Ipv4Addr,
}

/// What all machines of a run share.
#[derive(Clone, Debug)]
pub struct Shared<'a> {
    pub authorized_key: &'a str,
    /// Of the node, by its name.
    pub kubeconfig: &'a [u8],
    pub pod_cidr: &'a str,
    pub service_cidr: &'a str,
    /// The control plane's keys, on the first machine.
    pub pki: &'a [(String, Vec<u8>)],
    pub node_monitor_grace_period: &'a str,
}

impl Machine {
    pub fn new(number: u8) -> Machine {
        Machine {
            number,
            name: format!("node-{number}"),
            address: Ipv4Addr::new(192, 168, 76, number),
        }
    }

    pub fn is_control(&self) -> bool {
        self.number == 1
    }

    /// Of the card to the outside and of the one to the other machines: locally administered.
    pub fn mac(&self, card: u8) -> String {
        format!("52:54:00:76:{card:02x}:{:02x}", self.number)
    }
}

impl Seed {
    fn file(&mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) {
        self.files.push(SeedFile {
            path: path.into(),
            content: content.into(),
            mode,
        });
    }
}

/// All of one machine's own files.
pub fn of(machine: &Machine, shared: &Shared<'_>) -> Seed {
    let Machine { name, address, .. } = machine;
    let mut seed = Seed::default();
    seed.file("/etc/hostname", format!("{name}\n"), 0o644);
    seed.file(
        "/etc/hosts",
        format!("127.0.0.1 localhost\n{address} {name}\n"),
        0o644,
    );
    seed.file(
        "/etc/systemd/network/10-outside.network",
        format!(
            "[Match]\nMACAddress={}\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
            machine.mac(0)
        ),
        0o644,
    );
    seed.file(
        "/etc/systemd/network/20-link.network",
        format!(
            // As people write it: networkd takes the address away with the carrier.
            "[Match]\nMACAddress={}\n[Network]\nAddress={address}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
            machine.mac(1)
        ),
        0o644,
    );
    seed.file("/root/.ssh/authorized_keys", shared.authorized_key, 0o600);
    seed.file("/etc/vetch/node.kubeconfig", shared.kubeconfig, 0o600);
    seed.file(
        "/etc/vetch/node.env",
        format!(
            "VETCH_KUBECONFIG=/etc/vetch/node.kubeconfig\nVETCH_NODE_NAME={name}\nVETCH_NODE_IP={address}\n"
        ),
        0o644,
    );
    if machine.is_control() {
        seed.file(
            "/etc/vetch/control.env",
            format!(
                "VETCH_ADVERTISE_ADDRESS={address}\nVETCH_SANS=127.0.0.1\nVETCH_POD_CIDR={}\nVETCH_SERVICE_CIDR={}\nVETCH_NODE_MONITOR_GRACE_PERIOD={}\nVETCH_LOAD_BALANCER_POOL={LOAD_BALANCER_POOL}\n",
                shared.pod_cidr, shared.service_cidr, shared.node_monitor_grace_period
            ),
            0o644,
        );
        for (file, content) in shared.pki {
            let mode = if file.ends_with(".key") { 0o600 } else { 0o644 };
            seed.file(
                &format!("/var/lib/vetch-control/pki/{file}"),
                content.as_slice(),
                mode,
            );
        }
        // Installed on every machine, and started on this one alone.
        seed.links.push((
            "/etc/systemd/system/multi-user.target.wants/etcd.service".into(),
            "/lib/systemd/system/etcd.service".into(),
        ));
    }
    seed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(number: u8) -> Seed {
        let pki = [("ca.key".to_owned(), b"secret".to_vec())];
        of(
            &Machine::new(number),
            &Shared {
                authorized_key: "ssh-ed25519 AAAA\n",
                kubeconfig: b"kind: Config",
                pod_cidr: "10.244.0.0/16",
                service_cidr: "10.96.0.0/16",
                pki: &pki,
                node_monitor_grace_period: "40s",
            },
        )
    }

    fn text(seed: &Seed, path: &str) -> Option<(String, u32)> {
        let file = seed.files.iter().find(|file| file.path == path)?;
        Some((
            String::from_utf8_lossy(&file.content).into_owned(),
            file.mode,
        ))
    }

    #[test]
    fn the_first_machine_has_the_control_plane_and_the_others_do_not() {
        let (first, second) = (seed(1), seed(2));
        let key = "/var/lib/vetch-control/pki/ca.key";
        assert_eq!(text(&first, key), Some(("secret".into(), 0o600)));
        assert!(
            first
                .links
                .iter()
                .any(|(path, _)| path.ends_with("etcd.service"))
        );
        assert_eq!(text(&second, key), None);
        let (env, _) = text(&first, "/etc/vetch/control.env").unwrap();
        assert!(
            env.contains("\nVETCH_LOAD_BALANCER_POOL=192.168.76.240-"),
            "{env}"
        );
        assert_eq!(text(&second, "/etc/vetch/control.env"), None);
        assert!(second.links.is_empty());
    }

    #[test]
    fn each_machine_is_itself() {
        let (env, _) = text(&seed(2), "/etc/vetch/node.env").unwrap();
        assert!(env.contains("VETCH_NODE_NAME=node-2\n") && env.contains("=192.168.76.2\n"));
        let (_, mode) = text(&seed(2), "/etc/vetch/node.kubeconfig").unwrap();
        assert_eq!(mode, 0o600);
        assert_ne!(Machine::new(1).mac(1), Machine::new(2).mac(1));
        assert_ne!(Machine::new(1).mac(0), Machine::new(1).mac(1));
    }
}
