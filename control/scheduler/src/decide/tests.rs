use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::*;
use crate::testing::{World, node, pod, requests, with};

fn decided(pod: &Arc<PodInfo>, world: &World, seed: u64) -> Decision {
    decide(pod, &world.view(), &mut SmallRng::seed_from_u64(seed))
}

fn on(node: &str) -> Decision {
    Decision::Node(node.into())
}

fn priority(priority: i32) -> Value {
    json!({"spec": {"priority": priority}})
}

#[test]
fn replicas_take_a_node_each() {
    let owned = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "web", "controller": true},
    ]}});
    for (seed, cpu) in [(1, "0"), (2, "100m"), (3, "1")] {
        let mut world = World::of(["a", "b", "c"].map(|name| node(name, json!({}))));
        world.nodes[0].add(pod("other", requests("500m", "500Mi")));
        for i in 0..3 {
            let replica = pod(&format!("p{i}"), with(requests(cpu, "0"), owned.clone()));
            let Decision::Node(name) = decided(&replica, &world, seed) else {
                panic!("no node for p{i}");
            };
            let mut nodes = world.nodes.iter_mut();
            nodes
                .find(|node| node.name() == name)
                .expect("a node")
                .add(replica);
        }
        let replicas = world
            .nodes
            .iter()
            .map(|node| node.pods.keys().filter(|uid| uid.starts_with('p')).count());
        assert_eq!(replicas.collect::<Vec<_>>(), [1, 1, 1], "cpu {cpu}");
    }
}

#[test]
fn equally_good_nodes_are_drawn_by_lot() {
    let world = World::of(["a", "b", "c"].map(|name| node(name, json!({}))));
    let drawn: std::collections::BTreeSet<String> = (0..30)
        .map(|seed| match decided(&pod("p", json!({})), &world, seed) {
            Decision::Node(node) => node,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(drawn.len(), 3);
}

#[test]
fn without_a_node_every_refusal_is_told() {
    let world = World::of(["a", "b"].map(|name| node(name, json!({}))));
    let Decision::Nowhere(refusals) = decided(&pod("p", requests("9", "0")), &world, 0) else {
        panic!("a node for 9 cpus");
    };
    let names: Vec<&str> = refusals.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(
        decided(&pod("p", json!({})), &World::default(), 0),
        Decision::Nowhere(Vec::new())
    );
}

#[test]
fn claims_are_not_there() {
    let world = World::of([node("a", json!({}))]);
    let volumes = json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    let wanted = Decision::Missing("persistentvolumeclaim \"data\" not found".into());
    assert_eq!(decided(&pod("p", volumes), &world, 0), wanted);
    let ephemeral = json!({"spec": {"volumes": [{"name": "v", "ephemeral": {}}]}});
    let wanted = Decision::Missing(
        "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\""
            .into(),
    );
    assert_eq!(decided(&pod("p", ephemeral), &world, 0), wanted);
}

#[test]
fn room_that_was_made_is_kept_for_whom_it_was_made() {
    let mut world = World::of([node("a", json!({}))]);
    let vip = pod("vip", with(requests("3", "0"), priority(10)));
    world
        .nominated
        .insert("vip".into(), ("a".into(), vip.clone()));
    let asking = |at| pod("p", with(requests("2", "0"), priority(at)));
    assert!(matches!(
        decided(&asking(10), &world, 0),
        Decision::Nowhere(_)
    ));
    assert_eq!(decided(&asking(11), &world, 0), on("a"), "more important");
    assert_eq!(decided(&vip, &world, 0), on("a"));
}

#[test]
fn the_nominated_node_is_taken_if_it_does() {
    let mut world = World::of([node("a", json!({})), node("b", json!({}))]);
    world.nodes[0].add(pod("x", requests("3", "0")));
    let small = pod("small", requests("1", "0"));
    assert_eq!(decided(&small, &world, 0), on("b"));
    world
        .nominated
        .insert("small".into(), ("a".into(), small.clone()));
    assert_eq!(decided(&small, &world, 0), on("a"));
    let large = pod("large", requests("2", "0"));
    world
        .nominated
        .insert("large".into(), ("a".into(), large.clone()));
    assert_eq!(decided(&large, &world, 0), on("b"));
}

#[test]
fn in_large_clusters_a_part_of_the_nodes_suffices() {
    for (nodes, wanted) in [
        (3, 3),
        (99, 99),
        (100, 100),
        (500, 230),
        (5000, 500),
        (10000, 500),
    ] {
        assert_eq!(enough(nodes), wanted, "of {nodes}");
    }
}
