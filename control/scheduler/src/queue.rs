//! The pods that wait for a decision: ready for one, backing off after a try that failed, waiting
//! for something to change, or held by scheduling gates.
//!
//! Nothing here knows the time; it is passed in.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::filter::Filter;
use crate::hints::{Event, may_help};
use crate::pod_info::PodInfo;

const INITIAL_BACK_OFF: Duration = Duration::from_secs(1);
const MAX_BACK_OFF: Duration = Duration::from_secs(10);
/// Even if nothing happened that should help.
const MAX_UNSCHEDULABLE: Duration = Duration::from_secs(5 * 60);

#[derive(Default)]
pub struct Queue {
    entries: HashMap<String, Entry>,
    active: BTreeSet<Turn>,
    backing_off: BTreeSet<(Instant, String)>,
    unschedulable: BTreeSet<(Instant, String)>,
    in_flight: HashSet<String>,
    turns: u64,
}

/// Higher priority first, then who has waited longer.
type Turn = (Reverse<i32>, u64, String);

struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    attempts: u32,
    last_attempt: Option<Instant>,
    refused_by: BTreeSet<Filter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Gated,
    Active(Turn),
    BackingOff(Instant),
    /// Since then.
    Unschedulable(Instant),
    /// Decided on; the decision's effects are under way.
    InFlight {
        /// Something happened meanwhile that may help.
        woken: bool,
    },
}

impl Entry {
    fn back_off_ends(&self) -> Option<Instant> {
        let doublings = self.attempts.saturating_sub(1).min(8);
        let wait = (INITIAL_BACK_OFF * 2_u32.pow(doublings)).min(MAX_BACK_OFF);
        self.last_attempt.map(|last| last + wait)
    }
}

impl Queue {
    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    /// A new pod, or a new version of one: what it asks for may be different now.
    pub fn put(&mut self, pod: Arc<PodInfo>) {
        let uid = pod.uid().to_owned();
        let gated = is_gated(&pod);
        let Some(entry) = self.entries.get_mut(&uid) else {
            let entry = Entry {
                pod,
                place: Place::Gated,
                attempts: 0,
                last_attempt: None,
                refused_by: BTreeSet::new(),
            };
            self.entries.insert(uid.clone(), entry);
            if !gated {
                self.activate(&uid);
            }
            return;
        };
        let asks_anew = entry.pod.pod.spec != pod.pod.spec
            || entry.pod.pod.metadata.labels != pod.pod.metadata.labels;
        entry.pod = pod;
        match entry.place {
            Place::Gated if !gated => self.activate(&uid),
            Place::Unschedulable(_) if asks_anew => self.retry(&uid),
            Place::InFlight { .. } if asks_anew => entry.place = Place::InFlight { woken: true },
            _ => {}
        }
    }

    pub fn remove(&mut self, uid: &str) {
        self.leave(uid);
        self.entries.remove(uid);
    }

    /// The next pod to decide on. It is in flight until one of `unschedulable`, `failed` or `remove`.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        let (_, _, uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::InFlight { woken: false };
        entry.attempts += 1;
        entry.last_attempt = Some(now);
        entry.refused_by.clear();
        let pod = entry.pod.clone();
        self.in_flight.insert(uid);
        Some(pod)
    }

    /// A pod in flight waits for its decision's effects because of these filters.
    pub fn refuse(&mut self, uid: &str, by: BTreeSet<Filter>) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.refused_by = by;
        }
    }

    /// A pod in flight found no node. Until something happens that may help.
    pub fn unschedulable(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        match entry.place {
            Place::InFlight { woken: true } => self.retry(uid),
            Place::InFlight { woken: false } => {
                self.in_flight.remove(uid);
                entry.place = Place::Unschedulable(now);
                self.unschedulable.insert((now, uid.to_owned()));
            }
            _ => {}
        }
    }

    /// A pod in flight waits for its volumes: not for want of anything, so that it is tried as soon as they are there.
    pub fn waits_for_volumes(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        entry.attempts = 0;
        entry.last_attempt = None;
        self.unschedulable(uid, now);
    }

    /// Something went wrong with a pod in flight: again after its back-off.
    pub fn failed(&mut self, uid: &str) {
        let place = self.entries.get(uid).map(|entry| &entry.place);
        if matches!(place, Some(Place::InFlight { .. })) {
            self.retry(uid);
        }
    }

    /// Gives the pods that the event may help another try.
    pub fn wake(&mut self, event: Event) {
        for uid in &self.in_flight {
            if let Some(entry) = self.entries.get_mut(uid)
                && may_help(event, &entry.refused_by)
            {
                entry.place = Place::InFlight { woken: true };
            }
        }
        let waiting = self.unschedulable.iter().map(|(_, uid)| uid);
        let helped = waiting.filter(|uid| {
            let entry = self.entries.get(*uid);
            entry.is_some_and(|entry| may_help(event, &entry.refused_by))
        });
        for uid in helped.cloned().collect::<Vec<_>>() {
            self.retry(&uid);
        }
    }

    /// Makes ready what has waited long enough.
    pub fn tick(&mut self, now: Instant) {
        while let Some((at, uid)) = self.backing_off.first()
            && *at <= now
        {
            let uid = uid.clone();
            self.activate(&uid);
        }
        while let Some((since, uid)) = self.unschedulable.first()
            && *since + MAX_UNSCHEDULABLE <= now
        {
            let uid = uid.clone();
            self.activate(&uid);
        }
    }

    /// When `tick` has something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        let back_off = self.backing_off.first().map(|(at, _)| *at);
        let unschedulable = self.unschedulable.first();
        let flush = unschedulable.map(|(since, _)| *since + MAX_UNSCHEDULABLE);
        back_off.into_iter().chain(flush).min()
    }

    pub fn is_ready(&self) -> bool {
        !self.active.is_empty()
    }

    fn retry(&mut self, uid: &str) {
        let Some(ends) = self.entries.get(uid).and_then(Entry::back_off_ends) else {
            return self.activate(uid);
        };
        self.leave(uid);
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.place = Place::BackingOff(ends);
            self.backing_off.insert((ends, uid.to_owned()));
        }
    }

    fn activate(&mut self, uid: &str) {
        self.leave(uid);
        if let Some(entry) = self.entries.get_mut(uid) {
            self.turns += 1;
            let turn = (Reverse(entry.pod.priority()), self.turns, uid.to_owned());
            entry.place = Place::Active(turn.clone());
            self.active.insert(turn);
        }
    }

    fn leave(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else {
            return;
        };
        match &entry.place {
            Place::Active(turn) => self.active.remove(turn),
            Place::BackingOff(at) => self.backing_off.remove(&(*at, uid.to_owned())),
            Place::Unschedulable(at) => self.unschedulable.remove(&(*at, uid.to_owned())),
            Place::InFlight { .. } => self.in_flight.remove(uid),
            Place::Gated => false,
        };
    }
}

fn is_gated(pod: &PodInfo) -> bool {
    let gates = pod.spec().and_then(|spec| spec.scheduling_gates.as_deref());
    !gates.unwrap_or_default().is_empty()
}

#[cfg(test)]
mod tests;
