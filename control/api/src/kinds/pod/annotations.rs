//! Annotations of pods that mean something to nodes.

use serde_json::Value;

use crate::field::Path;
use crate::resource::FieldError;
use crate::value::ValueExt;

/// Of a pod that only shows a static one of its node.
const MIRROR: &str = "kubernetes.io/config.mirror";

fn mirror(pod: &Value) -> Option<&Value> {
    pod.map_at("/metadata/annotations")?.get(MIRROR)
}

fn at() -> Path {
    Path::new("metadata").child("annotations")
}

pub(super) fn validate_create(pod: &Value) -> Vec<FieldError> {
    match mirror(pod) {
        Some(value) if pod.str_at("/spec/nodeName").is_empty() => {
            let words = "must set spec.nodeName if mirror pod annotation is set";
            vec![at().key(MIRROR).invalid(value.clone(), words)]
        }
        _ => Vec::new(),
    }
}

/// A mirror stays one, and no other pod becomes one.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let words = match (mirror(old), mirror(new)) {
        (old, new) if old == new => return Vec::new(),
        (Some(_), _) => "may not remove or update mirror pod annotation",
        (None, _) => "may not add mirror pod annotation",
    };
    vec![at().key(MIRROR).forbidden(words)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(mirror: Option<&str>) -> Value {
        let mut pod = json!({"metadata": {"annotations": {"other": "x"}}, "spec": {}});
        if let Some(value) = mirror {
            pod["metadata"]["annotations"][MIRROR] = json!(value);
        }
        pod
    }

    #[test]
    fn a_mirror_has_a_node() {
        let texts = |pod: &Value| -> Vec<String> {
            validate_create(pod)
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(
            texts(&pod(Some("m"))),
            [
                "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"m\": must set spec.nodeName if mirror pod annotation is set"
            ]
        );
        let mut bound = pod(Some("m"));
        bound["spec"]["nodeName"] = json!("n");
        assert_eq!(texts(&bound), [""; 0]);
        assert_eq!(texts(&pod(None)), [""; 0]);
    }

    #[test]
    fn a_mirror_stays_what_it_is() {
        let changed = "may not remove or update mirror pod annotation";
        for (old, new, want) in [
            (None, None, None),
            (Some("m"), Some("m"), None),
            (Some("m"), Some("n"), Some(changed)),
            (Some("m"), None, Some(changed)),
            (None, Some("m"), Some("may not add mirror pod annotation")),
        ] {
            let got = validate_update(&pod(new), &pod(old));
            let got: Vec<String> = got.iter().map(ToString::to_string).collect();
            match want {
                None => assert_eq!(got, [""; 0], "{old:?} {new:?}"),
                Some(words) => assert!(got.len() == 1 && got[0].ends_with(words), "{got:?}"),
            }
        }
    }
}
