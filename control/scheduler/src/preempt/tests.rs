use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::*;
use crate::testing::{World, node, pod, requests, with};

fn of(name: &str, priority: i32, cpu: &str) -> Arc<PodInfo> {
    pod(
        name,
        with(requests(cpu, "0"), json!({"spec": {"priority": priority}})),
    )
}

fn preempted(pod: &Arc<PodInfo>, world: &World) -> Preemption {
    let view = world.view();
    let candidate = Candidate::new(pod, &view.nodes, view.namespaces, view.volumes);
    let refusals: Vec<(String, Refusal)> = view
        .nodes
        .iter()
        .filter_map(|node| Some((node.name().to_owned(), candidate.check(node).err()?)))
        .collect();
    assert_eq!(refusals.len(), view.nodes.len(), "it fits somewhere");
    let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
    preempt(pod, &view, &refusals, now, &mut SmallRng::seed_from_u64(0))
}

/// `node: victims`, or why not.
fn told(pod: &Arc<PodInfo>, world: &World) -> String {
    match preempted(pod, world) {
        Preemption::Victims { node, victims } => {
            let names: Vec<&str> = victims.iter().map(|victim| victim.name()).collect();
            format!("{node}: {}", names.join(" "))
        }
        Preemption::Ineligible(why) => why.into(),
        Preemption::Helpless(why) => why,
    }
}

fn world(nodes: &[&[Arc<PodInfo>]]) -> World {
    let names = ["a", "b", "c"];
    let nodes = nodes.iter().zip(names).map(|(pods, name)| {
        let mut node = node(name, json!({}));
        pods.iter().for_each(|pod| node.add(pod.clone()));
        node
    });
    World::of(nodes.collect::<Vec<_>>())
}

#[test]
fn only_as_many_go_as_must() {
    let table: [(&[Arc<PodInfo>], &str); 4] = [
        (&[of("x", 0, "4")], "a: x"),
        (
            &[of("x", 0, "1"), of("y", 1, "1"), of("z", 2, "2")],
            "a: y x",
        ),
        (&[of("x", 0, "2"), of("y", 1, "2")], "a: x"),
        (
            &[of("x", 9, "3"), of("y", 0, "1")],
            "0/1 nodes are available: 1 Insufficient cpu.",
        ),
    ];
    for (pods, wanted) in table {
        assert_eq!(told(&of("p", 5, "2"), &world(&[pods])), wanted);
    }
}

#[test]
fn equals_do_not_preempt() {
    let world = world(&[&[of("x", 5, "4")], &[of("y", 9, "4")]]);
    assert_eq!(
        told(&of("p", 5, "1"), &world),
        "0/2 nodes are available: 2 No preemption victims found for incoming pod."
    );
    assert_eq!(
        told(&of("p", 5, "5"), &world),
        "0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
}

#[test]
fn the_least_harm_is_chosen() {
    let started = |name: &str, day: u8| {
        let status = json!({"status": {"startTime": format!("2026-01-0{day}T00:00:00Z")}});
        let own = with(requests("4", "0"), json!({"spec": {"priority": 1}}));
        pod(name, with(own, status))
    };
    let both = |a: &str, b: &str, priority| vec![of(a, priority, "2"), of(b, priority, "2")];
    let table = [
        (
            "lower priority",
            vec![of("x", 2, "4")],
            vec![of("y", 1, "4")],
            "b: y",
        ),
        ("fewer", both("v", "w", 1), vec![of("y", 1, "4")], "b: y"),
        (
            "younger",
            vec![started("x", 1)],
            vec![started("y", 2)],
            "b: y",
        ),
    ];
    for (what, on_a, on_b, wanted) in table {
        assert_eq!(
            told(&of("p", 5, "4"), &world(&[&on_a, &on_b])),
            wanted,
            "{what}"
        );
    }
}

#[test]
fn who_may_not_or_not_yet() {
    let never = |extra: Value| {
        pod(
            "p",
            with(
                with(requests("2", "0"), json!({"spec": {"priority": 5}})),
                extra,
            ),
        )
    };
    let policy = json!({"spec": {"preemptionPolicy": "Never"}});
    let busy = world(&[&[of("x", 0, "4")]]);
    assert_eq!(
        told(&never(policy), &busy),
        "not eligible due to preemptionPolicy=Never."
    );

    let leaving = with(
        requests("4", "0"),
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    let mut waiting = world(&[&[pod("x", leaving)], &[of("y", 0, "4")]]);
    let asking = of("p", 5, "2");
    waiting
        .nominated
        .insert("p".into(), ("a".into(), asking.clone()));
    assert_eq!(
        told(&asking, &waiting),
        "not eligible due to a terminating pod on the nominated node."
    );
}

#[test]
fn room_for_others_that_are_expected_is_not_free() {
    let mut world = world(&[&[of("x", 0, "2")]]);
    let vip = of("vip", 9, "2");
    world.nominated.insert("vip".into(), ("a".into(), vip));
    assert_eq!(
        told(&of("p", 5, "2"), &with_full(&mut world)),
        "0/1 nodes are available: 1 Insufficient cpu."
    );
}

/// The node full, so that the pod is refused without the expected one, too.
fn with_full(world: &mut World) -> World {
    world.nodes[0].add(of("y", 9, "2"));
    World {
        nodes: world.nodes.clone(),
        nominated: world.nominated.clone(),
        ..World::default()
    }
}
