//! Sockets and epoll, as both sides use them. All sockets are nonblocking.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData};
use rustix::io::{Errno, Result};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::time::Timespec;

use crate::clock::{Nanos, SECOND};

pub use rustix::event::epoll::{Event, EventFlags};

/// Events taken at once.
const BATCH: usize = 256;
/// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Room for datagrams that wait; the kernel caps it at net.core.rmem_max.
const DATAGRAM_ROOM: usize = 4 << 20;

pub struct Epoll {
    descriptor: OwnedFd,
    events: Vec<Event>,
}

impl Epoll {
    pub fn new() -> Result<Epoll> {
        Ok(Epoll {
            descriptor: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(BATCH),
        })
    }

    /// A closed socket leaves by itself.
    pub fn add(&self, socket: &OwnedFd, token: usize, flags: EventFlags) -> Result<()> {
        epoll::add(&self.descriptor, socket, data(token), flags)
    }

    pub fn change(&self, socket: &OwnedFd, token: usize, flags: EventFlags) -> Result<()> {
        epoll::modify(&self.descriptor, socket, data(token), flags)
    }

    /// Waits until something happens or the time is over. Hand the events back with [`Self::reuse`].
    pub fn wait(&mut self, at_most: Option<Nanos>) -> Result<Vec<Event>> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let timeout = at_most.map(|nanos| Timespec {
            tv_sec: i64::try_from(nanos / SECOND).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % SECOND).unwrap_or(0),
        });
        match epoll::wait(
            &self.descriptor,
            spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => Ok(events),
            Err(error) => Err(error),
        }
    }

    pub fn reuse(&mut self, events: Vec<Event>) {
        self.events = events;
    }
}

fn data(token: usize) -> EventData {
    EventData::new_u64(u64::try_from(token).unwrap_or(u64::MAX))
}

pub fn token(event: &Event) -> usize {
    let data = event.data;
    usize::try_from(data.u64()).unwrap_or(usize::MAX)
}

/// Begins a connection; it stands when the socket is writable.
pub fn dial(target: SocketAddr) -> Result<OwnedFd> {
    let socket = socket(target, SocketType::STREAM)?;
    match net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// A datagram socket that knows its peer.
pub fn dial_datagrams(target: SocketAddr) -> Result<OwnedFd> {
    let socket = socket(target, SocketType::DGRAM)?;
    net::connect(&socket, &target)?;
    Ok(socket)
}

/// `shared`: other threads bind sockets of their own to the same port.
pub fn listen(address: SocketAddr, shared: bool) -> Result<OwnedFd> {
    let socket = socket(address, SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, shared)?;
    // What is accepted inherits it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

pub fn bind_datagrams(address: SocketAddr, shared: bool) -> Result<OwnedFd> {
    let socket = socket(address, SocketType::DGRAM)?;
    sockopt::set_socket_reuseport(&socket, shared)?;
    sockopt::set_socket_recv_buffer_size(&socket, DATAGRAM_ROOM)?;
    net::bind(&socket, &address)?;
    Ok(socket)
}

pub fn accept(listener: &OwnedFd) -> Result<OwnedFd> {
    net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
}

pub fn local_port(socket: &OwnedFd) -> Result<u16> {
    let address = SocketAddr::try_from(net::getsockname(socket)?)?;
    Ok(address.port())
}

pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((count, _)) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// As much as the socket takes now.
pub fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<usize> {
    loop {
        match net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Ends a connection by a reset, so that nothing of it is left on either side.
pub fn abort(socket: OwnedFd) {
    // Without the option it ends as any other: no worse.
    let _ = sockopt::set_socket_linger(socket.as_fd(), Some(Duration::ZERO));
}

/// As many open files as the hard limit allows.
pub fn raise_file_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)
}

fn socket(address: SocketAddr, kind: SocketType) -> Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    net::socket_with(family, kind, flags, None)
}
