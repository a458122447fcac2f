//! The name server that the cluster's asks about other names: it has one address for every name, for an hour.

use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

/// Of no one (RFC 6761).
pub const DOMAIN: &str = "vetch-bench.test";
pub const NAME: &str = "external.vetch-bench.test";
/// In the network of the node whose server asks.
pub const ADDRESS: &str = "127.0.0.1:5399";

const HEADER: usize = 12;
/// How soon it ends when it is told to.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers until it is dropped.
pub struct Upstream {
    #[cfg(test)]
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    pub fn start(netns: &Path, address: SocketAddr) -> Result<Upstream> {
        let socket = bind(netns, address)?;
        socket.set_read_timeout(Some(PAUSE))?;
        #[cfg(test)]
        let bound = socket.local_addr()?;
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = std::thread::spawn(move || {
            let mut message = [0; 4096];
            while !told.load(Ordering::Relaxed) {
                let Ok((count, from)) = socket.recv_from(&mut message) else {
                    continue;
                };
                if let Some(answer) = answer(&message[..count]) {
                    // Who gets none asks again.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(Upstream {
            #[cfg(test)]
            address: bound,
            over,
            thread: Some(thread),
        })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket stays where it was made.
fn bind(netns: &Path, address: SocketAddr) -> Result<UdpSocket> {
    let file = File::open(netns).with_context(|| format!("open {}", netns.display()))?;
    let thread = std::thread::spawn(move || -> Result<UdpSocket> {
        setns(&file, CloneFlags::CLONE_NEWNET).context("enter the node's network")?;
        UdpSocket::bind(address).with_context(|| format!("listen at {address} of the node"))
    });
    thread
        .join()
        .map_err(|_| anyhow!("the thread in the node died"))?
}

/// The question with one record behind it, which has its name by reference (RFC 1035, 4.1.4). None for what is no
/// question.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    /// Response, recursion desired and available.
    const FLAGS: [u8; 2] = [0x81, 0x80];
    const COUNTS: [u8; 8] = [0, 1, 0, 1, 0, 0, 0, 0];
    /// Name at 12, A, IN, an hour, four bytes: 192.0.2.1.
    const RECORD: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0x0e, 0x10, 0, 4, 192, 0, 2, 1];
    let (header, rest) = question.split_first_chunk::<HEADER>()?;
    let mut end = 0;
    loop {
        let length = usize::from(*rest.get(end)?);
        end += 1 + length;
        if length == 0 {
            break;
        }
    }
    let asked = rest.get(..end + 4)?;
    Some([&header[..2], &FLAGS, &COUNTS, asked, &RECORD].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_with_its_own_name() {
        let asked = [&b"\x01a\x04test\0"[..], &[0, 1, 0, 1]].concat();
        let question = [
            &[7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1][..],
            &asked,
            b"and more",
        ]
        .concat();
        let found = answer(&question).unwrap();
        assert_eq!(found[..12], [7, 8, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(found[12..12 + asked.len()], asked);
        assert_eq!(found.len(), 12 + asked.len() + 16);
        for half in [0, 11, 13, 20, 12 + asked.len() - 1] {
            assert_eq!(answer(&question[..half]), None, "{half}");
        }
    }

    #[test]
    fn it_answers_in_a_network_until_it_is_dropped() {
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let upstream = Upstream::start(Path::new("/proc/self/ns/net"), anywhere).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        client.connect(upstream.address).unwrap();
        client
            .send(b"\x07\x08\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01")
            .unwrap();
        let mut bytes = [0; 64];
        let count = client.recv(&mut bytes).unwrap();
        assert_eq!(bytes[count - 4..count], [192, 0, 2, 1]);
        drop(upstream);
        assert!(
            client
                .send(b"x")
                .and_then(|_| client.recv(&mut bytes))
                .is_err()
        );
    }
}
