//! Rtnetlink in the network namespace of the thread that opens the socket. A
//! request is answered before it returns, so there is nothing to wait for; only
//! [`Changes`] are waited for.

use std::io;

use futures::FutureExt as _;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    },
    sys::{
        AsyncSocket as _, AsyncSocketExt as _, Socket, SocketAddr, TokioSocket,
        protocols::NETLINK_ROUTE,
    },
};
use tracing::debug;

/// Set on a dump during which something changed: it may miss what was there
/// all the time.
const NLM_F_DUMP_INTR: u16 = 0x10;
const DUMP_TRIES: usize = 5;

#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// All objects that the request asks for.
    pub fn dump(&mut self, request: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_TRIES {
            self.send(request, NLM_F_DUMP)?;
            let (messages, whole) = self.answer()?;
            if whole {
                return Ok(messages);
            }
        }
        Err(io::Error::other(
            "the kernel's list changed each time while it was read",
        ))
    }

    /// The object that the request asks for.
    pub fn get(&mut self, request: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(request, NLM_F_ACK)?;
        self.answer().map(|(messages, _)| messages)
    }

    /// `flags` beside those of every change.
    pub fn change(&mut self, request: &RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(request, NLM_F_ACK | flags)?;
        self.answer().map(drop)
    }

    fn send(&mut self, request: &RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message =
            NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request.clone()));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        Ok(())
    }

    /// Until the acknowledgement or the end of the dump; whether it was whole.
    fn answer(&mut self) -> io::Result<(Vec<RouteNetlinkMessage>, bool)> {
        let mut messages = Vec::new();
        let mut whole = true;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while let Some((message, after)) = split(rest) {
                rest = after;
                let parsed = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) {
                    Ok(parsed) => parsed,
                    Err(error) => {
                        // A kernel newer than the parser: of no use to us then.
                        debug!(%error, "skipping a netlink message");
                        continue;
                    }
                };
                if parsed.header.sequence_number != self.sequence {
                    continue;
                }
                whole &= parsed.header.flags & NLM_F_DUMP_INTR == 0;
                match parsed.payload {
                    NetlinkPayload::InnerMessage(inner) => messages.push(inner),
                    NetlinkPayload::Done(_) => return Ok((messages, whole)),
                    NetlinkPayload::Error(error) if error.code.is_none() => {
                        return Ok((messages, whole));
                    }
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }
}

/// The first message of a datagram, and the rest.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    let len = u32::from_ne_bytes(len) as usize;
    // The header's own size is the least, or this would not go on.
    let message = bytes.get(..len.max(16))?;
    let rest = bytes.get(len.max(16).next_multiple_of(4)..);
    Some((message, rest.unwrap_or_default()))
}

/// Tells that something of the groups changed, not what: whoever is told looks.
pub struct Changes {
    socket: TokioSocket,
}

/// RTNLGRP_LINK, RTNLGRP_TC, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE,
/// RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE.
const GROUPS: [u32; 6] = [1, 4, 5, 7, 9, 11];

impl Changes {
    pub fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let groups = GROUPS.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        Ok(Self { socket })
    }

    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> io::Result<()> {
        self.one().await?;
        // What is there already is told with it.
        while let Some(one) = self.one().now_or_never() {
            one?;
        }
        Ok(())
    }

    async fn one(&mut self) -> io::Result<()> {
        let mut head = [0; 16];
        match self.socket.recv(&mut &mut head[..]).await {
            // More than the socket holds: as good as any of it.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            received => received.map(drop),
        }
    }
}
