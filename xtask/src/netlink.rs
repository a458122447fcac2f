//! Links, addresses and routes of any network namespace, by rtnetlink.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressHeaderFlags;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

/// Speaks for one network namespace, whichever the process is in.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// The index of a veth's other side, in that side's namespace.
    pub peer: Option<u32>,
    pub kind: String,
    pub alias: String,
}

/// A route of any table and family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: Option<IpNet>,
    pub gateway: Option<String>,
    pub link: Option<u32>,
    pub table: u32,
}

/// Runs netlink work to its end on this thread.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the netlink runtime")?
        .block_on(work)
}

impl Netlink {
    pub fn machine() -> Result<Netlink> {
        Netlink::connect().context("open a netlink socket")
    }

    /// Opens the socket on a thread that enters the namespace and ends: a socket stays where it was
    /// made.
    pub fn inside(netns: &Path) -> Result<Netlink> {
        let file = File::open(netns).with_context(|| format!("open {}", netns.display()))?;
        let runtime = tokio::runtime::Handle::current();
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                setns(&file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("enter {}", netns.display()))?;
                let _context = runtime.enter();
                Netlink::connect()
            });
            entered
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn connect() -> Result<Netlink> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Netlink { handle })
    }

    pub async fn links(&self) -> Result<Vec<Link>> {
        let messages = self.handle.link().get().execute().map_ok(parse_link);
        messages.try_collect().await.context("list links")
    }

    pub async fn link(&self, name: &str) -> Result<Option<Link>> {
        Ok(self
            .links()
            .await?
            .into_iter()
            .find(|link| link.name == name))
    }

    /// A veth pair with its other side born in `far`.
    pub async fn add_pair(&self, name: &str, far: &File, far_name: &str) -> Result<()> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(far_name)
            .setns_by_fd(far.as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let added = self.handle.link().add(pair).execute().await;
        added.with_context(|| format!("create the links {name} and {far_name}"))
    }

    pub async fn add_bridge(&self, name: &str) -> Result<()> {
        let added = self
            .handle
            .link()
            .add(LinkBridge::new(name).build())
            .execute()
            .await;
        added.with_context(|| format!("create the bridge {name}"))
    }

    pub async fn delete(&self, link: &Link) -> Result<()> {
        match self.handle.link().del(link.index).execute().await {
            // Its other side's namespace ended meanwhile.
            Err(error) if errno(&error) == Some(Errno::ENODEV) => Ok(()),
            deleted => deleted.with_context(|| format!("delete link {}", link.name)),
        }
    }

    pub async fn set_up(&self, index: u32) -> Result<()> {
        self.set(LinkUnspec::new_with_index(index).up()).await
    }

    pub async fn set_controller(&self, index: u32, bridge: u32) -> Result<()> {
        self.set(LinkUnspec::new_with_index(index).controller(bridge).up())
            .await
    }

    pub async fn set_alias(&self, index: u32, alias: &str) -> Result<()> {
        self.set(LinkUnspec::new_with_index(index).alias(alias))
            .await
    }

    async fn set(&self, change: LinkMessageBuilder<LinkUnspec>) -> Result<()> {
        let message = change.build();
        let index = message.header.index;
        let set = self.handle.link().set(message).execute().await;
        set.with_context(|| format!("change link {index}"))
    }

    /// Usable at once, also one of IPv6: nobody is asked whether they have it too.
    pub async fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> Result<()> {
        let add = self.handle.address().add(index, address, prefix);
        let mut request = add.replace();
        if address.is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let added = request.execute().await;
        added.with_context(|| format!("add address {address}/{prefix}"))
    }

    pub async fn add_route(&self, to: IpNet, via: IpAddr) -> Result<()> {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .and_then(|route| route.gateway(via))
            .with_context(|| format!("a route to {to} via {via}"))?
            .build();
        let added = self.handle.route().add(route).replace().execute().await;
        added.with_context(|| format!("route {to} via {via}"))
    }

    pub async fn routes(&self) -> Result<Vec<Route>> {
        let mut all = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessageBuilder::<Ipv4Addr>::new().build();
            request.header.address_family = family;
            let messages = self.handle.route().get(request).execute();
            let routes: Vec<Route> = messages
                .map_ok(|message| parse_route(&message))
                .try_collect()
                .await
                .context("list routes")?;
            all.extend(routes);
        }
        Ok(all)
    }
}

fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(Errno::from_raw(-message.raw_code())),
        _ => None,
    }
}

/// Names by index.
pub fn names(links: &[Link]) -> BTreeMap<u32, &str> {
    links
        .iter()
        .map(|link| (link.index, link.name.as_str()))
        .collect()
}

fn parse_link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        peer: None,
        kind: String::new(),
        alias: String::new(),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = alias,
            LinkAttribute::Link(peer) => link.peer = Some(peer),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn parse_route(message: &RouteMessage) -> Route {
    let length = message.header.destination_prefix_length;
    let mut route = Route {
        destination: None,
        gateway: None,
        link: None,
        table: message.header.table.into(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                route.destination = IpNet::new((*address).into(), length).ok();
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                route.destination = IpNet::new((*address).into(), length).ok();
            }
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => {
                route.gateway = Some(address.to_string())
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => {
                route.gateway = Some(address.to_string())
            }
            RouteAttribute::Oif(index) => route.link = Some(*index),
            RouteAttribute::Table(table) => route.table = *table,
            _ => {}
        }
    }
    route
}
