//! The server. [`request`] understands, [`site`] has the answers ready, [`connection`] carries them
//! over one socket, [`worker`] is one thread's loop, [`usage`] knows what it has cost.
//!
//! The cost of a request is meant to be the same always, because datapaths are compared by it: one
//! recv and one send, and per connection one accept, one epoll_ctl and one close, whether or not
//! what is asked for is there already.

mod connection;
mod request;
mod site;
mod usage;
mod worker;

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::args::{Ports, Serve};
use crate::net;
use site::Site;
use usage::Source;
use worker::{Door, Worker};

/// Said on standard output once everything listens.
#[derive(Serialize)]
struct Serving<'a> {
    host: &'a str,
    tcp: Vec<u16>,
    udp: Vec<u16>,
    control: u16,
}

/// Serves until the process ends.
pub fn run(options: &Serve) -> Result<()> {
    if let Err(error) = net::raise_file_limit() {
        eprintln!("vetch-load: the limit of open files stays as it is: {error}");
    }
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let threads = options.threads.get();
    let mut crews: Vec<Vec<Door>> = (0..threads).map(|_| Vec::new()).collect();
    let tcp = open(
        options,
        options.tcp,
        "TCP",
        net::listen,
        |thread, port, socket| {
            crews[thread].push(Door::Tcp(socket, Site::load(&host, port)));
        },
    )?;
    let udp = open(
        options,
        options.udp,
        "UDP",
        net::bind_datagrams,
        |thread, _, socket| {
            crews[thread].push(Door::Udp(socket));
        },
    )?;
    let at = SocketAddr::new(options.address, options.control);
    let socket = net::listen(at, false).with_context(|| format!("listen on {at}"))?;
    let control = net::local_port(&socket)?;
    let serving = Serving {
        host: &host,
        tcp,
        udp,
        control,
    };
    // A log that nobody reads is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{}", serde_json::to_string(&serving)?);

    for (i, doors) in crews.into_iter().enumerate() {
        let body = move || {
            // It ends only when it cannot go on, and then neither can the process.
            let Err(error) = Worker::new(doors).and_then(Worker::run);
            eprintln!("vetch-load: serve-{i}: {error}");
            std::process::exit(1);
        };
        let thread = std::thread::Builder::new().name(format!("serve-{i}"));
        thread.spawn(body).context("start a thread")?;
    }
    // The control port has this thread: an answer about the load does not wait behind the load.
    let control = vec![Door::Tcp(socket, Site::Control(Source::of_this_pod()))];
    let Err(error) = Worker::new(control).and_then(Worker::run);
    Err(error).context("serve the control port")
}

/// A socket for each port and thread; answers with the ports.
fn open(
    options: &Serve,
    ports: Ports,
    protocol: &str,
    bind: impl Fn(SocketAddr, bool) -> rustix::io::Result<OwnedFd>,
    mut place: impl FnMut(usize, u16, OwnedFd),
) -> Result<Vec<u16>> {
    let threads = options.threads.get();
    let mut open = Vec::new();
    for wanted in ports.first..=ports.last {
        let mut port = wanted;
        for thread in 0..threads {
            let at = SocketAddr::new(options.address, port);
            let socket =
                bind(at, threads > 1).with_context(|| format!("listen on {protocol} {at}"))?;
            port = net::local_port(&socket)?;
            place(thread, port, socket);
        }
        open.push(port);
    }
    Ok(open)
}
