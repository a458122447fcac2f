//! From names to numbers: how each call of each architecture fares.

use std::collections::BTreeMap;

use super::ProfileError;
use super::profile::{Argument, Operator, Profile, Rule, Where, version};
use super::tables::Arch;
use crate::capability;

/// An argument is one of six registers.
const ARGUMENTS: u32 = 6;
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const FOREIGN: u32 = libc::SECCOMP_RET_KILL_THREAD;

/// The machine, and what the container may do on it.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    pub native: Arch,
    /// Of the bounding set; bit n is capability n.
    pub capabilities: u64,
    pub kernel: (u32, u32),
}

/// What a filter returns, by the architecture the kernel names.
#[derive(Debug)]
pub struct Rules {
    /// AUDIT_ARCH_*, the machine's own first, with its ranges of numbers.
    pub architectures: Vec<(u32, Vec<(u32, Verdict)>)>,
    pub foreign: u32,
}

/// The first of `cases` that holds, else the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub cases: Vec<Case>,
    pub otherwise: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// All of them.
    pub conditions: Vec<Argument>,
    pub action: u32,
}

/// A rule that holds here, with its action in the kernel's words.
struct Chosen<'a> {
    rule: &'a Rule,
    names: &'a [String],
    action: u32,
}

pub fn decide(profile: &Profile, host: &Host) -> Result<Rules, ProfileError> {
    let default = profile
        .default_action
        .ok_or(ProfileError::NoDefaultAction)?;
    let default = default.value(profile.default_errno_ret)?;
    let mut chosen = Vec::new();
    for rule in &profile.syscalls {
        if applies(rule, host)? {
            chosen.push(choose(rule)?);
        }
    }
    let listed = listed(profile, host)?;
    let mut architectures = Vec::new();
    for arch in host.native.with_others() {
        if listed.contains(arch) && *arch != Arch::X32 {
            let mut ranges = Ranges::default();
            ranges.add(*arch, &chosen, default);
            if *arch == Arch::X86_64 {
                if listed.contains(&Arch::X32) {
                    ranges.add(Arch::X32, &chosen, default);
                } else {
                    ranges.start(Arch::X32.span().start, Verdict::plain(FOREIGN));
                }
            }
            ranges.start(u32::MAX, Verdict::plain(default));
            architectures.push((arch.audit(), ranges.0));
        }
    }
    Ok(Rules {
        architectures,
        foreign: FOREIGN,
    })
}

fn choose(rule: &Rule) -> Result<Chosen<'_>, ProfileError> {
    let names = rule.names()?;
    let action = rule.action.value(rule.errno_ret)?;
    if let Some(wrong) = rule.args.iter().find(|arg| arg.index >= ARGUMENTS) {
        return Err(ProfileError::Argument {
            call: names.first().cloned().unwrap_or_default(),
            index: wrong.index,
        });
    }
    Ok(Chosen {
        rule,
        names,
        action,
    })
}

fn listed(profile: &Profile, host: &Host) -> Result<Vec<Arch>, ProfileError> {
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(ProfileError::BothArchitectures);
    }
    let mut listed = vec![host.native];
    for name in &profile.architectures {
        listed.extend(Arch::named(name)?);
    }
    for map in &profile.arch_map {
        let of_machine = Arch::named(&map.architecture)? == Some(host.native);
        for name in &map.sub_architectures {
            let arch = Arch::named(name)?;
            listed.extend(arch.filter(|_| of_machine));
        }
    }
    Ok(listed)
}

fn applies(rule: &Rule, host: &Host) -> Result<bool, ProfileError> {
    let held = |name: &String| {
        capability::number(name).is_some_and(|number| host.capabilities & 1 << number != 0)
    };
    let here = |name: &String| name == host.native.go_name();
    let new_enough = |place: &Where| match &place.min_kernel {
        Some(text) => match version(text) {
            Some(wanted) => Ok(Some(host.kernel >= wanted)),
            None => Err(ProfileError::Kernel(text.clone())),
        },
        None => Ok(None),
    };
    let (within, without) = (&rule.includes, &rule.excludes);
    let included = (within.arches.is_empty() || within.arches.iter().any(here))
        && within.caps.iter().all(held)
        && new_enough(within)? != Some(false);
    let excluded = without.arches.iter().any(here)
        || without.caps.iter().any(held)
        || new_enough(without)? == Some(true);
    Ok(included && !excluded)
}

