//! Making room: which pods of lower priority would have to go, and from which node.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use rand::Rng;

use crate::decide::{View, WithNominated};
use crate::diagnosis::{NO_VICTIMS, NOT_HELPFUL, no_victims};
use crate::filter::{Candidate, Refusal};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// Nodes to try at least; a tenth of them if that is more.
const TRIES: usize = 100;

#[derive(Clone, Debug)]
pub enum Preemption {
    Victims {
        node: String,
        victims: Vec<Arc<PodInfo>>,
    },
    /// It may clear no node, or none yet. What was cleared for it before stays so.
    Ineligible(&'static str),
    /// No node can be cleared for it: the reasons, as they stand after "preemption: ".
    Helpless(String),
}

/// `refusals` has one for each node.
pub fn preempt(
    pod: &Arc<PodInfo>,
    view: &View<'_>,
    refusals: &[(String, Refusal)],
    now: Timestamp,
    lot: &mut impl Rng,
) -> Preemption {
    if let Some(why) = ineligible(pod, view, refusals) {
        return Preemption::Ineligible(why);
    }
    let refusal = |node: &NodeInfo| refusals.iter().find(|(name, _)| name == node.name());
    let indices = 0..view.nodes.len();
    let potential: Vec<usize> = indices
        .filter(|index| refusal(view.nodes[*index]).is_some_and(|(_, refusal)| refusal.resolvable))
        .collect();
    let mut reasons: Vec<Cow<'static, str>> =
        vec![NOT_HELPFUL.into(); view.nodes.len() - potential.len()];
    let mut candidates: Vec<(usize, Vec<Arc<PodInfo>>)> = Vec::new();
    let start = match potential.len() <= TRIES {
        true => 0,
        false => lot.random_range(0..potential.len()),
    };
    for index in potential.iter().cycle().skip(start).take(potential.len()) {
        match victims(pod, view, *index, now) {
            Ok(victims) => candidates.push((*index, victims)),
            Err(why) => reasons.extend(why),
        }
        if candidates.len() >= TRIES.max(potential.len() / 10) {
            break;
        }
    }
    let best = candidates
        .into_iter()
        .min_by_key(|(_, victims)| cost(victims, now));
    match best {
        Some((index, victims)) => Preemption::Victims {
            node: view.nodes[index].name().to_owned(),
            victims,
        },
        None => {
            let reasons: Vec<&str> = reasons.iter().map(AsRef::as_ref).collect();
            Preemption::Helpless(no_victims(view.nodes.len(), reasons.into_iter()))
        }
    }
}

fn ineligible(
    pod: &PodInfo,
    view: &View<'_>,
    refusals: &[(String, Refusal)],
) -> Option<&'static str> {
    let policy = pod
        .spec()
        .and_then(|spec| spec.preemption_policy.as_deref());
    if policy == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let (nominated, _) = view.nominated.get(pod.uid())?;
    let node = view.nodes.iter().find(|node| node.name() == nominated)?;
    // What was cleared for it will never do: look elsewhere.
    let hopeless = |(name, refusal): &(String, Refusal)| name == nominated && !refusal.resolvable;
    if refusals.iter().any(hopeless) {
        return None;
    }
    let leaving =
        |other: &Arc<PodInfo>| other.is_terminating() && other.priority() < pod.priority();
    node.pods
        .values()
        .any(leaving)
        .then_some("not eligible due to a terminating pod on the nominated node.")
}

/// The fewest important pods without which the pod would fit on the node.
fn victims(
    pod: &Arc<PodInfo>,
    view: &View<'_>,
    index: usize,
    now: Timestamp,
) -> Result<Vec<Arc<PodInfo>>, Vec<Cow<'static, str>>> {
    let mut trial = view.nodes[index].clone();
    let lower = trial
        .pods
        .values()
        .filter(|other| other.priority() < pod.priority());
    let mut potential: Vec<Arc<PodInfo>> = lower.cloned().collect();
    if potential.is_empty() {
        return Err(vec![NO_VICTIMS.into()]);
    }
    for other in &potential {
        trial.remove(other.uid());
    }
    fits(pod, view, index, &trial).map_err(|refusal| refusal.reasons)?;
    potential.sort_by_key(|other| (Reverse(other.priority()), started(other, now)));
    let mut victims = Vec::new();
    for other in potential {
        trial.add(other.clone());
        if fits(pod, view, index, &trial).is_err() {
            trial.remove(other.uid());
            victims.push(other);
        }
    }
    Ok(victims)
}

/// With `trial` in the place of the view's node.
fn fits(
    pod: &Arc<PodInfo>,
    view: &View<'_>,
    index: usize,
    trial: &NodeInfo,
) -> Result<(), Refusal> {
    let mut view = View {
        nodes: view.nodes.clone(),
        ..*view
    };
    view.nodes[index] = trial;
    Candidate::new(pod, &view.nodes, view.namespaces, view.volumes).check(trial)?;
    match WithNominated::new(pod, &view) {
        Some(with) => with.check(index),
        None => Ok(()),
    }
}

/// What to keep low, the first first: the most important victim, all their importance, their number,
/// and how long the most important ones have run.
fn cost(victims: &[Arc<PodInfo>], now: Timestamp) -> (i32, i64, usize, Reverse<Timestamp>) {
    let highest = victims.iter().map(|victim| victim.priority()).max();
    let highest = highest.unwrap_or(i32::MIN);
    let above_lowest = |victim: &Arc<PodInfo>| i64::from(victim.priority()) - i64::from(i32::MIN);
    let important = victims.iter().filter(|victim| victim.priority() == highest);
    let earliest = important.map(|victim| started(victim, now)).min();
    (
        highest,
        victims.iter().map(above_lowest).sum(),
        victims.len(),
        Reverse(earliest.unwrap_or(now)),
    )
}

fn started(pod: &PodInfo, now: Timestamp) -> Timestamp {
    let status = pod.pod.status.as_ref();
    let started = status.and_then(|status| status.start_time.as_ref());
    started.map_or(now, |time| time.0)
}

#[cfg(test)]
mod tests;
