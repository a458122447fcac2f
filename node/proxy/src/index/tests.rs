use serde_json::{Value, json};

use super::*;

fn service_with(name: &str, uid: &str, spec: Value) -> core::v1::Service {
    let mut object = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": uid},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn service(name: &str, ip: &str) -> core::v1::Service {
    service_with(name, "1", json!({"clusterIP": ip}))
}

fn slice_with(name: &str, service: &str, endpoints: Value) -> discovery::v1::EndpointSlice {
    let value = json!({
        "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints
    });
    serde_json::from_value(value).unwrap()
}

fn slice(name: &str, service: &str, ip: &str) -> discovery::v1::EndpointSlice {
    slice_with(name, service, json!([{"addresses": [ip]}]))
}

fn object_name(name: &str) -> ObjectName {
    ObjectName::new("ns", name)
}

fn lines(changes: BTreeMap<ObjectName, Vec<ServicePort>>) -> Vec<String> {
    let line = |(name, ports): (&ObjectName, &Vec<ServicePort>)| {
        let backends = ports
            .iter()
            .flat_map(|port| &port.target.cluster)
            .map(ToString::to_string);
        format!("{name} {}", backends.collect::<Vec<_>>().join(" "))
    };
    changes.iter().map(line).collect()
}

fn changes(index: &mut Index) -> Vec<String> {
    lines(index.take_changes())
}

fn listed() -> Index {
    let mut index = Index::new("here".to_owned(), None);
    index.service(Event::Init);
    index.service(Event::InitApply(service("a", "10.96.0.1")));
    index.service(Event::InitApply(service("b", "10.96.0.2")));
    assert!(!index.complete());
    index.service(Event::InitDone);
    assert!(!index.complete(), "slices are not listed yet");
    index.slice(Event::Init);
    index.slice(Event::InitApply(slice("a-1", "a", "10.244.0.1")));
    index.slice(Event::InitDone);
    assert!(!index.complete(), "nodes are not listed yet");
    index.node(Event::Init);
    index.node(Event::InitDone);
    assert!(!index.complete(), "host ports are not known yet");
    index.host_ports(Arc::default());
    assert!(index.complete());
    assert_eq!(changes(&mut index), ["ns/a 10.244.0.1:8080", "ns/b "]);
    index
}

fn node(name: &str, zone: Option<&str>, address: &str, pods: &str) -> core::v1::Node {
    let mut value = json!({
        "metadata": {"name": name, "labels": {}},
        "spec": {"podCIDRs": [pods]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}
    });
    if let Some(zone) = zone {
        value["metadata"]["labels"]["topology.kubernetes.io/zone"] = zone.into();
    }
    serde_json::from_value(value).unwrap()
}

fn in_zone(zone: Option<&str>) -> Event<core::v1::Node> {
    Event::Apply(node("here", zone, "192.0.2.9", "10.244.9.0/24"))
}

fn peers(index: &Index) -> (Vec<String>, Vec<String>) {
    (
        index.peers().iter().map(ToString::to_string).collect(),
        index.peer_pods().iter().map(ToString::to_string).collect(),
    )
}

#[test]
fn the_other_nodes_are_peers() {
    let mut index = listed();
    let one = || node("one", None, "192.0.2.1", "10.244.1.0/24");
    let two = |address| node("two", None, address, "10.244.2.0/24");
    let own = node("here", None, "192.0.2.9", "10.244.9.0/24");
    index.node(Event::Apply(own));
    assert_eq!(peers(&index), (Vec::new(), Vec::new()), "its own is none");
    assert!(index.has_changes(), "but one of the cluster's");
    index.take_changes();
    index.node(Event::Apply(one()));
    assert!(index.has_changes());
    assert_eq!(changes(&mut index), Vec::<String>::new());
    assert!(!index.has_changes());
    index.node(Event::Apply(one()));
    assert!(!index.has_changes(), "as before");
    index.node(Event::Apply(two("192.0.2.2")));
    index.node(Event::Apply(two("192.0.2.3")));
    let both = ["10.244.1.0/24", "10.244.2.0/24"].map(str::to_owned);
    let addresses = ["192.0.2.1", "192.0.2.3"].map(str::to_owned);
    assert_eq!(peers(&index), (addresses.to_vec(), both.to_vec()));
    let cluster = index.cluster();
    assert!(cluster.addresses.contains(&"192.0.2.9".parse().unwrap()));
    assert_eq!((cluster.addresses.len(), cluster.pods.len()), (3, 3));
    index.take_changes();
    // A list takes away at its end.
    index.node(Event::Init);
    index.node(Event::InitApply(two("192.0.2.3")));
    assert!(!index.has_changes());
    index.node(Event::InitDone);
    assert!(index.has_changes());
    let (addresses, pods) = peers(&index);
    assert_eq!(
        (addresses, pods),
        (vec!["192.0.2.3".into()], vec![both[1].clone()])
    );
    index.node(Event::Delete(two("192.0.2.3")));
    assert_eq!(peers(&index), (Vec::new(), Vec::new()));
}

