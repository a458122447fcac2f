//! Nodes that share no link: each on its own, with a router in between that knows no pods.

use std::{net::Ipv4Addr, os::fd::AsRawFd, process::Command};

use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::namespace::Namespace;

pub struct Router {
    namespace: Namespace,
}

impl Router {
    pub fn new() -> Self {
        let namespace = Namespace::new();
        namespace.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        Self { namespace }
    }

    /// A node: a namespace whose eth0 has `address`/24, with a default route to this router.
    pub async fn node(&self, address: Ipv4Addr) -> Namespace {
        let node = Namespace::new();
        let [a, b, c, _] = address.octets();
        let own = Ipv4Addr::new(a, b, c, 1);
        let port = format!("port{b}");
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name("eth0")
            .setns_by_fd(node.file().as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(port.clone())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .up()
            .build();
        let netlink = self.namespace.netlink();
        netlink.link().add(pair).execute().await.unwrap();
        self.namespace.add_address(&port, own).await;
        node.set_up("lo", true).await;
        node.set_up("eth0", true).await;
        node.add_address("eth0", address).await;
        ip(&node, &format!("route add default via {own}"));
        node
    }
}

/// What `ip ARGUMENTS` prints in the namespace.
pub fn ip(namespace: &Namespace, arguments: &str) -> String {
    let output = namespace.run(|| Command::new("ip").args(arguments.split(' ')).output());
    let output = output.expect("ip of iproute2");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
