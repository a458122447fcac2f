//! Which AppArmor profile a container wants: its own field, the annotation that was there before it,
//! the pod's field (KEP-24).

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod};
use vetch_runtime::AppArmor;

use super::ephemeral;
use super::security::SecurityError;
use super::spec;
use super::status::Verdict;

/// Before a container's name. Deprecated since Kubernetes 1.30, and still heard.
const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

pub fn of(pod: &Pod, container: &Container) -> Result<AppArmor, SecurityError> {
    let own = container.security_context.as_ref();
    if let Some(profile) = own.and_then(|context| context.app_armor_profile.as_ref()) {
        return from_field(profile);
    }
    if let Some(words) = annotation(pod, &container.name) {
        return from_words(words);
    }
    let of_pod = spec::spec(pod).security_context.as_ref();
    let profile = of_pod.and_then(|context| context.app_armor_profile.as_ref());
    profile.map_or(Ok(AppArmor::Unsaid), from_field)
}

fn annotation<'a>(pod: &'a Pod, container: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    let value = annotations.get(&format!("{ANNOTATION}{container}"))?;
    Some(value.as_str()).filter(|value| !value.is_empty())
}

fn from_field(profile: &AppArmorProfile) -> Result<AppArmor, SecurityError> {
    match profile.type_.as_str() {
        "Unconfined" => Ok(AppArmor::Unconfined),
        "RuntimeDefault" => Ok(AppArmor::RuntimeDefault),
        "Localhost" => loaded(profile.localhost_profile.as_deref().unwrap_or_default()),
        other => Err(SecurityError::AppArmor(format!("unknown type {other:?}"))),
    }
}

fn from_words(words: &str) -> Result<AppArmor, SecurityError> {
    match words {
        "unconfined" => Ok(AppArmor::Unconfined),
        "runtime/default" => Ok(AppArmor::RuntimeDefault),
        other => match other.strip_prefix("localhost/") {
            Some(name) => loaded(name),
            None => Err(SecurityError::AppArmor(format!("{words:?}"))),
        },
    }
}

fn loaded(name: &str) -> Result<AppArmor, SecurityError> {
    match name.trim() {
        "" => Err(SecurityError::AppArmor(
            "a name of a loaded profile is missing".into(),
        )),
        _ => Ok(AppArmor::Localhost(name.to_owned())),
    }
}

/// Of a pod that asks for a profile where the kernel enforces none (`problem`), also the runtime's
/// own: as the kubelet has it, a pod that says so is not left unconfined.
pub fn refusal(pod: &Pod, problem: Option<String>) -> Option<Verdict> {
    let problem = problem.filter(|_| asks(pod))?;
    Some(Verdict {
        reason: "AppArmor".to_owned(),
        message: format!("Cannot enforce AppArmor: {problem}"),
    })
}

fn asks(pod: &Pod) -> bool {
    let added = ephemeral::containers(pod);
    let confined = |profile: Result<AppArmor, SecurityError>| {
        !matches!(profile, Ok(AppArmor::Unsaid | AppArmor::Unconfined))
    };
    let of_pod = spec::spec(pod).security_context.as_ref();
    let field = of_pod.and_then(|context| context.app_armor_profile.as_ref());
    field.is_some_and(|profile| confined(from_field(profile)))
        || spec::all_containers(pod)
            .chain(&added)
            .any(|container| confined(of(pod, container)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(pod: Value, annotation: Option<&str>, container: Value) -> Pod {
        let mut object = json!({
            "metadata": {"annotations": {}},
            "spec": {"securityContext": pod, "containers": [{"name": "c", "securityContext": container}]},
        });
        if let Some(words) = annotation {
            object["metadata"]["annotations"][format!("{ANNOTATION}c")] = json!(words);
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn which_profile_a_container_wants() {
        let field = |kind: &str| json!({"appArmorProfile": {"type": kind}});
        let named = |name: &str| json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": name}});
        let nothing = || json!({});
        let localhost = |name: &str| Some(AppArmor::Localhost(name.into()));
        for (of_pod, annotation, own, want) in [
            (nothing(), None, nothing(), Some(AppArmor::Unsaid)),
            (
                field("RuntimeDefault"),
                None,
                nothing(),
                Some(AppArmor::RuntimeDefault),
            ),
            (
                field("RuntimeDefault"),
                None,
                field("Unconfined"),
                Some(AppArmor::Unconfined),
            ),
            (named("p"), None, nothing(), localhost("p")),
            (named("p"), Some("localhost/a"), nothing(), localhost("a")),
            (
                named("p"),
                Some("localhost/a"),
                named("own"),
                localhost("own"),
            ),
            (
                nothing(),
                Some("runtime/default"),
                nothing(),
                Some(AppArmor::RuntimeDefault),
            ),
            (
                nothing(),
                Some("unconfined"),
                nothing(),
                Some(AppArmor::Unconfined),
            ),
            (
                field("RuntimeDefault"),
                Some(""),
                nothing(),
                Some(AppArmor::RuntimeDefault),
            ),
            (nothing(), Some("strict"), nothing(), None),
            (nothing(), Some("localhost/"), nothing(), None),
            (nothing(), None, named(" "), None),
            (nothing(), None, field("Localhost"), None),
        ] {
            let pod = pod(of_pod, annotation, own);
            let got = of(&pod, &spec::containers(&pod)[0]);
            assert_eq!(got.ok(), want, "{:?} {annotation:?}", pod.spec);
        }
    }

    #[test]
    fn who_is_refused_where_the_kernel_has_none() {
        let field = |kind: &str| json!({"appArmorProfile": {"type": kind}});
        for (of_pod, annotation, own, refused) in [
            (json!({}), None, json!({}), false),
            (field("Unconfined"), None, json!({}), false),
            (field("RuntimeDefault"), None, json!({}), true),
            (field("RuntimeDefault"), None, field("Unconfined"), true),
            (json!({}), Some("runtime/default"), json!({}), true),
            (json!({}), Some("unconfined"), json!({}), false),
            (json!({}), None, field("RuntimeDefault"), true),
        ] {
            let pod = pod(of_pod, annotation, own);
            let problem = Some("AppArmor is not enabled on the host".to_owned());
            let got = refusal(&pod, problem);
            let want = refused.then(|| Verdict {
                reason: "AppArmor".to_owned(),
                message: "Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned(),
            });
            assert_eq!(got, want, "{:?} {annotation:?}", pod.spec);
            assert_eq!(refusal(&pod, None), None);
        }
    }
}
