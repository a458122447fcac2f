//! Whether packets pass conntrack: its hooks are there as long as a rule that needs them, and the
//! kernel frees removed rules from a worker that tells nobody.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{Error, enter};

const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// Ten thousands of rules are freed in a fraction of this.
const LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);
/// Entries also go by themselves, which may hide one that came.
const PROBES: u32 = 3;

/// Returns once no packet inside is tracked any more.
pub fn wait_gone(namespace: &Path) -> Result<(), Error> {
    let until = Instant::now() + LIMIT;
    while follows(namespace)? {
        if Instant::now() > until {
            return Err(Error::Tracked {
                path: namespace.to_owned(),
            });
        }
        sleep(LOOK);
    }
    Ok(())
}

/// Sends itself a datagram by loopback and looks whether that makes an entry. Where loopback is
/// down nothing can be said: then it is no.
fn follows(namespace: &Path) -> Result<bool, Error> {
    enter::within(namespace, || {
        for _ in 0..PROBES {
            match probe() {
                Ok(false) => {}
                Ok(true) => return true,
                Err(_) => return false,
            }
        }
        false
    })
}

fn probe() -> io::Result<bool> {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    // A port of its own each time, and so an entry of its own.
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let before = count()?;
    sender.send_to(b"?", receiver.local_addr()?)?;
    Ok(count()? > before)
}

fn count() -> io::Result<u64> {
    let text = std::fs::read_to_string(COUNT)?;
    text.trim().parse().map_err(io::Error::other)
}