#[test]
fn only_what_changed_is_looked_at() {
    let mut index = listed();
    index.service(Event::Apply(service("a", "10.96.0.1")));
    index.slice(Event::Apply(slice("a-1", "a", "10.244.0.1")));
    assert!(!index.has_changes());
    index.slice(Event::Apply(slice("a-2", "a", "10.244.0.2")));
    assert_eq!(
        changes(&mut index),
        ["ns/a 10.244.0.1:8080 10.244.0.2:8080"]
    );
    index.slice(Event::Delete(slice("a-1", "a", "10.244.0.1")));
    assert_eq!(changes(&mut index), ["ns/a 10.244.0.2:8080"]);
    index.slice(Event::Apply(slice("a-2", "b", "10.244.0.2")));
    assert_eq!(changes(&mut index), ["ns/a ", "ns/b 10.244.0.2:8080"]);
    index.service(Event::Delete(service("b", "10.96.0.2")));
    assert_eq!(changes(&mut index), ["ns/b "]);
    index.service(Event::Apply(service("b", "10.96.0.3")));
    assert_eq!(
        changes(&mut index),
        ["ns/b 10.244.0.2:8080"],
        "slices may be there before their service"
    );
    index.touch([object_name("a")]);
    assert_eq!(changes(&mut index), ["ns/a "]);
    assert_eq!(lines(index.take_all()), ["ns/a ", "ns/b 10.244.0.2:8080"]);
}

#[test]
fn a_list_that_is_not_complete_takes_nothing_away() {
    let mut index = listed();
    index.slice(Event::Init);
    index.service(Event::Init);
    index.service(Event::InitApply(service("b", "10.96.0.2")));
    assert!(!index.has_changes());
    index.service(Event::InitDone);
    assert_eq!(
        changes(&mut index),
        ["ns/a "],
        "a is gone, and wants nothing"
    );
    index.slice(Event::InitDone);
    assert_eq!(changes(&mut index), ["ns/a "]);
}

#[test]
fn a_zone_concerns_the_services_with_hints_for_zones() {
    let mut index = listed();
    let hinted = |addr: &str, zone: &str| json!({"addresses": [addr], "hints": {"forZones": [{"name": zone}]}});
    let endpoints = json!([hinted("10.244.0.2", "left"), hinted("10.244.0.3", "right")]);
    index.slice(Event::Apply(slice_with("b-1", "b", endpoints)));
    assert_eq!(
        changes(&mut index),
        ["ns/b 10.244.0.2:8080 10.244.0.3:8080"]
    );
    index.node(in_zone(Some("left")));
    assert_eq!(changes(&mut index), ["ns/b 10.244.0.2:8080"]);
    index.node(in_zone(Some("left")));
    assert!(!index.has_changes());
    index.node(in_zone(Some("right")));
    assert_eq!(changes(&mut index), ["ns/b 10.244.0.3:8080"]);
    index.node(in_zone(None));
    assert_eq!(
        changes(&mut index),
        ["ns/b 10.244.0.2:8080 10.244.0.3:8080"]
    );
}

#[test]
fn the_health_of_balancers_with_policy_local_is_their_ready_endpoints_here() {
    let mut index = listed();
    let local = |port: u16| {
        json!({
            "clusterIP": "10.96.0.3", "type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "healthCheckNodePort": port
        })
    };
    let here = |addr: &str, ready: bool| {
        json!({
            "addresses": [addr], "nodeName": "here",
            "conditions": {"ready": ready, "serving": true, "terminating": !ready}
        })
    };
    let health = |index: &mut Index| -> Vec<(String, u16, usize)> {
        index.take_changes();
        index
            .health()
            .iter()
            .map(|(name, check)| (name.to_string(), check.port, check.endpoints))
            .collect()
    };
    index.service(Event::Apply(service_with("lb", "1", local(31000))));
    assert_eq!(health(&mut index), [("ns/lb".to_owned(), 31000, 0)]);
    let there = json!({"addresses": ["10.244.9.9"], "nodeName": "there"});
    let endpoints = json!([
        here("10.244.0.1", true),
        here("10.244.0.2", false),
        here("10.244.0.3", true),
        there
    ]);
    index.slice(Event::Apply(slice_with("lb-1", "lb", endpoints)));
    let mut six = slice_with("lb-6", "lb", json!([here("fd00::1", true)]));
    six.address_type = "IPv6".to_owned();
    index.slice(Event::Apply(six));
    // Another port of the same endpoint.
    let mut twice = slice_with("lb-2", "lb", json!([here("10.244.0.1", true)]));
    twice.ports.as_mut().unwrap()[0].port = Some(8081);
    index.slice(Event::Apply(twice));
    let mut portless = slice_with("lb-3", "lb", json!([here("10.244.0.9", true)]));
    portless.ports = None;
    index.slice(Event::Apply(portless));
    assert_eq!(health(&mut index), [("ns/lb".to_owned(), 31000, 2)]);
    index.slice(Event::Apply(slice_with(
        "lb-1",
        "lb",
        json!([here("10.244.0.1", false)]),
    )));
    assert_eq!(health(&mut index), [("ns/lb".to_owned(), 31000, 1)]);
    index.service(Event::Apply(service_with("lb", "1", local(31001))));
    assert_eq!(health(&mut index), [("ns/lb".to_owned(), 31001, 1)]);
    index.service(Event::Delete(service("lb", "10.96.0.3")));
    assert_eq!(health(&mut index), []);
}

