//! Sockets that are there while the daemon is not: systemd keeps them when it starts the unit
//! anew (its file descriptor store, `FileDescriptorStoreMax=`), so who asks meanwhile waits in
//! their queues instead of being refused. Without systemd they are this process' own.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::net::{SocketType, sockopt};
use sd_notify::NotifyState;
use tracing::{debug, warn};

/// Where sockets are kept; systemd, but in tests.
pub trait Store: Send + Sync {
    fn keep(&self, name: &str, socket: BorrowedFd<'_>) -> io::Result<()>;
    /// Those of this name, if there are any.
    fn forget(&self, name: &str) -> io::Result<()>;
}

/// Those of the daemon before, and the place for those to come.
pub struct Sockets {
    inherited: Mutex<Vec<(String, OwnedFd)>>,
    store: Box<dyn Store>,
}

impl Sockets {
    /// What systemd hands over; once in a process.
    pub fn of_systemd() -> Sockets {
        let inherited = inherited::take().unwrap_or_else(|error| {
            warn!(%error, "cannot take over the sockets that systemd keeps");
            Vec::new()
        });
        Sockets::new(inherited, Box::new(Systemd))
    }

    fn new(inherited: Vec<(String, OwnedFd)>, store: Box<dyn Store>) -> Sockets {
        Sockets {
            inherited: Mutex::new(inherited),
            store,
        }
    }

    pub fn udp(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let open = || UdpSocket::bind(address);
        self.socket(SocketType::DGRAM, address, open)
    }

    pub fn tcp(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let open = || TcpListener::bind(address);
        self.socket(SocketType::STREAM, address, open)
    }

    fn socket<S: From<OwnedFd> + AsFd>(
        &self,
        kind: SocketType,
        address: SocketAddr,
        open: impl FnOnce() -> io::Result<S>,
    ) -> io::Result<S> {
        if let Some(socket) = self.take(kind, address) {
            debug!(%address, ?kind, "a socket of the daemon before");
            return Ok(socket.into());
        }
        let socket = open()?;
        // Without it questions are refused during a restart: no reason not to start.
        if let Err(error) = self.store.keep(&name(kind, address), socket.as_fd()) {
            warn!(%address, %error, "systemd does not keep this socket");
        }
        Ok(socket)
    }

    fn take(&self, kind: SocketType, address: SocketAddr) -> Option<OwnedFd> {
        let mut inherited = self.inherited();
        let is_it = |(_, socket): &(String, OwnedFd)| is_at(socket.as_fd(), kind, address);
        let index = inherited.iter().position(is_it)?;
        Some(inherited.swap_remove(index).1)
    }

    /// Closes those at other addresses or ports: what the daemon before was asked to serve.
    pub fn forget_others(&self, wanted: &[SocketAddr]) {
        let is_wanted = |(_, socket): &mut (String, OwnedFd)| {
            local_address(socket.as_fd()).is_some_and(|own| wanted.contains(&own))
        };
        for (name, _) in self.inherited().extract_if(.., |socket| !is_wanted(socket)) {
            if let Err(error) = self.store.forget(&name) {
                warn!(name, %error, "systemd goes on keeping a socket");
            }
        }
    }

    fn inherited(&self) -> std::sync::MutexGuard<'_, Vec<(String, OwnedFd)>> {
        self.inherited
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without colons, which systemd takes no names with.
fn name(kind: SocketType, address: SocketAddr) -> String {
    let kind = if kind == SocketType::DGRAM {
        "udp"
    } else {
        "tcp"
    };
    format!("{kind}-{}-{}", address.ip(), address.port()).replace(':', "_")
}

fn is_at(socket: BorrowedFd<'_>, kind: SocketType, address: SocketAddr) -> bool {
    local_address(socket) == Some(address) && sockopt::socket_type(socket) == Ok(kind)
}

fn local_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()
}

struct Systemd;

impl Store for Systemd {
    fn keep(&self, name: &str, socket: BorrowedFd<'_>) -> io::Result<()> {
        let state = [NotifyState::FdStore, NotifyState::FdName(name)];
        sd_notify::notify_with_fds(&state, &[socket])
    }

