//! The arithmetic of rolling updates: surge rounds up, unavailability rounds down.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Recreate,
    RollingUpdate {
        max_surge: i32,
        max_unavailable: i32,
    },
}

impl Strategy {
    pub fn of(deployment: &Deployment) -> Strategy {
        let spec = deployment.spec.as_ref();
        let strategy = spec.and_then(|spec| spec.strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return Strategy::Recreate;
        }
        let replicas = replicas(deployment);
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let max_surge = resolve(
            rolling.and_then(|rolling| rolling.max_surge.as_ref()),
            replicas,
            Round::Up,
        );
        let mut max_unavailable = resolve(
            rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
            replicas,
            Round::Down,
        );
        // With neither, nothing could ever move.
        if max_surge == 0 && max_unavailable == 0 {
            max_unavailable = 1;
        }
        Strategy::RollingUpdate {
            max_surge,
            max_unavailable: max_unavailable.min(replicas),
        }
    }

    pub fn max_surge(self) -> i32 {
        match self {
            Strategy::Recreate => 0,
            Strategy::RollingUpdate { max_surge, .. } => max_surge,
        }
    }

    pub fn max_unavailable(self) -> i32 {
        match self {
            Strategy::Recreate => 0,
            Strategy::RollingUpdate {
                max_unavailable, ..
            } => max_unavailable,
        }
    }
}

pub fn replicas(deployment: &Deployment) -> i32 {
    deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

/// The number, or the share of `total`, of a pod more rather than less.
pub fn rounded_up(value: &IntOrString, total: i32) -> i32 {
    resolve(Some(value), total, Round::Up)
}

#[derive(Clone, Copy)]
enum Round {
    Up,
    Down,
}

fn resolve(value: Option<&IntOrString>, total: i32, round: Round) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|number| number.parse().ok())
                .unwrap_or(0);
            let scaled = percent.saturating_mul(total.into());
            let rounded = match round {
                Round::Up => scaled.div_euclid(100) + i64::from(scaled.rem_euclid(100) != 0),
                Round::Down => scaled.div_euclid(100),
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn bounds() {
        let table: [(i32, Value, Value, i32, i32); 8] = [
            (10, json!("25%"), json!("25%"), 3, 2),
            (3, json!("25%"), json!("25%"), 1, 0),
            (1, json!("25%"), json!("25%"), 1, 0),
            (4, json!(2), json!(1), 2, 1),
            (2, json!(0), json!("10%"), 0, 1),
            (3, json!(0), json!(0), 0, 1),
            (2, json!(0), json!(5), 0, 2),
            (0, json!("25%"), json!("25%"), 0, 0),
        ];
        for (replicas, surge, unavailable, max_surge, max_unavailable) in table {
            let deployment: Deployment = serde_json::from_value(json!({"spec": {
                "replicas": replicas, "selector": {}, "template": {},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            }}))
            .expect("a deployment");
            assert_eq!(
                Strategy::of(&deployment),
                Strategy::RollingUpdate {
                    max_surge,
                    max_unavailable
                },
                "{replicas} {surge} {unavailable}"
            );
        }
    }
}
