//! Nothing is lost: clients of every kind go on while backends change a hundred
//! times a second and the daemon is killed every second, each time followed by
//! one with other programs.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::{
    api::Api,
    cell::wait_for,
    daemon::{Daemon, Orders, Pods, answering, shared},
    echo::{Echo, LAST, PORT},
    servers::TIMEOUT,
    site::{Left, NODE, Namespace, POD_CIDR, Pod, Site},
};

const WEB: &str = "10.96.0.10:80";
const DNS: &str = "10.96.0.11:53";
const WEB_NODE_PORT: u16 = 30080;
const DNS_NODE_PORT: u16 = 30053;

const FLIP: Duration = Duration::from_millis(10);
const LIFE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);
/// Of each client: what one closed loop does at most, so that the machine's
/// other users have something left.
const PACE: Duration = Duration::from_micros(500);

#[test]
fn no_connection_and_no_datagram_is_lost_in_ten_seconds() {
    nothing_is_lost_for(Duration::from_secs(10));
}

#[test]
#[ignore = "takes a minute"]
fn no_connection_and_no_datagram_is_lost_in_a_minute() {
    nothing_is_lost_for(Duration::from_secs(60));
}

fn service(name: &str, vip: &str, protocol: &str, node_port: u16) -> Value {
    let vip: SocketAddr = vip.parse().unwrap();
    json!({
        "metadata": {"namespace": "default", "name": name},
        "spec": {
            "type": "NodePort", "clusterIP": vip.ip(), "clusterIPs": [vip.ip()],
            "ports": [{"port": vip.port(), "protocol": protocol, "nodePort": node_port}]
        }
    })
}

