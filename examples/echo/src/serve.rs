//! Starts the server, and ends it: not ready at once, gone when nobody comes any more.

use std::fmt::Display;
use std::io::{Error, Result, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;
use std::time::Instant;

use crate::identity::Identity;
use crate::options::Options;
use crate::sys::{Signals, lengthen_backlog, raise_file_limit};
use crate::udp;
use crate::worker::Worker;

/// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// What all threads see.
pub struct Shared {
    pub identity: Identity,
    pub http: TcpListener,
    pub line: TcpListener,
    pub udp: UdpSocket,
    /// As /ready?on and /ready?off left it.
    pub ready: AtomicBool,
    /// SIGTERM has come.
    pub draining: AtomicBool,
}

impl Shared {
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && !self.draining.load(Ordering::Relaxed)
    }
}

pub fn run(options: &Options) -> Result<()> {
    let signals = Signals::block().map_err(|error| during("block signals", &error))?;
    if let Err(error) = raise_file_limit() {
        eprintln!("vetch-echo: the limit of open files stays as it is: {error}");
    }
    let shared = Arc::new(Shared {
        identity: Identity::of_environment(),
        http: listen(options.http)?,
        line: listen(options.tcp)?,
        udp: bind(options.udp)?,
        ready: AtomicBool::new(true),
        draining: AtomicBool::new(false),
    });
    for i in 0..options.threads.get() {
        spawn(&shared, format!("tcp-{i}"), |shared| {
            Worker::new(shared)?.run()
        })?;
        spawn(&shared, format!("udp-{i}"), udp::run)?;
    }
    say(format_args!(
        "{} serves http {}, tcp {}, udp {}",
        shared.identity.pod,
        shared.http.local_addr()?,
        shared.line.local_addr()?,
        shared.udp.local_addr()?,
    ));
    signals.wait()?;
    let deadline = Instant::now() + options.drain;
    shared.draining.store(true, Ordering::Relaxed);
    say(format_args!(
        "told to end: not ready, serves {:?} more",
        options.drain
    ));
    // A second signal ends the wait: whoever sends it means now.
    signals.wait_until(deadline)
}

/// A log that nobody reads any more is no reason to stop.
fn say(what: impl Display) {
    let _ = writeln!(std::io::stdout(), "{what}");
}

/// A thread that serves until the process ends; if it cannot go on, neither can the process.
fn spawn(
    shared: &Arc<Shared>,
    name: String,
    body: impl FnOnce(&Shared) -> Result<()> + Send + 'static,
) -> Result<()> {
    let shared = Arc::clone(shared);
    let started = Builder::new().name(name.clone()).spawn(move || {
        if let Err(error) = body(&shared) {
            eprintln!("vetch-echo: {name}: {error}");
            std::process::exit(1);
        }
    });
    started.map(drop)
}

fn listen(port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind(&on_all(port)[..])
        .map_err(|error| during(format_args!("listen on TCP port {port}"), &error))?;
    listener.set_nonblocking(true)?;
    lengthen_backlog(&listener, BACKLOG)?;
    Ok(listener)
}

fn bind(port: u16) -> Result<UdpSocket> {
    UdpSocket::bind(&on_all(port)[..])
        .map_err(|error| during(format_args!("bind UDP port {port}"), &error))
}

/// Both families, or IPv4 alone where the kernel has no other: the first that can be had.
fn on_all(port: u16) -> [SocketAddr; 2] {
    let v6 = (Ipv6Addr::UNSPECIFIED, port).into();
    [v6, (Ipv4Addr::UNSPECIFIED, port).into()]
}

fn during(what: impl Display, error: &Error) -> Error {
    Error::new(error.kind(), format!("{what}: {error}"))
}
