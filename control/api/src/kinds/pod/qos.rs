//! The quality of service class, from what the containers ask for.

use serde_json::Value;

use crate::quantity::Quantity;
use crate::value::ValueExt;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: &Value) -> &'static str {
    let amount = |container: &Value, list: &str, resource: &str| -> Option<Quantity> {
        let text = container
            .pointer(&format!("/resources/{list}/{resource}"))?
            .as_str()?;
        Quantity::parse(text).ok().filter(|q| !q.is_zero())
    };
    let mut any = false;
    let mut guaranteed = true;
    for container in spec
        .list_at("/containers")
        .iter()
        .chain(spec.list_at("/initContainers"))
    {
        for resource in ["cpu", "memory"] {
            let (request, limit) = (
                amount(container, "requests", resource),
                amount(container, "limits", resource),
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
