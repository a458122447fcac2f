//! How long a pod bears its node's NoExecute taints.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Taint, Toleration};
use vetch_api::time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Forever,
    /// Zero: not at all.
    For(Duration),
}

pub fn patience<'a>(
    taints: impl IntoIterator<Item = &'a Taint>,
    tolerations: &[Toleration],
) -> Patience {
    let mut patience = Patience::Forever;
    for taint in taints {
        let Some(toleration) = tolerations.iter().find(|own| tolerates(own, taint)) else {
            return Patience::For(Duration::ZERO);
        };
        if let Some(seconds) = toleration.toleration_seconds {
            let own = time::wait(seconds);
            patience = Patience::For(match patience {
                Patience::Forever => own,
                Patience::For(other) => own.min(other),
            });
        }
    }
    patience
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty = |field: &Option<String>| field.as_deref().unwrap_or_default().is_empty();
    let is = |field: &Option<String>, text: &str| field.as_deref() == Some(text);
    let value = |field: &Option<String>| field.clone().unwrap_or_default();
    if !empty(&toleration.effect) && !is(&toleration.effect, &taint.effect) {
        return false;
    }
    if !empty(&toleration.key) && !is(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => value(&toleration.value) == value(&taint.value),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_patient_toleration_counts() {
        let taint = |key: &str, value: &str| Taint {
            key: key.into(),
            value: Some(value.into()),
            effect: "NoExecute".into(),
            time_added: None,
        };
        let toleration = |key: &str, operator: &str, value: &str, seconds: Option<i64>| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Toleration {
                key: some(key),
                operator: some(operator),
                value: some(value),
                effect: Some("NoExecute".into()),
                toleration_seconds: seconds,
            }
        };
        let seconds = |seconds| Patience::For(Duration::from_secs(seconds));
        let two = [taint("a", "1"), taint("b", "")];
        for (taints, tolerations, wanted) in [
            (&two[..0], vec![], Patience::Forever),
            (&two[..1], vec![], seconds(0)),
            (
                &two[..1],
                vec![toleration("a", "Exists", "", None)],
                Patience::Forever,
            ),
            (
                &two[..1],
                vec![toleration("a", "", "1", Some(5))],
                seconds(5),
            ),
            (
                &two[..1],
                vec![toleration("a", "Equal", "2", Some(5))],
                seconds(0),
            ),
            (
                &two[..1],
                vec![toleration("", "Exists", "", Some(7))],
                seconds(7),
            ),
            (
                &two[..1],
                vec![toleration("a", "Exists", "", Some(-3))],
                seconds(0),
            ),
            (
                &two[..1],
                vec![toleration("a", "Exists", "", Some(i64::MAX))],
                Patience::For(time::LONGEST),
            ),
            (
                &two[..1],
                vec![toleration("a", "Gt", "0", None)],
                seconds(0),
            ),
            (
                &two[..],
                vec![toleration("a", "Exists", "", Some(5))],
                seconds(0),
            ),
            (
                &two[..],
                vec![
                    toleration("a", "Exists", "", Some(5)),
                    toleration("b", "Exists", "", Some(3)),
                ],
                seconds(3),
            ),
            (
                &two[..],
                vec![
                    toleration("a", "Exists", "", None),
                    toleration("b", "Exists", "", Some(3)),
                ],
                seconds(3),
            ),
        ] {
            assert_eq!(
                patience(taints, &tolerations),
                wanted,
                "{taints:?} {tolerations:?}"
            );
        }
        let other_effect = Toleration {
            effect: Some("NoSchedule".into()),
            operator: Some("Exists".into()),
            ..Toleration::default()
        };
        assert_eq!(patience(&two[..1], &[other_effect]), seconds(0));
    }
}
