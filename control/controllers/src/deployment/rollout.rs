//! The next step of a deployment, decided over what is observed: no requests here.

mod scale;
mod steps;

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};

use super::revision::{
    DESIRED_REPLICAS, MAX_REPLICAS, REVISION, annotate, new_replica_set, revision, same_template,
};
use super::status::{
    self, Conditions, PROGRESSING, available, calculate, condition, find, has_deadline,
    is_complete, progress, spec_replicas, until_deadline,
};
use super::strategy::{Strategy, replicas};
use crate::events::Note;
use crate::key::{is_deleted, name_of};

/// What is known about a deployment and its ReplicaSets.
pub struct Observed<'a> {
    pub deployment: &'a Deployment,
    pub sets: Vec<ReplicaSet>,
    /// Uids of ReplicaSets with a pod that still runs.
    pub running: HashSet<String>,
    pub now: Timestamp,
}

/// A ReplicaSet to write, and what to tell people when it is written.
#[derive(Debug)]
pub struct Step {
    pub set: ReplicaSet,
    pub note: Option<Note>,
}

#[derive(Debug)]
pub struct Plan {
    pub create: Option<Step>,
    pub update: Vec<Step>,
    pub delete: Vec<ReplicaSet>,
    /// The deployment's revision annotation, if it is to change.
    pub revision: Option<String>,
    pub status: DeploymentStatus,
    /// When to look again if nothing happens.
    pub again: Option<SignedDuration>,
}

struct Entry {
    /// None for the set that does not exist yet.
    before: Option<ReplicaSet>,
    set: ReplicaSet,
    note: Option<Note>,
    /// Position in the order of changes.
    changed: Option<usize>,
}

struct Rollout<'a> {
    deployment: &'a Deployment,
    strategy: Strategy,
    wanted: i32,
    entries: Vec<Entry>,
    new: Option<usize>,
    changes: usize,
    delete: Vec<ReplicaSet>,
    conditions: Conditions,
    now: Timestamp,
}

pub fn plan(observed: Observed<'_>) -> Plan {
    let deployment = observed.deployment;
    let conditions = deployment
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let mut entries: Vec<Entry> = observed
        .sets
        .into_iter()
        .map(|set| Entry {
            before: Some(set.clone()),
            set,
            note: None,
            changed: None,
        })
        .collect();
    entries.sort_by_key(|entry| {
        (
            entry.set.metadata.creation_timestamp.clone(),
            entry.set.metadata.name.clone(),
        )
    });
    // Of several alike the oldest, so that the choice stays the same.
    let new = entries
        .iter()
        .position(|entry| same_template(deployment, &entry.set));
    let mut rollout = Rollout {
        deployment,
        strategy: Strategy::of(deployment),
        wanted: replicas(deployment),
        entries,
        new,
        changes: 0,
        delete: Vec::new(),
        conditions,
        now: observed.now,
    };
    let paused = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.paused)
        .unwrap_or(false);
    rollout.note_pause(paused);
    let mut rolling = false;
    if is_deleted(deployment) {
        // Only the status still follows.
    } else if paused || rollout.is_scaled() {
        rollout.sync_revision();
        rollout.scale_all();
        if paused {
            rollout.clean_up();
        }
    } else {
        rolling = true;
        match rollout.strategy {
            Strategy::Recreate => rollout.recreate(&observed.running),
            Strategy::RollingUpdate { .. } => rollout.roll(),
        }
    }
    rollout.finish(rolling)
}