#[test]
fn a_problem_is_reported_once_while_it_lasts() {
    let mut index = listed();
    let sctp =
        |target: u16| json!({"ports": [{"port": 80, "protocol": "SCTP", "targetPort": target}]});
    let problem = |target| Problem::SctpPort { port: 80, target };
    let report = |uid: &str, target| Report {
        service: object_name("a"),
        uid: Some(uid.to_owned()),
        problem: problem(target),
    };
    index.slice(Event::Delete(slice("a-1", "a", "10.244.0.1")));
    index.service(Event::Apply(service_with("a", "1", sctp(8080))));
    assert_eq!(index.take_reports(), [], "not looked at yet");
    index.take_changes();
    assert_eq!(index.take_reports(), [report("1", 8080)]);
    index.take_all();
    assert_eq!(index.take_reports(), []);
    let problems: Vec<&Problem> = index.problems(&object_name("a")).collect();
    assert_eq!(problems, [&problem(8080)]);

    index.service(Event::Apply(service_with("a", "1", sctp(8081))));
    index.take_changes();
    index.service(Event::Apply(service_with("a", "2", sctp(8082))));
    index.take_changes();
    assert_eq!(index.take_reports(), [report("2", 8082)], "8081 is over");

    index.service(Event::Delete(service("a", "10.96.0.1")));
    index.take_changes();
    assert_eq!(index.problems(&object_name("a")).count(), 0);
    index.service(Event::Apply(service_with("a", "3", sctp(8082))));
    index.take_changes();
    assert_eq!(index.take_reports(), [report("3", 8082)]);
}

#[test]
fn a_load_balancers_address_is_announced_by_the_node_it_names() {
    let mut index = listed();
    let balancer = |node: &str| {
        let mut service = service_with("a", "1", json!({"type": "LoadBalancer"}));
        service.metadata.annotations =
            Some([(crate::announce::ANNOUNCED_BY.to_owned(), node.to_owned())].into());
        let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}});
        service.status = Some(serde_json::from_value(status).unwrap());
        service
    };
    for (node, announced) in [("elsewhere", 0), ("here", 1), ("elsewhere", 0), ("here", 1)] {
        index.service(Event::Apply(balancer(node)));
        assert!(index.has_changes(), "{node}");
        index.take_changes();
        assert_eq!(index.announced().len(), announced, "{node}");
        let who = index.who_announces("192.0.2.9".parse().unwrap());
        assert_eq!(who.count(), announced, "{node}");
    }
    index.service(Event::Delete(balancer("here")));
    index.take_changes();
    assert!(index.announced().is_empty());
}

/// Of sandboxes `a`, `b` and so on, in this order.
fn host_ports(pods: &[(&str, &[(&str, u16)])]) -> Arc<vetch_network::HostPorts> {
    let port = |(ip, port): &(&str, u16)| vetch_network::HostPort {
        host_ip: ip.parse().ok(),
        protocol: vetch_ebpf_common::Protocol::Tcp,
        port: *port,
        container_port: 80,
    };
    let pod = |(id, ports): &(&str, &[(&str, u16)])| {
        let pod = vetch_network::PodPorts {
            ips: vec![format!("10.244.9.{}", id.as_bytes()[0]).parse().unwrap()],
            ports: ports.iter().map(port).collect(),
        };
        ((*id).to_owned(), pod)
    };
    Arc::new(pods.iter().map(pod).collect())
}

