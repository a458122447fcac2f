//! Many services, many endpoints: what a change costs is counted in entries of
//! maps, which no busy machine makes more.

use std::time::Instant;

use vetch_ebpf_common::MAPS_BUDGET;
use vetch_proxy::{
    Backend, Exposure, Frontend, ObjectName, Protocol::Tcp, Proxy, ServicePort, Target, inspect,
};

use crate::cell::{Cell, Services};

/// Services of these ports, each with this many endpoints of their own; the
/// generation moves one endpoint of each.
struct Many {
    services: u32,
    ports: u16,
    endpoints: u32,
}

impl Many {
    fn all(&self, generation: u8) -> Services {
        (0..self.services)
            .map(|service| self.one(service, generation))
            .collect()
    }

    fn one(&self, service: u32, generation: u8) -> (ObjectName, Vec<ServicePort>) {
        let [_, a, b, c] = service.to_be_bytes();
        let port = |number: u16| ServicePort {
            frontends: [(
                Frontend {
                    addr: [10, 96 + a, b, c].into(),
                    port: number,
                    protocol: Tcp,
                },
                Exposure::CLUSTER,
            )]
            .into(),
            target: Target {
                cluster: (0..self.endpoints)
                    .map(|endpoint| Backend {
                        addr: (0xfd00_0000_0000_0000_0000_0000_0000_0000_u128
                            | u128::from(service) << 32
                            | u128::from(endpoint))
                        .to_be_bytes()
                        .into(),
                        port: if endpoint == 0 {
                            8000 + u16::from(generation)
                        } else {
                            8000
                        },
                    })
                    .collect(),
                ..Target::default()
            },
        };
        let name = ObjectName::new("scale", &format!("service-{service}"));
        (name, (80..80 + self.ports).map(port).collect())
    }

    /// Entries that a first sync writes: slots, word and terms of each
    /// service-port, its frontend, each service's address.
    fn entries(&self) -> u64 {
        let ports = u64::from(self.services) * u64::from(self.ports);
        ports * (u64::from(self.endpoints) + 3) + u64::from(self.services)
    }
}

/// What `job` wrote.
fn writes(proxy: &mut Proxy, job: impl FnOnce(&mut Proxy)) -> u64 {
    let before = proxy.map_writes();
    job(proxy);
    proxy.map_writes() - before
}

fn timed<T>(what: &str, many: &Many, job: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = job();
    let Many {
        services,
        ports,
        endpoints,
    } = many;
    let took = started.elapsed();
    println!("{services} services x {ports} ports x {endpoints} endpoints: {what} {took:?}");
    done
}

/// Programs, changes, restarts.
fn lives(many: &Many) {
    let cell = Cell::enter();
    let config = cell.config("a");
    let all = many.all(0);
    let mut proxy = Proxy::open(&config).unwrap();
    let first = writes(&mut proxy, |proxy| {
        let failed = timed("first sync", many, || proxy.sync_all(&all));
        assert_eq!(failed, []);
    });
    assert_eq!(first, many.entries());
    proxy.programs().attach().unwrap();

    // Its block of slots anew, its word and its terms, whatever else there is.
    let one: Services = [many.one(many.services / 2, 1)].into();
    let change = writes(&mut proxy, |proxy| {
        let failed = timed("one change", many, || proxy.sync(&one));
        assert_eq!(failed, []);
    });
    assert_eq!(change, u64::from(many.endpoints) + 2);
    assert_eq!(writes(&mut proxy, |proxy| drop(proxy.sync(&one))), 0);

    let changed = many.all(2);
    let every = writes(&mut proxy, |proxy| {
        let failed = timed("every service changed", many, || proxy.sync(&changed));
        assert_eq!(failed, []);
    });
    assert_eq!(
        every,
        u64::from(many.services) * (u64::from(many.endpoints) + 2)
    );
    assert!(!timed("audit", many, || proxy.drifted()).unwrap());
    drop(proxy);

    let mut proxy = timed("restart", many, || Proxy::open(&config)).unwrap();
    let again = writes(&mut proxy, |proxy| {
        let failed = timed("sync after it", many, || proxy.sync_all(&changed));
        assert_eq!(failed, []);
    });
    assert_eq!(again, 0, "nothing had changed");
    let dump = vetch_proxy::dump(&config.pin_dir).unwrap();
    assert_eq!(dump.services.len(), many.services as usize);
    let full = |target: &Target| target.cluster.len() == many.endpoints as usize;
    assert!(dump.services.values().all(full));
}

#[test]
fn ten_thousand_services_of_ten_endpoints() {
    lives(&Many {
        services: 10_000,
        ports: 1,
        endpoints: 10,
    });
}

#[test]
fn a_thousand_services_of_five_hundred_endpoints() {
    lives(&Many {
        services: 1_000,
        ports: 1,
        endpoints: 500,
    });
}

#[test]
fn fifty_thousand_services_fit_the_maps_and_their_memory() {
    let many = Many {
        services: 50_000,
        ports: 2,
        endpoints: 4,
    };
    let cell = Cell::enter();
    let config = cell.config("a");
    let mut proxy = Proxy::open(&config).unwrap();
    let all = many.all(0);
    assert_eq!(timed("first sync", &many, || proxy.sync_all(&all)), []);
    // There is room for every service-port's next block beside its last.
    let changed = many.all(1);
    assert_eq!(
        timed("every one changed", &many, || proxy.sync(&changed)),
        []
    );
    let maps = inspect::memory(&config.pin_dir).unwrap().maps;
    for map in &maps {
        println!("{map:?}");
    }
    let bytes: Option<u64> = maps.iter().map(|map| map.memory_bytes).sum();
    let bytes = bytes.expect("the kernel says what it holds for a map");
    println!("{} MiB of {} MiB", bytes >> 20, MAPS_BUDGET >> 20);
    assert!(bytes <= MAPS_BUDGET, "{bytes}");
}
