use super::*;

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

struct Machine {
    networks: Vec<Ipv4Net>,
    links: BTreeSet<String>,
    ports: Vec<u16>,
    ipv6: bool,
}

impl Machine {
    fn empty() -> Machine {
        Machine {
            networks: vec![net("127.0.0.0/8"), net("192.0.2.0/24")],
            links: BTreeSet::from(["lo".into(), "eth0".into()]),
            ports: Vec::new(),
            ipv6: true,
        }
    }

    /// As another cluster leaves it.
    fn beside(state: &State) -> Machine {
        let mut machine = Machine::empty();
        machine.networks.extend([state.subnet, state.pod_cidr]);
        machine.links.insert(state.link.clone());
        machine.ports = vec![state.api_port, state.etcd_client_port, state.etcd_peer_port];
        machine
    }

    fn decide(
        &self,
        name: &str,
        wishes: &Wishes,
        before: Option<&State>,
    ) -> Result<State, PlanError> {
        let holder = |port: u16| {
            self.ports
                .contains(&port)
                .then(|| "etcd (pid 7)".to_owned())
        };
        let taken = Taken {
            networks: &self.networks,
            links: &self.links,
            ipv6: self.ipv6,
            port: &holder,
        };
        decide(&name.parse().unwrap(), wishes, before, &taken)
    }
}

pub fn usual() -> State {
    Machine::empty()
        .decide("vetch", &Wishes::default(), None)
        .unwrap()
}

#[test]
fn an_empty_machine_gives_the_usual_values() {
    let state = usual();
    assert_eq!(state.link, "vetch0");
    assert_eq!(state.nodes, 1);
    assert_eq!(state.subnet, net("172.30.0.0/24"));
    assert_eq!(state.pod_cidr, net("10.244.0.0/16"));
    assert_eq!(state.service_cidr, net("10.96.0.0/16"));
    assert_eq!(
        (state.api_port, state.etcd_client_port, state.etcd_peer_port),
        (6443, 2379, 2380)
    );
    assert_eq!(machine_address(state.subnet), Ipv4Addr::new(172, 30, 0, 1));
    assert_eq!(node_address(state.subnet, 1), Ipv4Addr::new(172, 30, 0, 2));
}

#[test]
fn both_families_where_the_machine_has_them_and_nothing_else_was_asked_for() {
    use IpFamily::{Dual, Ipv4, Ipv6};
    let refused = |has: &str, wanted: &str| {
        Err(PlanError::Changed {
            what: "IP family",
            has: has.into(),
            wanted: wanted.into(),
        })
    };
    for (ipv6, wanted, has, expected) in [
        (true, None, None, Ok(Dual)),
        (false, None, None, Ok(Ipv4)),
        (true, Some(Ipv4), None, Ok(Ipv4)),
        (true, Some(Ipv6), None, Ok(Ipv6)),
        (false, Some(Dual), None, Err(PlanError::NoIpv6)),
        (true, None, Some(Ipv4), Ok(Ipv4)),
        (true, Some(Dual), Some(Ipv4), refused("ipv4", "dual")),
        (true, Some(Ipv4), Some(Dual), refused("dual", "ipv4")),
        (false, None, Some(Dual), Err(PlanError::NoIpv6)),
    ] {
        let machine = Machine {
            ipv6,
            ..Machine::empty()
        };
        let before = has.map(|ip_family| State {
            ip_family,
            ..usual()
        });
        let wishes = Wishes {
            ip_family: wanted,
            ..Wishes::default()
        };
        let state = machine.decide("vetch", &wishes, before.as_ref());
        let found = state.map(|state| state.ip_family);
        assert_eq!(found, expected, "{ipv6} {wanted:?} {has:?}");
    }
}

#[test]
fn two_clusters_share_nothing() {
    let first = usual();
    let second = Machine::beside(&first)
        .decide("other", &Wishes::default(), None)
        .unwrap();
    assert_ne!(first.link, second.link);
    assert!(!overlap(first.subnet, second.subnet) && !overlap(first.pod_cidr, second.pod_cidr));
    let subnets = [&first, &second].map(|state| families::subnet_v6(state, 0));
    assert!(!subnets[0].contains(&subnets[1]) && !subnets[1].contains(&subnets[0]));
    let ports = |state: &State| [state.api_port, state.etcd_client_port, state.etcd_peer_port];
    assert!(
        ports(&first)
            .iter()
            .all(|port| !ports(&second).contains(port))
    );
}

#[test]
fn the_next_up_chooses_the_same_also_where_more_has_become_free() {
    let second = Machine::beside(&usual())
        .decide("other", &Wishes::default(), None)
        .unwrap();
    let again = Machine::empty().decide("other", &Wishes::default(), Some(&second));
    assert_eq!(again, Ok(second.clone()));
    let more = Wishes {
        nodes: Some(3),
        ..Wishes::default()
    };
    let grown = Machine::empty()
        .decide("other", &more, Some(&second))
        .unwrap();
    assert_eq!(grown, State { nodes: 3, ..second });
}

