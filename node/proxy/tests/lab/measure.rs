//! Figures, not promises: `cargo test -p vetch-proxy --test lab -- --ignored --nocapture`.

use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use vetch_proxy::{Protocol::Tcp, Proxy};

use crate::{
    cell::{Cell, Services, services},
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

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!("{what}: p50 {:?} p90 {:?} p99 {:?}", at(50), at(90), at(99));
}
