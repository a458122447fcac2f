use super::*;
use crate::model::{Balance, Exposure};

fn frontend(text: &str) -> Frontend {
    text.parse().unwrap()
}

fn backend(text: &str) -> Backend {
    let address: SocketAddr = text.parse().unwrap();
    Backend {
        addr: address.ip(),
        port: address.port(),
    }
}

/// A service-port with a NodePort and a table of two backends, one of them
/// here, while a third drains; and one without endpoints.
fn current() -> Current {
    let pointer = |service, exposure| Pointer { service, exposure };
    let (one, two) = (backend("10.1.0.1:8080"), backend("10.1.1.1:8080"));
    Current {
        frontends: [
            (frontend("10.96.0.1:80/TCP"), pointer(3, Exposure::CLUSTER)),
            (
                frontend("0.0.0.0:30080/TCP"),
                pointer(3, Exposure::EXTERNAL),
            ),
            (frontend("[fd96::1]:53/UDP"), pointer(4, Exposure::CLUSTER)),
        ]
        .into(),
        services: [
            (
                3,
                Target {
                    external_local: true,
                    affinity: Some(10_800),
                    balance: Balance::Maglev,
                    cluster: vec![one, two, one],
                    local: vec![one],
                    serving: vec![one, two, backend("10.1.1.2:8080")],
                    source_ranges: vec!["192.0.2.0/24".parse().unwrap()],
                    ..Target::default()
                },
            ),
            (4, Target::default()),
        ]
        .into(),
    }
}

fn traffic() -> BTreeMap<ServiceId, Traffic> {
    [(
        3,
        Traffic {
            connections: 7,
            refused: 1,
            bytes_in: 100,
            bytes_out: 2_000,
        },
    )]
    .into()
}

#[test]
fn each_frontend_with_what_it_leads_to() {
    let list = list(&current(), &traffic());
    let seen: Vec<_> = list
        .iter()
        .map(|service| {
            (
                format!("{}/{}", service.address, service.protocol),
                (
                    service.service,
                    service.external,
                    service.external_traffic_policy,
                ),
                (service.cluster_backends, service.local_backends),
                (service.connections, service.refused),
            )
        })
        .collect();
    let row = |text: &str, service, backends, traffic| (text.into(), service, backends, traffic);
    assert_eq!(
        seen,
        [
            row("0.0.0.0:30080/TCP", (3, true, "Local"), (2, 1), (7, 1)),
            row("10.96.0.1:80/TCP", (3, false, "Local"), (2, 1), (7, 1)),
            row("[fd96::1]:53/UDP", (4, false, "Cluster"), (0, 0), (0, 0)),
        ]
    );
    assert_eq!(list[0].affinity_seconds, Some(10_800));
    assert_eq!((list[0].bytes_in, list[0].bytes_out), (100, 2_000));
    assert_eq!((list[0].balance, list[2].balance), ("maglev", "random"));
}

#[test]
fn one_frontend_with_its_backends() {
    let show = |text| show(&current(), &traffic(), frontend(text));
    let shown = show("10.96.0.1:80/TCP").unwrap();
    assert_eq!(shown.frontends, ["0.0.0.0:30080/TCP", "10.96.0.1:80/TCP"]);
    assert_eq!(shown.allowed_ranges, ["192.0.2.0/24".parse().unwrap()]);
    let row = |address: &str, cluster_slots, local_slots, draining| ServiceBackend {
        address: address.parse().unwrap(),
        cluster_slots,
        local_slots,
        draining,
        live_connections: None,
    };
    assert_eq!(
        shown.backends,
        [
            row("10.1.0.1:8080", 2, 1, false),
            row("10.1.1.1:8080", 1, 0, false),
            row("10.1.1.2:8080", 0, 0, true),
        ]
    );
    assert_eq!(show("[fd96::1]:53/UDP").unwrap().backends, []);
    assert_eq!(show("10.96.0.1:80/UDP"), None);
}
