//! Working in a network namespace without the process leaving its own.
//!
//! A socket stays in the namespace it was created in, so one short-lived
//! thread enters the namespace, opens a netlink socket there and ends; the
//! socket is then used from anywhere.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_route::RouteNetlinkMessage;
use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socket},
};
use rtnetlink::{
    Handle, MulticastGroup, packet_core::NetlinkMessage, proto::Connection, sys::SocketAddr,
};
use tokio::{net::TcpSocket, task::AbortHandle};

#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    #[error("cannot open the network namespace {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot enter the network namespace {path}")]
    Enter {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot open a socket in {path}")]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Clone, Copy)]
struct NetnsCookie;

nix::getsockopt_impl!(
    NetnsCookie,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64,
    nix::sys::socket::sockopt::GetStruct<u64>
);

/// The number of the calling thread's network namespace, by which programs in
/// the kernel know it (`SO_NETNS_COOKIE`, 5.14): never used twice while the
/// machine is up.
pub fn netns_cookie() -> io::Result<u64> {
    let any = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    Ok(getsockopt(&any, NetnsCookie)?)
}

/// A TCP socket of the network namespace at `path`, not connected yet. Whoever connects it does so from there.
///
/// # Errors
/// Where the namespace is gone, or has no IPv6 and a socket of it is asked for.
pub fn tcp_socket(path: &Path, ipv6: bool) -> Result<TcpSocket, NetnsError> {
    let family = match ipv6 {
        true => AddressFamily::Inet6,
        false => AddressFamily::Inet,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = Netns::open(path)?.run(|| socket(family, SockType::Stream, flags, None))?;
    let made = made.map_err(|errno| NetnsError::Socket {
        path: path.into(),
        source: errno.into(),
    })?;
    Ok(TcpSocket::from_std_stream(made.into()))
}

/// An open network namespace: the file keeps it alive.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    file: File,
}

impl Netns {
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let file = File::open(path).map_err(|source| NetnsError::Open {
            path: path.into(),
            source,
        })?;
        Ok(Self {
            path: path.into(),
            file,
        })
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, NetnsError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Runs `job` on a thread of its own inside the namespace.
    ///
    /// The thread ends with the job: a thread that has entered a namespace
    /// must never return to a pool.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let enter = |source| NetnsError::Enter {
            path: self.path.clone(),
            source,
        };
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, || {
                    setns(&self.file, CloneFlags::CLONE_NEWNET)
                        .map_err(|errno| enter(errno.into()))?;
                    Ok(job())
                })
                .map_err(enter)?
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A netlink connection that speaks for this namespace.
    pub fn netlink(&self) -> Result<Netlink, NetnsError> {
        let ((connection, handle, _), cookie) = self.connect(rtnetlink::new_connection)?;
        Ok(Netlink::new(connection, handle, cookie))
    }

    /// What the kernel announces to `groups`, for as long as the connection
    /// beside it lives.
    pub fn announcements(
        &self,
        groups: &[MulticastGroup],
    ) -> Result<(Netlink, Announcements), NetnsError> {
        let ((connection, handle, announcements), cookie) =
            self.connect(|| rtnetlink::new_multicast_connection(groups))?;
        Ok((Netlink::new(connection, handle, cookie), announcements))
    }

    /// With the namespace's cookie.
    fn connect<T: Send>(
        &self,
        open: impl FnOnce() -> io::Result<T> + Send,
    ) -> Result<(T, u64), NetnsError> {
        let runtime = tokio::runtime::Handle::current();
        let opened = self.run(|| {
            let _context = runtime.enter();
            Ok((open()?, netns_cookie()?))
        })?;
        opened.map_err(|source| NetnsError::Socket {
            path: self.path.clone(),
            source,
        })
    }
}

pub type Announcements = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// A netlink connection that closes its socket when dropped, and with it its
/// hold on the namespace.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    cookie: u64,
    /// One at a time: the kernel answers a second one with EBUSY.
    dump: tokio::sync::Mutex<()>,
    task: AbortHandle,
}

impl Netlink {
    fn new(connection: Connection<RouteNetlinkMessage>, handle: Handle, cookie: u64) -> Self {
        let task = tokio::spawn(connection).abort_handle();
        Self {
            handle,
            cookie,
            dump: tokio::sync::Mutex::default(),
            task,
        }
    }

    /// To be held while a list is read from the kernel.
    pub async fn dump(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.dump.lock().await
    }

    /// `SO_NETNS_COOKIE` of the namespace.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }
}

impl std::ops::Deref for Netlink {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}
