//! The programs at the links of the calling thread's network namespace, whether a daemon
//! runs or not.

use std::{collections::BTreeMap, path::Path};

use super::{
    HooksError, clsact, links, pinned,
    plan::{Kind, Program},
};
use crate::netlink::Netlink;

/// The programs that our filters hold in the calling thread's network
/// namespace, with their numbers.
pub fn filters() -> Result<impl Iterator<Item = (Program, u32)>, HooksError> {
    let failed = |source| HooksError::Look {
        what: "the programs at links",
        source,
    };
    let mut netlink = Netlink::open().map_err(failed)?;
    let found = clsact::list(&mut netlink).map_err(failed)?;
    Ok(found.into_iter().map(|(place, id)| (place.program, id)))
}

/// A program of ours at a link, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub program: Program,
    pub kind: Kind,
    pub ifindex: u32,
}

/// The programs at the links of the calling thread's network namespace, and these
/// links' names and MTU, whether a daemon runs or not. Changes nothing.
pub fn attached(pin_dir: &Path) -> Result<(Vec<Attached>, BTreeMap<u32, LinkName>), HooksError> {
    let failed = |what| move |source| HooksError::Look { what, source };
    let mut netlink = Netlink::open().map_err(failed("a netlink socket"))?;
    let seen = links::look(&mut netlink).map_err(failed("the node's links"))?;
    let at_driver = |ifindex| seen.links.get(&ifindex)?.xdp;
    let pinned = pinned::list(&pin_dir.join("links"), at_driver);
    let pinned = pinned.map_err(failed("the programs at links"))?.into_iter();
    let held = pinned
        .filter_map(|(place, program)| program.map(|_| (place, place.program.held_by(Kind::Tcx))));
    let filters = clsact::list(&mut netlink).map_err(failed("the programs at links"))?;
    let filters = filters.into_iter().map(|(place, _)| (place, Kind::Clsact));
    let attached = held.chain(filters).map(|(place, kind)| Attached {
        program: place.program,
        kind,
        ifindex: place.ifindex,
    });
    let names = seen.links.into_iter();
    let names = names.map(|(index, link)| (index, (link.name, link.mtu)));
    Ok((attached.collect(), names.collect()))
}

/// And MTU.
pub type LinkName = (String, u32);

/// Takes our filters away, which no pin holds: for the end of a node.
pub fn remove() -> Result<(), HooksError> {
    let failed = |source| HooksError::Look {
        what: "the programs at links",
        source,
    };
    let mut netlink = Netlink::open().map_err(failed)?;
    for (place, _) in clsact::list(&mut netlink).map_err(failed)? {
        clsact::detach(&mut netlink, place).map_err(|source| HooksError::Step {
            step: "detach",
            program: place.program.name(),
            link: place.ifindex.to_string(),
            source,
        })?;
    }
    Ok(())
}
