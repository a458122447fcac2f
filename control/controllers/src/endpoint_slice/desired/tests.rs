use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Service {
    let service = json!({
        "metadata": {"namespace": "d", "name": "web", "uid": "u", "labels": {"team": "a"}},
        "spec": spec,
    });
    serde_json::from_value(service).expect("a service")
}

fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"namespace": "d", "name": name, "uid": format!("uid-{name}")},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": "True"}]},
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn known(node: &str) -> Option<Place> {
    let zone = Some("east".to_owned());
    (node == "n1").then_some(Place { zone })
}

fn only(service: &Service, pod: Arc<Pod>, family: Family) -> Vec<Endpoint> {
    let groups = desired(service, &[pod], family, known);
    groups
        .into_values()
        .flat_map(|group| group.endpoints)
        .collect()
}

#[test]
fn an_endpoint_says_all_of_its_pod() {
    let web = service(json!({"ports": [{"name": "http", "port": 80, "targetPort": "http"}]}));
    let groups = desired(&web, &[pod("a", |_| {})], Family::V4, known);
    let group = groups.into_values().next().expect("a group");
    assert_eq!(
        serde_json::to_value(group.ports).expect("json"),
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
    );
    assert_eq!(
        serde_json::to_value(group.endpoints).expect("json"),
        json!([{
            "addresses": ["10.0.0.1"], "nodeName": "n1", "zone": "east",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "d", "name": "a", "uid": "uid-a"},
        }])
    );
}

#[test]
fn conditions() {
    let plain = service(json!({"ports": [{"port": 80}]}));
    let published = service(json!({"ports": [{"port": 80}], "publishNotReadyAddresses": true}));
    // (pod ready, pod being deleted) -> ready, ready when published, serving, terminating
    for (ready, deleted, wanted) in [
        (true, false, (true, true, true, false)),
        (false, false, (false, true, false, false)),
        (true, true, (false, true, true, true)),
        (false, true, (false, true, false, true)),
    ] {
        let pod = pod("a", |pod| {
            if !ready {
                pod["status"]["conditions"][0]["status"] = "False".into();
            }
            if deleted {
                pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
        });
        let of = |service| {
            let endpoint = only(service, pod.clone(), Family::V4).remove(0);
            let conditions = endpoint.conditions.expect("conditions");
            let all = [conditions.ready, conditions.serving, conditions.terminating];
            all.map(|own| own.expect("set"))
        };
        let [one, serving, terminating] = of(&plain);
        let [two, ..] = of(&published);
        assert_eq!(
            (one, two, serving, terminating),
            wanted,
            "{ready} {deleted}"
        );
    }
}

#[test]
fn which_pods_are_endpoints() {
    let plain = service(json!({"ports": [{"port": 80}]}));
    let published = service(json!({"ports": [{"port": 80}], "publishNotReadyAddresses": true}));
    let lost = || pod("a", |pod| pod["spec"]["nodeName"] = "gone".into());
    let count = |service, pod| only(service, pod, Family::V4).len();
    assert_eq!(count(&plain, lost()), 0, "its node does not exist");
    assert_eq!(count(&published, lost()), 1);
    let ended = pod("a", |pod| pod["status"]["phase"] = "Failed".into());
    assert_eq!(count(&published, ended), 0);
    let new = pod("a", |pod| pod["status"]["podIPs"] = json!([]));
    assert_eq!(count(&published, new), 0);
    let v6 = only(&plain, pod("a", |_| {}), Family::V6);
    assert_eq!(v6[0].addresses, ["fd00::1"]);
}

#[test]
fn pods_with_other_ports_are_another_group() {
    let web = service(json!({"ports": [
        {"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 81, "targetPort": "more"}]}));
    let with_more = pod("b", |pod| {
        let more = json!({"name": "more", "containerPort": 9000});
        pod["spec"]["containers"][0]["ports"]
            .as_array_mut()
            .expect("ports")
            .push(more);
    });
    let groups = desired(&web, &[pod("a", |_| {}), with_more], Family::V4, known);
    let ports: Vec<usize> = groups.values().map(|group| group.ports.len()).collect();
    assert_eq!(ports, [1, 2]);
}

#[test]
fn hints_follow_the_traffic_distribution() {
    for (distribution, hints) in [
        (None, Value::Null),
        (Some("PreferClose"), json!({"forZones": [{"name": "east"}]})),
        (
            Some("PreferSameZone"),
            json!({"forZones": [{"name": "east"}]}),
        ),
        (
            Some("PreferSameNode"),
            json!({"forZones": [{"name": "east"}], "forNodes": [{"name": "n1"}]}),
        ),
    ] {
        let web = service(json!({"ports": [{"port": 80}], "trafficDistribution": distribution}));
        let endpoint = only(&web, pod("a", |_| {}), Family::V4).remove(0);
        assert_eq!(
            serde_json::to_value(endpoint.hints).expect("json"),
            hints,
            "{distribution:?}"
        );
    }
}

/// Proxies follow hints only where every ready endpoint has one, so those that are not ready need none.
#[test]
fn hints_are_what_is_known_of_an_endpoint_that_is_ready() {
    let of = |distribution: &str, pod: Arc<Pod>, place: Place| {
        let web = service(json!({"ports": [{"port": 80}], "trafficDistribution": distribution}));
        let groups = desired(&web, &[pod], Family::V4, |_| Some(place.clone()));
        let mut endpoints = groups.into_values().flat_map(|group| group.endpoints);
        let hints = endpoints.next().expect("an endpoint").hints;
        serde_json::to_value(hints).expect("json")
    };
    let nowhere = Place::default();
    assert_eq!(
        of("PreferSameNode", pod("a", |_| {}), nowhere.clone()),
        json!({"forNodes": [{"name": "n1"}]})
    );
    assert_eq!(of("PreferSameZone", pod("a", |_| {}), nowhere), Value::Null);
    let waiting = pod("a", |pod| {
        pod["status"]["conditions"][0]["status"] = "False".into();
    });
    let east = Place {
        zone: Some("east".into()),
    };
    assert_eq!(of("PreferSameNode", waiting, east), Value::Null);
}

#[test]
fn the_annotation_goes_before_the_traffic_distribution() {
    for (annotation, hinted) in [("Auto", false), ("Disabled", true)] {
        let mut web = service(json!({"trafficDistribution": "PreferSameZone"}));
        let key = "service.kubernetes.io/topology-mode".to_owned();
        web.metadata.annotations = Some([(key, annotation.to_owned())].into());
        let endpoint = only(&web, pod("a", |_| {}), Family::V4).remove(0);
        assert_eq!(endpoint.hints.is_some(), hinted, "{annotation}");
    }
}

#[test]
fn labels_are_the_services_and_the_managers() {
    let all = |spec| serde_json::to_value(labels(&service(spec))).expect("json");
    assert_eq!(
        all(json!({"clusterIP": "10.96.0.1"})),
        json!({"team": "a", "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
    );
    assert_eq!(
        all(json!({"clusterIP": "None"}))["service.kubernetes.io/headless"],
        ""
    );
}

#[test]
fn a_write_without_a_trigger_drops_the_earlier_ones_time() {
    let at = "2026-01-01T00:00:00Z".parse().expect("a time");
    let with = annotated(None, Some(at));
    let text = with.as_ref().and_then(|all| all.get(LAST_CHANGE)).cloned();
    assert_eq!(text.as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(annotated(with, None), None);
}
