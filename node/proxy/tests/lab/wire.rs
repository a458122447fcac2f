//! A link between the test's node and a neighbour in a namespace of its own.

use std::{
    fs::File,
    os::fd::AsRawFd,
    process::{Command, Output},
};

use nix::sched::{CloneFlags, setns, unshare};
use vetch_proxy::Uplink;

/// The other end of the link `uplink`, which is called `peer` there.
pub struct Neighbour {
    namespace: File,
    pub uplink: Uplink,
}

impl Neighbour {
    /// Of the namespace the calling thread is in. The node's end has no
    /// address: nothing but a program can answer.
    pub fn new(addresses: &[&str]) -> Self {
        let namespace = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let namespace = namespace.join().unwrap();
        let mac = [2, 0, 0, 0, 0, 1];
        let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        ip(&format!(
            "link add uplink address 02:00:00:00:00:01 type veth peer name peer netns {path}"
        ));
        ip("link set uplink up");
        let index = nix::net::if_::if_nametoindex("uplink").unwrap();
        let neighbour = Self {
            namespace,
            uplink: Uplink {
                index,
                mac,
                mtu: 1500,
            },
        };
        neighbour.run(|| {
            ip("link set lo up");
            ip("link set peer up");
            for address in addresses {
                // Usable at once: nobody else is on this link.
                let nodad = if address.contains(':') { " nodad" } else { "" };
                ip(&format!("address add {address} dev peer{nodad}"));
            }
        });
        neighbour
    }

    /// Runs `job` on a thread in the neighbour's namespace.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).unwrap();
                job()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The line of the neighbour table for an address.
    pub fn entry(&self, address: &str) -> String {
        self.run(|| ip(&format!("neighbour show to {address} dev peer")))
    }
}

/// `ip` of iproute2, in the calling thread's namespace.
pub fn ip(arguments: &str) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("ip of iproute2");
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "ip {arguments}: {said}");
    String::from_utf8(stdout).unwrap()
}
