//! Who a container runs as and what it may do: the container's security
//! context over the pod's.

use std::path::{Component, Path};

use k8s_openapi::api::core::v1::{Capabilities, Container, Pod, SeccompProfile, SecurityContext};
use vetch_runtime::{AppArmor, Seccomp};

use super::apparmor;
use super::spec;
use super::text::{go_quote, pod_text};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    /// supplementalGroupsPolicy: Strict (KEP-3619).
    pub only_given_groups: bool,
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub privileged: bool,
    pub no_new_privs: bool,
    pub readonly_rootfs: bool,
    pub seccomp: Seccomp,
    pub apparmor: AppArmor,
    pub unmasked_proc: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    #[error("container's runAsUser breaks non-root policy (pod: {pod}, container: {container})")]
    RunAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image will run as root (pod: {pod}, container: {container})"
    )]
    ImageIsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod}, container: {container})"
    )]
    ImageUserName {
        user: String,
        pod: String,
        container: String,
    },
    #[error("{field} {value} is not a valid id")]
    Id { field: &'static str, value: i64 },
    #[error("localhostProfile must be set if seccompProfile type is Localhost.")]
    NoProfile,
    #[error("localhostProfile {0:?} must be a path below the node's directory of seccomp profiles")]
    Profile(String),
    #[error("invalid AppArmor profile: {0}")]
    AppArmor(String),
    #[error("{0} is not supported by this node")]
    Unsupported(String),
}

/// `image_user` is the USER of the image: a name, a number, `user:group`, or empty.
/// `seccomp_root` is where the node has its seccomp profiles.
pub fn effective(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    seccomp_root: &Path,
) -> Result<Effective, SecurityError> {
    static NONE: std::sync::LazyLock<SecurityContext> =
        std::sync::LazyLock::new(SecurityContext::default);
    let own = container.security_context.as_ref().unwrap_or(&NONE);
    let of_pod = spec::spec(pod).security_context.as_ref();
    let profile = own
        .seccomp_profile
        .as_ref()
        .or(of_pod.and_then(|context| context.seccomp_profile.as_ref()));

    let user = own
        .run_as_user
        .or(of_pod.and_then(|context| context.run_as_user));
    let group = own
        .run_as_group
        .or(of_pod.and_then(|context| context.run_as_group));
    let non_root = own
        .run_as_non_root
        .or(of_pod.and_then(|context| context.run_as_non_root));
    if non_root == Some(true) {
        check_non_root(pod, container, user, image_user)?;
    }
    let fs_group = of_pod.and_then(|context| context.fs_group);
    let groups = of_pod.and_then(|context| context.supplemental_groups.clone());
    let groups = fs_group.into_iter().chain(groups.unwrap_or_default());
    let capabilities = own.capabilities.as_ref();
    let named = |of: fn(&Capabilities) -> &Option<Vec<String>>| {
        capabilities
            .and_then(|all| of(all).clone())
            .unwrap_or_default()
    };
    Ok(Effective {
        run_as_user: user.map(|id| number("runAsUser", id)).transpose()?,
        run_as_group: group.map(|id| number("runAsGroup", id)).transpose()?,
        supplemental_groups: groups
            .map(|id| number("supplementalGroups", id))
            .collect::<Result<_, _>>()?,
        only_given_groups: of_pod.and_then(|context| context.supplemental_groups_policy.as_deref())
            == Some("Strict"),
        capabilities_add: named(|all| &all.add),
        capabilities_drop: named(|all| &all.drop),
        privileged: own.privileged.unwrap_or(false),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        seccomp: seccomp(profile, seccomp_root)?,
        apparmor: apparmor::of(pod, container)?,
        // The API server wants a user namespace with it; the kubelet does not ask.
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    })
}

/// Without a profile: as a kubelet without --seccomp-default.
fn seccomp(profile: Option<&SeccompProfile>, root: &Path) -> Result<Seccomp, SecurityError> {
    let Some(profile) = profile else {
        return Ok(Seccomp::Unconfined);
    };
    match profile.type_.as_str() {
        "Unconfined" => Ok(Seccomp::Unconfined),
        "RuntimeDefault" => Ok(Seccomp::RuntimeDefault),
        "Localhost" => {
            let name = profile.localhost_profile.as_deref().unwrap_or_default();
            let below = |part| matches!(part, Component::Normal(_) | Component::CurDir);
            if name.is_empty() {
                Err(SecurityError::NoProfile)
            } else if !Path::new(name).components().all(below) {
                Err(SecurityError::Profile(name.to_owned()))
            } else {
                Ok(Seccomp::Localhost(root.join(name)))
            }
        }
        other => Err(SecurityError::Unsupported(format!(
            "a seccomp profile of type {other}"
        ))),
    }
}

fn number(field: &'static str, value: i64) -> Result<u32, SecurityError> {
    u32::try_from(value).map_err(|_| SecurityError::Id { field, value })
}

