//! Thresholds as the kubelet's flags write them: `memory.available<100Mi,nodefs.available<10%`.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Observed, Room};
use crate::pods::quantity_nanos;
use crate::pods::text::parse_go_duration;

/// What is measured. Images are on the node's own disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    PidAvailable,
}

/// What pods are ended for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starved {
    Memory,
    /// Bytes of the disk.
    EphemeralStorage,
    Inodes,
    Pids,
}

impl Signal {
    const ALL: [Signal; 6] = [
        Signal::MemoryAvailable,
        Signal::NodefsAvailable,
        Signal::NodefsInodesFree,
        Signal::ImagefsAvailable,
        Signal::ImagefsInodesFree,
        Signal::PidAvailable,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Signal::MemoryAvailable => "memory.available",
            Signal::NodefsAvailable => "nodefs.available",
            Signal::NodefsInodesFree => "nodefs.inodesFree",
            Signal::ImagefsAvailable => "imagefs.available",
            Signal::ImagefsInodesFree => "imagefs.inodesFree",
            Signal::PidAvailable => "pid.available",
        }
    }

    fn of(name: &str) -> Result<Signal, String> {
        let found = Signal::ALL.into_iter().find(|signal| signal.name() == name);
        let known = || Signal::ALL.map(Signal::name).join(", ");
        found.ok_or_else(|| format!("there is no signal {name:?}, only {}", known()))
    }

    pub fn starved(self) -> Starved {
        match self {
            Signal::MemoryAvailable => Starved::Memory,
            Signal::NodefsAvailable | Signal::ImagefsAvailable => Starved::EphemeralStorage,
            Signal::NodefsInodesFree | Signal::ImagefsInodesFree => Starved::Inodes,
            Signal::PidAvailable => Starved::Pids,
        }
    }
}

impl Starved {
    /// In the kubelet's messages.
    pub fn name(self) -> &'static str {
        match self {
            Starved::Memory => "memory",
            Starved::EphemeralStorage => "ephemeral-storage",
            Starved::Inodes => "inodes",
            Starved::Pids => "pids",
        }
    }

    pub fn room(self, observed: &Observed) -> Room {
        match self {
            Starved::Memory => observed.memory,
            Starved::EphemeralStorage => observed.disk,
            Starved::Inodes => observed.inodes,
            Starved::Pids => observed.pids,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    /// Bytes, inodes, process ids.
    Units(u64),
    /// Of all there is.
    Part(f64),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    /// The amount as it was written.
    pub text: String,
    amount: Amount,
    /// Of a soft one: how long it is crossed before pods go.
    pub grace: Option<Duration>,
}

impl Threshold {
    fn new(signal: Signal, text: &str) -> Result<Option<Threshold>, String> {
        let refused = |why: &str| format!("{}<{text}: {why}", signal.name());
        let amount = match text.strip_suffix('%') {
            // How the kubelet's configuration switches one off.
            Some("0" | "100") => return Ok(None),
            Some(percent) => match percent.parse::<f64>() {
                Ok(percent) if percent > 0.0 && percent < 100.0 => Amount::Part(percent / 100.0),
                _ => return Err(refused("a part is between 0% and 100%")),
            },
            None => {
                let nanos = quantity_nanos(&Quantity(text.to_owned()));
                let units = nanos.map(|nanos| nanos.div_euclid(1_000_000_000));
                match units.and_then(|units| u64::try_from(units).ok()) {
                    Some(units) if units > 0 => Amount::Units(units),
                    _ => {
                        return Err(refused(
                            "an amount is a quantity above 0, or a part like 10%",
                        ));
                    }
                }
            }
        };
        Ok(Some(Threshold {
            signal,
            text: text.to_owned(),
            amount,
            grace: None,
        }))
    }

    /// Less than this of `total` is too little.
    pub fn least(&self, total: u64) -> u64 {
        match self.amount {
            Amount::Units(units) => units,
            // What a float loses of a disk's bytes does not count.
            Amount::Part(part) => (total as f64 * part) as u64,
        }
    }

    /// A file system without inode counts (btrfs) reports 0 of 0.
    pub fn is_met(&self, observed: &Observed) -> bool {
        let room = self.signal.starved().room(observed);
        room.total > 0 && room.available < self.least(room.total)
    }
}

/// When the node ends pods by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    /// Crossed, pods go at once.
    pub hard: Vec<Threshold>,
    /// Crossed for a while, pods go, and have time to.
    pub soft: Vec<Threshold>,
    /// How much time at most, of a soft one.
    pub max_pod_grace: Duration,
}

/// The kubelet's defaults.
pub const HARD: &str = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,\
                        imagefs.available<15%,imagefs.inodesFree<5%";

impl Default for Eviction {
    fn default() -> Eviction {
        Eviction::parse(HARD, "", "", Duration::ZERO).unwrap_or_else(|_| Eviction {
            hard: Vec::new(),
            soft: Vec::new(),
            max_pod_grace: Duration::ZERO,
        })
    }
}

