//! What a namespace says about its own end.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::content::Outcome;
use crate::events::whole_seconds;

/// Type, and reason and message where there is nothing to complain of.
const TYPES: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        "NamespaceContentRemaining",
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];

pub fn conditions(
    old: Option<Vec<NamespaceCondition>>,
    outcome: &Outcome,
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    let mut conditions = old.unwrap_or_default();
    for (kind, reason, message) in TYPES {
        let complaint = complaint(kind, outcome);
        let status = if complaint.is_some() { "True" } else { "False" };
        let (reason, message) = complaint.unwrap_or((reason, message.to_owned()));
        let new = NamespaceCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(Time(whole_seconds(now))),
        };
        match conditions.iter_mut().find(|own| own.type_ == kind) {
            None => conditions.push(new),
            Some(own) if own.status == new.status => {
                own.reason = new.reason;
                own.message = new.message;
            }
            Some(own) => *own = new,
        }
    }
    conditions
}

fn complaint(kind: &str, outcome: &Outcome) -> Option<(&'static str, String)> {
    match kind {
        "NamespaceDeletionDiscoveryFailure" => {
            Some(("DiscoveryFailed", outcome.undiscovered.clone()?))
        }
        "NamespaceDeletionContentFailure" if !outcome.failures.is_empty() => {
            let mut failures = outcome.failures.clone();
            failures.sort();
            let message = format!(
                "Failed to delete all resource types, {} remaining: {}",
                failures.len(),
                failures.join(", ")
            );
            Some(("ContentDeletionFailed", message))
        }
        "NamespaceContentRemaining" if !outcome.remaining.is_empty() => {
            let each = outcome
                .remaining
                .iter()
                .map(|(resource, count)| format!("{resource} has {count} resource instances"));
            let message = format!("Some resources are remaining: {}", join(each));
            Some(("SomeResourcesRemain", message))
        }
        "NamespaceFinalizersRemaining" if !outcome.finalizers.is_empty() => {
            let each = outcome
                .finalizers
                .iter()
                .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"));
            let message = format!(
                "Some content in the namespace has finalizers remaining: {}",
                join(each)
            );
            Some(("SomeFinalizersRemain", message))
        }
        _ => None,
    }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn complaints_come_and_go() {
        let start = at("2026-01-01T00:00:00Z");
        let outcome = Outcome {
            remaining: [("pods.".to_owned(), 2), ("configmaps.".to_owned(), 1)].into(),
            finalizers: [("example.com/mine".to_owned(), 1)].into(),
            wait: Some(Duration::from_secs(15)),
            ..Outcome::default()
        };
        let told = conditions(None, &outcome, start);
        let line = |own: &NamespaceCondition| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            format!(
                "{} {} {}: {}",
                own.type_,
                own.status,
                text(&own.reason),
                text(&own.message)
            )
        };
        let lines: Vec<String> = told.iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "NamespaceDeletionDiscoveryFailure False ResourcesDiscovered: All resources successfully discovered",
                "NamespaceDeletionGroupVersionParsingFailure False ParsedGroupVersions: All legacy kube types successfully parsed",
                "NamespaceDeletionContentFailure False ContentDeleted: All content successfully deleted, may be waiting on finalization",
                "NamespaceContentRemaining True SomeResourcesRemain: Some resources are remaining: configmaps. has 1 resource instances, pods. has 2 resource instances",
                "NamespaceFinalizersRemaining True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: example.com/mine in 1 resource instances",
            ]
        );
        let later = at("2026-01-01T00:01:00Z");
        let fewer = Outcome {
            remaining: [("pods.".to_owned(), 1)].into(),
            failures: vec!["b".to_owned(), "a".to_owned()],
            ..Outcome::default()
        };
        let told = conditions(Some(told), &fewer, later);
        assert_eq!(
            line(&told[2]),
            "NamespaceDeletionContentFailure True ContentDeletionFailed: Failed to delete all resource types, 2 remaining: a, b"
        );
        let times: Vec<_> = told
            .iter()
            .map(|own| own.last_transition_time.clone().expect("a time").0)
            .collect();
        assert_eq!(
            times,
            [start, start, later, start, later],
            "only a status that changes has a new time"
        );
        assert_eq!(
            told,
            conditions(Some(told.clone()), &fewer, at("2026-01-01T00:02:00Z"))
        );
    }
}
