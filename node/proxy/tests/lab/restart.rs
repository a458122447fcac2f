use std::{
    io::ErrorKind,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use vetch_proxy::{Protocol::Tcp, Proxy};

use crate::{
    cell::{Cell, Services, services, wait_for},
    servers::{Server, ask},
};

const VIP: &str = "10.96.0.10:80";

/// Runs `disturb` while fresh connections are made all the time; returns how
/// many there were and every failure.
fn under_load(disturb: impl FnOnce(&AtomicU32)) -> (u32, Vec<String>) {
    let (stop, done) = (AtomicBool::new(false), AtomicU32::new(0));
    let client = || {
        let mut failures = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = ask(VIP) {
                failures.push(error.to_string());
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        failures
    };
    let failures = std::thread::scope(|scope| {
        let clients = [scope.spawn(client), scope.spawn(client)];
        wait_for("the first connections", || {
            done.load(Ordering::Relaxed) > 10
        });
        disturb(&done);
        stop.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    (done.load(Ordering::Relaxed), failures)
}

/// Until clients have gone on by some connections.
fn meanwhile(done: &AtomicU32) {
    let from = done.load(Ordering::Relaxed);
    wait_for("clients to go on", || {
        done.load(Ordering::Relaxed) > from + 5
    });
}

#[test]
fn flips_under_load_lose_no_connection_and_take_effect_at_once() {
    let cell = Cell::enter();
    let servers = [0, 1, 2].map(Server::tcp);
    let [a, b, c] = servers.each_ref().map(|server| server.address);
    let sets: [(&[_], &[u8]); 4] = [
        (&[a], &[0]),
        (&[b, c], &[1, 2]),
        (&[a, b, c], &[0, 1, 2]),
        (&[c], &[2]),
    ];
    let wanted = sets.map(|(backends, ids)| (services(&[(VIP, Tcp, backends)]), ids));
    let mut proxy = cell.proxy("a", &wanted[0].0);
    let (connections, failures) = under_load(|done| {
        for (services, ids) in wanted.iter().cycle().take(400) {
            assert_eq!(proxy.sync(services), []);
            let id = ask(VIP).unwrap();
            assert!(
                ids.contains(&id),
                "{id} answered after the change to {ids:?}"
            );
        }
        // Faster than anything rests.
        for (services, _) in wanted.iter().cycle().take(4000) {
            proxy.sync(services);
        }
        meanwhile(done);
    });
    assert_eq!(failures, Vec::<String>::new(), "of {connections}");
}

#[test]
fn a_restart_under_load_loses_no_connection() {
    let cell = Cell::enter();
    let servers = [0, 1].map(Server::tcp);
    let wanted = services(&[(VIP, Tcp, &servers.each_ref().map(|server| server.address))]);
    let first = cell.proxy("a", &wanted);
    let dump = || vetch_proxy::dump(&cell.config("a").pin_dir).unwrap();
    let before = dump();
    assert_eq!(before.frontends.len(), 1);
    drop(first);
    let (connections, failures) = under_load(|done| {
        for _ in 0..20 {
            // A daemon that has died, one that has started and not yet listed…
            meanwhile(done);
            let mut proxy = Proxy::open(&cell.config("a")).unwrap();
            meanwhile(done);
            assert_eq!(dump(), before);
            // …and one that has.
            assert_eq!(proxy.sync_all(&wanted), []);
            proxy.programs().attach().unwrap();
            meanwhile(done);
        }
    });
    assert_eq!(failures, Vec::<String>::new(), "of {connections}");
    assert_eq!(dump(), before);
    let links = std::fs::read_dir(cell.config("a").pin_dir.join("links"))
        .unwrap()
        .count();
    assert_eq!(links, 8);
}

#[test]
fn services_that_went_while_nobody_watched_are_gone_after_the_first_sync() {
    let cell = Cell::enter();
    let server = Server::tcp(1);
    let old = "10.96.0.11:80";
    let both = services(&[(VIP, Tcp, &[server.address]), (old, Tcp, &[server.address])]);
    drop(cell.proxy("a", &both));
    assert_eq!(ask(old).unwrap(), 1);
    let _proxy = cell.proxy("a", &services(&[(VIP, Tcp, &[server.address])]));
    assert_eq!(ask(VIP).unwrap(), 1);
    assert_eq!(ask(old).unwrap_err().kind(), ErrorKind::NetworkUnreachable);
}

#[test]
fn a_deleted_service_leaves_and_its_address_may_serve_another() {
    let cell = Cell::enter();
    let servers = [1, 2].map(Server::tcp);
    let one = services(&[(VIP, Tcp, &[servers[0].address])]);
    let mut proxy = cell.proxy("a", &one);
    let gone: Services = one.keys().map(|name| (name.clone(), Vec::new())).collect();
    assert_eq!(proxy.sync(&gone), []);
    assert_eq!(ask(VIP).unwrap_err().kind(), ErrorKind::NetworkUnreachable);
    assert_eq!(proxy.frontends(), 0);
    proxy.sync(&services(&[(VIP, Tcp, &[servers[1].address])]));
    assert_eq!(ask(VIP).unwrap(), 2);
}
