//! Whether a container that ended is started again.

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod};
use vetch_runtime::{ContainerState, ContainerStatus};

use super::seen::Seen;
use super::spec;

const ALL: &str = "RestartAllContainers";

/// After it exited with `code`: the container's own rules and policy come
/// before the pod's.
pub fn after_exit(container: &Container, pod: &Pod, code: i32) -> bool {
    if let Some(policy) = &container.restart_policy {
        return rule(container, code).is_some() || by_policy(policy, code);
    }
    by_policy(spec::restart_policy(pod), code)
}

/// The first of its rules that is about `code`. Whatever it does, the container is started again.
fn rule(container: &Container, code: i32) -> Option<&ContainerRestartRule> {
    let mut rules = container.restart_policy_rules.iter().flatten();
    rules.find(|rule| matches(rule, code))
}

/// The containers of the present sandbox whose ends restart all containers of the pod, which they do until
/// they are removed.
pub fn triggers<'a>(pod: &'a Pod, seen: &'a Seen) -> Vec<(&'a Container, &'a ContainerStatus)> {
    if spec::is_deleted(pod) {
        return Vec::new();
    }
    let ended = spec::all_containers(pod).filter_map(|container| {
        let status = seen.current(&container.name)?;
        let restarts = status.state == ContainerState::Exited
            && rule(container, exit_code(status)).is_some_and(|rule| rule.action == ALL);
        restarts.then_some((container, status))
    });
    ended.collect()
}

/// Whether any container's end may restart all. How the containers of such a pod ended before says nothing
/// of what is to be run of it: one that is missing may have been taken away to begin anew.
pub fn may_restart_all(pod: &Pod) -> bool {
    let mut rules = spec::all_containers(pod)
        .flat_map(|container| container.restart_policy_rules.iter().flatten());
    rules.any(|rule| rule.action == ALL)
}

/// Of a container as it was last seen; `past` is the exit code of one that ran
/// before and of which the runtime knows nothing any more.
pub fn wanted(
    container: &Container,
    pod: &Pod,
    seen: Option<&ContainerStatus>,
    past: Option<i32>,
) -> bool {
    if spec::is_deleted(pod) {
        return false;
    }
    let Some(status) = seen else {
        return past.is_none_or(|code| after_exit(container, pod, code));
    };
    match status.state {
        ContainerState::Running => false,
        ContainerState::Created => true,
        ContainerState::Exited => after_exit(container, pod, exit_code(status)),
        // It ran and nobody knows how it ended: never a second time when once was asked for.
        ContainerState::Unknown => after_exit(container, pod, LOST),
    }
}

/// The same of an ephemeral container: no policy starts it a second time.
pub fn wanted_once(pod: &Pod, seen: Option<&ContainerStatus>, past: Option<i32>) -> bool {
    let ran = match seen {
        Some(status) => status.state != ContainerState::Created,
        None => past.is_some(),
    };
    !ran && !spec::is_deleted(pod)
}

/// Stands for the exit code of a container that was lost.
pub const LOST: i32 = 137;

/// Of a container that is not running.
pub fn exit_code(status: &ContainerStatus) -> i32 {
    match status.state {
        ContainerState::Exited => status.exit_code.unwrap_or(LOST),
        _ => LOST,
    }
}

fn by_policy(policy: &str, code: i32) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

fn matches(rule: &ContainerRestartRule, code: i32) -> bool {
    let Some(codes) = &rule.exit_codes else {
        return false;
    };
    let listed = codes.values.as_deref().unwrap_or_default().contains(&code);
    matches!(rule.action.as_str(), "Restart" | ALL)
        && match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ContainerRestartRuleOnExitCodes, PodSpec};

    use super::*;

    fn pod(policy: &str) -> Pod {
        Pod {
            spec: Some(PodSpec {
                restart_policy: Some(policy.into()),
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    #[test]
    fn policies_of_the_pod_and_of_the_container() {
        for (pod_policy, own_policy, code, want) in [
            ("Always", None, 0, true),
            ("Always", None, 1, true),
            ("OnFailure", None, 0, false),
            ("OnFailure", None, 3, true),
            ("Never", None, 0, false),
            ("Never", None, 1, false),
            ("Never", Some("Always"), 0, true),
            ("Always", Some("Never"), 1, false),
            ("Never", Some("OnFailure"), 1, true),
        ] {
            let container = Container {
                restart_policy: own_policy.map(str::to_owned),
                ..Container::default()
            };
            assert_eq!(
                after_exit(&container, &pod(pod_policy), code),
                want,
                "{pod_policy} {own_policy:?} {code}"
            );
        }
    }

    #[test]
    fn rules_by_exit_code() {
        for (operator, code, want) in [
            ("In", 42, true),
            ("In", 1, false),
            ("NotIn", 42, false),
            ("NotIn", 1, true),
            ("Other", 42, false),
        ] {
            let container = Container {
                restart_policy: Some("Never".into()),
                restart_policy_rules: Some(vec![ContainerRestartRule {
                    action: "Restart".into(),
                    exit_codes: Some(ContainerRestartRuleOnExitCodes {
                        operator: operator.into(),
                        values: Some(vec![42]),
                    }),
                }]),
                ..Container::default()
            };
            assert_eq!(
                after_exit(&container, &pod("Never"), code),
                want,
                "{operator} {code}"
            );
        }
    }
}
