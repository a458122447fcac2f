//! The maps of rules, and of whom they are about.

use std::path::Path;

use aya::maps::{HashMap, LpmTrie, MapData, MapError, lpm_trie::Key};
use tracing::warn;
use vetch_ebpf_common::{Address, Rule, maps};
use vetch_policy::{Contents, Steps};

use crate::{
    maps::{MapsError, gone, hash, mapped, net, read_error, trie, write_error},
    proxy::chain,
};

#[derive(Debug)]
pub struct Rulebook {
    identities: HashMap<MapData, Address, u32>,
    blocks: LpmTrie<MapData, [u8; 16], u32>,
    rules: LpmTrie<MapData, Rule, u32>,
    /// What they hold; None where that has to be looked at.
    held: Option<Contents>,
    /// Not all of the last steps were done.
    failed: bool,
}

impl Rulebook {
    pub fn open(dir: &Path) -> Result<Self, MapsError> {
        Ok(Self {
            identities: hash(dir, maps::IDENTITIES)?,
            blocks: trie(dir, maps::BLOCKS)?,
            rules: trie(dir, maps::RULES)?,
            held: None,
            failed: false,
        })
    }

    /// What the maps hold. Which pods are held by which sets is in another one.
    pub fn held(&mut self) -> Result<Contents, MapsError> {
        match &self.held {
            Some(held) => Ok(held.clone()),
            None => self.read(),
        }
    }

    /// Others may have written them.
    pub fn doubt(&mut self) {
        self.held = None;
    }

    fn read(&self) -> Result<Contents, MapsError> {
        let mut contents = Contents::default();
        for entry in self.identities.iter() {
            let (address, number) = entry.map_err(read_error(maps::IDENTITIES))?;
            contents.identities.insert(address.into(), number);
        }
        for entry in self.blocks.iter() {
            let (key, number) = entry.map_err(read_error(maps::BLOCKS))?;
            if let Some(range) = net(Address::from_octets(key.data()), key.prefix_len()) {
                contents.blocks.insert(range, number);
            }
        }
        for key in self.rules.keys() {
            let key = key.map_err(read_error(maps::RULES))?;
            contents.rules.insert((key.prefix_len(), key.data()));
        }
        Ok(contents)
    }

    /// What comes before pods have their new sets. What cannot be written lets nobody
    /// pass; it is said, and the rest is written all the same.
    pub fn before(&mut self, steps: &Steps) {
        self.held = None;
        let mut problems = Problems::default();
        self.add_rules(&steps.add_rules_of_new, &mut problems);
        for (range, number) in &steps.set_blocks {
            let (address, len) = mapped(*range);
            let key = Key::new(len, address.octets());
            let done = self.blocks.insert(&key, number, 0);
            problems.note(done.map_err(write_error(maps::BLOCKS, range)));
        }
        for (ip, number) in &steps.set_identities {
            let done = self.identities.insert(Address::from(*ip), number, 0);
            problems.note(done.map_err(write_error(maps::IDENTITIES, ip)));
        }
        self.add_rules(&steps.add_rules, &mut problems);
        self.failed = problems.tell();
    }

    /// What comes when they have them; from then on the maps hold what was wanted.
    pub fn after(&mut self, steps: &Steps, wanted: Contents) {
        let mut problems = Problems::default();
        for (length, rule) in &steps.remove_rules {
            let done = gone(self.rules.remove(&Key::new(*length, *rule)));
            problems.note(done.map_err(write_error(maps::RULES, named(rule))));
        }
        for ip in &steps.remove_identities {
            let done = match self.identities.remove(&Address::from(*ip)) {
                Err(MapError::KeyNotFound) => Ok(()),
                removed => gone(removed),
            };
            problems.note(done.map_err(write_error(maps::IDENTITIES, ip)));
        }
        for range in &steps.remove_blocks {
            let (address, len) = mapped(*range);
            let done = gone(self.blocks.remove(&Key::new(len, address.octets())));
            problems.note(done.map_err(write_error(maps::BLOCKS, range)));
        }
        if !problems.tell() && !self.failed {
            self.held = Some(wanted);
        }
    }

    fn add_rules(&mut self, rules: &[(u32, Rule)], problems: &mut Problems) {
        for (length, rule) in rules {
            let done = self.rules.insert(&Key::new(*length, *rule), 1, 0);
            problems.note(done.map_err(write_error(maps::RULES, named(rule))));
        }
    }
}

fn named(rule: &Rule) -> String {
    let set = rule.set();
    format!("a rule of {:?} set {}", set.of(), set.number())
}

/// The first one tells enough: a full map has thousands.
#[derive(Default)]
struct Problems {
    first: Option<MapsError>,
    count: usize,
}

impl Problems {
    fn note(&mut self, done: Result<(), MapsError>) {
        if let Err(error) = done {
            self.count += 1;
            self.first.get_or_insert(error);
        }
    }

    /// Whether there were any.
    fn tell(self) -> bool {
        let Some(first) = self.first else {
            return false;
        };
        warn!(
            error = chain(&first),
            problems = self.count,
            "NetworkPolicies are not written wholly: what is missing lets nobody pass; trying again within \
             a minute"
        );
        true
    }
}
