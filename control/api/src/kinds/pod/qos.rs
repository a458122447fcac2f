//! The quality of service class, from what the pod asks for as a whole, or else its containers.

use serde_json::Value;

use super::whole;
use crate::quantity::Quantity;
use crate::value::ValueExt;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: &Value) -> &'static str {
    let amount = |holder: &Value, list: &str, resource: &str| -> Option<Quantity> {
        let text = holder
            .pointer(&format!("/resources/{list}/{resource}"))?
            .as_str()?;
        Quantity::parse(text).ok().filter(|q| !q.is_zero())
    };
    let containers = || {
        let regular = spec.list_at("/containers").iter();
        regular.chain(spec.list_at("/initContainers"))
    };
    let holders: Vec<&Value> = match whole::is_set(spec) {
        true => vec![spec],
        false => containers().collect(),
    };
    let mut any = false;
    let mut guaranteed = true;
    for holder in holders {
        for resource in ["cpu", "memory"] {
            let (request, limit) = (
                amount(holder, "requests", resource),
                amount(holder, "limits", resource),
            );
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
