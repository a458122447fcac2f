use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use super::*;

fn node(zone: Option<&str>, cpu: &str, change: impl FnOnce(&mut Value)) -> Arc<Node> {
    let mut node = json!({
        "metadata": {"name": "n", "labels": {}},
        "status": {
            "allocatable": {"cpu": cpu},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    if let Some(zone) = zone {
        node["metadata"]["labels"][ZONE] = zone.into();
    }
    change(&mut node);
    Arc::new(serde_json::from_value(node).expect("a node"))
}

#[test]
fn zones_count_by_their_cpu() {
    let plain = |zone, cpu| node(Some(zone), cpu, |_| {});
    let waiting = || {
        node(None, "8", |node| {
            node["status"]["conditions"][0]["status"] = "Unknown".into();
        })
    };
    let control = || {
        node(None, "8", |node| {
            node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = "".into();
        })
    };
    for (what, nodes, wanted) in [
        (
            "by the sum of the nodes",
            vec![plain("a", "2"), plain("b", "500m"), plain("b", "1500m")],
            Some(vec![("a", 0.5), ("b", 0.5)]),
        ),
        (
            "nodes that do not count",
            vec![plain("a", "3"), plain("b", "1"), waiting(), control()],
            Some(vec![("a", 0.75), ("b", 0.25)]),
        ),
        ("one zone", vec![plain("a", "2"), plain("a", "2")], None),
        ("no node", vec![], None),
        (
            "a node without a zone",
            vec![plain("a", "2"), plain("b", "2"), node(None, "2", |_| {})],
            None,
        ),
        (
            "a node without CPU",
            vec![plain("a", "2"), plain("b", "2"), plain("b", "0")],
            None,
        ),
    ] {
        let shares = shares(&nodes).map(|all| all.into_iter().collect::<Vec<_>>());
        let wanted = wanted.map(|all| {
            let all = all
                .into_iter()
                .map(|(zone, share)| (zone.to_owned(), share));
            all.collect::<Vec<_>>()
        });
        assert_eq!(shares, wanted, "{what}");
    }
}

fn counts(text: &str) -> BTreeMap<String, usize> {
    let pairs = text
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(zone, count)| (zone.to_owned(), count.parse().expect("a number")))
        .collect()
}

#[test]
fn endpoints_go_where_too_few_are() {
    let equal = |count: usize| -> Vec<f64> { vec![1.0 / count as f64; count] };
    let moved = |give: &str, receive: &str| {
        Ok(Moves {
            give: counts(give),
            receive: counts(receive),
        })
    };
    for (own, shares, wanted) in [
        ("a=2 b=2", equal(2), moved("", "")),
        ("a=4", equal(2), moved("a=2", "b=2")),
        // Neither has a whole one too many.
        ("a=4 b=3", equal(2), moved("", "")),
        ("a=7", equal(2), moved("a=3", "b=3")),
        ("a=3 b=3", vec![0.5, 0.3, 0.2], moved("b=1", "c=1")),
        ("b=2 c=2", vec![0.6, 0.2, 0.2], moved("b=1 c=1", "a=2")),
        // The surplus of `a` is less than half an endpoint, but `b` would have none.
        ("a=8", vec![0.95, 0.05], moved("a=1", "b=1")),
        // Nobody is where `x` is.
        ("a=1 b=1 x=2", equal(2), moved("x=2", "a=1 b=1")),
        (
            "a=1",
            equal(2),
            Err(Unhinted::Endpoints {
                endpoints: 1,
                zones: 2,
            }),
        ),
        (
            "",
            equal(2),
            Err(Unhinted::Endpoints {
                endpoints: 0,
                zones: 2,
            }),
        ),
        (
            "a=2 b=1",
            equal(2),
            Err(Unhinted::Overload {
                endpoints: 3,
                zones: 2,
            }),
        ),
    ] {
        let names = ["a", "b", "c"].map(str::to_owned);
        let shares: Shares = names.into_iter().zip(shares).collect();
        assert_eq!(moves(&counts(own), &shares), wanted, "{own} {shares:?}");
    }
}

/// What the annotation promises, of any cluster: as many give as receive, and in no zone has an endpoint more than a
/// fifth more than its part of the clients.
#[test]
fn no_endpoint_is_overloaded() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut given = 0;
    for _ in 0..20_000 {
        let zones = rng.random_range(2..=5);
        let cpus: Vec<f64> = (0..zones).map(|_| rng.random_range(1.0..16.0)).collect();
        let all: f64 = cpus.iter().sum();
        let name = |zone: usize| format!("z{zone}");
        let shares: Shares = (0..zones)
            .map(|zone| (name(zone), cpus[zone] / all))
            .collect();
        // One zone more than those of the nodes.
        let most = rng.random_range(0..40);
        let own: BTreeMap<String, usize> = (0..=zones)
            .map(|zone| (name(zone), rng.random_range(0..=most)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let endpoints: usize = own.values().sum();
        let Ok(moves) = moves(&own, &shares) else {
            continue;
        };
        given += 1;
        let sum = |all: &BTreeMap<String, usize>| all.values().sum::<usize>();
        assert_eq!(sum(&moves.give), sum(&moves.receive), "{own:?} {shares:?}");
        let of = |all: &BTreeMap<String, usize>, zone: &str| all.get(zone).copied().unwrap_or(0);
        let now = |zone: &str| of(&own, zone) + of(&moves.receive, zone) - of(&moves.give, zone);
        assert_eq!(now(&name(zones)), 0, "{own:?} {shares:?}");
        for (zone, share) in &shares {
            let load = share * endpoints as f64 / now(zone) as f64;
            assert!(
                load <= 1.0 + OVERLOAD + 1e-6,
                "{zone} {load}: {own:?} {shares:?}"
            );
        }
    }
    assert!(given > 10_000, "only {given} clusters could have hints");
}

#[test]
fn a_move_is_taken_once() {
    let mut moves = Moves {
        give: counts("a=2"),
        receive: counts("b=1 c=1"),
    };
    assert!(!moves.take("b", "a"));
    assert!(moves.take("a", "c"));
    assert!(!moves.take("a", "c"));
    assert!(moves.take("a", "b"));
    assert_eq!(moves, Moves::default());
}
