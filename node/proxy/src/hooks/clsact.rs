//! Programs at links by filters of a clsact qdisc: what kernels before 6.6
//! have. Anybody may delete a filter, so they are watched.
//!
//! The kernel stops a link's queues while it makes the qdisc (`qdisc_graft`
//! calls `dev_deactivate`), and what is sent meanwhile is lost. So it is made
//! once, with a pod or on the first start of a node, and stays.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};

use super::plan::{Direction, Kind, Place, Program};
use crate::netlink::Netlink;

/// Behind filters of others that were given a low number, before those that
/// got theirs from the kernel (49152 and down). It has no other meaning.
const PRIORITY: u16 = 86;
const HANDLE: TcHandle = TcHandle {
    major: 0,
    minor: 86,
};
/// ETH_P_ALL in network order.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();
const KIND: &str = "clsact";

/// What is in our slot at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Free,
    /// Ours, with the program's number.
    Ours(u32),
    Others,
}

/// By which the filter is known as ours, in `tc filter show` too.
fn name(program: Program) -> String {
    format!("vetch/{}", program.name())
}

fn filter(place: Place) -> TcMessage {
    let mut message = TcMessage::with_index(place.ifindex.cast_signed());
    message.header.parent = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: match place.program.direction() {
            Direction::Ingress => TcHandle::MIN_INGRESS,
            Direction::Egress => TcHandle::MIN_EGRESS,
        },
    };
    message
}

fn in_slot(mut message: TcMessage) -> TcMessage {
    message.header.handle = HANDLE;
    message.header.info = u32::from(PRIORITY) << 16 | u32::from(ALL_PROTOCOLS);
    message
}

/// Our filters and their programs' numbers.
pub fn list(netlink: &mut Netlink) -> io::Result<Vec<(Place, u32)>> {
    let mut found = Vec::new();
    for ifindex in links(netlink)? {
        let by_filter = |program: &Program| program.held_by(Kind::Clsact) == Kind::Clsact;
        for program in Program::ALL.into_iter().filter(by_filter) {
            let place = Place { program, ifindex };
            if let Slot::Ours(id) = find(netlink, place)? {
                found.push((place, id));
            }
        }
    }
    Ok(found)
}

/// The links that have a clsact qdisc, ours or not.
fn links(netlink: &mut Netlink) -> io::Result<BTreeSet<u32>> {
    let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    let mut links = BTreeSet::new();
    for message in netlink.dump(&request)? {
        if let RouteNetlinkMessage::NewQueueDiscipline(message) = message
            && message.attributes.contains(&TcAttribute::Kind(KIND.into()))
        {
            links.insert(message.header.index.cast_unsigned());
        }
    }
    Ok(links)
}

/// Of a link that has a clsact qdisc.
fn find(netlink: &mut Netlink, place: Place) -> io::Result<Slot> {
    let request = RouteNetlinkMessage::GetTrafficFilter(filter(place));
    let mut slot = Slot::Free;
    for message in netlink.dump(&request)? {
        let RouteNetlinkMessage::NewTrafficFilter(message) = message else {
            continue;
        };
        let header = &message.header;
        if header.info >> 16 == u32::from(PRIORITY) && header.handle == HANDLE {
            slot = ours(&message, &name(place.program)).map_or(Slot::Others, Slot::Ours);
        }
    }
    Ok(slot)
}

fn ours(message: &TcMessage, name: &str) -> Option<u32> {
    let options = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        })?;
    let is_named = options.iter().any(
        |option| matches!(option, TcOption::Bpf(TcFilterBpfOption::ProgName(own)) if own == name),
    );
    let id = options.iter().find_map(|option| match option {
        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
        _ => None,
    });
    id.filter(|_| is_named)
}

/// Makes the qdisc too, which others may use as well.
pub fn attach(netlink: &mut Netlink, place: Place, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut qdisc = TcMessage::with_index(place.ifindex.cast_signed());
    qdisc.header.parent = TcHandle::CLSACT;
    qdisc.header.handle = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: 0,
    };
    qdisc.attributes.push(TcAttribute::Kind(KIND.into()));
    let request = RouteNetlinkMessage::NewQueueDiscipline(qdisc);
    match netlink.change(&request, NLM_F_CREATE | NLM_F_EXCL) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => result?,
    }
    put(netlink, place, program, NLM_F_CREATE | NLM_F_EXCL)
}

/// The new filter takes the old one's place in the list at one instant.
pub fn replace(netlink: &mut Netlink, place: Place, program: BorrowedFd<'_>) -> io::Result<()> {
    put(netlink, place, program, 0)
}

fn put(netlink: &mut Netlink, place: Place, program: BorrowedFd<'_>, flags: u16) -> io::Result<()> {
    let mut message = in_slot(filter(place));
    let options = [
        // Descriptors are never negative.
        TcFilterBpfOption::ProgFd(program.as_raw_fd().unsigned_abs()),
        TcFilterBpfOption::ProgName(name(place.program)),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    message.attributes = vec![
        TcAttribute::Kind(TcFilterBpf::KIND.into()),
        TcAttribute::Options(options.into_iter().map(TcOption::Bpf).collect()),
    ];
    netlink.change(&RouteNetlinkMessage::NewTrafficFilter(message), flags)
}

pub fn detach(netlink: &mut Netlink, place: Place) -> io::Result<()> {
    let message = in_slot(filter(place));
    let deleted = netlink.change(&RouteNetlinkMessage::DelTrafficFilter(message), 0);
    match deleted {
        // With the filter, its qdisc or its link.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)
            ) =>
        {
            Ok(())
        }
        deleted => deleted,
    }
}
