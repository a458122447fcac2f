use super::*;
use crate::service::plan::dialled;

fn pods(count: u8) -> Vec<Ipv4Addr> {
    (1..=count)
        .map(|last| Ipv4Addr::new(10, 0, 0, last))
        .collect()
}

#[test]
fn endpoints_are_pods_times_ports_in_a_slice_a_port() {
    for (endpoints, count, slices) in [(2, 1, 2), (2, 2, 1), (10, 2, 5), (100, 1, 100)] {
        let backends = Backends::new(pods(count), endpoints);
        assert_eq!(backends.of(0).len(), endpoints as usize);
        let all = dialled_slices(Set::KubeProxy, 0, &backends).unwrap();
        assert_eq!(all.len(), slices);
        let listed: usize = all
            .iter()
            .map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len))
            .sum();
        assert_eq!(listed, endpoints as usize);
        let names: std::collections::BTreeSet<_> =
            all.iter().map(|slice| &slice.metadata.name).collect();
        assert_eq!(names.len(), slices, "names differ");
        for slice in &all {
            let labels = slice.metadata.labels.as_ref().unwrap();
            assert_eq!(labels["kubernetes.io/service-name"], "kube-proxy-dialled-0");
            assert_eq!(slice.ports.as_ref().unwrap().len(), 2, "TCP and UDP");
        }
    }
}

#[test]
fn only_the_clusters_services_carry_its_proxys_name() {
    for (set, name, label) in [
        (Set::Cluster { named: false }, "other-1", None),
        (Set::Cluster { named: true }, "other-1", Some("vetch")),
        (Set::KubeProxy, "kube-proxy-other-1", None),
    ] {
        let service = service(set, "other-1", false, true).unwrap();
        assert_eq!(service.metadata.name.as_deref(), Some(name));
        let labels = service.metadata.labels.unwrap_or_default();
        assert_eq!(labels.get(PROXY_NAME_LABEL).map(String::as_str), label);
        assert_eq!(service.spec.unwrap().type_.as_deref(), Some("ClusterIP"));
        let slice = other_slice(set, "other-1", 1, 2).unwrap();
        assert_eq!(
            slice
                .metadata
                .labels
                .unwrap()
                .get(PROXY_NAME_LABEL)
                .map(String::as_str),
            label
        );
    }
}

#[test]
fn the_rules_have_every_service_once_and_the_dialled_with_udp() {
    let backends = Backends::new(pods(1), 2);
    for services in [1, 10, 100] {
        let places = dialled(services);
        let all = rule_services("ns", services, &places, 2, &backends, true);
        assert_eq!(all.len(), services as usize + places.len());
        let addresses: std::collections::BTreeSet<_> =
            all.iter().map(|service| service.cluster_ip).collect();
        assert_eq!(addresses.len(), services as usize);
        for service in &all {
            let is_dialled = service.name.starts_with("dialled-");
            assert_eq!(service.endpoints.len(), 2);
            assert_eq!(service.node_port.is_some(), is_dialled);
        }
        let of_dialled: Vec<_> = all.iter().filter(|one| one.node_port.is_some()).collect();
        for (number, pair) in (0..).zip(of_dialled.chunks(2)) {
            assert_eq!(pair[0].endpoints, backends.of(number));
            assert_eq!(pair[1].endpoints, pair[0].endpoints);
        }
        let endpoints: std::collections::BTreeSet<_> = (of_dialled.iter())
            .flat_map(|service| &service.endpoints)
            .collect();
        assert_eq!(endpoints.len(), 2 * places.len(), "no two share one");
        let last = all.last().unwrap();
        assert_eq!(last.name, format!("dialled-{}", places.len() - 1));
        assert_eq!(last.cluster_ip, virtual_address(services - 1));
    }
}

#[test]
fn addresses_stay_in_the_test_network() {
    for index in [0, 1, 49_999, 65_534, 200_000] {
        assert_eq!(virtual_address(index).octets()[..2], [198, 18]);
        for address in other_endpoints(index, 100) {
            assert_eq!(address.octets()[..2], [198, 19]);
        }
    }
    assert_ne!(other_endpoints(1, 2), other_endpoints(2, 2));
}

#[test]
fn a_server_listens_where_its_endpoints_are() {
    let args = |ports| {
        let pod = server(Path::Usual, 0, "node-1", "image", ports, 1).unwrap();
        pod.spec.unwrap().containers[0]
            .args
            .clone()
            .unwrap()
            .join(" ")
    };
    assert!(args(5).contains("--tcp 8080-8084 --udp 8080-8084 --control 8000"));
    // A change needs two ports to go between.
    assert!(args(1).contains("--tcp 8080-8081 "));
}

#[test]
fn only_pods_of_plain_routing_have_the_annotation() {
    for (path, name, wanted) in [
        (Path::Usual, "client-3", None),
        (Path::Routed, "routed-client-3", Some("false")),
    ] {
        let pod = client(path, 3, "node-1", "image", &[]).unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some(name));
        let annotations = pod.metadata.annotations.unwrap_or_default();
        let redirect = annotations.get("vetch.dev/redirect");
        assert_eq!(redirect.map(String::as_str), wanted);
    }
}
