//! Pods of a manifest folder: they need no API server. What the API server has of each is a mirror, a
//! Pod of the same name that says what the static one is and takes its status. It has a uid of its own; the
//! static pod's stands in its annotation.
//!
//! | file | what it is |
//! |---|---|
//! | `folder` | reads the folder, and again when something changed there |
//! | `parse` | from a file's text to a pod, or why it is none |
//! | `defaults`, `check`, `references` | what the API server does to other pods before a node sees them |
//! | `mirror` | decides what becomes of a mirror |

mod check;
mod defaults;
mod folder;
pub mod mirror;
mod parse;
mod references;

use k8s_openapi::api::core::v1::Pod;

pub use folder::{Folder, StaticPods, follow};

/// Where a pod came from; `file` here, absent on those of the API server.
pub const SOURCE: &str = "kubernetes.io/config.source";
/// A static pod's uid, on itself and on its mirror.
pub const HASH: &str = "kubernetes.io/config.hash";
/// When a static pod was first read.
pub const SEEN: &str = "kubernetes.io/config.seen";
/// Makes a Pod a mirror; the uid of the static pod it shows.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Namespace and name.
pub type FullName = (String, String);

pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE).is_some_and(|source| source != "api") && !is_mirror(pod)
}

pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

/// By which the node knows what the API server calls this pod: a mirror's is the static pod's.
pub fn uid_on_node(pod: &Pod) -> Option<&str> {
    annotation(pod, MIRROR).or(pod.metadata.uid.as_deref())
}

pub fn full_name(pod: &Pod) -> FullName {
    let part = |text: &str| text.to_owned();
    (
        part(super::spec::namespace(pod)),
        part(super::spec::name(pod)),
    )
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn which_pods_are_whose() {
        for (annotations, own, mirror, uid) in [
            (json!({}), false, false, "u"),
            (json!({SOURCE: "api"}), false, false, "u"),
            (json!({SOURCE: "file", HASH: "h"}), true, false, "u"),
            (
                json!({SOURCE: "file", HASH: "h", MIRROR: "h"}),
                false,
                true,
                "h",
            ),
        ] {
            let pod = json!({"metadata": {"uid": "u", "annotations": annotations}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!(
                (is_static(&pod), is_mirror(&pod)),
                (own, mirror),
                "{annotations}"
            );
            assert_eq!(uid_on_node(&pod), Some(uid), "{annotations}");
        }
    }
}
