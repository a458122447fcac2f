//! Which images a container needs: its own, and those of the image volumes it mounts.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pods::spec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed<'a> {
    pub reference: &'a str,
    pub policy: &'a str,
}

impl<'a> Needed<'a> {
    /// The policy is defaulted for volumes as for containers.
    fn new(reference: &'a Option<String>, policy: &'a Option<String>) -> Needed<'a> {
        let reference = reference.as_deref().unwrap_or_default();
        Needed {
            reference,
            policy: spec::pull_policy(policy.as_deref(), reference),
        }
    }
}

/// All, in the order in which they are pulled: the kubelet begins with volumes.
pub fn needed<'a>(pod: &'a Pod, container: &'a Container) -> impl Iterator<Item = Needed<'a>> {
    let volumes = of_volumes(pod, container).map(|(_, needed)| needed);
    volumes.chain(std::iter::once(own(container)))
}

pub fn own(container: &Container) -> Needed<'_> {
    Needed::new(&container.image, &container.image_pull_policy)
}

/// With the names of the volumes, each once.
pub fn of_volumes<'a>(
    pod: &'a Pod,
    container: &'a Container,
) -> impl Iterator<Item = (&'a str, Needed<'a>)> {
    let volumes = spec::spec(pod).volumes.iter().flatten();
    volumes.filter_map(|volume| {
        let source = volume.image.as_ref()?;
        let mut mounts = container.volume_mounts.iter().flatten();
        let mounted = mounts.any(|mount| mount.name == volume.name);
        let needed = Needed::new(&source.reference, &source.pull_policy);
        mounted.then_some((volume.name.as_str(), needed))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn volumes_first_and_only_what_is_mounted() {
        let pod = pod(json!({
            "containers": [
                {"name": "a", "image": "app:1", "volumeMounts": [
                    {"name": "model", "mountPath": "/a"}, {"name": "model", "mountPath": "/b", "subPath": "x"},
                    {"name": "scratch", "mountPath": "/c"}, {"name": "tools", "mountPath": "/d"},
                ]},
                {"name": "b", "image": "app", "imagePullPolicy": "Never"},
            ],
            "volumes": [
                {"name": "tools", "image": {"reference": "tools"}},
                {"name": "scratch", "emptyDir": {}},
                {"name": "model", "image": {"reference": "model:2", "pullPolicy": "Always"}},
                {"name": "other", "image": {"reference": "other:3"}},
            ],
        }));
        let of = |index: usize| {
            let container = &spec::containers(&pod)[index];
            needed(&pod, container)
                .map(|needed| (needed.reference, needed.policy))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(0),
            [
                ("tools", "Always"),
                ("model:2", "Always"),
                ("app:1", "IfNotPresent")
            ]
        );
        assert_eq!(of(1), [("app", "Never")]);
        let names = of_volumes(&pod, &spec::containers(&pod)[0]).map(|(name, _)| name);
        assert_eq!(names.collect::<Vec<_>>(), ["tools", "model"]);
    }
}