#[test]
fn a_pods_host_ports_are_served_while_it_is_attached() {
    let mut index = listed();
    let pods: &[(&str, &[(&str, u16)])] = &[("a", &[("", 8080), ("", 8081)]), ("b", &[("", 82)])];
    index.host_ports(host_ports(pods));
    assert_eq!(
        changes(&mut index),
        [
            "hostPort/a 10.244.9.97:80 10.244.9.97:80",
            "hostPort/b 10.244.9.98:80"
        ]
    );
    index.host_ports(host_ports(pods));
    assert!(!index.has_changes(), "as before");
    index.host_ports(host_ports(&pods[1..]));
    assert_eq!(
        changes(&mut index),
        ["hostPort/a "],
        "and b is not looked at"
    );
    assert_eq!(
        lines(index.take_all()),
        ["hostPort/b 10.244.9.98:80", "ns/a 10.244.0.1:8080", "ns/b "]
    );
    index.touch([ObjectName::new("hostPort", "b")]);
    assert_eq!(changes(&mut index), ["hostPort/b 10.244.9.98:80"]);
}

#[test]
fn a_host_port_waits_for_its_address() {
    let mut index = listed();
    index.host_ports(host_ports(&[
        ("a", &[("192.0.2.9", 80)]),
        ("b", &[("", 81)]),
    ]));
    assert_eq!(
        changes(&mut index),
        ["hostPort/a ", "hostPort/b 10.244.9.98:80"]
    );
    let own = |addresses: &[&str]| -> BTreeSet<IpAddr> {
        addresses.iter().map(|ip| ip.parse().unwrap()).collect()
    };
    index.node_addresses(&own(&["192.0.2.8"]));
    assert!(!index.has_changes());
    index.node_addresses(&own(&["192.0.2.8", "192.0.2.9"]));
    assert_eq!(changes(&mut index), ["hostPort/a 10.244.9.97:80"]);
    index.node_addresses(&own(&["192.0.2.9"]));
    assert!(!index.has_changes());
    index.node_addresses(&own(&[]));
    assert_eq!(changes(&mut index), ["hostPort/a "]);
}

#[test]
fn a_node_port_comes_before_a_host_port_for_as_long_as_it_is_there() {
    let mut index = listed();
    let node_port = |name: &str, ip: &str, port: u16| {
        let ports = json!([{"port": 80, "nodePort": port}]);
        let spec = json!({"clusterIP": ip, "type": "NodePort", "ports": ports});
        Event::Apply(service_with(name, "1", spec))
    };
    index.host_ports(host_ports(&[("a", &[("", 30080)]), ("b", &[("", 30081)])]));
    index.take_changes();
    index.service(node_port("b", "10.96.0.2", 30080));
    assert_eq!(changes(&mut index), ["hostPort/a ", "ns/b "]);
    // The same in the other order, and with a second that has it too.
    index.host_ports(host_ports(&[("b", &[("", 30081)])]));
    index.host_ports(host_ports(&[("a", &[("", 30080)]), ("b", &[("", 30081)])]));
    assert_eq!(changes(&mut index), ["hostPort/a "]);
    index.service(node_port("c", "10.96.0.3", 30080));
    index.take_changes();
    index.service(Event::Delete(service("b", "10.96.0.2")));
    assert_eq!(changes(&mut index), ["hostPort/a ", "ns/b "]);
    index.service(node_port("c", "10.96.0.3", 30082));
    assert_eq!(changes(&mut index), ["hostPort/a 10.244.9.97:80", "ns/c "]);
}

#[test]
fn what_this_node_answers_leads_here_while_nobody_else_does() {
    let mut index = listed();
    let own = OwnService {
        name: object_name("b"),
        port: 80,
        backends: vec!["192.0.2.1:10053".parse().unwrap()],
        always: false,
    };
    index.answer_here(Some(own));
    assert_eq!(changes(&mut index), ["ns/b 192.0.2.1:10053"]);
    index.slice(Event::Apply(slice("b-1", "b", "10.244.0.2")));
    assert_eq!(changes(&mut index), ["ns/b 10.244.0.2:8080"]);
    index.slice(Event::Delete(slice("b-1", "b", "10.244.0.2")));
    assert_eq!(changes(&mut index), ["ns/b 192.0.2.1:10053"]);
    let selecting = json!({"clusterIP": "10.96.0.2", "selector": {"app": "b"}});
    index.service(Event::Apply(service_with("b", "1", selecting)));
    assert_eq!(changes(&mut index), ["ns/b "]);
    index.service(Event::Apply(service("b", "10.96.0.2")));
    assert_eq!(changes(&mut index), ["ns/b 192.0.2.1:10053"]);
    assert!(!index.has_changes(), "others are as they were");
}
