//! A test thread's own namespaces, cgroup and bpffs. Everything goes with the
//! guard, also when the test fails; the machine's own are never touched.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::gettid,
};
use vetch_ebpf_common::SNAT_PORTS;
use vetch_proxy::{
    Backend, Exposure, Frontend, LoadBalancerMode, Masquerade, ObjectName, Protocol, Proxy,
    ProxyConfig, ServicePort, TableSizes, Target, Xdp,
};

pub struct Cell {
    dir: tempfile::TempDir,
    cgroup: PathBuf,
    home: PathBuf,
}

impl Cell {
    /// Moves the calling thread, and the threads it will start, inside.
    pub fn enter() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("unshare: these tests need root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let dir = tempfile::Builder::new()
            .prefix("network-")
            .tempdir()
            .unwrap();
        for kind in ["bpf", "cgroup2"] {
            let target = dir.path().join(kind);
            fs::create_dir(&target).unwrap();
            mount(Some(kind), &target, Some(kind), MsFlags::empty(), none).unwrap();
        }
        let own = fs::read_to_string("/proc/thread-self/cgroup").unwrap();
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .expect("a cgroup v2 hierarchy");
        let home = dir.path().join("cgroup2").join(own);
        let cgroup = home.join(format!(
            "network-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir(&cgroup).unwrap();
        // One thread of the test process, not all of it: cgroups(7), threaded mode.
        fs::write(cgroup.join("cgroup.type"), "threaded").unwrap();
        fs::write(cgroup.join("cgroup.threads"), gettid().to_string()).unwrap();
        loopback_up();
        Self { dir, cgroup, home }
    }

    pub fn config(&self, name: &str) -> ProxyConfig {
        ProxyConfig {
            node_name: "test".into(),
            node_ips: Vec::new(),
            cgroup: self.cgroup.clone(),
            pin_dir: self.dir.path().join("bpf").join(name),
            service_proxy_name: None,
            uplinks: Vec::new(),
            tables: TableSizes::of_memory(1 << 30),
            source_ports: SNAT_PORTS,
            xdp: Xdp::Off,
            load_balancer_mode: LoadBalancerMode::Snat,
            vxlan_vni: 86,
            masquerade: Masquerade::Off,
            non_masquerade_cidrs: Vec::new(),
            connection_metrics: false,
            healthz_address: None,
            metrics_address: None,
            own_service: None,
            tap: None,
            policies_file: Some(self.dir.path().join(format!("{name}.policies.json"))),
        }
    }

    /// Where the calling thread leaves the cell's cgroup to: its sockets are nobody's
    /// whom the programs know, as those of another machine.
    pub fn outer_cgroup(&self) -> PathBuf {
        self.home.join("cgroup.threads")
    }

    /// A proxy with these services, attached.
    pub fn proxy(&self, name: &str, services: &Services) -> Proxy {
        let mut proxy = Proxy::open(&self.config(name)).unwrap();
        assert_eq!(proxy.sync_all(services), []);
        proxy.programs().attach().unwrap();
        proxy
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        fs::write(self.home.join("cgroup.threads"), gettid().to_string()).unwrap();
        // Threads of the test may still be on their way out.
        wait_for("the test's cgroup to be empty", || {
            fs::remove_dir(&self.cgroup).is_ok()
        });
        for kind in ["bpf", "cgroup2"] {
            umount2(&self.dir.path().join(kind), MntFlags::MNT_DETACH).unwrap();
        }
    }
}

pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 60 s for {what}");
        std::thread::yield_now();
    }
}

pub type Services = BTreeMap<ObjectName, Vec<ServicePort>>;

/// Services of one port each.
pub fn services(all: &[(&str, Protocol, &[SocketAddr])]) -> Services {
    all.iter()
        .map(|(address, protocol, backends)| {
            let target = Target {
                cluster: backends.iter().copied().map(backend).collect(),
                ..Target::default()
            };
            service(&[(address, Exposure::CLUSTER)], *protocol, target)
        })
        .collect()
}

/// A service of one port, named after its first frontend.
pub fn service(
    frontends: &[(&str, Exposure)],
    protocol: Protocol,
    mut target: Target,
) -> (ObjectName, Vec<ServicePort>) {
    target.cluster.sort();
    target.local.sort();
    target.serving.sort();
    let name = ObjectName::new("test", &format!("{}-{protocol:?}", frontends[0].0));
    let frontend = |(address, exposure): &(&str, Exposure)| {
        let address: SocketAddr = address.parse().unwrap();
        let frontend = Frontend {
            addr: address.ip(),
            port: address.port(),
            protocol,
        };
        (frontend, *exposure)
    };
    let port = ServicePort {
        frontends: frontends.iter().map(frontend).collect(),
        target,
    };
    (name, vec![port])
}

pub fn backend(address: SocketAddr) -> Backend {
    Backend {
        addr: address.ip(),
        port: address.port(),
    }
}

/// A new namespace has `lo` down. One ioctl, so that no netlink is needed here.
fn loopback_up() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd;
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::empty(),
        None,
    )
    .unwrap();
    #[expect(
        unsafe_code,
        reason = "the flags of a link have no safe wrapper in nix"
    )]
    // SAFETY: an all-zero ifreq is valid, the name fits with its end, and the
    // kernel reads the structure only during the call.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request)
    };
    assert_eq!(result, 0, "lo up: {}", std::io::Error::last_os_error());
}

pub fn exists(path: &Path) -> bool {
    path.try_exists().unwrap()
}
