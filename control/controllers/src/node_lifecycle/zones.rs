//! How fast lost nodes may be evicted: slower, or not at all, where so many are lost at once that
//! the network to them is the likelier culprit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use super::taints::Eviction;
use crate::node::{Ready, ready};

/// kube-controller-manager's --node-eviction-rate, --secondary-node-eviction-rate,
/// --unhealthy-zone-threshold and --large-cluster-size-threshold.
const INTERVAL: Duration = Duration::from_secs(10);
const SLOW_INTERVAL: Duration = Duration::from_secs(100);
const UNHEALTHY: f64 = 0.55;
const LARGE: usize = 50;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

pub type Zone = (String, String);

pub fn zone(node: &Node) -> Zone {
    let label = |key: &str| {
        let labels = node.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(key))
            .cloned()
            .unwrap_or_default()
    };
    (label(REGION), label(ZONE))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Normal,
    Partial,
    Full,
}

fn state(ready: usize, not_ready: usize) -> State {
    let all = ready + not_ready;
    match (ready, not_ready) {
        (0, 1..) => State::Full,
        (_, 3..) if not_ready as f64 / all as f64 >= UNHEALTHY => State::Partial,
        _ => State::Normal,
    }
}

/// How long to wait between two nodes of the zone. `Err`: nothing is evicted.
pub fn pace(nodes: &[Arc<Node>], of: &Zone) -> Result<Duration, Eviction> {
    let mut counts: HashMap<Zone, (usize, usize)> = HashMap::new();
    for node in nodes {
        let (well, lost) = counts.entry(zone(node)).or_default();
        match ready(node) {
            Ready::True => *well += 1,
            _ => *lost += 1,
        }
    }
    let states: HashMap<&Zone, State> = counts
        .iter()
        .map(|(zone, (well, lost))| (zone, state(*well, *lost)))
        .collect();
    if states.values().all(|state| *state == State::Full) {
        return Err(Eviction::Never);
    }
    let (well, lost) = counts.get(of).copied().unwrap_or_default();
    match states.get(of) {
        Some(State::Partial) if well + lost > LARGE => Ok(SLOW_INTERVAL),
        Some(State::Partial) => Err(Eviction::Later),
        _ => Ok(INTERVAL),
    }
}

/// One node at a time in each zone.
#[derive(Debug, Default)]
pub struct Limiter {
    last: HashMap<Zone, Instant>,
}

impl Limiter {
    /// Takes the zone's turn if it has come; `Err`: how long until it does.
    pub fn take(&mut self, zone: &Zone, pace: Duration, now: Instant) -> Result<(), Duration> {
        if let Some(last) = self.last.get(zone) {
            let wait = (*last + pace).saturating_duration_since(now);
            if !wait.is_zero() {
                return Err(wait);
            }
        }
        self.last.insert(zone.clone(), now);
        Ok(())
    }

    /// The turn was not used.
    pub fn give_back(&mut self, zone: &Zone) {
        self.last.remove(zone);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nodes(zone: &str, well: usize, lost: usize) -> Vec<Arc<Node>> {
        let statuses = [("True", well), ("Unknown", lost)];
        let all = statuses.into_iter().flat_map(|(status, count)| {
            std::iter::repeat_with(move || {
                let node = json!({
                    "metadata": {"name": "n", "labels": {ZONE: zone}},
                    "status": {"conditions": [{"type": "Ready", "status": status}]},
                });
                Arc::new(serde_json::from_value(node).expect("a node"))
            })
            .take(count)
        });
        all.collect()
    }

    #[test]
    fn the_more_are_lost_the_slower() {
        let (east, west) = (
            (String::new(), "east".to_owned()),
            (String::new(), "west".to_owned()),
        );
        // (east: well, lost; west: well, lost) -> pace of east
        for (east_counts, west_counts, wanted) in [
            ((2, 1), (0, 0), Ok(INTERVAL)),
            ((1, 2), (0, 0), Ok(INTERVAL)),
            ((2, 3), (0, 0), Err(Eviction::Later)),
            ((20, 40), (0, 0), Ok(SLOW_INTERVAL)),
            ((0, 1), (0, 0), Err(Eviction::Never)),
            ((0, 3), (0, 2), Err(Eviction::Never)),
            ((0, 3), (1, 0), Ok(INTERVAL)),
            ((3, 0), (0, 5), Ok(INTERVAL)),
        ] {
            let mut all = nodes("east", east_counts.0, east_counts.1);
            all.extend(nodes("west", west_counts.0, west_counts.1));
            assert_eq!(pace(&all, &east), wanted, "{east_counts:?} {west_counts:?}");
        }
        assert_eq!(zone(&nodes("west", 1, 0)[0]), west);
    }

    #[test]
    fn one_node_at_a_time_and_zone() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let (east, west) = (
            (String::new(), "east".to_owned()),
            (String::new(), "west".to_owned()),
        );
        assert_eq!(limiter.take(&east, INTERVAL, start), Ok(()));
        assert_eq!(limiter.take(&west, INTERVAL, start), Ok(()));
        let later = start + Duration::from_secs(4);
        assert_eq!(
            limiter.take(&east, INTERVAL, later),
            Err(Duration::from_secs(6))
        );
        assert_eq!(limiter.take(&east, INTERVAL, start + INTERVAL), Ok(()));
        limiter.give_back(&east);
        assert_eq!(limiter.take(&east, INTERVAL, start + INTERVAL), Ok(()));
    }
}
