//! nfacct counters: objects of the kernel, one set a network namespace, that
//! rules of kube-proxy name. They have to be there before such a rule.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

use crate::{Error, enter};

/// Packets dropped for being INVALID to conntrack.
pub const INVALID_DROPPED: &str = "ct_state_invalid_dropped_pkts";
/// Connections to NodePorts by 127.0.0.1.
pub const LOCALHOST_NODE_PORTS: &str = "localhost_nps_accepted_pkts";

const COUNTERS: [&str; 2] = [INVALID_DROPPED, LOCALHOST_NODE_PORTS];

/// `linux/netfilter/nfnetlink.h`: the subsystem, in a message type's high byte.
const NFNL_SUBSYS_ACCT: u16 = 7;
/// `linux/netfilter/nfnetlink_acct.h`: message types and the name's attribute.
const NFNL_MSG_ACCT_NEW: u16 = 0;
const NFNL_MSG_ACCT_DEL: u16 = 3;
const NFACCT_NAME: u16 = 1;
/// `linux/netlink.h`
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;

/// Makes the counters where they are missing; false when this kernel has none.
pub fn ensure(namespace: &Path) -> Result<bool, Error> {
    for name in COUNTERS {
        match ask(namespace, NFNL_MSG_ACCT_NEW, NLM_F_CREATE, name)? {
            // Busy is how the kernel says that it is there.
            Ok(()) | Err(Errno::EBUSY) => {}
            // No such subsystem.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT) => return Ok(false),
            Err(errno) => return Err(failed("make", name, errno)),
        }
    }
    Ok(true)
}

/// Removes the counters, once no rule names them.
pub fn remove(namespace: &Path) -> Result<(), Error> {
    for name in COUNTERS {
        let mut tries = 1000;
        loop {
            match ask(namespace, NFNL_MSG_ACCT_DEL, 0, name)? {
                Ok(())
                | Err(Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT) =>
                {
                    break;
                }
                // nf_tables frees removed rules, and with them their hold on
                // the counter, from a worker that tells nobody.
                Err(Errno::EBUSY) if tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(errno) => return Err(failed("remove", name, errno)),
            }
        }
    }
    Ok(())
}

fn failed(operation: &'static str, name: &'static str, errno: Errno) -> Error {
    Error::Counter {
        operation,
        name,
        source: errno.into(),
    }
}

/// What the kernel answers to one message about one counter.
fn ask(
    namespace: &Path,
    message: u16,
    flags: u16,
    name: &'static str,
) -> Result<Result<(), Errno>, Error> {
    let socket =
        enter::within(namespace, netlink)?.map_err(|errno| failed("ask about", name, errno))?;
    let request = request(message, flags, name);
    let mut answer = [0; 512];
    send(socket.as_raw_fd(), &request, MsgFlags::empty())
        .and_then(|_| recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()))
        .and_then(|length| verdict(&answer[..length]))
        .map_err(|errno| failed("ask about", name, errno))
}

fn netlink() -> Result<OwnedFd, Errno> {
    socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )
}

/// A netlink header, netfilter's own (all zeroes) and the name.
fn request(message: u16, flags: u16, name: &str) -> Vec<u8> {
    let attribute = 4 + name.len() + 1;
    let length = 20 + attribute.next_multiple_of(4);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend((NFNL_SUBSYS_ACCT << 8 | message).to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    bytes.extend([0; 12]);
    bytes.extend((attribute as u16).to_ne_bytes());
    bytes.extend(NFACCT_NAME.to_ne_bytes());
    bytes.extend(name.as_bytes());
    bytes.resize(length, 0);
    bytes
}

/// The error number that follows the header of an acknowledgement.
fn verdict(answer: &[u8]) -> Result<Result<(), Errno>, Errno> {
    const NLMSG_ERROR: u16 = 2;
    let (Some(kind), Some(number)) = (answer.get(4..6), answer.get(16..20)) else {
        return Err(Errno::EBADMSG);
    };
    if u16::from_ne_bytes([kind[0], kind[1]]) != NLMSG_ERROR {
        return Err(Errno::EBADMSG);
    }
    let number = i32::from_ne_bytes([number[0], number[1], number[2], number[3]]);
    Ok(match number {
        0 => Ok(()),
        number => Err(Errno::from_raw(-number)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_aligned_and_says_its_length() {
        for name in COUNTERS {
            let bytes = request(NFNL_MSG_ACCT_NEW, NLM_F_CREATE, name);
            assert_eq!(bytes.len() % 4, 0);
            assert_eq!(bytes[..4], (bytes.len() as u32).to_ne_bytes());
            assert_eq!(bytes[24..24 + name.len()], *name.as_bytes());
            assert_eq!(bytes[24 + name.len()], 0, "the name ends with a zero");
        }
    }

    #[test]
    fn answers() {
        let answer = |kind: u16, number: i32| {
            let mut bytes = vec![0; 20];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[16..20].copy_from_slice(&number.to_ne_bytes());
            bytes
        };
        assert_eq!(verdict(&answer(2, 0)), Ok(Ok(())));
        assert_eq!(verdict(&answer(2, -16)), Ok(Err(Errno::EBUSY)));
        assert_eq!(verdict(&answer(3, 0)), Err(Errno::EBADMSG));
        assert_eq!(verdict(&[0; 10]), Err(Errno::EBADMSG));
    }
}
