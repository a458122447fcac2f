use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::testing::{World, node, pod, requests, with};

/// Small, and of a ReplicaSet.
fn web(name: &str) -> Arc<PodInfo> {
    pod(name, with(requests("100m", "100Mi"), owned("web")))
}

fn owned(by: &str) -> Value {
    json!({"metadata": {"labels": {"app": by}, "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": by, "uid": by, "controller": true},
    ]}})
}

fn best(pod: &Arc<PodInfo>, world: &World) -> Vec<String> {
    let view = world.view();
    let scores = scores(pod, &view.nodes, &view);
    let highest = scores.iter().max();
    let nodes = view.nodes.iter().zip(&scores);
    let best = nodes.filter(|(_, score)| Some(*score) == highest);
    best.map(|(node, _)| node.name().to_owned()).collect()
}

fn two(a: Value, b: Value) -> World {
    World::of([node("a", a), node("b", b)])
}

#[test]
fn equals_are_all_named() {
    assert_eq!(best(&web("p"), &two(json!({}), json!({}))), ["a", "b"]);
}

#[test]
fn the_emptier_node_wins() {
    let mut world = two(json!({}), json!({}));
    world.nodes[0].add(pod("x", requests("2", "2Gi")));
    assert_eq!(best(&web("p"), &world), ["b"]);
    assert_eq!(
        best(&pod("q", json!({})), &world),
        ["b"],
        "requests nothing"
    );
}

#[test]
fn pods_that_request_nothing_count() {
    let mut world = two(json!({}), json!({}));
    world.nodes[0].add(pod("x", json!({})));
    assert_eq!(best(&pod("p", json!({})), &world), ["b"]);
}

#[test]
fn even_use_wins() {
    let mut world = two(json!({}), json!({}));
    // As much in sum, but of one kind.
    world.nodes[0].add(pod("x", requests("2", "0")));
    world.nodes[1].add(pod("y", requests("1", "1Gi")));
    assert_eq!(best(&web("p"), &world), ["b"]);
}

#[test]
fn siblings_spread() {
    let mut world = two(json!({}), json!({}));
    world.nodes[0].add(web("x"));
    world.nodes[1].add(pod("y", with(requests("500m", "500Mi"), owned("other"))));
    assert_eq!(best(&web("p"), &world), ["b"]);
}

#[test]
fn pods_of_a_service_spread() {
    let labelled = |name| pod(name, json!({"metadata": {"labels": {"app": "web"}}}));
    let mut world = two(json!({}), json!({}));
    world.nodes[0].add(labelled("x"));
    world.nodes[1].add(pod("y", requests("500m", "500Mi")));
    assert_eq!(
        best(&labelled("p"), &world),
        ["a"],
        "nothing makes them belong together"
    );
    let selector = [("app".to_owned(), "web".to_owned())].into();
    let services = [("web".to_owned(), selector)].into();
    world.services.insert("default".into(), services);
    assert_eq!(best(&labelled("p"), &world), ["b"]);
}

#[test]
fn zones_count_besides_nodes() {
    let zone = |zone: &str| json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
    let mut world = World::of([
        node("a", zone("x")),
        node("b", zone("x")),
        node("c", zone("y")),
    ]);
    world.nodes[0].add(web("x"));
    assert_eq!(best(&web("p"), &world), ["c"]);
}

#[test]
fn own_constraints_stand_for_the_defaults() {
    let spread = json!({"spec": {"topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }]}});
    let rack = |rack: &str| json!({"metadata": {"labels": {"rack": rack}}});
    let mut world = World::of([
        node("a", rack("1")),
        node("b", rack("1")),
        node("c", rack("2")),
        node("d", json!({})),
    ]);
    world.nodes[0].add(web("x"));
    let asking = pod(
        "p",
        with(with(requests("100m", "100Mi"), owned("web")), spread),
    );
    assert_eq!(best(&asking, &world), ["c"]);
}

#[test]
fn soft_taints_repel() {
    let tainted = json!({"spec": {"taints": [{"key": "x", "effect": "PreferNoSchedule"}]}});
    let mut world = two(tainted, json!({}));
    world.nodes[1].add(pod("x", requests("1", "1Gi")));
    assert_eq!(best(&web("p"), &world), ["b"]);
}

#[test]
fn preferred_nodes_attract() {
    let prefer = json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}},
    ]}}}});
    let mut world = two(json!({"metadata": {"labels": {"disk": "ssd"}}}), json!({}));
    world.nodes[0].add(pod("x", requests("1", "1Gi")));
    assert_eq!(best(&pod("p", prefer), &world), ["a"]);
}

#[test]
fn preferred_pods_attract_and_repel_both_ways() {
    let of = |app: &str| json!({"metadata": {"labels": {"app": app}}});
    let prefer = |kind: &str, app: &str| {
        json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 10, "podAffinityTerm": {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "kubernetes.io/hostname"}},
        ]}}}})
    };
    let (near, far) = ("podAffinity", "podAntiAffinity");
    let table = [
        ("near it", of("db"), prefer(near, "db"), "a"),
        ("far from it", of("db"), prefer(far, "db"), "b"),
        ("it wants me near", prefer(near, "web"), of("web"), "a"),
        ("it wants me away", prefer(far, "web"), of("web"), "b"),
    ];
    for (what, there, asked, wanted) in table {
        let mut world = two(json!({}), json!({}));
        world.nodes[0].add(pod("x", there));
        world.nodes[1].add(pod("y", json!({})));
        assert_eq!(best(&pod("p", asked), &world), [wanted], "{what}");
    }
}

#[test]
fn large_images_that_are_there_attract() {
    let image =
        |bytes: i64| json!({"status": {"images": [{"names": ["app:latest"], "sizeBytes": bytes}]}});
    let wants = pod(
        "p",
        json!({"spec": {"containers": [{"name": "a", "image": "app"}]}}),
    );
    let large = two(image(900 << 20), json!({}));
    assert_eq!(best(&wants, &large), ["a"]);
    let small = two(image(10 << 20), json!({}));
    assert_eq!(best(&wants, &small), ["a", "b"]);
}
