//! The servers that the node itself asks: resolv.conf(5).

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::Forwarder;

pub const PATH: &str = "/etc/resolv.conf";
/// Where systemd-resolved says which servers it asks itself; kubeadm's kubelet
/// reads it for pods for the same reason.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
const PORT: u16 = 53;
/// MAXNS of resolv.conf(5) is 3.
const MOST: usize = 3;
const EVERY: Duration = Duration::from_secs(5);

/// Servers by the file's text. A stub at a loopback address stands for those that
/// it asks (`resolved`), where these are known: a resolver that asks us would
/// make a loop. Where they are not, the stub itself is asked, since this server
/// is in the node's network.
pub fn servers(text: &str, resolved: Option<&str>) -> Vec<SocketAddr> {
    let own = name_servers(text);
    if own.iter().all(|address| address.ip().is_loopback()) {
        let behind = resolved.map(name_servers).unwrap_or_default();
        if !behind.is_empty() {
            return behind;
        }
    }
    own
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        // Addresses of one link (`fe80::1%eth0`) are left out.
        let address = match words.next() {
            Some("nameserver") => words.next().and_then(|word| word.parse::<IpAddr>().ok()),
            _ => None,
        };
        let server = address.map(|ip| SocketAddr::new(ip, PORT));
        servers.extend(server.filter(|server| !servers.contains(server)));
    }
    servers.truncate(MOST);
    servers
}

/// Keeps the servers in step with the file; a file that cannot be read changes
/// nothing.
pub async fn follow(path: &Path, forwarder: &Forwarder) -> Infallible {
    let mut known = None;
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let text = match tokio::fs::read_to_string(path).await {
            Ok(text) => text,
            Err(error) => {
                if known.is_none() {
                    known = Some(Vec::new());
                    warn!(path = %path.display(), %error, "cannot read which name servers the node has");
                }
                continue;
            }
        };
        let resolved = tokio::fs::read_to_string(RESOLVED).await.ok();
        let servers = servers(&text, resolved.as_deref());
        if known.as_ref() != Some(&servers) {
            info!(?servers, "name servers for what is not the cluster's");
            forwarder.routes().set_others(&servers);
            known = Some(servers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_stand_in_lines_of_their_own() {
        let plain = "# a comment\nsearch lan\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n";
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\n";
        let behind = "nameserver 192.0.2.7\n";
        let many = "nameserver 192.0.2.1\n nameserver 192.0.2.2\nnameserver 192.0.2.1\n\
                    nameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        for (text, resolved, expected) in [
            (plain, None, &["192.0.2.1:53", "[2001:db8::1]:53"][..]),
            (plain, Some(behind), &["192.0.2.1:53", "[2001:db8::1]:53"]),
            (stub, None, &["127.0.0.53:53"]),
            (stub, Some(behind), &["192.0.2.7:53"]),
            (stub, Some(""), &["127.0.0.53:53"]),
            ("", None, &[]),
            ("", Some(behind), &["192.0.2.7:53"]),
            (
                "nameserver fe80::1%eth0\nnameserver\nnameserver x\n",
                None,
                &[],
            ),
            (
                many,
                None,
                &["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"],
            ),
        ] {
            let found: Vec<String> = servers(text, resolved)
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(found, expected, "{text:?} {resolved:?}");
        }
    }
}
