//! Figures, not promises: `cargo test -p vetch-proxy --test lab -- --ignored --nocapture`.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use vetch_proxy::{Protocol::Tcp, Proxy, inspect};

use crate::{
    api::Api,
    cell::{Cell, Services, exists, services, wait_for},
    daemon::{Daemon, Orders},
    servers::Server,
};

const VIP: &str = "10.96.0.10:80";

#[test]
#[ignore = "measures"]
fn connect_latency() {
    let cell = Cell::enter();
    let server = Server::tcp(1);
    let direct = server.address.to_string();
    let connect = |address: &str| {
        let started = Instant::now();
        TcpStream::connect(address).unwrap();
        started.elapsed()
    };
    let bare = (0..5000).map(|_| connect(&direct)).collect();
    report("direct, nothing attached", bare);
    let _proxy = cell.proxy("a", &services(&[(VIP, Tcp, &[server.address])]));
    let (mut plain, mut service) = (Vec::new(), Vec::new());
    for _ in 0..5000 {
        plain.push(connect(&direct));
        service.push(connect(VIP));
    }
    report("direct, programs attached", plain);
    report("by the service address", service);
}

/// Connections from dialling to the end, both ends in the node's cgroup, with
/// and without the program that is told of them; by turns, because a machine
/// has moods.
#[test]
#[ignore = "measures"]
fn what_being_told_of_connections_costs() {
    const ROUNDS: usize = 101;
    let cell = Cell::enter();
    // Or the ports run out.
    std::fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "64").unwrap();
    let mut config = cell.config("a");
    config.connection_metrics = true;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let direct = listener.local_addr().unwrap();
    let wanted = services(&[(VIP, Tcp, &[direct])]);
    let mut proxy = Proxy::open(&config).unwrap();
    proxy.sync_all(&wanted);
    proxy.programs().attach().unwrap();
    // On one thread: nobody waits for another's turn.
    let connect = |address: &str| {
        let client = TcpStream::connect(address).unwrap();
        let server = listener.accept().unwrap();
        drop((client, server));
    };
    let established = || {
        let frontend = format!("{VIP}/TCP").parse().unwrap();
        let shown = inspect::service(&config.pin_dir, frontend).unwrap();
        shown
            .unwrap()
            .connect_latency
            .map(|latency| latency.connections)
    };
    let round = |address: &str| {
        let started = Instant::now();
        for _ in 0..1000 {
            connect(address);
        }
        started.elapsed() / 1000
    };
    for address in [direct.to_string().as_str(), VIP] {
        let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            std::fs::remove_file(config.pin_dir.join("links/sock_ops")).unwrap();
            wait_for("the program to be gone", || {
                let before = established();
                connect(VIP);
                established() == before
            });
            without.push(round(address));
            proxy.programs().attach().unwrap();
            with.push(round(address));
            let [a, b] = [&with, &without].map(|times| times.last().unwrap().as_secs_f64());
            ratios.push(a / b);
        }
        ratios.sort_by(f64::total_cmp);
        report(&format!("{address}, not told"), without);
        report(&format!("{address}, told"), with);
        let at = |percent: usize| ratios[ratios.len() * percent / 100];
        println!(
            "ratio: p25 {:.3} p50 {:.3} p75 {:.3}",
            at(25),
            at(50),
            at(75)
        );
    }
}

#[test]
#[ignore = "measures"]
fn updates_with_a_thousand_services() {
    let cell = Cell::enter();
    let all = many(1000, 1);
    let started = Instant::now();
    let mut proxy = Proxy::open(&cell.config("a")).unwrap();
    println!("load: {:?}", started.elapsed());
    let started = Instant::now();
    proxy.sync_all(&all);
    println!(
        "first sync of 1000 services with 3 backends: {:?}",
        started.elapsed()
    );
    let started = Instant::now();
    proxy.programs().attach().unwrap();
    println!("attach: {:?}", started.elapsed());
    let changed = many(1000, 2);
    let updates = changed.iter().map(|(name, ports)| {
        let one: Services = [(name.clone(), ports.clone())].into();
        let started = Instant::now();
        proxy.sync(&one);
        started.elapsed()
    });
    report("one service's backends changed", updates.collect());
    let started = Instant::now();
    assert!(!proxy.drifted().unwrap());
    println!("audit: {:?}", started.elapsed());
    drop(proxy);
    let started = Instant::now();
    let mut proxy = Proxy::open(&cell.config("a")).unwrap();
    proxy.sync_all(&changed);
    proxy.programs().attach().unwrap();
    println!("restart to in sync: {:?}", started.elapsed());
}

