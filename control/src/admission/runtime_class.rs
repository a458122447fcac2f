//! RuntimeClass: what a pod's class says is written into the pod, and what contradicts it refused.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use vetch_api::quantity::Quantity;
use vetch_server::Server;
use vetch_server::admission::{Admission, Attributes, Effects, Operation};
use vetch_server::status::{Result, Status};

use super::pods::is_pod;
use super::{list, text};

pub(super) struct RuntimeClass;

impl Admission for RuntimeClass {
    fn admit<'a>(
        &'a self,
        server: &'a Server,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        async move {
            if !is_pod(attributes, Operation::Create) {
                return Ok(Effects::default());
            }
            let refused = |why: String| {
                Err(Status::forbidden(
                    attributes.resource,
                    attributes.name,
                    &why,
                ))
            };
            let name = text(object, "/spec/runtimeClassName").to_owned();
            let class = match name.as_str() {
                "" => None,
                name => match server
                    .find("node.k8s.io", "runtimeclasses", None, name)
                    .await?
                {
                    Some(found) => Some(found),
                    None => {
                        return refused(format!("pod rejected: RuntimeClass {name:?} not found"));
                    }
                },
            };
            match apply(object, class.as_deref().map(|found| &found.value)) {
                Ok(()) => Ok(Effects::default()),
                Err(why) => refused(why),
            }
        }
        .boxed()
    }
}

/// The error is the reason of a Forbidden answer.
fn apply(pod: &mut Value, class: Option<&Value>) -> std::result::Result<(), String> {
    let fixed = class.map_or(&Value::Null, |class| &class["overhead"]["podFixed"]);
    let own = &pod["spec"]["overhead"];
    let is_set = |overhead: &Value| overhead.as_object().is_some_and(|all| !all.is_empty());
    match (is_set(fixed), is_set(own)) {
        (true, true) if !same_amounts(own, fixed) => {
            return Err(
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into(),
            );
        }
        (true, _) => pod["spec"]["overhead"] = fixed.clone(),
        (false, true) => {
            return Err(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                    .into(),
            );
        }
        (false, false) => {}
    }
    let Some(class) = class else { return Ok(()) };
    let wanted = class["scheduling"]["nodeSelector"].as_object();
    for (key, value) in wanted.into_iter().flatten() {
        let own = &pod["spec"]["nodeSelector"][key];
        if !own.is_null() && own != value {
            let shown = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                shown(value),
                shown(own)
            ));
        }
        if !pod["spec"]["nodeSelector"].is_object() {
            pod["spec"]["nodeSelector"] = json!({});
        }
        pod["spec"]["nodeSelector"][key] = value.clone();
    }
    let mut tolerations = list(pod, "/spec/tolerations").to_vec();
    let known = tolerations.len();
    for toleration in list(class, "/scheduling/tolerations") {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    if tolerations.len() > known {
        pod["spec"]["tolerations"] = tolerations.into();
    }
    Ok(())
}

/// However they are written.
fn same_amounts(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else {
        return false;
    };
    one.len() == other.len()
        && one.iter().all(|(name, amount)| {
            let Some(wanted) = other.get(name) else {
                return false;
            };
            let parsed = |amount: &Value| Quantity::parse(amount.as_str()?).ok();
            amount == wanted || (parsed(amount).is_some() && parsed(amount) == parsed(wanted))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_class_makes_of_a_pod() {
        let class = || {
            json!({
                "handler": "vetch",
                "overhead": {"podFixed": {"cpu": "100m"}},
                "scheduling": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "a"}]},
            })
        };
        let full = json!({"overhead": {"cpu": "100m"}, "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "a"}]});
        for (spec, class, want) in [
            (json!({}), None, Ok(json!({}))),
            (json!({}), Some(class()), Ok(full.clone())),
            (full.clone(), Some(class()), Ok(full)),
            (
                json!({"overhead": {"cpu": "0.1"}, "nodeSelector": {"zone": "a"}, "tolerations": [{"key": "b"}]}),
                Some(class()),
                Ok(json!({
                    "overhead": {"cpu": "100m"},
                    "nodeSelector": {"zone": "a", "disk": "ssd"},
                    "tolerations": [{"key": "b"}, {"key": "a"}],
                })),
            ),
            (
                json!({"overhead": {"cpu": "1"}}),
                Some(class()),
                Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
            ),
            (
                json!({"overhead": {"cpu": "1"}}),
                Some(json!({"handler": "vetch"})),
                Err(
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
                ),
            ),
            (
                json!({"overhead": {"cpu": "1"}}),
                None,
                Err(
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
                ),
            ),
            (
                json!({"nodeSelector": {"disk": "hdd"}}),
                Some(class()),
                Err(
                    "conflict: runtimeClass.scheduling.nodeSelector[disk] = ssd; pod.spec.nodeSelector[disk] = hdd",
                ),
            ),
        ] {
            let mut pod = json!({"spec": spec});
            let got = apply(&mut pod, class.as_ref());
            match want {
                Ok(want) => assert_eq!((got, &pod["spec"]), (Ok(()), &want), "{spec}"),
                Err(words) => assert_eq!(got, Err(words.to_owned()), "{spec}"),
            }
        }
    }
}
