//! What the maps hold → what they should hold, as steps in a safe order. Pure.
//!
//! After every single step each frontend that was and stays wanted answers with
//! its old or its new backends, never with none in between: blocks of backends
//! are published before frontends point at them, frontends go before the
//! service they pointed at.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Exposure, Frontend, ServicePort, Target};

#[cfg(test)]
mod tests;

/// A service-port's number in the maps.
pub type ServiceId = u32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapOp {
    /// All clients of the service-port move to these backends at one instant.
    Publish { service: ServiceId, target: Target },
    /// The address starts to be, or is from now on, the service-port's.
    Point { frontend: Frontend, to: Pointer },
    /// The address is nobody's service any more.
    Unpoint { frontend: Frontend },
    /// No frontend leads to the service-port; its number may be used again
    /// when nobody can still be reading.
    Retire { service: ServiceId },
}

/// Where a frontend leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    pub service: ServiceId,
    pub exposure: Exposure,
}

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    pub frontends: BTreeMap<Frontend, Pointer>,
    pub services: BTreeMap<ServiceId, Target>,
}

impl Current {
    pub fn record(&mut self, op: &MapOp) {
        match op {
            MapOp::Publish { service, target } => {
                self.services.insert(*service, target.clone());
            }
            MapOp::Point { frontend, to } => {
                self.frontends.insert(*frontend, *to);
            }
            MapOp::Unpoint { frontend } => {
                self.frontends.remove(frontend);
            }
            MapOp::Retire { service } => {
                self.services.remove(service);
            }
        }
    }
}

/// The steps that make `scope` of the maps what `wanted` says; frontends
/// outside the scope are not looked at. Every wanted frontend must be in the
/// scope. `fresh` gives numbers that are not in use; when it ends, the
/// service-ports that found none are left out and returned.
pub fn diff(
    current: &Current,
    scope: &BTreeSet<Frontend>,
    wanted: &[ServicePort],
    fresh: &mut impl Iterator<Item = ServiceId>,
) -> (Vec<MapOp>, Vec<ServicePort>) {
    let mut plan = Plan::default();
    let mut left_out = Vec::new();
    let mut claimed = BTreeSet::new();
    let mut keep: BTreeSet<&Frontend> = BTreeSet::new();
    let stays: BTreeSet<&Frontend> = wanted
        .iter()
        .flat_map(|port| port.frontends.keys())
        .collect();
    let mut users: BTreeMap<ServiceId, Vec<&Frontend>> = BTreeMap::new();
    for frontend in scope {
        if let Some(to) = current.frontends.get(frontend) {
            users.entry(to.service).or_default().push(frontend);
        }
    }
    for port in wanted {
        let mut known = port
            .frontends
            .keys()
            .filter_map(|frontend| Some(current.frontends.get(frontend)?.service));
        let kept = known.find(|service| {
            // Publishing moves every frontend that leads there: none may be
            // among them that is on its way to another service-port.
            let alone = || {
                users[service]
                    .iter()
                    .all(|user| port.frontends.contains_key(user) || !stays.contains(user))
            };
            !claimed.contains(service)
                && (current.services.get(service) == Some(&port.target) || alone())
        });
        let Some(service) = kept.or_else(|| fresh.next()) else {
            left_out.push(port.clone());
            continue;
        };
        claimed.insert(service);
        keep.extend(port.frontends.keys());
        if current.services.get(&service) != Some(&port.target) {
            plan.publish.push(MapOp::Publish {
                service,
                target: port.target.clone(),
            });
        }
        for (frontend, exposure) in &port.frontends {
            let to = Pointer {
                service,
                exposure: *exposure,
            };
            if current.frontends.get(frontend) != Some(&to) {
                plan.point.push(MapOp::Point {
                    frontend: *frontend,
                    to,
                });
            }
        }
    }
    let mut given_up = BTreeSet::new();
    for frontend in scope {
        let Some(to) = current.frontends.get(frontend) else {
            continue;
        };
        if !claimed.contains(&to.service) {
            given_up.insert(to.service);
        }
        if !keep.contains(frontend) {
            plan.unpoint.push(MapOp::Unpoint {
                frontend: *frontend,
            });
        }
    }
    plan.retire.extend(
        given_up
            .into_iter()
            .map(|service| MapOp::Retire { service }),
    );
    (plan.in_order(), left_out)
}

#[derive(Default)]
struct Plan {
    publish: Vec<MapOp>,
    point: Vec<MapOp>,
    unpoint: Vec<MapOp>,
    retire: Vec<MapOp>,
}

impl Plan {
    fn in_order(self) -> Vec<MapOp> {
        [self.publish, self.point, self.unpoint, self.retire].concat()
    }
}
