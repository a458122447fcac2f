//! Ephemeral containers: each is started once, as soon as there is a sandbox,
//! whether init containers are done or not. What becomes of them changes
//! nothing for the pod.

use super::{Observed, Plan, containers};
use crate::pods::{ephemeral, restart};

pub fn add(observed: &Observed<'_>, plan: &mut Plan) {
    for container in &ephemeral::containers(observed.pod) {
        let latest = observed.seen.latest(&container.name);
        let past = observed.past.get(&container.name).copied();
        if restart::wanted_once(observed.pod, latest, past) {
            containers::start(observed, plan, container);
        }
    }
}
