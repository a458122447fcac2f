//! What decides about a pod's traffic in one direction: NetworkPolicies alone, or the
//! tiers of `policy.networking.k8s.io/v1alpha1` around them.
//!
//! ```text
//! AdminNetworkPolicies, lowest priority first ─┬─ Allow, Deny
//!                                              └─ Pass, or no rule
//!   NetworkPolicies that select the pod ───────── their union, and nothing else
//!   or else the BaselineAdminNetworkPolicy ────── Allow, Deny
//!   or else ───────────────────────────────────── Allow
//! ```

use std::collections::BTreeSet;

use crate::{Action, RuleSpec, traffic::Traffic};

/// Rules of one direction, the union of those of all NetworkPolicies that select a pod.
pub type Rules = BTreeSet<RuleSpec>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judged {
    ByPolicies(Rules),
    ByTiers(Tiers),
}

impl Judged {
    pub fn rules(&self) -> Box<dyn Iterator<Item = &RuleSpec> + '_> {
        match self {
            Self::ByPolicies(rules) => Box::new(rules.iter()),
            Self::ByTiers(tiers) => Box::new(tiers.rules()),
        }
    }

    pub fn tiers(&self) -> Option<&Tiers> {
        match self {
            Self::ByPolicies(_) => None,
            Self::ByTiers(tiers) => Some(tiers),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tiers {
    /// In the order in which they are asked.
    pub admin: Vec<Line>,
    /// None if no NetworkPolicy isolates the pod.
    pub policies: Option<Rules>,
    /// Empty where NetworkPolicies decide.
    pub baseline: Vec<Line>,
}

/// A rule of an admin policy, as it is for one pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub policy: String,
    pub priority: i32,
    /// Its place in the policy, from 0 on.
    pub at: usize,
    pub name: String,
    pub action: Action,
    pub rule: RuleSpec,
}

/// Who had the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// A line of [`Tiers::admin`].
    Admin(usize),
    Policies,
    /// A line of [`Tiers::baseline`].
    Baseline(usize),
    /// No rule of any.
    None,
}

/// What a tier decided about some of the traffic with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub by: Tier,
    pub lets: bool,
    pub what: Traffic,
}

impl Tiers {
    pub fn rules(&self) -> impl Iterator<Item = &RuleSpec> {
        let admin = self.admin.iter().map(|line| &line.rule);
        let baseline = self.baseline.iter().map(|line| &line.rule);
        let policies = self.policies.iter().flatten();
        admin.chain(policies).chain(baseline)
    }

    /// All traffic with a peer, each part of it once. `matched` has what each of
    /// [`Tiers::rules`] is about of it, in that order.
    pub fn decide(&self, mut matched: impl Iterator<Item = Traffic>) -> Vec<Decided> {
        let mut decided = Vec::new();
        let mut decide = |by, lets, what| decided.push(Decided { by, lets, what });
        let mut open = Traffic::all();
        let mut passed = Traffic::default();
        for (at, (line, of)) in self.admin.iter().zip(&mut matched).enumerate() {
            let hit = of.and(&open);
            if hit.is_empty() {
                continue;
            }
            open = open.without(&hit);
            match line.action {
                Action::Pass => passed = passed.or(&hit),
                action => decide(Tier::Admin(at), action == Action::Allow, hit),
            }
        }
        open = open.or(&passed);
        if let Some(rules) = &self.policies {
            let own = matched.take(rules.len());
            let lets = own.fold(Traffic::default(), |all, one| all.or(&one));
            decide(Tier::Policies, true, open.and(&lets));
            decide(Tier::Policies, false, open.without(&lets));
            decided.retain(|one| !one.what.is_empty());
            return decided;
        }
        for (at, (line, of)) in self.baseline.iter().zip(matched).enumerate() {
            let hit = of.and(&open);
            if hit.is_empty() {
                continue;
            }
            open = open.without(&hit);
            decide(Tier::Baseline(at), line.action == Action::Allow, hit);
        }
        decide(Tier::None, true, open);
        decided.retain(|one| !one.what.is_empty());
        decided
    }
}

/// What is let pass of what was decided.
pub fn let_pass(decided: &[Decided]) -> Traffic {
    let passing = decided.iter().filter(|one| one.lets);
    passing.fold(Traffic::default(), |all, one| all.or(&one.what))
}
