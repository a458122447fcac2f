//! The nodes of a run: one with the servers, and another for clients far from them.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::daemon::{self, Xtask};
use super::objects::PROXY_NAME;
use super::options::{Options, unique};
use super::plan::Placement;
use super::rules::Place;
use crate::run::Run;
use crate::target::LocalNode;

#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    /// Its internal address.
    pub address: String,
    /// Of a cluster of this machine.
    pub local: Option<LocalNode>,
    pub place: Option<Place>,
}

#[derive(Clone, Debug)]
pub struct Nodes {
    pub server: Member,
    pub other: Option<Member>,
    /// Stops and starts daemons, where there is one that can.
    pub xtask: Option<Xtask>,
}

impl Nodes {
    /// The first two that are ready, by their names.
    pub async fn find(run: &mut Run) -> Result<Nodes> {
        let api = Api::<Node>::all(run.target.client.clone());
        let mut ready: Vec<Node> = api.list(&ListParams::default()).await?.items;
        ready.retain(is_ready);
        ready.sort_by_key(|node| node.name_any());
        let mut members = ready.iter().map(|node| Member::of(run, node));
        let server = members.next().context("no node is ready")??;
        let other = members.next().transpose()?;
        drop(members);
        let local = run.target.local.as_ref();
        let xtask = local.and_then(|local| Xtask::find(&local.name));
        if other.is_none() {
            run.skip(
                "across-nodes",
                "the cluster has only one node that is ready",
            );
        }
        Ok(Nodes {
            server,
            other,
            xtask,
        })
    }

    /// Those that were asked for and can be had.
    pub fn placements(&self, options: &Options) -> Vec<Placement> {
        let mut all = unique(options.placements.clone());
        all.retain(|placement| *placement == Placement::SameNode || self.other.is_some());
        all
    }

    pub fn client(&self, placement: Placement) -> &Member {
        match placement {
            Placement::SameNode => &self.server,
            Placement::AcrossNodes => self.other.as_ref().unwrap_or(&self.server),
        }
    }

    /// Where one proxy is looked at by itself: no server runs there, if that can be had.
    pub fn watched(&self) -> &Member {
        self.client(Placement::AcrossNodes)
    }

    /// The networks that packets of a placement pass, the client's first.
    pub fn places_of(&self, placement: Placement) -> Vec<Place> {
        let mut members = vec![self.client(placement)];
        if self.client(placement).name != self.server.name {
            members.push(&self.server);
        }
        members
            .iter()
            .filter_map(|member| member.place.clone())
            .collect()
    }

    pub fn places(&self) -> Vec<Place> {
        self.places_of(Placement::AcrossNodes)
    }

    /// Whether Services without our proxy's name are left to another proxy.
    pub fn leave_services(&self) -> Result<bool> {
        for member in std::iter::once(&self.server).chain(&self.other) {
            let Some(local) = &member.local else {
                return Ok(false);
            };
            if !daemon::serves_only(local, PROXY_NAME)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Member {
    fn of(run: &Run, node: &Node) -> Result<Member> {
        let name = node.name_any();
        let addresses = node
            .status
            .iter()
            .flat_map(|status| status.addresses.iter().flatten());
        let address = addresses
            .filter(|address| address.type_ == "InternalIP")
            .map(|address| address.address.clone())
            .find(|address| address.parse::<std::net::Ipv4Addr>().is_ok())
            .with_context(|| format!("node {name} has no InternalIP of IPv4"))?;
        let local = run.target.local.as_ref();
        let mine = local.and_then(|local| local.nodes.iter().find(|node| node.name == name));
        let place = match (local, mine) {
            (Some(local), Some(mine)) => Some(Place::of(local, mine)?),
            _ => None,
        };
        Ok(Member {
            name,
            address,
            local: mine.cloned(),
            place,
        })
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions
        .filter(|condition| condition.type_ == "Ready")
        .any(|condition| condition.status == "True");
    let schedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable) != Some(true);
    ready && schedulable
}