#[test]
fn wishes_are_met() {
    let wishes = Wishes {
        nodes: Some(2),
        ip_family: Some(IpFamily::Ipv6),
        subnet: Some(net("172.30.77.9/24")),
        subnets: Some(2),
        pod_cidr: Some(net("10.7.0.0/20")),
        service_cidr: Some(net("10.97.0.0/24")),
        api_port: Some(16477),
        insecure_registries: vec!["registry:5000".into()],
        max_pods: Some(250),
        service_proxy_name: Some("vetch".into()),
        node_args: vec!["--load-balancer-mode=dsr".into()],
    };
    let state = Machine::empty().decide("a", &wishes, None).unwrap();
    assert_eq!(state.subnet, net("172.30.77.0/24"));
    assert_eq!(state.pod_cidr, net("10.7.0.0/20"));
    assert_eq!(state.service_cidr, net("10.97.0.0/24"));
    assert_eq!((state.nodes, state.api_port), (2, 16477));
    assert_eq!(state.ip_family, IpFamily::Ipv6);
    assert_eq!((state.subnets, load_balancer_pool(&state)), (2, None));
    assert_eq!(state.max_pods, Some(250));
    assert_eq!(state.insecure_registries, ["registry:5000"]);
    assert_eq!(state.node_args, ["--load-balancer-mode=dsr"]);
    // The same wishes once more are no change; none at all neither.
    assert_eq!(
        Machine::empty().decide("a", &wishes, Some(&state)),
        Ok(state.clone())
    );
    assert_eq!(
        Machine::empty().decide("a", &Wishes::default(), Some(&state)),
        Ok(state)
    );
}

#[test]
fn etcd_moves_to_free_ports_and_the_api_server_says_who_is_in_the_way() {
    let before = usual();
    let mut machine = Machine::empty();
    machine.ports = vec![2379];
    let moved = machine
        .decide("vetch", &Wishes::default(), Some(&before))
        .unwrap();
    assert_eq!((moved.etcd_client_port, moved.etcd_peer_port), (2381, 2380));

    machine.ports = vec![6443];
    let error = machine
        .decide("vetch", &Wishes::default(), Some(&before))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "port 6443 is taken by etcd (pid 7): stop it, or choose another with --api-port and --fresh"
    );
    // Nobody asked for that port, so another does as well.
    let state = machine.decide("vetch", &Wishes::default(), None).unwrap();
    assert_eq!(state.api_port, 6444);
    let wishes = Wishes {
        api_port: Some(6443),
        ..Wishes::default()
    };
    let error = machine.decide("vetch", &wishes, None).unwrap_err();
    assert!(
        matches!(error, PlanError::Port { port: 6443, .. }),
        "{error}"
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let before = usual();
    let wish = Wishes::default;
    for (wishes, words) in [
        (
            Wishes {
                subnet: Some(net("192.0.2.128/25")),
                ..wish()
            },
            "overlaps with 192.0.2.0/24, which this machine routes: choose another with --subnet",
        ),
        (
            Wishes {
                pod_cidr: Some(net("172.30.0.0/16")),
                ..wish()
            },
            "overlaps with 172.30.0.0/24",
        ),
        (
            Wishes {
                nodes: Some(0),
                ..wish()
            },
            "at least one node",
        ),
        (
            Wishes {
                nodes: Some(254),
                ..wish()
            },
            "172.30.0.0/24 has room for 253",
        ),
        (
            Wishes {
                nodes: Some(3),
                pod_cidr: Some(net("10.7.0.0/23")),
                ..wish()
            },
            "10.7.0.0/23 has room for 2 of /24",
        ),
        (
            Wishes {
                pod_cidr: Some(net("10.7.0.0/25")),
                ..wish()
            },
            "room for 0",
        ),
    ] {
        let error = Machine::empty()
            .decide("vetch", &wishes, None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
    let error = Machine::empty()
        .decide(
            "vetch",
            &Wishes {
                subnets: Some(2),
                ..wish()
            },
            Some(&before),
        )
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("number of the nodes' links 1, not 2"),
        "{error}"
    );
    let error = Machine::empty()
        .decide(
            "vetch",
            &Wishes {
                subnet: Some(net("172.30.9.0/24")),
                ..wish()
            },
            Some(&before),
        )
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("has the nodes' network 172.30.0.0/24, not 172.30.9.0/24"),
        "{error}"
    );
}

#[test]
fn load_balancers_get_what_nodes_leave() {
    for (subnet, nodes, pool) in [
        ("172.30.0.0/24", 3, Some(("172.30.0.239", "172.30.0.254"))),
        ("172.30.0.0/24", 250, Some(("172.30.0.252", "172.30.0.254"))),
        ("172.30.0.0/24", 253, None),
        ("172.30.0.0/29", 3, Some(("172.30.0.5", "172.30.0.6"))),
    ] {
        let pool = pool.map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap()));
        assert_eq!(super::pool(net(subnet), nodes), pool, "{subnet} {nodes}");
    }
}
