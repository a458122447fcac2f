//! Other hosts: a thread each, in a network namespace of its own.

use std::{
    net::UdpSocket,
    process::Command,
    sync::mpsc::{Sender, channel},
    thread,
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::gettid,
};

type Job = Box<dyn FnOnce() + Send>;

/// Ends with its sender.
pub struct Namespace {
    jobs: Sender<Job>,
    thread: i32,
}

impl Namespace {
    pub fn new() -> Self {
        let (jobs, queue) = channel::<Job>();
        let (ready, thread) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(gettid().as_raw()).unwrap();
            for job in queue {
                job();
            }
        });
        let thread = thread.recv().unwrap();
        let namespace = Self { jobs, thread };
        namespace.run(|| ip_command("link set lo up"));
        namespace
    }

    /// In the namespace, and waits for it. Threads that the job starts are in
    /// it too.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        self.jobs
            .send(Box::new(move || {
                let _ = done.send(job());
            }))
            .unwrap();
        result.recv().expect("the job panicked")
    }

    /// Takes a device from the caller's namespace.
    pub fn adopt(&self, device: &str) {
        ip_command(&format!("link set {device} netns {}", self.thread));
        let device = device.to_owned();
        self.run(move || ip_command(&format!("link set {device} up")));
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

/// `ip` in the caller's namespace.
pub fn ip_command(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("ip of iproute2");
    assert!(status.success(), "ip {arguments}");
}

/// A setting of the caller's namespace.
pub fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
}

/// Whether a device's packets leave their checksums to the receiving end, as
/// veth does. Off, the sender computes them and the receiver looks.
pub fn set_checksum_offload(device: &str, on: bool) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd as _;
    const SIOCETHTOOL: u64 = 0x8946;
    const ETHTOOL_STXCSUM: u32 = 0x17;
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::empty(),
        None,
    )
    .unwrap();
    let mut value = [ETHTOOL_STXCSUM, u32::from(on)];
    #[expect(unsafe_code, reason = "ethtool has no other door")]
    // SAFETY: an all-zero ifreq is valid, the name fits with its end, and the
    // kernel reads the two structures only during the call.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name[..15].iter_mut().zip(device.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
        libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &request)
    };
    assert_eq!(result, 0, "{device}: {}", std::io::Error::last_os_error());
}

/// `IP_RECVERR`: a connected datagram socket hears of ICMP errors as its own.
pub fn set_receive_errors(socket: &UdpSocket, v6: bool) {
    use nix::sys::socket::{setsockopt, sockopt};
    if v6 {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true).unwrap();
    } else {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true).unwrap();
    }
}
