//! Room for critical pods, static ones among them: which others go for one that does not fit. Pure, and
//! the kubelet's choice (pkg/kubelet/preemption): as few Guaranteed pods as the rest cannot spare, then
//! as few Burstable ones, each time the pod that comes closest to what is missing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use vetch_runtime::QosClass;

use super::quantity::{self, ResourceList};
use super::spec;
use super::static_pods::is_static;
use super::status::Verdict;

/// Kubernetes' own classes begin here: scheduling.SystemCriticalPriority.
pub const CRITICAL: i32 = 2_000_000_000;

/// By resource, in the units of `quantity::amount`; pods are counted as `pods`.
pub type Amounts = BTreeMap<String, i64>;

/// A pod that has something of the node.
#[derive(Clone, Debug)]
pub struct Holder<'a> {
    pub uid: &'a str,
    pub qos: QosClass,
    pub critical: bool,
    pub requests: &'a ResourceList,
}

pub fn is_critical(pod: &Pod) -> bool {
    is_static(pod)
        || spec::spec(pod)
            .priority
            .is_some_and(|priority| priority >= CRITICAL)
}

pub fn verdict() -> Verdict {
    Verdict {
        reason: "Preempting".to_owned(),
        message: "Preempted in order to admit critical pod".to_owned(),
    }
}

/// Uids of those that go; `None` when all together do not make the room.
pub fn victims(missing: &Amounts, holders: &[Holder<'_>]) -> Option<Vec<String>> {
    let of = |class: QosClass| -> Vec<(&str, Amounts)> {
        let own = holders
            .iter()
            .filter(|own| own.qos == class && !own.critical);
        own.map(|own| (own.uid, amounts(own.requests))).collect()
    };
    let best = of(QosClass::BestEffort);
    let burstable = of(QosClass::Burstable);
    let guaranteed = of(QosClass::Guaranteed);
    let first = closest(left(&left(missing, &best), &burstable), guaranteed)?;
    let second = closest(left(&left(missing, &best), &first), burstable)?;
    let third = closest(left(&left(missing, &first), &second), best)?;
    let all = first.into_iter().chain(second).chain(third);
    Some(all.map(|(uid, _)| uid.to_owned()).collect())
}

fn amounts(requests: &ResourceList) -> Amounts {
    let asked = requests.iter();
    let asked = asked.map(|(name, quantity)| (name.clone(), quantity::amount(name, quantity)));
    asked.chain([("pods".to_owned(), 1)]).collect()
}

/// What is missing still when these are gone.
fn left(missing: &Amounts, gone: &[(&str, Amounts)]) -> Amounts {
    let mut left = missing.clone();
    for (name, amount) in &mut left {
        let freed = gone.iter().filter_map(|(_, own)| own.get(name));
        *amount = amount.saturating_sub(freed.fold(0_i64, |sum, own| sum.saturating_add(*own)));
    }
    left.retain(|_, amount| *amount > 0);
    left
}

/// One after the other, until nothing is missing.
fn closest<'a>(
    mut missing: Amounts,
    mut from: Vec<(&'a str, Amounts)>,
) -> Option<Vec<(&'a str, Amounts)>> {
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let near = |(_, own): &(&str, Amounts)| {
            (
                distance(&missing, own),
                own.values().copied().fold(0_i64, i64::saturating_add),
            )
        };
        let best = (0..from.len()).min_by(|a, b| {
            let (a, b) = (near(&from[*a]), near(&from[*b]));
            a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
        })?;
        let own = from.swap_remove(best);
        missing = left(&missing, std::slice::from_ref(&own));
        chosen.push(own);
    }
    Some(chosen)
}

/// 0 when it frees all; one for each resource of which it frees nothing.
fn distance(missing: &Amounts, own: &Amounts) -> f64 {
    let share = |(name, missing): (&String, &i64)| {
        let freed = own.get(name).copied().unwrap_or(0);
        let left = missing.saturating_sub(freed).max(0);
        // Shares of amounts: what a float loses of them does not count.
        let share = left as f64 / *missing as f64;
        share * share
    };
    missing.iter().map(share).sum()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_critical() {
        for (annotations, priority, want) in [
            (json!({}), json!(null), false),
            (json!({}), json!(1_000_000), false),
            (json!({}), json!(2_000_000_000), true),
            (
                json!({"kubernetes.io/config.source": "file"}),
                json!(null),
                true,
            ),
        ] {
            let pod = json!({"metadata": {"annotations": annotations}, "spec": {"containers": [], "priority": priority}});
            assert_eq!(is_critical(&serde_json::from_value(pod).unwrap()), want);
        }
    }

    #[test]
    fn who_goes() {
        use QosClass::{BestEffort, Burstable, Guaranteed};
        let all = [
            ("best", BestEffort, false, "0"),
            ("small", Burstable, false, "200m"),
            ("large", Burstable, false, "1"),
            ("firm", Guaranteed, false, "500m"),
            ("system", Guaranteed, true, "2"),
        ];
        let requests = all.map(|(_, _, _, cpu)| -> ResourceList {
            [("cpu".to_owned(), Quantity(cpu.to_owned()))].into()
        });
        let holders: Vec<Holder<'_>> = all
            .iter()
            .zip(&requests)
            .map(|((uid, qos, critical, _), requests)| Holder {
                uid,
                qos: *qos,
                critical: *critical,
                requests,
            })
            .collect();
        for (what, missing, want) in [
            ("nothing", vec![], Some(vec![])),
            ("a place", vec![("pods", 1)], Some(vec!["best"])),
            ("little", vec![("cpu", 100)], Some(vec!["small"])),
            ("more", vec![("cpu", 300)], Some(vec!["large"])),
            ("both", vec![("cpu", 1100)], Some(vec!["large", "small"])),
            ("all", vec![("cpu", 1500)], Some(vec!["firm", "large"])),
            ("too much", vec![("cpu", 1800)], None),
            ("what nobody has", vec![("memory", 1)], None),
        ] {
            let missing: Amounts = missing
                .into_iter()
                .map(|(name, amount)| (name.to_owned(), amount))
                .collect();
            let got = victims(&missing, &holders);
            let want = want.map(|uids| uids.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(got, want, "{what}");
        }
    }
}
