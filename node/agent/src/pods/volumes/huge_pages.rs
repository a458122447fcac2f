//! Which pages an emptyDir of a huge medium is of.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::VolumeError;
use crate::pods::{quantity, spec};

/// In bytes. `HugePages` are those the pod asks for, `HugePages-2Mi` have to be among them.
pub fn size(medium: &str, pod: &Pod) -> Result<u64, VolumeError> {
    let refused = |what| VolumeError::HugePages {
        medium: medium.to_owned(),
        what,
    };
    let asked = asked(pod);
    let wanted = match medium.strip_prefix("HugePages") {
        Some("") => None,
        Some(rest) => Some(
            rest.strip_prefix('-')
                .and_then(bytes)
                .ok_or_else(|| VolumeError::Medium(medium.to_owned()))?,
        ),
        None => return Err(VolumeError::Medium(medium.to_owned())),
    };
    match (wanted, asked.len()) {
        (_, 0) => Err(refused("but there is no resource request for huge pages")),
        (Some(wanted), _) if asked.contains(&wanted) => Ok(wanted),
        (Some(_), _) => Err(refused("but none of its size are requested")),
        (None, 1) => Ok(asked.into_iter().next().unwrap_or_default()),
        (None, _) => Err(refused("but pages of several sizes are")),
    }
}

/// Sizes of the pages that the pod or its containers ask for.
fn asked(pod: &Pod) -> BTreeSet<u64> {
    let containers = spec::all_containers(pod).map(|container| container.resources.as_ref());
    let all = containers.chain([spec::spec(pod).resources.as_ref()]);
    let requests = all
        .flatten()
        .flat_map(|resources| resources.requests.iter().chain(&resources.limits));
    requests
        .flatten()
        .filter_map(|(name, _)| bytes(name.strip_prefix("hugepages-")?))
        .collect()
}

fn bytes(text: &str) -> Option<u64> {
    let size = quantity::value(&Quantity(text.to_owned()));
    u64::try_from(size).ok().filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pages_are_of_a_size_that_the_pod_asks_for() {
        let refused = |medium: &str, what: &str| {
            Err(format!("emptyDir of medium {medium} is requested, {what}"))
        };
        for (medium, resources, want) in [
            ("HugePages", vec!["hugepages-2Mi"], Ok(2 << 20)),
            (
                "HugePages",
                vec!["hugepages-2Mi", "hugepages-2Mi"],
                Ok(2 << 20),
            ),
            (
                "HugePages-1Gi",
                vec!["hugepages-2Mi", "hugepages-1Gi"],
                Ok(1 << 30),
            ),
            (
                "HugePages",
                vec![],
                refused(
                    "HugePages",
                    "but there is no resource request for huge pages",
                ),
            ),
            (
                "HugePages",
                vec!["hugepages-2Mi", "hugepages-1Gi"],
                refused("HugePages", "but pages of several sizes are"),
            ),
            (
                "HugePages-1Gi",
                vec!["hugepages-2Mi"],
                refused("HugePages-1Gi", "but none of its size are requested"),
            ),
            (
                "HugePagesX",
                vec!["hugepages-2Mi"],
                Err("unknown emptyDir medium \"HugePagesX\"".to_owned()),
            ),
        ] {
            let containers: Vec<_> = resources
                .iter()
                .map(|name| json!({"name": "c", "resources": {"limits": {*name: "4Mi"}}}))
                .collect();
            let pod: Pod =
                serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap();
            let got = size(medium, &pod).map_err(|error| error.to_string());
            assert_eq!(got, want, "{medium} {resources:?}");
        }
    }
}
