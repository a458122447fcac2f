//! By which programs packets of the node's pods pass, link by link.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use serde::Serialize;
use vetch_ebpf_common::{Address, Pod};

use crate::{
    Error,
    hooks::{self, Attached, Kind, LinkName, Program},
    netlink::Netlink,
    pod_traffic::{self, PodTraffic},
    programs::maps_dir,
};

/// What the programs do with pods' packets on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Paths {
    /// Uplinks and the tunnel's device.
    pub links: Vec<LinkPath>,
    pub pods: PodPaths,
    /// What each address's pod has sent and received.
    pub traffic: BTreeMap<IpAddr, PodTraffic>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkPath {
    pub name: String,
    pub mtu: u32,
    /// `uplink` or `tunnel`.
    pub role: &'static str,
    pub programs: Vec<LinkProgram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkProgram {
    /// `from_net`, `to_net`, …
    pub name: &'static str,
    /// `tcx`, `clsact` or `xdp`.
    pub held_by: &'static str,
}

/// Addresses of pods by how packets get into them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodPaths {
    /// Straight, past the stack (`bpf_redirect_peer`).
    pub redirect_peer: usize,
    /// Those that asked for it.
    pub stack: usize,
    /// How the programs at their links are held.
    pub held_by: Vec<&'static str>,
}

/// As the kernel has it, for the network namespace of the calling thread.
pub fn read(pin_dir: &Path) -> Result<Paths, Error> {
    let (attached, links) = hooks::attached(pin_dir)?;
    let pods = hooks::pods(&maps_dir(pin_dir)).map_err(hooks::HooksError::from)?;
    let look = |source| hooks::HooksError::Look {
        what: "the counters of pods' links",
        source,
    };
    let by_ip: BTreeMap<IpAddr, Pod> = pods
        .iter()
        .map(|(address, pod)| (IpAddr::from(*address), *pod))
        .collect();
    let counted =
        Netlink::open().and_then(|mut netlink| pod_traffic::read(&mut netlink, by_ip.values()));
    let traffic = pod_traffic::by_address(&by_ip, &counted.map_err(look)?);
    Ok(Paths {
        traffic,
        ..paths(&attached, &links, &pods)
    })
}

fn paths(
    attached: &[Attached],
    links: &BTreeMap<u32, LinkName>,
    pods: &BTreeMap<Address, Pod>,
) -> Paths {
    let is_pods = |program| Program::POD.contains(&program);
    let mut by_link: BTreeMap<u32, Vec<&Attached>> = BTreeMap::new();
    for one in attached.iter().filter(|one| !is_pods(one.program)) {
        by_link.entry(one.ifindex).or_default().push(one);
    }
    let link = |(index, mut programs): (u32, Vec<&Attached>)| {
        programs.sort_by_key(|one| (one.program, one.kind.name()));
        let (name, mtu) = links.get(&index).cloned().unwrap_or_default();
        let in_tunnel = programs
            .iter()
            .any(|one| one.program == Program::FromTunnel);
        let program = |one: &&Attached| LinkProgram {
            name: one.program.name(),
            held_by: one.kind.name(),
        };
        LinkPath {
            name,
            mtu,
            role: if in_tunnel { "tunnel" } else { "uplink" },
            programs: programs.iter().map(program).collect(),
        }
    };
    let by_stack = |pod: &&Pod| pod.flags & Pod::BY_STACK != 0;
    let stack = pods.values().filter(by_stack).count();
    let held = |kind: &Kind| {
        let mut at_pods = attached.iter().filter(|one| is_pods(one.program));
        at_pods.any(|one| one.kind == *kind)
    };
    Paths {
        links: by_link.into_iter().map(link).collect(),
        pods: PodPaths {
            redirect_peer: pods.len() - stack,
            stack,
            held_by: [Kind::Tcx, Kind::Clsact]
                .iter()
                .filter(|kind| held(kind))
                .map(|kind| kind.name())
                .collect(),
        },
        traffic: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_with_their_programs_and_pods_by_their_way() {
        let at = |program, kind, ifindex| Attached {
            program,
            kind,
            ifindex,
        };
        let attached = [
            at(Program::FromWire, Kind::Xdp, 2),
            at(Program::FromNet, Kind::Tcx, 2),
            at(Program::ToNet, Kind::Tcx, 2),
            at(Program::ToNet, Kind::Tcx, 5),
            at(Program::FromTunnel, Kind::Tcx, 5),
            at(Program::FromPod, Kind::Clsact, 9),
            at(Program::ToPod, Kind::Clsact, 9),
        ];
        let links = [(2, "eth0", 1500), (5, "vetch.vxlan", 1450)];
        let links = links.map(|(index, name, mtu)| (index, (name.to_owned(), mtu)));
        let pod = |flags| Pod {
            flags,
            ..Pod::default()
        };
        let pods = [
            (Address::v4([10, 0, 0, 2]), pod(0)),
            (Address::v4([10, 0, 0, 3]), pod(Pod::UDP_BY_PACKET)),
            (Address::v4([10, 0, 0, 4]), pod(Pod::BY_STACK)),
        ];
        let paths = paths(&attached, &links.into(), &pods.into());
        let text: Vec<String> = paths
            .links
            .iter()
            .map(|link| {
                let programs = link.programs.iter();
                let programs: Vec<String> = programs
                    .map(|one| format!("{}/{}", one.name, one.held_by))
                    .collect();
                format!(
                    "{} {} {} {}",
                    link.name,
                    link.mtu,
                    link.role,
                    programs.join(" ")
                )
            })
            .collect();
        assert_eq!(
            text,
            [
                "eth0 1500 uplink to_net/tcx from_net/tcx from_wire/xdp",
                "vetch.vxlan 1450 tunnel to_net/tcx from_tunnel/tcx",
            ]
        );
        let expected = PodPaths {
            redirect_peer: 2,
            stack: 1,
            held_by: vec!["clsact"],
        };
        assert_eq!(paths.pods, expected);
    }
}