impl Verdict {
    fn plain(action: u32) -> Verdict {
        Verdict {
            cases: Vec::new(),
            otherwise: action,
        }
    }
}

/// Where each starts; the next one ends it. No two neighbours fare alike.
#[derive(Default)]
struct Ranges(Vec<(u32, Verdict)>);

impl Ranges {
    /// From `number` on. Numbers do not fall.
    fn start(&mut self, number: u32, verdict: Verdict) {
        if self.0.last().is_some_and(|(start, _)| *start == number) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|(_, last)| *last != verdict) {
            self.0.push((number, verdict));
        }
    }

    fn add(&mut self, arch: Arch, chosen: &[Chosen<'_>], default: u32) {
        let span = arch.span();
        let calls = calls(arch, chosen, default);
        self.start(span.start, Verdict::plain(default));
        let common = calls.range(span.clone());
        let newest = common.clone().next_back().map(|(number, _)| *number);
        // Those above the span are an architecture's own.
        for (number, verdict) in common {
            self.start(*number, verdict.clone());
            self.start(number + 1, Verdict::plain(default));
        }
        if let Some(newest) = newest
            && refuses(default)
        {
            self.start(newest + 1, Verdict::plain(UNKNOWN));
        }
        self.start(span.end, Verdict::plain(default));
        for (number, verdict) in calls.range(span.end..) {
            self.start(*number, verdict.clone());
            self.start(number + 1, Verdict::plain(default));
        }
    }
}

/// A tracer is taken to know calls of its day.
fn refuses(default: u32) -> bool {
    let action = default & libc::SECCOMP_RET_ACTION_FULL;
    ![
        libc::SECCOMP_RET_ALLOW,
        libc::SECCOMP_RET_LOG,
        libc::SECCOMP_RET_TRACE,
    ]
    .contains(&action)
}

/// All that the profile names, those too that fare by default.
fn calls(arch: Arch, chosen: &[Chosen<'_>], default: u32) -> BTreeMap<u32, Verdict> {
    let mut cases: BTreeMap<u32, Vec<Case>> = BTreeMap::new();
    for Chosen {
        rule,
        names,
        action,
    } in chosen
    {
        for name in *names {
            if let Some(number) = arch.number(name) {
                let cases = cases.entry(number).or_default();
                if *action != default {
                    cases.extend(split(&rule.args, *action));
                }
            }
            if let Some(door) = arch.door(name)
                && rule.args.is_empty()
            {
                let cases = cases.entry(door.number).or_default();
                let condition = Argument {
                    index: 0,
                    value: door.mask,
                    value_two: door.value,
                    op: Operator::MaskedEqual,
                };
                if *action != default {
                    cases.extend(split(&[condition], *action));
                }
            }
        }
    }
    let verdict = |cases: Vec<Case>| {
        let always = cases.iter().find(|case| case.conditions.is_empty());
        match always {
            Some(case) => Verdict::plain(case.action),
            None => Verdict {
                cases,
                otherwise: default,
            },
        }
    };
    cases
        .into_iter()
        .map(|(number, cases)| (number, verdict(cases)))
        .collect()
}

/// Two conditions on one argument could not both be said to libseccomp once, and
/// have been alternatives since.
fn split(args: &[Argument], action: u32) -> Vec<Case> {
    let case = |conditions: &[Argument]| Case {
        conditions: conditions.to_vec(),
        action,
    };
    let twice =
        (0..ARGUMENTS).any(|index| args.iter().filter(|arg| arg.index == index).count() > 1);
    if twice {
        args.chunks(1).map(case).collect()
    } else {
        vec![case(args)]
    }
}