/// Endpoints that are not among `ready` do not even drain.
fn slice(name: &str, protocol: &str, ready: &[IpAddr]) -> Value {
    let endpoints: Vec<Value> = ready
        .iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
        .collect();
    json!({
        "metadata": {
            "namespace": "default", "name": format!("{name}-1"),
            "labels": {"kubernetes.io/service-name": name}
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": PORT, "protocol": protocol}],
        "endpoints": endpoints
    })
}

fn nothing_is_lost_for(duration: Duration) {
    let site = Site::new();
    let client = site.pod("client");
    let pods = ["one", "two", "three", "four"].map(|id| site.pod(id));
    let site = site.leave();
    let at = |pod: &Pod| pod.namespace.run(|| Echo::bind(pod.ip));
    let _servers = Echo::serve(pods.iter().map(at).collect());
    let addresses = pods.each_ref().map(|pod| pod.ip);

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let api = Api::new();
    api.set("services", service("web", WEB, "TCP", WEB_NODE_PORT));
    api.set("services", service("dns", DNS, "UDP", DNS_NODE_PORT));
    flip(&api, &addresses);
    let live = pods.iter().chain([&client]);
    let config = site.cell.config("a");
    let orders = |verbose| Orders {
        api: runtime.block_on(api.serve()),
        pin_dir: config.pin_dir.clone(),
        cgroup: config.cgroup.clone(),
        node_ips: vec![NODE.parse().unwrap()],
        pods: Some(Pods {
            state_dir: site.state.path().into(),
            cidr: POD_CIDR.into(),
            live: live
                .clone()
                .map(|pod| (pod.id.clone(), shared(&pod.namespace)))
                .collect(),
        }),
        verbose,
    };
    let versions = [orders(false), orders(true)];
    let answers = || answering(&config.pin_dir, "connect4");
    let another = |before: u32| {
        wait_for("the next daemon's programs", || {
            // The daemon needs the processor for it.
            thread::sleep(LOOK);
            ![0, before].contains(&answers())
        });
    };
    let mut daemon = Some(Daemon::start(&versions[0]));
    another(0);

    let stop = AtomicBool::new(false);
    let flips = AtomicU64::new(0);
    let mut daemons = 1;
    let reports = thread::scope(|scope| {
        let ending = Ending(&stop);
        let clients = clients(scope, &site, &client.namespace, &stop);
        scope.spawn(|| {
            let mut random = StdRng::seed_from_u64(1);
            let mut next = Instant::now();
            while !stop.load(Relaxed) {
                let count = random.random_range(1..=addresses.len());
                let some: Vec<IpAddr> = addresses
                    .choose_multiple(&mut random, count)
                    .copied()
                    .collect();
                flip(&api, &some);
                flips.fetch_add(1, Relaxed);
                // What was late is caught up with.
                next += FLIP;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let (born, before) = (Instant::now(), answers());
            drop(daemon.take());
            daemon = Some(Daemon::start(&versions[daemons % 2]));
            daemons += 1;
            // On a busy machine one may take longer than its second to begin.
            another(before);
            thread::sleep((born + LIFE).saturating_duration_since(Instant::now()));
        }
        drop(ending);
        clients
            .into_iter()
            .map(|(name, client)| (name, client.join().unwrap()))
            .collect::<Vec<_>>()
    });
    // The last one still follows.
    flip(&api, &addresses[..1]);
    let only: Vec<String> = vec![format!("{}:{PORT}", addresses[0])];
    wait_for("the last change", || {
        let dump = vetch_proxy::dump(&config.pin_dir).unwrap();
        dump.services.values().all(|target| {
            let cluster = target.cluster.iter();
            cluster.map(ToString::to_string).eq(only.iter().cloned())
        })
    });
    println!("{daemons} daemons, {flips:?} flips in {duration:?}");
    let mut failed = Vec::new();
    for (name, Report { done, failures }) in reports {
        println!("{name}: {done} done, {} failed", failures.len());
        assert!(done > 100, "{name}: {done} done");
        failed.extend(
            failures
                .into_iter()
                .map(|failure| format!("{name}: {failure}")),
        );
    }
    assert_eq!(failed, Vec::<String>::new());
    assert!(daemons as u64 > duration.as_secs() / 5, "{daemons} daemons");
    assert!(flips.into_inner() > duration.as_secs() * 20);
    drop(daemon);
}

/// Both services move.
fn flip(api: &Api, ready: &[IpAddr]) {
    api.set("endpointslices", slice("web", "TCP", ready));
    api.set("endpointslices", slice("dns", "UDP", ready));
}

/// Clients end with it, also when the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[derive(Default)]
struct Report {
    done: u64,
    failures: Vec<String>,
}

/// Does `once` over and over; what fails is written down and done anew.
fn repeat(stop: &AtomicBool, mut once: impl FnMut() -> std::io::Result<()>) -> Report {
    let mut report = Report::default();
    while !stop.load(Relaxed) {
        match once() {
            Ok(()) => report.done += 1,
            Err(error) => report.failures.push(error.to_string()),
        }
        thread::sleep(PACE);
    }
    report
}

type Client<'a> = (&'static str, ScopedJoinHandle<'a, Report>);

fn clients<'a>(
    scope: &'a thread::Scope<'a, '_>,
    site: &'a Left,
    pod: &'a Namespace,
    stop: &'a AtomicBool,
) -> Vec<Client<'a>> {
    let outside = &site.outside;
    let node_port = |port: u16| -> SocketAddr { format!("{NODE}:{port}").parse().unwrap() };
    let (web, dns) = (WEB.parse().unwrap(), DNS.parse().unwrap());
    let (web_port, dns_port) = (node_port(WEB_NODE_PORT), node_port(DNS_NODE_PORT));
    let new = move |to: SocketAddr| move || repeat(stop, || once(&mut dial(to)?));
    let long = move |to: SocketAddr| {
        move || {
            let mut streams: Vec<TcpStream> = (0..8).map(|_| dial(to).unwrap()).collect();
            let mut turn = 0;
            repeat(stop, || {
                turn = (turn + 1) % streams.len();
                exchange(&mut streams[turn])
            })
        }
    };
    let connected = move |to: SocketAddr| {
        move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(TIMEOUT)).unwrap();
            repeat(stop, || ask(&socket))
        }
    };
    let fresh = move |to: SocketAddr| {
        move || {
            repeat(stop, || {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(to)?;
                socket.set_read_timeout(Some(TIMEOUT))?;
                ask(&socket)
            })
        }
    };
    vec![
        (
            "new connections of a pod",
            scope.spawn(move || pod.run(new(web))),
        ),
        ("new connections of the node", scope.spawn(new(web))),
        (
            "new connections from outside",
            scope.spawn(move || outside.run(new(web_port))),
        ),
        (
            "long connections of a pod",
            scope.spawn(move || pod.run(long(web))),
        ),
        (
            "long connections from outside",
            scope.spawn(move || outside.run(long(web_port))),
        ),
        (
            "datagrams of a pod's socket",
            scope.spawn(move || pod.run(connected(dns))),
        ),
        (
            "datagrams of a pod's new sockets",
            scope.spawn(move || pod.run(fresh(dns))),
        ),
        ("datagrams of the node", scope.spawn(fresh(dns))),
        (
            "datagrams from outside",
            scope.spawn(move || outside.run(connected(dns_port))),
        ),
    ]
}

fn dial(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// To the end of the connection.
fn once(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&[LAST])?;
    stream
        .read_to_end(&mut Vec::new())
        .and_then(|len| match len {
            1 => Ok(()),
            _ => Err(ErrorKind::UnexpectedEof.into()),
        })
}

fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

fn ask(socket: &UdpSocket) -> std::io::Result<()> {
    socket.send(b"?")?;
    socket.recv(&mut [0]).map(drop)
}
