//! Pods move from the old sets to the new one, a step at a time.

use std::collections::HashSet;

use super::Rollout;
use crate::key::uid_of;

impl Rollout<'_> {
    pub(super) fn roll(&mut self) {
        let new = self.ensure_new();
        let size = match self.size(new) {
            size if size == self.wanted => None,
            size if size > self.wanted => Some(self.wanted),
            size => Some(self.size_of_new(new)).filter(|to| *to != size),
        };
        let made = self.entries[new].before.is_none();
        // One thing at a time: what was scaled must show before the old ones shrink.
        if let Some(size) = size {
            self.resize(new, size);
        } else if !made {
            self.shrink_old(new);
        }
        self.clean_up_if_complete();
    }

    /// Old sets give up pods that do not work first, then as many as availability allows.
    fn shrink_old(&mut self, new: usize) {
        let old = self.old();
        if old.iter().all(|index| self.size(*index) == 0) {
            return;
        }
        let min_available = self.wanted - self.strategy.max_unavailable();
        let new_unavailable = self.size(new) - self.available(new);
        let mut unhealthy = self.total() - min_available - new_unavailable;
        if unhealthy <= 0 {
            return;
        }
        for index in &old {
            let size = self.size(*index);
            let broken = (size - self.available(*index)).clamp(0, unhealthy);
            if broken > 0 {
                self.resize(*index, size - broken);
                unhealthy -= broken;
            }
        }
        let total_available: i32 = (0..self.entries.len())
            .map(|index| self.available(index))
            .sum();
        let mut spare = total_available - min_available;
        for index in old {
            let size = self.size(index);
            let give = size.min(spare);
            if give > 0 {
                self.resize(index, size - give);
                spare -= give;
            }
        }
    }

    pub(super) fn recreate(&mut self, running: &HashSet<String>) {
        self.sync_revision();
        let old = self.old();
        let live: Vec<usize> = old
            .iter()
            .copied()
            .filter(|index| self.size(*index) > 0)
            .collect();
        if !live.is_empty() {
            live.into_iter().for_each(|index| self.resize(index, 0));
            return;
        }
        if old
            .iter()
            .any(|index| running.contains(uid_of(&self.entries[*index].set)))
        {
            return;
        }
        let new = self.ensure_new();
        if self.size(new) != self.wanted {
            self.resize(new, self.wanted);
        }
        self.clean_up_if_complete();
    }
}
