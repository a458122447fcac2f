//! A node's devices in a network namespace of the test's own, and the programs
//! loaded for it. Nothing is attached: packets are given to the programs by
//! hand. Everything goes with the process.

use std::{net::IpAddr, process::Command};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, MapData, PerCpuArray},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use vetch_ebpf_common::{Address, Pod, Reason, maps};

use crate::Frame;

/// `TC_ACT_UNSPEC`: on to the next program, then to the stack.
pub const PASS: i32 = -1;
/// `TC_ACT_SHOT`.
pub const DROP: i32 = 2;
/// `TC_ACT_REDIRECT`.
pub const REDIRECT: i32 = 7;

pub struct Lab {
    ebpf: Ebpf,
    _dir: tempfile::TempDir,
}

#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub verdict: i32,
    pub bytes: Vec<u8>,
}

/// The node's sides of two pods' links, and its uplink.
pub const POD_1: u32 = 11;
pub const POD_2: u32 = 21;
pub const UPLINK: u32 = 31;

/// The link address of the node's side; the other side's ends in 2.
pub const fn mac(ifindex: u32) -> [u8; 6] {
    [2, 0, 0, 0, ifindex as u8, 1]
}

pub const fn peer_mac(ifindex: u32) -> [u8; 6] {
    [2, 0, 0, 0, ifindex as u8, 2]
}

const CLASSIFIERS: [&str; 4] = ["from_pod", "to_pod", "from_net", "to_net"];

/// A key or value as the kernel sees it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Raw<T>(pub T);

#[expect(unsafe_code, reason = "what the maps hold has no other door in aya")]
// SAFETY: only the types of vetch-ebpf-common are put in: `repr(C)`, of
// integers, every byte of padding named.
unsafe impl<T: Copy + 'static> aya::Pod for Raw<T> {}

impl Lab {
    /// Moves the calling thread into a namespace of its own.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("unshare: these tests need root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let dir = tempfile::tempdir().unwrap();
        mount(Some("bpf"), dir.path(), Some("bpf"), MsFlags::empty(), none).unwrap();
        devices();
        let object = vetch_ebpf_object::object()
            .expect("the eBPF programs: cargo xtask build-ebpf, or VETCH_EBPF_OBJECT");
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(dir.path())
            .map_max_entries(maps::SLOTS, 1 << 10)
            .load(object)
            .unwrap();
        for name in CLASSIFIERS {
            let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program
                .load()
                .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
        Self { ebpf, _dir: dir }
    }

    /// How many instructions the verifier looked at for each.
    pub fn verified(&self) -> Vec<(&'static str, u32)> {
        CLASSIFIERS
            .iter()
            .map(|name| {
                let program: &SchedClassifier =
                    self.ebpf.program(name).unwrap().try_into().unwrap();
                let info = program.info().unwrap();
                (*name, info.verified_instruction_count().unwrap())
            })
            .collect()
    }

    pub fn run(&self, program: &str, ifindex: u32, frame: &Frame) -> Outcome {
        self.run_bytes(program, ifindex, &frame.bytes())
    }

    pub fn run_bytes(&self, program: &str, ifindex: u32, bytes: &[u8]) -> Outcome {
        let program: &SchedClassifier = self.ebpf.program(program).unwrap().try_into().unwrap();
        let mut out = vec![0; bytes.len() + 256];
        let ctx = context(ifindex);
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(bytes),
                data_out: Some(&mut out),
                ctx_in: Some(&ctx),
                ..TestRunOptions::default()
            })
            .unwrap();
        out.truncate(result.data_size_out as usize);
        Outcome {
            verdict: result.return_value as i32,
            bytes: out,
        }
    }

    pub fn hash<K, V>(&mut self, name: &str) -> HashMap<&mut MapData, Raw<K>, Raw<V>>
    where
        K: Copy + 'static,
        V: Copy + 'static,
    {
        HashMap::try_from(self.ebpf.map_mut(name).unwrap()).unwrap()
    }

    /// A pod behind the node's device.
    pub fn pod(&mut self, address: &str, ifindex: u32, flags: u32) {
        let pod = Pod {
            ifindex,
            flags,
            mac: peer_mac(ifindex),
            gateway_mac: mac(ifindex),
            pad: 0,
            netns: 0,
        };
        self.hash(maps::PODS)
            .insert(Raw(ip(address)), Raw(pod), 0)
            .unwrap();
    }

    pub fn reason(&self, reason: Reason) -> u64 {
        let counts: PerCpuArray<_, u64> =
            PerCpuArray::try_from(self.ebpf.map(maps::REASONS).unwrap()).unwrap();
        counts.get(&(reason as u32), 0).unwrap().iter().sum()
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

pub fn ip(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

/// The first fields of a `__sk_buff`, which is how a test run is told the
/// packet's device.
fn context(ifindex: u32) -> [u8; 44] {
    let mut ctx = [0; 44];
    ctx[40..].copy_from_slice(&ifindex.to_ne_bytes());
    ctx
}

fn devices() {
    for (ifindex, name) in [(POD_1, "pod1"), (POD_2, "pod2"), (UPLINK, "up0")] {
        run(&format!(
            "link add {name} index {ifindex} address {} type veth peer name {name}-in address {}",
            text(mac(ifindex)),
            text(peer_mac(ifindex)),
        ));
        run(&format!("link set {name} up"));
        run(&format!("link set {name}-in up"));
    }
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn run(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("ip of iproute2");
    assert!(status.success(), "ip {arguments}");
}
