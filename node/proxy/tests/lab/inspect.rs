use vetch_proxy::{
    Protocol::{Tcp, Udp},
    inspect,
};

use crate::{
    cell::{Cell, services},
    servers::{Server, ask},
};

#[test]
fn the_maps_tell_what_is_served_while_no_daemon_runs() {
    let cell = Cell::enter();
    let server = Server::tcp(1);
    let (web, empty) = ("10.96.0.10:80", "10.96.0.11:53");
    let proxy = cell.proxy(
        "a",
        &services(&[(web, Tcp, &[server.address]), (empty, Udp, &[])]),
    );
    drop(proxy);
    for _ in 0..3 {
        ask(web).unwrap();
    }
    crate::servers::udp_client()
        .connect(empty)
        .expect_err("there are no endpoints");
    ask("10.96.0.10:81").expect_err("there is no such port");

    let pin_dir = cell.config("a").pin_dir;
    let listed: Vec<_> = inspect::services(&pin_dir)
        .unwrap()
        .into_iter()
        .map(|service| {
            (
                format!("{}/{}", service.address, service.protocol),
                (service.cluster_backends, service.local_backends),
                (service.connections, service.refused),
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("10.96.0.10:80/TCP".to_owned(), (1, 0), (3, 0)),
            ("10.96.0.11:53/UDP".to_owned(), (0, 0), (0, 1)),
        ]
    );

    let frontend = |text: &str| text.parse().unwrap();
    let shown = inspect::service(&pin_dir, frontend("10.96.0.10:80/TCP")).unwrap();
    let backends = shown.unwrap().backends;
    assert_eq!(backends.len(), 1);
    assert_eq!(backends[0].address, server.address);
    let other = inspect::service(&pin_dir, frontend("10.96.0.10:80/UDP")).unwrap();
    assert_eq!(other, None);

    let memory = inspect::memory(&pin_dir).unwrap();
    assert_eq!(memory.reasons["unknown-port"], 1);
    assert_eq!(memory.reasons["no-endpoints"], 1);
    let used = |name: &str| {
        let map = memory.maps.iter().find(|map| map.name == name);
        let map = map.unwrap_or_else(|| panic!("{name} is not listed"));
        // An empty trie has nothing.
        let least = u64::from(map.used_entries != Some(0));
        assert!(map.memory_bytes >= Some(least), "{map:?}");
        (map.kind.as_str(), map.used_entries)
    };
    assert_eq!(used("FRONTENDS"), ("hash", Some(2)));
    assert_eq!(used("SERVICES"), ("array", Some(2)));
    assert_eq!(used("SLOTS"), ("array", Some(1)));
    assert_eq!(used("SOURCE_RANGES"), ("lpm_trie", Some(0)));
    assert_eq!(used("TRAFFIC"), ("percpu_hash", Some(2)));
    assert_eq!(used("REASONS"), ("percpu_array", None));
    assert_eq!(inspect::flows(&pin_dir).unwrap(), []);
}
