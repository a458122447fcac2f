//! From what the supervisor recorded to what CRI reports.

use jiff::Timestamp;
use vetch_shim::protocol::ContainerRecord as Observed;

use crate::record::ContainerRecord;
use crate::types::{ContainerId, ContainerState, ContainerStatus};

/// `observed` is `None` for a container that was never asked to start.
pub fn container_status(
    id: &ContainerId,
    record: &ContainerRecord,
    observed: Option<&Observed>,
    supervised: bool,
) -> ContainerStatus {
    let spec = &record.spec;
    let state = match observed {
        None => ContainerState::Created,
        Some(observed) if !observed.running() => ContainerState::Exited,
        Some(_) if supervised => ContainerState::Running,
        Some(_) => ContainerState::Unknown,
    };
    let running = state == ContainerState::Running;
    let exited = state == ContainerState::Exited;
    let failed_to_start = observed.and_then(|observed| observed.error.clone());
    ContainerStatus {
        id: id.clone(),
        name: spec.name.clone(),
        attempt: spec.attempt,
        state,
        image: spec.image.clone(),
        image_id: spec.image_id.clone(),
        pid: observed
            .filter(|_| running)
            .and_then(|observed| observed.pid.try_into().ok()),
        created_at: record.created_at,
        started_at: observed
            .filter(|observed| observed.error.is_none())
            .map(|observed| time(observed.started_at)),
        finished_at: observed.and_then(|observed| observed.finished_at).map(time),
        exit_code: observed.and_then(|observed| observed.exit_code),
        signal: observed.and_then(|observed| observed.signal),
        reason: observed.filter(|_| exited).map(reason),
        message: failed_to_start.map(|words| format!("failed to start container: {words}")),
        log_path: spec.log_path.clone(),
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        user: observed.and_then(|observed| observed.user.clone()),
    }
}

fn reason(observed: &Observed) -> String {
    match observed {
        Observed { error: Some(_), .. } => "StartError",
        Observed {
            oom_killed: true,
            exit_code,
            ..
        } if *exit_code != Some(0) => "OOMKilled",
        Observed {
            exit_code: Some(0), ..
        } => "Completed",
        _ => "Error",
    }
    .to_owned()
}

fn time(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanos.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests_support::container_spec;

    fn observed(exit_code: Option<i32>, signal: Option<i32>) -> Observed {
        Observed {
            pid: 7,
            started_at: 1,
            finished_at: exit_code.map(|_| 2),
            exit_code,
            signal,
            ..Observed::default()
        }
    }

    #[test]
    fn states_and_reasons() {
        use ContainerState::*;
        let oom = Observed {
            oom_killed: true,
            ..observed(Some(137), Some(9))
        };
        let failed = Observed {
            error: Some("exec: no".into()),
            ..observed(Some(128), None)
        };
        let table = [
            (None, true, Created, None),
            (Some(observed(None, None)), true, Running, None),
            (Some(observed(None, None)), false, Unknown, None),
            (
                Some(observed(Some(0), None)),
                true,
                Exited,
                Some("Completed"),
            ),
            (
                Some(observed(Some(0), None)),
                false,
                Exited,
                Some("Completed"),
            ),
            (Some(observed(Some(1), None)), true, Exited, Some("Error")),
            (
                Some(observed(Some(143), Some(15))),
                true,
                Exited,
                Some("Error"),
            ),
            (Some(oom), true, Exited, Some("OOMKilled")),
            (Some(failed), true, Exited, Some("StartError")),
        ];
        let record = ContainerRecord {
            spec: container_spec(),
            created_at: Timestamp::UNIX_EPOCH,
            cgroup: "/c".into(),
            layers: vec![],
            stop_signal: 15,
        };
        for (observed, supervised, state, reason) in table {
            let status = container_status(
                &ContainerId("c".into()),
                &record,
                observed.as_ref(),
                supervised,
            );
            assert_eq!(status.state, state, "{observed:?}");
            assert_eq!(status.reason.as_deref(), reason, "{observed:?}");
            assert_eq!(status.pid.is_some(), state == Running);
        }
    }
}
