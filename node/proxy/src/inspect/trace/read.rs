//! The edge of a trace: reads the maps, the links and the routes, and changes nothing.

use std::{collections::BTreeMap, io, net::IpAddr, path::Path};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType, RouteVia},
};
use vetch_ebpf_common::{Address, Affinity, AffinityKey, maps};
use vetch_network::netns_cookie;

use super::{Question, Route, Snapshot, Trace, destinations, trace};
use crate::{
    Error,
    diff::{Current, ServiceId},
    hooks::{self, HooksError, Program},
    maps::{Maps, MapsError, read_error},
    model::Backend,
    netlink::Netlink,
    notes::Notes,
    policy::{self, Rulebook},
    programs::{ProgramsError, maps_dir},
    sys,
};

/// What the kernel would do now, for the network namespace of the calling thread.
pub fn read(pin_dir: &Path, asked: &Question) -> Result<Trace, Error> {
    let mut maps = snapshot(pin_dir, asked)?;
    let look = |source| HooksError::Look {
        what: "routes",
        source,
    };
    let mut netlink = Netlink::open().map_err(look)?;
    let came_by = came_by(&maps, asked.src);
    for to in destinations(&maps, asked) {
        let route = route(&mut netlink, asked.src, to, came_by).map_err(look)?;
        maps.routes.insert(to, route);
    }
    Ok(trace(&maps, asked))
}

fn snapshot(pin_dir: &Path, asked: &Question) -> Result<Snapshot, Error> {
    let dir = maps_dir(pin_dir);
    let maps = Maps::open(&dir)?;
    let noted = Notes::open(&dir).and_then(|notes| notes.read());
    let loaded = noted.map_err(read_error(maps::NOTES))?;
    let loaded = loaded.ok_or(MapsError::NotNoted)?;
    let pods: BTreeMap<IpAddr, _> = hooks::pods(&dir)
        .map_err(HooksError::from)?
        .into_iter()
        .map(|(address, pod)| (IpAddr::from(address), pod))
        .collect();
    let (attached, links) = hooks::attached(pin_dir)?;
    let node_netns = netns_cookie().map_err(ProgramsError::Netns)?;
    let client = pods.get(&asked.src).map_or(node_netns, |pod| pod.netns);
    let services = maps.read()?;
    let clients = [Address::from_words([client, 0]), Address::from(asked.src)];
    let affinity = affinity(&dir, &services, clients).map_err(read_error(maps::AFFINITY))?;
    Ok(Snapshot {
        loaded,
        node_netns,
        addresses: maps.addresses()?,
        affinity,
        services,
        policies: in_force(&dir).map_err(read_error(maps::POLICIES))?,
        rules: Rulebook::open(&dir)?.held()?,
        words: policy::words(pin_dir),
        peers: maps.peer_pods()?,
        keeps_source: maps.non_masquerade()?,
        sources: maps.sources()?,
        pods,
        links,
        attached,
        routes: BTreeMap::new(),
    })
}

fn in_force(dir: &Path) -> Result<bool, MapError> {
    let map = MapData::from_pin(dir.join(maps::POLICIES))?;
    let map: Array<_, u32> = Array::try_from(Map::Array(map))?;
    Ok(map.get(&0, 0)? != 0)
}

/// Those of these clients whose time is not over.
fn affinity(
    dir: &Path,
    services: &Current,
    clients: [Address; 2],
) -> Result<BTreeMap<(Address, ServiceId), Backend>, MapError> {
    let map = MapData::from_pin(dir.join(maps::AFFINITY))?;
    let map: HashMap<_, AffinityKey, Affinity> = HashMap::try_from(Map::LruHashMap(map))?;
    let now = sys::boottime_ns();
    let mut known = BTreeMap::new();
    for (service, target) in &services.services {
        let Some(seconds) = target.affinity else {
            continue;
        };
        for client in clients {
            match map.get(&AffinityKey::new(client, *service), 0) {
                Ok(affinity) if affinity.holds(now, seconds) => {
                    known.insert((client, *service), affinity.backend.into());
                }
                Ok(_) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(known)
}

/// The link by which its packets come to the stack; none of the node's own.
fn came_by(maps: &Snapshot, src: IpAddr) -> Option<u32> {
    if let Some(pod) = maps.pods.get(&src) {
        return Some(pod.ifindex);
    }
    if maps.is(src, vetch_ebpf_common::addresses::NODE) || src.is_loopback() {
        return None;
    }
    if let Some(peer) = maps.peer(src)
        && peer.link != 0
    {
        return Some(peer.link);
    }
    let mut uplinks = maps.attached.iter();
    let uplink = uplinks.find(|one| one.program == Program::FromNet);
    uplink.map(|one| one.ifindex)
}

fn route(
    netlink: &mut Netlink,
    src: IpAddr,
    to: IpAddr,
    came_by: Option<u32>,
) -> io::Result<Route> {
    match netlink.get(&question(src, to, came_by)) {
        Ok(answers) => Ok(answers
            .iter()
            .find_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => Some(read_route(message)),
                _ => None,
            })
            .unwrap_or(Route::None)),
        Err(error) if says_none(&error) => Ok(Route::None),
        Err(error) => Err(error),
    }
}

/// No route, a route that refuses, and what the stack would not take from that link.
fn says_none(error: &io::Error) -> bool {
    let none = [
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::EACCES,
        libc::EINVAL,
        libc::EXDEV,
    ];
    error
        .raw_os_error()
        .is_some_and(|errno| none.contains(&errno))
}

fn question(src: IpAddr, to: IpAddr, came_by: Option<u32>) -> RouteNetlinkMessage {
    let whole = if to.is_ipv4() { 32 } else { 128 };
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: if to.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        },
        destination_prefix_length: whole,
        ..RouteHeader::default()
    };
    message
        .attributes
        .push(RouteAttribute::Destination(to.into()));
    if let Some(link) = came_by {
        message.header.source_prefix_length = whole;
        message.attributes.push(RouteAttribute::Source(src.into()));
        message.attributes.push(RouteAttribute::Iif(link));
    }
    RouteNetlinkMessage::GetRoute(message)
}

fn read_route(message: &RouteMessage) -> Route {
    match message.header.kind {
        RouteType::Local => return Route::Local,
        RouteType::Unicast => {}
        _ => return Route::None,
    }
    let (mut link, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(ip))
            | RouteAttribute::Via(RouteVia::Inet(ip)) => gateway = Some(IpAddr::V4(*ip)),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip))
            | RouteAttribute::Via(RouteVia::Inet6(ip)) => gateway = Some(IpAddr::V6(*ip)),
            _ => {}
        }
    }
    link.map_or(Route::None, |link| Route::By { link, gateway })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_where_it_leads() {
        let gateway: IpAddr = "192.0.2.1".parse().unwrap();
        let via = RouteAttribute::Gateway(gateway.into());
        for (kind, attributes, route) in [
            (RouteType::Local, vec![RouteAttribute::Oif(1)], Route::Local),
            (
                RouteType::Unicast,
                vec![via, RouteAttribute::Oif(3)],
                Route::By {
                    link: 3,
                    gateway: Some(gateway),
                },
            ),
            (
                RouteType::Unicast,
                vec![RouteAttribute::Oif(3)],
                Route::By {
                    link: 3,
                    gateway: None,
                },
            ),
            (RouteType::Unreachable, vec![], Route::None),
        ] {
            let mut message = RouteMessage::default();
            message.header.kind = kind;
            message.attributes = attributes;
            assert_eq!(read_route(&message), route, "{kind:?}");
        }
    }
}
