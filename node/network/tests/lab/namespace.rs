//! Namespaces for tests. They live as long as their file is open: no bind
//! mount, nothing to clean up, also when a test dies.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use futures::TryStreamExt;
use netlink_packet_route::{
    address::AddressHeaderFlags,
    link::{InfoData, InfoKind, InfoVeth},
    route::{RouteAddress, RouteAttribute, RouteHeader},
};
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

pub struct Namespace {
    file: File,
}

impl Namespace {
    pub fn new() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("unshare(CLONE_NEWNET): these tests need root");
            File::open("/proc/thread-self/ns/net").unwrap()
        })
        .join()
        .unwrap();
        Self { file }
    }

    /// A path by which this process opens the namespace.
    pub fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.file.as_raw_fd().to_string())
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Runs `job` on a thread inside.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                job()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread inside, for good.
    pub fn enter(&self) {
        setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
    }

    pub fn netlink(&self) -> Handle {
        let runtime = tokio::runtime::Handle::current();
        let (connection, handle, _) = self.run(|| {
            let _context = runtime.enter();
            rtnetlink::new_connection().unwrap()
        });
        tokio::spawn(connection);
        handle
    }

    pub async fn links(&self) -> Vec<String> {
        use netlink_packet_route::link::LinkAttribute;
        let messages: Vec<_> = self
            .netlink()
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .unwrap();
        let name = |attribute: &LinkAttribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        };
        messages
            .iter()
            .flat_map(|message| message.attributes.iter().find_map(name))
            .collect()
    }

    pub async fn index(&self, name: &str) -> u32 {
        index(&self.netlink(), name).await
    }

    pub async fn mac(&self, name: &str) -> [u8; 6] {
        mac(&link(&self.netlink(), name).await)
    }

    /// The name and hardware address of the other side of the pod's eth0.
    pub async fn host_link_of(&self, pod: &Namespace) -> (String, [u8; 6]) {
        use netlink_packet_route::link::LinkAttribute;
        let inside = link(&pod.netlink(), "eth0").await;
        let peer = inside
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Link(peer) => Some(*peer),
                _ => None,
            });
        let netlink = self.netlink();
        let host = netlink
            .link()
            .get()
            .match_index(peer.unwrap())
            .execute()
            .try_next()
            .await;
        let host = host.unwrap().unwrap();
        let name = host
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
        (name.unwrap(), mac(&host))
    }

    pub async fn delete_route_to(&self, link: &str) {
        use netlink_packet_route::route::RouteAttribute;
        let index = self.index(link).await;
        let netlink = self.netlink();
        let all = rtnetlink::RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes: Vec<_> = netlink
            .route()
            .get(all)
            .execute()
            .try_collect()
            .await
            .unwrap();
        for route in routes {
            if route.attributes.contains(&RouteAttribute::Oif(index)) {
                netlink.route().del(route).execute().await.unwrap();
            }
        }
    }

    /// `SO_NETNS_COOKIE`.
    pub fn cookie(&self) -> u64 {
        self.run(|| vetch_network::netns_cookie().unwrap())
    }

    pub async fn add_address(&self, link: &str, address: Ipv4Addr) {
        let index = self.index(link).await;
        let request = self.netlink().address().add(index, address.into(), 24);
        request.execute().await.unwrap();
    }

    /// Usable at once.
    pub async fn add_ipv6(&self, link: &str, address: IpAddr, prefix: u8) {
        let index = self.index(link).await;
        let mut request = self.netlink().address().add(index, address, prefix);
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await.unwrap();
    }

    pub async fn remove_address(&self, link: &str, address: impl Into<IpAddr>) {
        let index = self.index(link).await;
        let netlink = self.netlink();
        let found = netlink
            .address()
            .get()
            .set_link_index_filter(index)
            .set_address_filter(address.into())
            .execute()
            .try_next()
            .await;
        let message = found.unwrap().expect("the address");
        netlink.address().del(message).execute().await.unwrap();
    }

    pub async fn set_up(&self, link: &str, up: bool) {
        let link = LinkUnspec::new_with_index(self.index(link).await);
        let link = if up { link.up() } else { link.down() };
        let request = self.netlink().link().set(link.build());
        request.execute().await.unwrap();
    }

    pub async fn remove_route(&self, destination: impl Into<IpAddr>) {
        let netlink = self.netlink();
        let destination = destination.into();
        let all = match destination {
            IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
            IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        };
        let routes: Vec<_> = netlink
            .route()
            .get(all)
            .execute()
            .try_collect()
            .await
            .unwrap();
        let wanted = RouteAttribute::Destination(RouteAddress::from(destination));
        let main = RouteHeader::RT_TABLE_MAIN;
        let route = routes
            .into_iter()
            .find(|route| route.header.table == main && route.attributes.contains(&wanted))
            .expect("the route");
        netlink.route().del(route).execute().await.unwrap();
    }
}

async fn link(netlink: &Handle, name: &str) -> netlink_packet_route::link::LinkMessage {
    let found = netlink
        .link()
        .get()
        .match_name(name)
        .execute()
        .try_next()
        .await;
    found.unwrap().unwrap_or_else(|| panic!("no link {name}"))
}

fn mac(link: &netlink_packet_route::link::LinkMessage) -> [u8; 6] {
    use netlink_packet_route::link::LinkAttribute;
    let mac = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Address(mac) => Some(mac.clone()),
            _ => None,
        });
    mac.unwrap().try_into().unwrap()
}

async fn index(netlink: &Handle, name: &str) -> u32 {
    link(netlink, name).await.header.index
}

/// A bridge in a namespace of its own, for nodes to plug into.
pub struct Bridge {
    namespace: Namespace,
    index: u32,
}

impl Bridge {
    pub async fn new() -> Self {
        let namespace = Namespace::new();
        let netlink = namespace.netlink();
        netlink
            .link()
            .add(LinkBridge::new("br0").up().build())
            .execute()
            .await
            .unwrap();
        let index = index(&netlink, "br0").await;
        Self { namespace, index }
    }

    /// A node: a namespace whose eth0 has `address`/24 on this bridge.
    pub async fn node(&self, address: Ipv4Addr) -> Namespace {
        let node = Namespace::new();
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name("eth0")
            .setns_by_fd(node.file.as_raw_fd())
            .build();
        let port = format!("port{}", address.octets()[3]);
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(port.clone())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .controller(self.index)
            .up()
            .build();
        let netlink = self.namespace.netlink();
        netlink.link().add(pair).execute().await.unwrap();
        let inside = node.netlink();
        let eth0 = index(&inside, "eth0").await;
        inside
            .address()
            .add(eth0, address.into(), 24)
            .execute()
            .await
            .unwrap();
        for link in [1, eth0] {
            inside
                .link()
                .set(LinkUnspec::new_with_index(link).up().build())
                .execute()
                .await
                .unwrap();
        }
        node
    }
}