    fn forget(&self, name: &str) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])
    }
}

mod inherited {
    #![expect(
        unsafe_code,
        reason = "descriptors come as numbers in the environment (sd_listen_fds(3))"
    )]

    use std::io;
    use std::os::fd::{FromRawFd as _, OwnedFd};
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    pub fn take() -> io::Result<Vec<(String, OwnedFd)>> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Relaxed) {
            return Ok(Vec::new());
        }
        let own = |(fd, name)| {
            // SAFETY: LISTEN_PID says that it was opened for this process, and nobody takes it twice.
            (name, unsafe { OwnedFd::from_raw_fd(fd) })
        };
        Ok(sd_notify::listen_fds_with_names()?.map(own).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// As systemd: a descriptor of the same socket under each name.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<(String, OwnedFd)>>>);

    impl Store for Kept {
        fn keep(&self, name: &str, socket: BorrowedFd<'_>) -> io::Result<()> {
            let socket = socket.try_clone_to_owned()?;
            self.0.lock().unwrap().push((name.to_owned(), socket));
            Ok(())
        }

        fn forget(&self, name: &str) -> io::Result<()> {
            self.0.lock().unwrap().retain(|(other, _)| other != name);
            Ok(())
        }
    }

    impl Kept {
        fn start(&self) -> Sockets {
            let kept = self.0.lock().unwrap();
            let again =
                |(name, socket): &(String, OwnedFd)| (name.clone(), socket.try_clone().unwrap());
            Sockets::new(kept.iter().map(again).collect(), Box::new(self.clone()))
        }

        fn names(&self) -> Vec<String> {
            let kept = self.0.lock().unwrap();
            kept.iter().map(|(name, _)| name.clone()).collect()
        }
    }

    #[test]
    fn who_asks_while_the_daemon_is_away_is_heard_by_the_next() {
        let kept = Kept::default();
        let before = kept.start();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        // As nobody knows their ports before they are open.
        let (udp, tcp) = (before.udp(any).unwrap(), before.tcp(any).unwrap());
        let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        drop((udp, tcp, before));

        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"asked", udp_at).unwrap();
        let waits = std::net::TcpStream::connect(tcp_at).unwrap();

        let next = kept.start();
        let mut buffer = [0; 8];
        let (length, from) = next.udp(udp_at).unwrap().recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..length], from),
            (&b"asked"[..], client.local_addr().unwrap())
        );
        let (_, from) = next.tcp(tcp_at).unwrap().accept().unwrap();
        assert_eq!(from, waits.local_addr().unwrap());
        assert_eq!(kept.names().len(), 2, "they are kept once");
    }

    #[test]
    fn what_nobody_wants_any_more_is_closed() {
        let kept = Kept::default();
        let before = kept.start();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (one, two) = (before.tcp(any).unwrap(), before.tcp(any).unwrap());
        let (at, elsewhere) = (one.local_addr().unwrap(), two.local_addr().unwrap());
        drop((one, two, before));
        // systemd gives them names of its own where it was told none.
        for (index, (name, _)) in kept.0.lock().unwrap().iter_mut().enumerate() {
            *name = index.to_string();
        }
        let next = kept.start();
        next.forget_others(&[at]);
        assert_eq!(kept.names(), ["0"]);
        std::net::TcpStream::connect(at).unwrap();
        std::net::TcpStream::connect(elsewhere).unwrap_err();
        // Another protocol at that address is another socket.
        next.udp(at).unwrap();
        assert_eq!(kept.names(), ["0", &name(SocketType::DGRAM, at)]);
    }

    #[test]
    fn names_are_systemds() {
        let name = |kind, address: &str| name(kind, address.parse().unwrap());
        assert_eq!(name(SocketType::DGRAM, "10.0.0.1:53"), "udp-10.0.0.1-53");
        assert_eq!(name(SocketType::STREAM, "[fd00::1]:53"), "tcp-fd00__1-53");
    }
}