impl Eviction {
    /// `graces` is `memory.available=1m30s,…`, one for each soft threshold. In words what is wrong.
    pub fn parse(
        hard: &str,
        soft: &str,
        graces: &str,
        max_pod_grace: Duration,
    ) -> Result<Eviction, String> {
        let hard = thresholds(hard)?;
        let mut soft = thresholds(soft)?;
        let graces = self::graces(graces)?;
        for threshold in &mut soft {
            let signal = threshold.signal;
            let grace = graces.get(&signal).copied();
            let missing = || {
                format!(
                    "the soft threshold of {} has no grace period",
                    signal.name()
                )
            };
            threshold.grace = Some(grace.ok_or_else(missing)?);
        }
        Ok(Eviction {
            hard,
            soft,
            max_pod_grace,
        })
    }

    pub fn all(&self) -> impl Iterator<Item = &Threshold> {
        self.hard.iter().chain(&self.soft)
    }

    /// Of `total` what no pod may have, so that those within their requests cross no threshold.
    pub fn reserve(&self, signal: Signal, total: u64) -> u64 {
        let own = self.hard.iter().find(|own| own.signal == signal);
        own.map_or(0, |own| own.least(total).min(total))
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

fn thresholds(text: &str) -> Result<Vec<Threshold>, String> {
    let mut seen = Vec::new();
    let mut all = Vec::new();
    for part in parts(text) {
        let halves = part.split_once('<');
        let (name, amount) = halves.ok_or_else(|| format!("{part:?} is not SIGNAL<AMOUNT"))?;
        let signal = Signal::of(name.trim())?;
        if seen.contains(&signal) {
            return Err(format!("{name} has two thresholds"));
        }
        seen.push(signal);
        all.extend(Threshold::new(signal, amount.trim())?);
    }
    Ok(all)
}

fn graces(text: &str) -> Result<BTreeMap<Signal, Duration>, String> {
    let mut all = BTreeMap::new();
    for part in parts(text) {
        let halves = part.split_once('=');
        let (name, time) = halves.ok_or_else(|| format!("{part:?} is not SIGNAL=DURATION"))?;
        let time = parse_go_duration(time.trim())
            .ok_or_else(|| format!("{part}: a duration is like 1m30s"))?;
        if all.insert(Signal::of(name.trim())?, time).is_some() {
            return Err(format!("{name} has two grace periods"));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(hard: &str, soft: &str, graces: &str) -> Result<Eviction, String> {
        Eviction::parse(hard, soft, graces, Duration::ZERO)
    }

    #[test]
    fn the_kubelets_own() {
        let eviction = Eviction::default();
        let least: Vec<(&str, u64)> = eviction
            .all()
            .map(|own| (own.signal.name(), own.least(1 << 30)))
            .collect();
        assert_eq!(
            least,
            [
                ("memory.available", 100 << 20),
                ("nodefs.available", 107_374_182),
                ("nodefs.inodesFree", 53_687_091),
                ("imagefs.available", 161_061_273),
                ("imagefs.inodesFree", 53_687_091),
            ]
        );
        assert_eq!(
            eviction.reserve(Signal::MemoryAvailable, 8 << 30),
            100 << 20
        );
        assert_eq!(eviction.reserve(Signal::NodefsAvailable, 20 << 30), 2 << 30);
        assert_eq!(eviction.reserve(Signal::PidAvailable, 1000), 0);
        assert_eq!(eviction.reserve(Signal::MemoryAvailable, 1 << 20), 1 << 20);
    }

    #[test]
    fn flags() {
        for (hard, soft, graces, want) in [
            ("", "", "", Ok(0)),
            ("memory.available<1Gi, pid.available<5%", "", "", Ok(2)),
            ("nodefs.available<0%,imagefs.available<100%", "", "", Ok(0)),
            ("", "memory.available<1Gi", "memory.available=1m30s", Ok(1)),
            ("", "memory.available<1Gi", "", Err("no grace period")),
            ("memory.available", "", "", Err("SIGNAL<AMOUNT")),
            ("memory.free<1", "", "", Err("no signal \"memory.free\"")),
            ("memory.available<-1", "", "", Err("above 0")),
            ("memory.available<lots", "", "", Err("above 0")),
            ("memory.available<-5%", "", "", Err("between")),
            ("memory.available<1,memory.available<2", "", "", Err("two")),
            ("", "", "memory.available=x", Err("like 1m30s")),
            ("", "", "memory.available", Err("SIGNAL=DURATION")),
        ] {
            let got = parse(hard, soft, graces);
            match (got, want) {
                (Ok(got), Ok(want)) => assert_eq!(got.all().count(), want, "{hard} {soft}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{got}"),
                (got, want) => panic!("{hard} {soft} {graces}: {got:?}, not {want:?}"),
            }
        }
        let soft = parse("", "memory.available<1Gi", "memory.available=1m30s").unwrap();
        assert_eq!(soft.soft[0].grace, Some(Duration::from_secs(90)));
    }
}