impl Rollout<'_> {
    fn old(&self) -> Vec<usize> {
        (0..self.entries.len())
            .filter(|index| Some(*index) != self.new)
            .collect()
    }

    fn size(&self, index: usize) -> i32 {
        spec_replicas(&self.entries[index].set)
    }

    fn available(&self, index: usize) -> i32 {
        available(&self.entries[index].set)
    }

    fn total(&self) -> i32 {
        (0..self.entries.len()).map(|index| self.size(index)).sum()
    }

    fn note_pause(&mut self, paused: bool) {
        const PAUSED: &str = "DeploymentPaused";
        let current =
            find(&self.conditions, PROGRESSING).and_then(|current| current.reason.clone());
        if !has_deadline(self.deployment) || current.as_deref() == Some("ProgressDeadlineExceeded")
        {
            return;
        }
        let was_paused = current.as_deref() == Some(PAUSED);
        let (reason, message) = match (paused, was_paused) {
            (true, false) => (PAUSED, "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            _ => return,
        };
        status::set(
            &mut self.conditions,
            condition(PROGRESSING, "Unknown", reason, message.into(), self.now),
        );
    }

    /// The deployment's replicas changed since the sets were sized.
    fn is_scaled(&self) -> bool {
        self.entries.iter().any(|entry| {
            spec_replicas(&entry.set) > 0
                && annotation(&entry.set, DESIRED_REPLICAS)
                    .is_some_and(|desired| desired != self.wanted)
        })
    }

    fn next_revision(&self) -> i64 {
        let old = self.old().into_iter();
        old.map(|index| revision(self.entries[index].set.metadata.annotations.as_ref()))
            .max()
            .unwrap_or(0)
            + 1
    }

    /// The new set carries the newest revision and the deployment's annotations.
    fn sync_revision(&mut self) {
        let Some(new) = self.new else { return };
        let wanted = self.next_revision();
        let set = &mut self.entries[new].set;
        annotate(set, self.deployment, wanted);
        let min_ready = self
            .deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.min_ready_seconds);
        if let Some(spec) = &mut set.spec
            && spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0)
        {
            spec.min_ready_seconds = min_ready;
        }
        if has_deadline(self.deployment) && find(&self.conditions, PROGRESSING).is_none() {
            let message = format!(
                "Found new replica set {:?}",
                name_of(&self.entries[new].set)
            );
            let found = condition(PROGRESSING, "True", "FoundNewReplicaSet", message, self.now);
            status::set(&mut self.conditions, found);
        }
    }

    fn ensure_new(&mut self) -> usize {
        self.sync_revision();
        if let Some(new) = self.new {
            return new;
        }
        let mut set = new_replica_set(self.deployment, self.next_revision());
        self.annotate_size(&mut set);
        if has_deadline(self.deployment) {
            let message = format!("Created new replica set {:?}", name_of(&set));
            let created = condition(
                PROGRESSING,
                "True",
                "NewReplicaSetCreated",
                message,
                self.now,
            );
            status::set(&mut self.conditions, created);
        }
        self.entries.push(Entry {
            before: None,
            set,
            note: None,
            changed: None,
        });
        let new = self.entries.len() - 1;
        self.new = Some(new);
        self.resize(new, self.size_of_new(new));
        new
    }

    /// How many pods the new set may have next to the old ones.
    fn size_of_new(&self, new: usize) -> i32 {
        match self.strategy {
            Strategy::Recreate => self.wanted,
            Strategy::RollingUpdate { max_surge, .. } => {
                let room = self.wanted + max_surge - self.total();
                let missing = self.wanted - self.size(new);
                self.size(new) + room.min(missing).max(0)
            }
        }
    }

    fn annotate_size(&self, set: &mut ReplicaSet) {
        let annotations = set.metadata.annotations.get_or_insert_default();
        annotations.insert(DESIRED_REPLICAS.into(), self.wanted.to_string());
        annotations.insert(
            MAX_REPLICAS.into(),
            (self.wanted + self.strategy.max_surge()).to_string(),
        );
    }

    fn resize(&mut self, index: usize, to: i32) {
        let mut set = self.entries[index].set.clone();
        let from = spec_replicas(&set);
        self.annotate_size(&mut set);
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(to);
        }
        if from != to {
            let direction = if to > from { "up" } else { "down" };
            let message = format!(
                "Scaled {direction} replica set {} from {from} to {to}",
                name_of(&set)
            );
            self.entries[index].note = Some(Note::normal("ScalingReplicaSet", message));
            if self.entries[index].changed.is_none() {
                self.entries[index].changed = Some(self.changes);
                self.changes += 1;
            }
        }
        self.entries[index].set = set;
    }

    fn sets(&self) -> Vec<&ReplicaSet> {
        self.entries.iter().map(|entry| &entry.set).collect()
    }

    fn calculate(&self) -> DeploymentStatus {
        let new = self.new.map(|new| &self.entries[new].set);
        calculate(
            self.deployment,
            &self.sets(),
            new,
            self.conditions.clone(),
            self.now,
        )
    }

    fn clean_up_if_complete(&mut self) {
        // As it was observed: an unwritten change is no progress.
        if self
            .deployment
            .status
            .as_ref()
            .is_some_and(|status| is_complete(self.deployment, status))
        {
            self.clean_up();
        }
    }

    /// Forgets the oldest revisions over the limit.
    fn clean_up(&mut self) {
        let limit = self
            .deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.revision_history_limit);
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else {
            return;
        };
        let mut old: Vec<usize> = self
            .old()
            .into_iter()
            .filter(|index| !is_deleted(&self.entries[*index].set))
            .collect();
        old.sort_by_key(|index| revision(self.entries[*index].set.metadata.annotations.as_ref()));
        let surplus = old
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(0));
        for index in old.into_iter().take(surplus) {
            let entry = &self.entries[index];
            let status = entry.set.status.clone().unwrap_or_default();
            let observed = status.observed_generation.unwrap_or(0)
                >= entry.set.metadata.generation.unwrap_or(0);
            if status.replicas == 0
                && spec_replicas(&entry.set) == 0
                && observed
                && entry.changed.is_none()
            {
                self.delete.push(entry.set.clone());
            }
        }
    }

    fn finish(self, rolling: bool) -> Plan {
        let mut status = self.calculate();
        let new = self.new.map(|new| &self.entries[new].set);
        if rolling {
            progress(self.deployment, &mut status, &self.sets(), new, self.now);
        }
        let again = until_deadline(self.deployment, &status, self.now);
        let revision = new
            .and_then(|set| set.metadata.annotations.as_ref()?.get(REVISION).cloned())
            .filter(|wanted| {
                let annotations = self.deployment.metadata.annotations.as_ref();
                annotations.and_then(|all| all.get(REVISION)) != Some(wanted)
                    && !is_deleted(self.deployment)
            });
        let mut create = None;
        let mut update: Vec<(Option<usize>, Step)> = Vec::new();
        for entry in self.entries {
            let step = Step {
                set: entry.set,
                note: entry.note,
            };
            match entry.before {
                None => create = Some(step),
                Some(before) if before != step.set => update.push((entry.changed, step)),
                Some(_) => {}
            }
        }
        update.sort_by_key(|(order, _)| order.unwrap_or(0));
        let update = update.into_iter().map(|(_, step)| step).collect();
        Plan {
            create,
            update,
            delete: self.delete,
            revision,
            status,
            again,
        }
    }
}

fn annotation(set: &ReplicaSet, key: &str) -> Option<i32> {
    set.metadata.annotations.as_ref()?.get(key)?.parse().ok()
}

#[cfg(test)]
mod tests;
