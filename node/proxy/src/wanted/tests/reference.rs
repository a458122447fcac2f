//! Random services and endpoints against the rules as one would tell them.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;

struct Raw {
    addr: String,
    ready: bool,
    serving: bool,
    terminating: bool,
    local: bool,
    for_nodes: Vec<&'static str>,
    for_zones: Vec<&'static str>,
}

#[derive(Debug, PartialEq, Eq)]
struct Expected {
    cluster: Vec<String>,
    local: Vec<String>,
    any: bool,
}

impl Raw {
    fn random(rng: &mut StdRng, at: usize, hints: [bool; 2]) -> Self {
        let mut some = |names: &[&'static str], hinted: bool| -> Vec<&'static str> {
            let names = names.iter().copied();
            names.filter(|_| hinted && rng.random_bool(0.6)).collect()
        };
        let for_nodes = some(&[NODE, "there", "elsewhere"], hints[0]);
        let for_zones = some(&["a", "b", "c"], hints[1]);
        Self {
            addr: format!("10.244.1.{}", at + 1),
            ready: rng.random_bool(0.5),
            serving: rng.random_bool(0.7),
            terminating: rng.random_bool(0.5),
            local: rng.random_bool(0.3),
            for_nodes,
            for_zones,
        }
    }

    fn json(&self) -> Value {
        let named = |names: &[&str]| -> Vec<Value> {
            names.iter().map(|name| json!({"name": name})).collect()
        };
        json!({
            "addresses": [self.addr],
            "nodeName": if self.local { NODE } else { "there" },
            "conditions": {
                "ready": self.ready, "serving": self.serving, "terminating": self.terminating
            },
            "hints": {"forNodes": named(&self.for_nodes), "forZones": named(&self.for_zones)}
        })
    }

    fn drains(&self) -> bool {
        !self.ready && self.serving && self.terminating
    }
}

fn expected(
    endpoints: &[Raw],
    zone: Option<&str>,
    uses_cluster: bool,
    uses_local: bool,
) -> Expected {
    let mut cluster = Vec::new();
    let mut local = Vec::new();
    let ready: Vec<&Raw> = endpoints.iter().filter(|one| one.ready).collect();
    let draining: Vec<&Raw> = endpoints.iter().filter(|one| one.drains()).collect();
    if uses_cluster {
        let for_node: Vec<&Raw> = ready
            .iter()
            .copied()
            .filter(|one| one.for_nodes.contains(&NODE))
            .collect();
        let for_zone: Vec<&Raw> = ready
            .iter()
            .copied()
            .filter(|one| zone.is_some_and(|zone| one.for_zones.contains(&zone)))
            .collect();
        if ready.is_empty() {
            cluster = draining.clone();
        } else if ready.iter().all(|one| !one.for_nodes.is_empty()) && !for_node.is_empty() {
            cluster = for_node;
        } else if ready.iter().all(|one| !one.for_zones.is_empty()) && !for_zone.is_empty() {
            cluster = for_zone;
        } else {
            cluster = ready.clone();
        }
    }
    if uses_local {
        local = ready.iter().copied().filter(|one| one.local).collect();
        if local.is_empty() {
            local = draining.iter().copied().filter(|one| one.local).collect();
        }
    }
    let list = |list: Vec<&Raw>| {
        list.iter()
            .map(|one| format!("{}:8080", one.addr))
            .collect()
    };
    Expected {
        cluster: list(cluster),
        local: list(local),
        any: !ready.is_empty() || !draining.is_empty(),
    }
}

#[test]
fn random_endpoints_are_chosen_as_told() {
    let mut rng = StdRng::seed_from_u64(4);
    let mut seen = BTreeSet::new();
    for round in 0..4000 {
        let hints = [rng.random_bool(0.5), rng.random_bool(0.5)];
        let count = rng.random_range(0..6);
        let endpoints: Vec<Raw> = (0..count)
            .map(|at| Raw::random(&mut rng, at, hints))
            .collect();
        let slices: Vec<Slice> = endpoints
            .chunks(2)
            .map(|part| web_slice(json!(part.iter().map(Raw::json).collect::<Vec<_>>())))
            .collect();
        let policies = ["Cluster", "Local"];
        let internal = *policies.choose(&mut rng).unwrap();
        let external = *policies.choose(&mut rng).unwrap();
        let type_ = *["ClusterIP", "NodePort"].choose(&mut rng).unwrap();
        let zone = *[None, Some("a"), Some("z")].choose(&mut rng).unwrap();
        let service = web(json!({
            "type": type_, "ports": [{"port": 80, "nodePort": 30080}],
            "internalTrafficPolicy": internal, "externalTrafficPolicy": external
        }));

        let exposed = type_ == "NodePort";
        let uses_cluster = internal == "Cluster" || exposed;
        let uses_local = internal == "Local" || (external == "Local" && exposed);
        let target = wanted(&service, slices.iter(), zone).ports.remove(0).target;
        let strings = |backends: &[Backend]| backends.iter().map(ToString::to_string).collect();
        let found = Expected {
            // A list that nobody is sent to only says whether there is any.
            cluster: if uses_cluster {
                strings(&target.cluster)
            } else {
                Vec::new()
            },
            local: strings(&target.local),
            any: !target.cluster.is_empty(),
        };
        let expected = expected(&endpoints, zone, uses_cluster, uses_local);
        assert_eq!(
            found, expected,
            "round {round}: {type_} {internal} {external} {zone:?}"
        );
        seen.insert((
            uses_cluster,
            uses_local,
            found.cluster.is_empty(),
            found.local.is_empty(),
            found.any,
        ));
    }
    // Three uses of the lists: every outcome that each can have.
    assert_eq!(seen.len(), 2 + 3 + 3, "{seen:?}");
}
