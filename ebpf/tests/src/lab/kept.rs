//! What the programs have written down: conversations, flows, counts, events.

use std::collections::BTreeMap;

use aya::maps::{Array, PerCpuArray, PerCpuHashMap};
use vetch_ebpf_common::{Conversation, Event, Flow, Reason, Sweep, Traffic, Tuple, maps};

use super::{Lab, POD_1, Raw};

impl Lab {
    pub fn conversations(&mut self) -> BTreeMap<Tuple, Conversation> {
        self.hash::<Tuple, Conversation>(maps::CONVERSATIONS)
            .iter()
            .map(|entry| entry.map(|(key, talk)| (key.0, talk.0)).unwrap())
            .collect()
    }

    /// As if every packet so far had come that much earlier, and the rules had been
    /// asked then.
    pub fn conversations_age(&mut self, seconds: u64) {
        for (key, talk) in self.conversations() {
            let aged = talk.aged(seconds * 1_000_000_000);
            self.hash(maps::CONVERSATIONS)
                .insert(Raw(key), Raw(aged), 0)
                .unwrap();
        }
    }

    pub fn flows(&mut self) -> BTreeMap<Tuple, Flow> {
        self.hash::<Tuple, Flow>(maps::FLOWS)
            .iter()
            .map(|entry| entry.map(|(key, flow)| (key.0, flow.0)).unwrap())
            .collect()
    }

    /// The one flow that packets of a client have: what they are rewritten to.
    #[track_caller]
    pub fn flow(&mut self, key: &Tuple) -> Flow {
        *self.flows().get(key).expect("a flow")
    }

    pub fn set_flow(&mut self, key: Tuple, flow: Flow) {
        self.hash(maps::FLOWS)
            .insert(Raw(key), Raw(flow), 0)
            .unwrap();
    }

    pub fn drop_flow(&mut self, key: Tuple) {
        self.hash::<Tuple, Flow>(maps::FLOWS)
            .remove(&Raw(key))
            .unwrap();
    }

    /// As if every packet so far had come that much earlier.
    pub fn flows_age(&mut self, seconds: u64) {
        for (key, mut flow) in self.flows() {
            flow.seen = flow
                .seen
                .checked_sub(seconds * 1_000_000_000)
                .expect("a machine that is up for that long");
            self.set_flow(key, flow);
        }
    }

    /// Takes what is over out of the tables.
    pub fn sweep(&self) -> Sweep {
        self.run_bytes("sweep", POD_1, &[0; 60]);
        let swept: Array<_, Raw<Sweep>> =
            Array::try_from(self.ebpf.map(maps::SWEPT).unwrap()).unwrap();
        swept.get(&0, 0).unwrap().0
    }

    /// What the programs told of since the last call, and how much they did
    /// not.
    pub fn events(&mut self) -> (Vec<Event>, u64) {
        self.told(maps::EVENTS, maps::EVENTS_MISSED, Event::from_words)
    }

    /// What was counted for a service-port.
    pub fn traffic(&self, service: u32) -> Traffic {
        let map = self.ebpf.map(maps::TRAFFIC).unwrap();
        let counts: PerCpuHashMap<_, u32, Raw<Traffic>> = PerCpuHashMap::try_from(map).unwrap();
        let mut all = Traffic::default();
        // Else nobody has come yet.
        if let Ok(counts) = counts.get(&service, 0) {
            for Raw(one) in counts.iter() {
                all.add(one);
            }
        }
        all
    }

    pub fn reason(&self, reason: Reason) -> u64 {
        let counts: PerCpuArray<_, u64> =
            PerCpuArray::try_from(self.ebpf.map(maps::REASONS).unwrap()).unwrap();
        counts.get(&(reason as u32), 0).unwrap().iter().sum()
    }
}
