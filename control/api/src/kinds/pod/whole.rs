//! What a pod asks for as a whole, `spec.resources` (KEP-2837): what is left out comes from its
//! containers, and it covers them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::field::Path;
use crate::quantity::Quantity;
use crate::resource::FieldError;
use crate::value::ValueExt;

const HUGE_PAGES: &str = "hugepages-";

type Amounts = BTreeMap<String, Quantity>;

pub(super) fn is_supported(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with(HUGE_PAGES)
}

pub(super) fn is_set(spec: &Value) -> bool {
    ["/resources/requests", "/resources/limits"]
        .iter()
        .any(|list| {
            let amounts = spec.map_at(list);
            amounts.is_some_and(|amounts| amounts.keys().any(|name| is_supported(name)))
        })
}

/// Limits of huge pages are the containers'; where there are limits, requests are the containers'
/// or else the limits.
pub(super) fn default(spec: &mut Value) {
    if !is_set(spec) {
        return;
    }
    let huge = of_containers(spec, "limits").into_iter();
    let huge = huge.filter(|(name, _)| name.starts_with(HUGE_PAGES));
    fill(spec, "limits", huge.collect());
    let limits = spec.map_at("/resources/limits").cloned();
    let Some(limits) = limits.filter(|limits| !limits.is_empty()) else {
        return;
    };
    let asked = of_containers(spec, "requests").into_iter();
    let asked = asked.filter(|(name, _)| is_supported(name) && !name.starts_with(HUGE_PAGES));
    fill(spec, "requests", asked.collect());
    fill(spec, "requests", parsed(&limits));
}

fn fill(spec: &mut Value, list: &str, amounts: Amounts) {
    let Some(resources) = spec.get_mut("resources").filter(|_| !amounts.is_empty()) else {
        return;
    };
    resources.default_to(list, json!({}));
    for (name, amount) in amounts.iter().filter(|(name, _)| is_supported(name)) {
        resources[list].default_to(name, amount.to_string());
    }
}

/// That it covers the containers.
pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let amounts = |list: &str| {
        let own = spec.map_at(&format!("/resources/{list}"));
        own.map(parsed).unwrap_or_default()
    };
    let (requests, limits) = (amounts("requests"), amounts("limits"));
    for (list, own) in [("requests", &requests), ("limits", &limits)] {
        for (name, amount) in of_containers(spec, list) {
            let counts = list == "requests" || name.starts_with(HUGE_PAGES);
            match own.get(&name) {
                Some(own) if counts && amount > *own => errors
                    .push(path.child(list).key(&name).invalid(
                    own.to_string(),
                    &format!(
                        "must be greater than or equal to aggregate container {list} of {amount}"
                    ),
                )),
                _ => {}
            }
        }
    }
    for (i, container) in spec.list_at("/containers").iter().enumerate() {
        let own = container.map_at("/resources/limits").map(parsed);
        for (name, amount) in own.unwrap_or_default() {
            if let Some(limit) = limits.get(&name)
                && amount > *limit
            {
                // Kubernetes' path, odd as it is.
                let at = path.child("containers").index(i).key(&name).child("limits");
                errors.push(at.invalid(
                    amount.to_string(),
                    &format!("must be less than or equal to pod limits of {limit}"),
                ));
            }
        }
    }
}

/// The largest moment: containers and sidecars, or an init container with the sidecars before it.
fn of_containers(spec: &Value, list: &str) -> Amounts {
    let own = |container: &Value| {
        let amounts = container.map_at(&format!("/resources/{list}"));
        amounts.map(parsed).unwrap_or_default()
    };
    let (mut running, mut sidecars, mut starting) =
        (Amounts::new(), Amounts::new(), Amounts::new());
    for container in spec.list_at("/containers") {
        add(&mut running, &own(container));
    }
    for container in spec.list_at("/initContainers") {
        let mut moment = own(container);
        if container.str_at("/restartPolicy") == "Always" {
            add(&mut running, &moment);
            add(&mut sidecars, &moment);
            moment.clone_from(&sidecars);
        } else {
            add(&mut moment, &sidecars);
        }
        raise(&mut starting, moment);
    }
    raise(&mut running, starting);
    running
}

fn add(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let sum = to.get(name).map_or(*amount, |own| *own + *amount);
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        if to.get(&name).is_none_or(|own| *own < amount) {
            to.insert(name, amount);
        }
    }
}

fn parsed(list: &Map<String, Value>) -> Amounts {
    let amounts = list.iter().filter_map(|(name, text)| {
        let amount = Quantity::parse(text.as_str()?).ok()?;
        Some((name.clone(), amount))
    });
    amounts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_comes_from_the_containers_or_the_limits() {
        let container = json!([{"resources": {
            "requests": {"cpu": "500m", "ephemeral-storage": "1", "hugepages-2Mi": "2Mi"},
            "limits": {"hugepages-2Mi": "2Mi"},
        }}]);
        let page = "2Mi";
        for (resources, want) in [
            (json!({}), json!({})),
            (
                json!({"requests": {"memory": "1Gi"}}),
                json!({
                    "requests": {"memory": "1Gi", "cpu": "500m", "hugepages-2Mi": page},
                    "limits": {"hugepages-2Mi": page},
                }),
            ),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
                json!({
                    "requests": {"memory": "1Gi", "cpu": "500m", "hugepages-2Mi": page},
                    "limits": {"cpu": "1", "memory": "1Gi", "hugepages-2Mi": page},
                }),
            ),
            (
                json!({"limits": {"cpu": "1"}, "requests": {"cpu": "800m"}}),
                json!({
                    "requests": {"cpu": "800m", "hugepages-2Mi": page},
                    "limits": {"cpu": "1", "hugepages-2Mi": page},
                }),
            ),
        ] {
            let mut spec = json!({"containers": container, "resources": resources});
            default(&mut spec);
            assert_eq!(spec["resources"], want, "{resources}");
        }
        let mut alone = json!({"containers": [{}], "resources": {"requests": {"cpu": "1"}}});
        default(&mut alone);
        assert_eq!(alone["resources"], json!({"requests": {"cpu": "1"}}));
    }

    #[test]
    fn the_largest_moment_of_the_containers() {
        let cpu = |cpu: &str, policy: &str| json!({"restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}});
        for (init, want) in [
            (json!([]), "1"),
            (json!([cpu("3", "")]), "3"),
            (json!([cpu("1", "Always"), cpu("3", "")]), "4"),
            (json!([cpu("3", ""), cpu("500m", "Always")]), "3"),
            (json!([cpu("500m", "Always")]), "1500m"),
        ] {
            let spec = json!({"containers": [cpu("1", "")], "initContainers": init});
            let got = of_containers(&spec, "requests");
            assert_eq!(got["cpu"].to_string(), want, "{init}");
        }
    }
}
