use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"namespace": "d", "name": "web"}, "spec": spec}))
        .expect("a service")
}

fn pod(name: &str, ip: &str, ready: bool) -> Value {
    json!({
        "metadata": {"namespace": "d", "name": name, "uid": format!("uid-{name}")},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"podIP": ip, "phase": "Running",
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })
}

fn of(service: &Service, pods: &[Value]) -> Value {
    let pods: Vec<Arc<Pod>> = pods
        .iter()
        .map(|pod| Arc::new(serde_json::from_value(pod.clone()).expect("a pod")))
        .collect();
    // Addresses as "ip" only: what they stand for is tested once.
    let short = |list: Option<Vec<EndpointAddress>>| -> Vec<String> {
        list.into_iter().flatten().map(|own| own.ip).collect()
    };
    let all = subsets(service, &pods).into_iter().map(|own| {
        let ports: Vec<String> = own
            .ports
            .into_iter()
            .flatten()
            .map(|port| format!("{}:{}", port.name.unwrap_or_default(), port.port))
            .collect();
        json!([short(own.addresses), short(own.not_ready_addresses), ports])
    });
    all.collect()
}

#[test]
fn subsets_of_services() {
    let one = json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80, "targetPort": "http"}]});
    let two = json!({"clusterIP": "10.96.0.1", "ports": [
        {"name": "b", "port": 80, "targetPort": "http"}, {"name": "a", "port": 81, "targetPort": 9000}]});
    let mut deleted = pod("z", "10.0.0.9", true);
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let mut nameless = pod("y", "10.0.0.8", true);
    nameless["spec"]["containers"] = json!([{"name": "c"}]);
    let mut done = pod("x", "10.0.0.7", true);
    done["status"]["phase"] = "Succeeded".into();
    for (what, spec, pods, wanted) in [
        ("no pods", one.clone(), vec![], json!([])),
        (
            "ready and waiting share a subset, in order",
            one.clone(),
            vec![
                pod("b", "10.0.0.2", true),
                pod("c", "10.0.0.3", false),
                pod("a", "10.0.0.1", true),
            ],
            json!([[["10.0.0.1", "10.0.0.2"], ["10.0.0.3"], [":8080"]]]),
        ),
        (
            "ports in order",
            two.clone(),
            vec![pod("a", "10.0.0.1", true)],
            json!([[["10.0.0.1"], [], ["a:9000", "b:8080"]]]),
        ),
        (
            "a pod without one of the ports is apart",
            two.clone(),
            vec![pod("a", "10.0.0.1", true), nameless.clone()],
            json!([
                [["10.0.0.8"], [], ["a:9000"]],
                [["10.0.0.1"], [], ["a:9000", "b:8080"]]
            ]),
        ),
        (
            "a pod without any is left out",
            one.clone(),
            vec![nameless],
            json!([]),
        ),
        (
            "ended or ending pods are out",
            one.clone(),
            vec![deleted.clone(), done],
            json!([]),
        ),
        (
            "unless everything is published",
            json!({"clusterIP": "10.96.0.1", "publishNotReadyAddresses": true, "ports": [{"port": 80}]}),
            vec![deleted, pod("b", "10.0.0.2", false)],
            json!([[["10.0.0.2", "10.0.0.9"], [], [":80"]]]),
        ),
        (
            "headless without ports",
            json!({"clusterIP": "None"}),
            vec![pod("a", "10.0.0.1", true)],
            json!([[["10.0.0.1"], [], []]]),
        ),
        (
            "no ports otherwise",
            json!({"clusterIP": "10.96.0.1"}),
            vec![pod("a", "10.0.0.1", true)],
            json!([]),
        ),
        (
            "the other family",
            json!({"clusterIP": "fd00::1", "ports": [{"port": 80}]}),
            vec![pod("a", "10.0.0.1", true)],
            json!([]),
        ),
    ] {
        assert_eq!(of(&service(spec), &pods), wanted, "{what}");
    }
}

#[test]
fn an_address_says_what_it_stands_for() {
    let web = service(json!({"clusterIP": "None", "ports": [{"port": 80}]}));
    let mut value = pod("a", "10.0.0.1", true);
    value["spec"]["hostname"] = "host".into();
    value["spec"]["subdomain"] = "web".into();
    let pods = [Arc::new(serde_json::from_value(value).expect("a pod"))];
    let all = serde_json::to_value(subsets(&web, &pods)).expect("json");
    let address = json!({"ip": "10.0.0.1", "hostname": "host", "nodeName": "n1",
        "targetRef": {"kind": "Pod", "namespace": "d", "name": "a", "uid": "uid-a"}});
    assert_eq!(
        all,
        json!([{"addresses": [address], "ports": [{"port": 80, "protocol": "TCP"}]}])
    );
}

#[test]
fn ready_addresses_are_kept_before_waiting_ones() {
    let list = |count: usize| -> Option<Vec<EndpointAddress>> {
        Some(vec![EndpointAddress::default(); count])
    };
    let counts = |own: &EndpointSubset| {
        [&own.addresses, &own.not_ready_addresses].map(|list| list.as_ref().map_or(0, Vec::len))
    };
    for (before, cut, after) in [
        (vec![[1000, 0]], false, vec![[1000, 0]]),
        (vec![[600, 600]], true, vec![[600, 400]]),
        (vec![[900, 300], [900, 0]], true, vec![[500, 0], [500, 0]]),
        (
            vec![[0, 1500], [500, 500]],
            true,
            vec![[0, 375], [500, 125]],
        ),
    ] {
        let mut subsets: Vec<EndpointSubset> = before
            .iter()
            .map(|[ready, waiting]| EndpointSubset {
                addresses: list(*ready),
                not_ready_addresses: list(*waiting),
                ports: None,
            })
            .collect();
        assert_eq!(truncate(&mut subsets), cut, "{before:?}");
        let now: Vec<[usize; 2]> = subsets.iter().map(counts).collect();
        assert_eq!(now, after, "{before:?}");
    }
}
