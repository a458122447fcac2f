//! Who a container runs as and what it may do: the container's security
//! context over the pod's.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, Container, Pod, SeccompProfile, SecurityContext,
};

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
    #[error("{0} is not supported by this node")]
    Unsupported(String),
}

/// `image_user` is the USER of the image: a name, a number, `user:group`, or empty.
pub fn effective(
    pod: &Pod,
    container: &Container,
    image_user: &str,
) -> Result<Effective, SecurityError> {
    static NONE: std::sync::LazyLock<SecurityContext> =
        std::sync::LazyLock::new(SecurityContext::default);
    let own = container.security_context.as_ref().unwrap_or(&NONE);
    let of_pod = spec::spec(pod).security_context.as_ref();
    refuse_unsupported(pod, own)?;

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
    })
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

/// What would leave a container less confined than it asks for.
fn refuse_unsupported(pod: &Pod, own: &SecurityContext) -> Result<(), SecurityError> {
    let of_pod = spec::spec(pod).security_context.as_ref();
    let seccomp = own
        .seccomp_profile
        .as_ref()
        .or(of_pod.and_then(|context| context.seccomp_profile.as_ref()));
    let app_armor = own
        .app_armor_profile
        .as_ref()
        .or(of_pod.and_then(|context| context.app_armor_profile.as_ref()));
    if seccomp.is_some_and(|profile| profile.type_ == "Localhost") {
        return Err(SecurityError::Unsupported(
            "a seccomp profile of type Localhost".into(),
        ));
    }
    if app_armor.is_some_and(|profile| profile.type_ == "Localhost") {
        return Err(SecurityError::Unsupported(
            "an AppArmor profile of type Localhost".into(),
        ));
    }
    if own
        .proc_mount
        .as_deref()
        .is_some_and(|kind| kind != "Default")
    {
        return Err(SecurityError::Unsupported("procMount Unmasked".into()));
    }
    Ok(())
}

/// Wishes that are not fulfilled but harm nobody who knows of them.
pub fn warnings(pod: &Pod) -> Vec<String> {
    let of_pod = spec::spec(pod).security_context.as_ref();
    let runtime_default = |seccomp: Option<&SeccompProfile>, armor: Option<&AppArmorProfile>| {
        let seccomp = seccomp.is_some_and(|profile| profile.type_ == "RuntimeDefault");
        let armor = armor.is_some_and(|profile| profile.type_ == "RuntimeDefault");
        [("seccomp", seccomp), ("AppArmor", armor)]
    };
    let mut asked = runtime_default(
        of_pod.and_then(|context| context.seccomp_profile.as_ref()),
        of_pod.and_then(|context| context.app_armor_profile.as_ref()),
    );
    for container in spec::all_containers(pod) {
        let Some(own) = &container.security_context else {
            continue;
        };
        let own = runtime_default(own.seccomp_profile.as_ref(), own.app_armor_profile.as_ref());
        for (asked, own) in asked.iter_mut().zip(own) {
            asked.1 |= own.1;
        }
    }
    asked
        .into_iter()
        .filter(|(_, asked)| *asked)
        .map(|(kind, _)| {
            format!("{kind} profile RuntimeDefault is not applied: this node confines containers without {kind}")
        })
        .collect()
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
        effective(&pod, &spec::containers(&pod)[0], image_user).map_err(|error| error.to_string())
    }

    #[test]
    fn the_container_comes_before_the_pod() {
        let got = make(
            json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4, 5], "runAsNonRoot": true}),
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
                capabilities_add: vec!["NET_ADMIN".into()],
                capabilities_drop: vec!["ALL".into()],
                privileged: false,
                no_new_privs: true,
                readonly_rootfs: true,
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
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}}),
            json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}}),
            json!({"procMount": "Unmasked"}),
        ] {
            assert!(
                make(json!({}), container.clone(), "").is_err(),
                "{container}"
            );
        }
    }
}
