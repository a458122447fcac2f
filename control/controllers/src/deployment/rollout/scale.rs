//! A deployment's new size, spread over its sets.

use std::cmp::Reverse;

use super::{Rollout, annotation};
use crate::deployment::revision::{DESIRED_REPLICAS, MAX_REPLICAS};
use crate::deployment::strategy::Strategy;

impl Rollout<'_> {
    /// Sizes follow the deployment's without a rollout going on.
    pub(super) fn scale_all(&mut self) {
        let active: Vec<usize> = (0..self.entries.len())
            .filter(|index| self.size(*index) > 0)
            .collect();
        let only = match active.as_slice() {
            [] => self.new.or_else(|| self.old().pop()),
            [one] => Some(*one),
            _ => None,
        };
        if let Some(only) = only {
            if self.size(only) != self.wanted
                || annotation(&self.entries[only].set, DESIRED_REPLICAS) != Some(self.wanted)
            {
                self.resize(only, self.wanted);
            }
            return;
        }
        if active.is_empty() {
            return;
        }
        if self.is_saturated() {
            for index in active {
                if Some(index) != self.new {
                    self.resize(index, 0);
                }
            }
            return;
        }
        if let Strategy::RollingUpdate { max_surge, .. } = self.strategy {
            self.scale_in_proportion(active, max_surge);
        }
    }

    /// The new set serves alone.
    fn is_saturated(&self) -> bool {
        self.new.is_some_and(|new| {
            self.size(new) == self.wanted
                && annotation(&self.entries[new].set, DESIRED_REPLICAS) == Some(self.wanted)
                && self.available(new) == self.wanted
        })
    }

    /// In the middle of a rollout every set keeps its share, so that the risk stays what it was.
    fn scale_in_proportion(&mut self, mut active: Vec<usize>, max_surge: i32) {
        let allowed = if self.wanted > 0 {
            self.wanted + max_surge
        } else {
            0
        };
        let total: i32 = active.iter().map(|index| self.size(*index)).sum();
        let to_add = allowed - total;
        // Of equals the newer grows first and the older shrinks first; entries are in order of age.
        active.sort_by_key(|index| {
            let age = if to_add > 0 {
                Reverse(*index)
            } else {
                Reverse(usize::MAX - *index)
            };
            (Reverse(self.size(*index)), age)
        });
        let mut sizes = Vec::with_capacity(active.len());
        let mut added = 0;
        for index in &active {
            let share = self.share(*index, to_add, added, max_surge);
            added += share;
            sizes.push(self.size(*index) + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (index, size) in active.into_iter().zip(sizes) {
            self.resize(index, size);
        }
    }

    fn share(&self, index: usize, to_add: i32, added: i32, max_surge: i32) -> i32 {
        let size = self.size(index);
        if size == 0 || to_add == added {
            return 0;
        }
        if self.wanted == 0 {
            return -size;
        }
        let status = self.deployment.status.as_ref();
        let before = annotation(&self.entries[index].set, MAX_REPLICAS)
            .filter(|max| *max > 0)
            .or_else(|| status.and_then(|status| status.replicas))
            .unwrap_or(self.wanted)
            .max(1);
        let scaled = f64::from(size) * f64::from(self.wanted + max_surge) / f64::from(before);
        // Sizes are far below what an i32 holds.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "bounded by the number of replicas"
        )]
        let fraction = scaled.round() as i32 - size;
        let left = to_add - added;
        if to_add > 0 {
            fraction.min(left)
        } else {
            fraction.max(left)
        }
    }
}