fn many(n: u16, generation: u8) -> Services {
    let one = |i: u16| {
        let [high, low] = i.to_be_bytes();
        let vip = format!("10.96.{high}.{low}:80");
        let backends: Vec<SocketAddr> = (0..3)
            .map(|b| SocketAddr::new([10, 244, generation, b].into(), 1000 + i))
            .collect();
        services(&[(&vip, Tcp, &backends)])
    };
    (0..n).flat_map(one).collect()
}

/// As `vetch-bench` measures it, over an API server that has little to do.
#[test]
#[ignore = "measures"]
fn a_daemon_starts_with_ten_thousand_services() {
    let bare = fresh(0);
    for _ in 0..3 {
        let (took, anonymous) = fresh(10_000);
        let more = anonymous - bare.1;
        println!("attached after {took:?}, of {anonymous:.1} MiB {more:.1} for services");
    }
    println!("without services {:?}, {:.1} MiB", bare.0, bare.1);
}

/// From the process's start until its last program is attached; its anonymous
/// MiB when it has come to rest.
fn fresh(services: u32) -> (Duration, f64) {
    let cell = Cell::enter();
    let config = cell.config("a");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let api = Api::new();
    for number in 0..services {
        let [service, slice] = objects(number);
        api.set("services", service);
        api.set("endpointslices", slice);
    }
    let orders = Orders {
        api: runtime.block_on(api.serve()),
        pin_dir: config.pin_dir.clone(),
        cgroup: config.cgroup.clone(),
        node_ips: Vec::new(),
        pods: None,
        verbose: false,
    };
    let started = Instant::now();
    let daemon = Daemon::start(&orders);
    let last = config.pin_dir.join("links/connect4");
    wait_for("the last program", || {
        std::thread::sleep(Duration::from_millis(1));
        exists(&last)
    });
    let took = started.elapsed();
    let dump = vetch_proxy::dump(&config.pin_dir).unwrap();
    assert_eq!(dump.frontends.len(), services as usize);
    std::thread::sleep(Duration::from_secs(1));
    let rollup = format!("/proc/{}/smaps_rollup", daemon.pid());
    let rollup = std::fs::read_to_string(rollup).unwrap();
    let anonymous = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = anonymous.unwrap().trim().strip_suffix(" kB").unwrap();
    (took, kib.parse::<f64>().unwrap() / 1024.0)
}

/// As API servers write them.
fn objects(number: u32) -> [Value; 2] {
    let [_, _, high, low] = number.to_be_bytes();
    let name = format!("other-{number}");
    let metadata = |labels: Value| {
        json!({
            "name": name, "namespace": "default", "labels": labels,
            "uid": format!("7d6a4ac5-0000-4000-8000-{number:012}"), "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z"
        })
    };
    let ip = format!("10.96.{high}.{low}");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(json!({})),
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "ports": [{"name": "tcp", "port": 80, "protocol": "TCP", "targetPort": 8080}]
        },
        "status": {"loadBalancer": {}}
    });
    let labels = json!({
        "kubernetes.io/service-name": name,
        "endpointslice.kubernetes.io/managed-by": "vetch-bench"
    });
    let endpoint = |last: u8| {
        let ip = format!("198.{}.{high}.{low}", 18 + last);
        json!({"addresses": [ip], "conditions": {"ready": true}})
    };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata(labels),
        "addressType": "IPv4", "ports": [{"name": "tcp", "port": 8080, "protocol": "TCP"}],
        "endpoints": [endpoint(0), endpoint(1)]
    });
    [service, slice]
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!("{what}: p50 {:?} p90 {:?} p99 {:?}", at(50), at(90), at(99));
}
