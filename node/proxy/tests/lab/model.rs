//! Random changes against a model: after every step the kernel's maps hold
//! what the model says, and connections end where it lets them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    net::SocketAddr,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use vetch_proxy::{
    Backend, Exposure, Frontend, ObjectName, Protocol::Tcp, Proxy, ServicePort, Target,
};

use crate::{
    cell::{Cell, Services, backend},
    servers::{Server, ask},
};

const STEPS: usize = 400;
const SERVICES: u8 = 6;
const FRONTENDS: u8 = 10;

/// What the services want, and nothing of how it is done.
#[derive(Default)]
struct Model {
    services: Services,
}

impl Model {
    /// Each frontend's target; a frontend is wanted by one service at a time.
    fn answers(&self) -> BTreeMap<Frontend, (Exposure, Target)> {
        let ports = self.services.values().flatten();
        ports
            .flat_map(|port| {
                let target = &port.target;
                port.frontends
                    .iter()
                    .map(move |(frontend, exposure)| (*frontend, (*exposure, target.clone())))
            })
            .collect()
    }

    /// Changes some services; returns them with all they want now.
    fn change(&mut self, random: &mut StdRng, servers: &[Backend]) -> Services {
        let mut changed = Services::new();
        for _ in 0..random.random_range(1..=3) {
            let name = name(random.random_range(0..SERVICES));
            self.services.remove(&name);
            let ports = if random.random_bool(0.2) {
                Vec::new()
            } else {
                self.ports(random, servers)
            };
            self.services.insert(name.clone(), ports.clone());
            changed.insert(name, ports);
        }
        changed
    }

    /// Of the frontends that nobody has.
    fn ports(&self, random: &mut StdRng, servers: &[Backend]) -> Vec<ServicePort> {
        let taken: BTreeSet<Frontend> = self.answers().into_keys().collect();
        let mut free: Vec<Frontend> = (0..FRONTENDS)
            .map(frontend)
            .filter(|frontend| !taken.contains(frontend))
            .collect();
        let mut ports = Vec::new();
        while !free.is_empty() && ports.len() < 3 && random.random_bool(0.7) {
            let count = random.random_range(1..=free.len().min(3));
            let frontends = free
                .split_off(free.len() - count)
                .into_iter()
                .map(|frontend| (frontend, Exposure::CLUSTER))
                .collect();
            ports.push(ServicePort {
                frontends,
                target: target(random, servers),
            });
        }
        ports
    }
}

fn target(random: &mut StdRng, servers: &[Backend]) -> Target {
    let mut some = |from: &[Backend]| {
        let count = random.random_range(0..=from.len());
        let mut some: Vec<_> = from.choose_multiple(random, count).copied().collect();
        some.sort();
        some
    };
    let serving = some(servers);
    let cluster = some(&serving);
    let local = some(&cluster);
    let affinity = random.random_bool(0.3).then_some(10_800);
    Target {
        internal_local: random.random_bool(0.3),
        affinity,
        cluster,
        local,
        serving: affinity.map_or_else(Vec::new, |_| serving),
        ..Target::default()
    }
}

fn name(n: u8) -> ObjectName {
    ObjectName::new("model", &format!("service-{n}"))
}

fn frontend(n: u8) -> Frontend {
    Frontend {
        addr: [10, 96, 0, n / 2].into(),
        port: 80 + u16::from(n % 2),
        protocol: Tcp,
    }
}

fn kernel(cell: &Cell) -> BTreeMap<Frontend, (Exposure, Target)> {
    let dump = vetch_proxy::dump(&cell.config("a").pin_dir).unwrap();
    let answer = |(frontend, to): (&Frontend, &vetch_proxy::Pointer)| {
        (*frontend, (to.exposure, dump.services[&to.service].clone()))
    };
    dump.frontends.iter().map(answer).collect()
}

#[test]
fn the_maps_follow_every_change_and_connections_follow_the_maps() {
    let cell = Cell::enter();
    let servers: Vec<Server> = (0..5).map(Server::tcp).collect();
    let backends: Vec<Backend> = servers
        .iter()
        .map(|server| backend(server.address))
        .collect();
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let mut proxy = cell.proxy("a", &Services::new());
    for step in 0..STEPS {
        let case = format!("seed {seed}, step {step}");
        let changed = model.change(&mut random, &backends);
        assert_eq!(proxy.sync(&changed), [], "{case}");
        let answers = model.answers();
        assert_eq!(kernel(&cell), answers, "{case}");
        if step % 50 == 49 {
            // Another daemon goes on from the kernel's state alone.
            assert!(!proxy.drifted().unwrap(), "{case}");
            drop(proxy);
            proxy = Proxy::open(&cell.config("a")).unwrap();
            assert_eq!(proxy.sync_all(&model.services), [], "{case}");
            proxy.programs().attach().unwrap();
            assert_eq!(kernel(&cell), answers, "{case}: after a restart");
        }
        let frontend = frontend(random.random_range(0..FRONTENDS));
        let address = SocketAddr::new(frontend.addr, frontend.port);
        let answer = ask(&address.to_string()).map_err(|error| error.kind());
        let target = answers.get(&frontend).map(|(_, target)| target);
        let known = answers.keys().any(|other| other.addr == frontend.addr);
        let case = format!("{case}: {address} of {target:?} answered {answer:?}");
        match (target, answer) {
            (None, Err(ErrorKind::NetworkUnreachable)) => assert!(!known, "{case}"),
            (None, Err(ErrorKind::ConnectionRefused)) => assert!(known, "{case}"),
            (Some(target), Ok(id)) => {
                let list = if target.internal_local {
                    &target.local
                } else {
                    &target.cluster
                };
                assert!(list.contains(&backends[usize::from(id)]), "{case}");
            }
            (Some(target), Err(ErrorKind::ConnectionRefused)) => {
                assert!(target.cluster.is_empty(), "{case}");
            }
            // Dropped by policy: here no route leads to the address.
            (Some(target), Err(ErrorKind::NetworkUnreachable)) => {
                let dropped =
                    target.internal_local && target.local.is_empty() && !target.cluster.is_empty();
                assert!(dropped, "{case}");
            }
            _ => panic!("{case}"),
        }
    }
}