fn check_non_root(
    pod: &Pod,
    container: &Container,
    user: Option<i64>,
    image_user: &str,
) -> Result<(), SecurityError> {
    let pod = go_quote(&pod_text(pod));
    let container = container.name.clone();
    match user {
        Some(0) => return Err(SecurityError::RunAsRoot { pod, container }),
        Some(_) => return Ok(()),
        None => {}
    }
    let user = image_user.split(':').next().unwrap_or_default();
    match user.parse::<u64>() {
        Ok(0) => Err(SecurityError::ImageIsRoot { pod, container }),
        Ok(_) => Ok(()),
        Err(_) if user.is_empty() => Err(SecurityError::ImageIsRoot { pod, container }),
        Err(_) => Err(SecurityError::ImageUserName {
            user: user.to_owned(),
            pod,
            container,
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn make(pod: Value, container: Value, image_user: &str) -> Result<Effective, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
            "spec": {"securityContext": pod, "containers": [{"name": "c", "securityContext": container}]},
        }))
        .unwrap();
        let root = Path::new("/profiles");
        effective(&pod, &spec::containers(&pod)[0], image_user, root)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_container_comes_before_the_pod() {
        let got = make(
            json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4, 5],
                "supplementalGroupsPolicy": "Strict", "runAsNonRoot": true}),
            json!({"runAsUser": 7, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true}),
            "",
        );
        assert_eq!(
            got,
            Ok(Effective {
                run_as_user: Some(7),
                run_as_group: Some(2),
                supplemental_groups: vec![3, 4, 5],
                only_given_groups: true,
                capabilities_add: vec!["NET_ADMIN".into()],
                capabilities_drop: vec!["ALL".into()],
                privileged: false,
                no_new_privs: true,
                readonly_rootfs: true,
                seccomp: Seccomp::Unconfined,
                apparmor: AppArmor::Unsaid,
                unmasked_proc: false,
            })
        );
        assert_eq!(make(json!({}), json!({}), "root"), Ok(Effective::default()));
    }

    #[test]
    fn non_root_is_verified() {
        let place = "(pod: \"web_shop(u)\", container: c)";
        for (container, image_user, want) in [
            (json!({"runAsUser": 0}), "", Some("container's runAsUser breaks non-root policy".to_owned())),
            (json!({"runAsUser": 5}), "", None),
            (json!({}), "1000", None),
            (json!({}), "1000:0", None),
            (json!({}), "0:5", Some("container has runAsNonRoot and image will run as root".to_owned())),
            (json!({}), "", Some("container has runAsNonRoot and image will run as root".to_owned())),
            (json!({}), "nginx", Some("container has runAsNonRoot and image has non-numeric user (nginx), cannot verify user is non-root".to_owned())),
            (json!({"runAsNonRoot": false}), "", None),
        ] {
            let got = make(json!({"runAsNonRoot": true}), container.clone(), image_user);
            let want = want.map(|words| format!("{words} {place}"));
            assert_eq!(got.err(), want, "{container} {image_user}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for container in [
            json!({"appArmorProfile": {"type": "Strict"}}),
            json!({"seccompProfile": {"type": "Strict"}}),
        ] {
            assert!(
                make(json!({}), container.clone(), "").is_err(),
                "{container}"
            );
        }
    }

    #[test]
    fn which_calls_are_filtered() {
        let profile = |kind: &str| json!({"seccompProfile": {"type": kind}});
        let localhost =
            |name: &str| json!({"seccompProfile": {"type": "Localhost", "localhostProfile": name}});
        let nothing = || json!({});
        let file = |name: &str| Ok(Seccomp::Localhost(Path::new("/profiles").join(name)));
        for (pod, container, want) in [
            (nothing(), nothing(), Ok(Seccomp::Unconfined)),
            (
                profile("RuntimeDefault"),
                nothing(),
                Ok(Seccomp::RuntimeDefault),
            ),
            (
                profile("RuntimeDefault"),
                profile("Unconfined"),
                Ok(Seccomp::Unconfined),
            ),
            (
                profile("Unconfined"),
                profile("RuntimeDefault"),
                Ok(Seccomp::RuntimeDefault),
            ),
            (localhost("team/p.json"), nothing(), file("team/p.json")),
            (localhost("p"), localhost("own"), file("own")),
            (
                nothing(),
                profile("Localhost"),
                Err("localhostProfile must be set if seccompProfile type is Localhost."),
            ),
            (
                nothing(),
                localhost("../p"),
                Err("localhostProfile \"../p\" must be a path below"),
            ),
            (
                nothing(),
                localhost("/etc/p"),
                Err("localhostProfile \"/etc/p\" must be a path below"),
            ),
        ] {
            let got = make(pod.clone(), container.clone(), "").map(|got| got.seccomp);
            match (got, want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{pod} {container}"),
                (Err(got), Err(want)) => assert!(got.starts_with(want), "{got}, not {want}"),
                (got, want) => panic!("{pod} {container}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn what_is_masked_in_proc() {
        for (kind, unmasked) in [("Default", false), ("Unmasked", true)] {
            let got = make(json!({}), json!({"procMount": kind}), "").unwrap();
            assert_eq!(got.unmasked_proc, unmasked, "{kind}");
        }
    }
}
