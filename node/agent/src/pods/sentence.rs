//! Why the node ends a pod before its time, and how.

use std::time::Duration;

use super::status::Verdict;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    pub verdict: Verdict,
    /// How long its containers have at most; `None` for what the pod says.
    pub grace: Option<Duration>,
    /// The message of its condition DisruptionTarget, where it is none of the pod's doing.
    pub disruption: Option<String>,
}

impl Sentence {
    /// It goes for a critical one (the kubelet's pkg/kubelet/preemption).
    pub fn preempted() -> Sentence {
        Sentence {
            verdict: super::preempt::verdict(),
            grace: None,
            disruption: Some(
                "Pod was preempted by Kubelet to accommodate a critical pod.".to_owned(),
            ),
        }
    }
}
