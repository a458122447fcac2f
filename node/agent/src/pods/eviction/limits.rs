//! Ephemeral storage: who wrote more than it may. Pure, in the kubelet's order and words.

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::usage::PodUsage;
use super::words;
use crate::pods::text::go_quote;
use crate::pods::{quantity, resources, spec};

const STORAGE: &str = "ephemeral-storage";

/// Whether it has a limit that the node has to look after.
pub fn has_any(pod: &Pod) -> bool {
    spec::all_containers(pod).any(|own| limit(own).is_some()) || sized(pod).next().is_some()
}

/// Of a pod that goes for it: why.
pub fn exceeded(pod: &Pod, used: &PodUsage) -> Option<String> {
    volume(pod, used)
        .or_else(|| whole(pod, used))
        .or_else(|| container(pod, used))
}

/// Zero is none.
fn limit(container: &Container) -> Option<&Quantity> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    let limit = limits.get(STORAGE)?;
    (quantity::value(limit) > 0).then_some(limit)
}

/// emptyDirs with a limit.
fn sized(pod: &Pod) -> impl Iterator<Item = (&str, &Quantity)> {
    let volumes = spec::spec(pod).volumes.iter().flatten();
    volumes.filter_map(|volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        (quantity::value(limit) > 0).then_some((volume.name.as_str(), limit))
    })
}

fn is_over(bytes: u64, limit: &Quantity) -> bool {
    i128::from(bytes) > i128::from(quantity::value(limit))
}

fn volume(pod: &Pod, used: &PodUsage) -> Option<String> {
    let mut sized = sized(pod);
    let (name, limit) = sized.find(|(name, limit)| {
        let used = used.volumes.get(*name);
        used.is_some_and(|used| is_over(used.bytes, limit))
    })?;
    Some(format!(
        "Usage of EmptyDir volume {} exceeds the limit {}. ",
        go_quote(name),
        go_quote(&limit.0)
    ))
}

/// A sum where one container has a limit, as the kubelet has it: of all that the pod wrote.
fn whole(pod: &Pod, used: &PodUsage) -> Option<String> {
    let written = spec::all_containers(pod).find_map(self::limit)?;
    let limits = resources::pod_limits(pod);
    let limit = limits.get(STORAGE)?;
    is_over(used.disk(pod).bytes, limit).then(|| {
        format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {}. ",
            words::sum(limit, written)
        )
    })
}

/// Its root file system and its logs.
fn container(pod: &Pod, used: &PodUsage) -> Option<String> {
    used.containers.iter().find_map(|used| {
        let mut own = spec::containers(pod).iter();
        let limit = limit(own.find(|own| own.name == used.name)?)?;
        is_over(used.disk().bytes, limit).then(|| {
            format!(
                "Container {} exceeded its local ephemeral storage limit {}. ",
                used.name,
                go_quote(&limit.0)
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use vetch_runtime::DiskUsage;

    use super::super::usage::ContainerUsage;
    use super::*;
    use crate::pods::testing::pod;

    const MIB: u64 = 1 << 20;

    fn disk(bytes: u64) -> DiskUsage {
        DiskUsage { bytes, inodes: 1 }
    }

    /// Containers a and b with such limits.
    fn of(a: Value, b: Value, volumes: Value) -> Pod {
        let container = |name: &str, limit: Value| {
            let limits = match limit {
                Value::Null => json!({}),
                limit => json!({STORAGE: limit}),
            };
            json!({"name": name, "resources": {"limits": limits}})
        };
        pod(json!({"containers": [container("a", a), container("b", b)], "volumes": volumes}))
    }

    #[test]
    fn who_has_limits() {
        for (pod, want) in [
            (of(json!(null), json!(null), json!([])), false),
            (of(json!("0"), json!(null), json!([])), false),
            (of(json!(null), json!("1Mi"), json!([])), true),
            (
                of(
                    json!(null),
                    json!(null),
                    json!([{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {"sizeLimit": "0"}}]),
                ),
                false,
            ),
            (
                of(
                    json!(null),
                    json!(null),
                    json!([{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]),
                ),
                true,
            ),
        ] {
            assert_eq!(has_any(&pod), want, "{pod:?}");
        }
    }

    #[test]
    fn what_is_too_much() {
        let scratch = || json!([{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]);
        let open = || json!([{"name": "v", "emptyDir": {}}]);
        // Limits of a and b, volumes; what a wrote, a's logs, what b wrote, the volume.
        for (a, b, volumes, used, want) in [
            (json!(null), json!(null), scratch(), [0, 0, 0, MIB], None),
            (
                json!(null),
                json!(null),
                scratch(),
                [0, 0, 0, MIB + 1],
                Some("Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "),
            ),
            (json!(null), json!(null), open(), [MIB; 4], None),
            (json!("2Mi"), json!("2Mi"), open(), [MIB, MIB, 0, MIB], None),
            (
                json!("2Mi"),
                json!("2Mi"),
                open(),
                [MIB, MIB, 0, 2 * MIB + 1],
                Some(
                    "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ",
                ),
            ),
            (
                json!("1M"),
                json!(null),
                open(),
                [0, 0, 0, MIB],
                Some(
                    "Pod ephemeral local storage usage exceeds the total limit of containers 1M. ",
                ),
            ),
            (
                json!("1Mi"),
                json!("4Mi"),
                open(),
                [MIB, 1, 0, 0],
                Some("Container a exceeded its local ephemeral storage limit \"1Mi\". "),
            ),
            (json!("1Mi"), json!("4Mi"), open(), [0, 0, 3 * MIB, 0], None),
        ] {
            let pod = of(a, b, volumes);
            let container = |name: &str, written, logs| ContainerUsage {
                name: name.to_owned(),
                written: disk(written),
                logs: disk(logs),
                ..ContainerUsage::default()
            };
            let used = PodUsage {
                containers: vec![container("a", used[0], used[1]), container("b", used[2], 0)],
                volumes: [("v".to_owned(), disk(used[3]))].into(),
                ..PodUsage::default()
            };
            assert_eq!(exceeded(&pod, &used).as_deref(), want, "{pod:?} {used:?}");
        }
    }
}
