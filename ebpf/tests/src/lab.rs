//! A node's devices in a network namespace of the test's own, and the programs
//! loaded for it. Nothing is attached: packets are given to the programs by
//! hand. Everything goes with the process.

use std::net::{IpAddr, SocketAddr};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, RingBuf, lpm_trie::Key},
    programs::{
        Program, ProgramError, SchedClassifier, TcAttachType, TestRun as _, TestRunOptions,
        TestRunResult, tc,
    },
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use vetch_ebpf_common::{
    self as kernel, Address, BackendKey, Endpoint, Frontend, FrontendKey, NextHop, Peer, PeerPods,
    Pod, Protocol, Rule, RuleSet, ServiceWord, Slot, SourceRange, Sources, Terms, Tuple, Uplink,
    addresses, maps, variables,
};

use crate::{Frame, namespace::ip_command};

mod beginnings;
mod kept;

/// `TC_ACT_UNSPEC`: on to the next program, then to the stack.
pub const PASS: i32 = -1;
/// `TC_ACT_SHOT`.
pub const DROP: i32 = 2;
/// `TC_ACT_REDIRECT`.
pub const REDIRECT: i32 = 7;

/// At the driver: on to the stack, and out again by the same link.
pub const XDP_PASS: i32 = 2;
pub const XDP_TX: i32 = 3;

pub struct Lab {
    ebpf: Ebpf,
    next_slot: u32,
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

/// The node's addresses.
pub const NODE_V4: &str = "192.168.0.10";
pub const NODE_V6: &str = "fd00:ff::10";

/// The one at the driver, which is given frames with another context.
const WIRE: &str = "from_wire";
const PROGRAMS: [&str; 7] = [
    "from_pod",
    "to_pod",
    "from_net",
    "from_tunnel",
    "to_net",
    "sweep",
    WIRE,
];

/// What a node's programs are loaded with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// First and last of the ports for sources that are changed.
    pub ports: (u16, u16),
    /// The link that other nodes are behind; 0 leaves it to the stack.
    pub link: u32,
    /// The most entries of `FLOWS`.
    pub flows: u32,
    /// Whether backends on other nodes answer clients themselves.
    pub direct: bool,
    /// Whether what pods send out of the cluster goes with the node's address.
    pub masquerade: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ports: (61000, 65535),
            link: 0,
            flows: kernel::MAX_FLOWS,
            direct: false,
            masquerade: false,
        }
    }
}

/// A key or value as the kernel sees it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Raw<T>(pub T);

#[expect(unsafe_code, reason = "what the maps hold has no other door in aya")]
// SAFETY: only the types of vetch-ebpf-common are put in: `repr(C)`, of
// integers, every byte of padding named.
unsafe impl<T: Copy + 'static> aya::Pod for Raw<T> {}

impl Lab {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    /// With these ports for sources that are changed.
    pub fn with_ports(first: u16, last: u16) -> Self {
        Self::with(Options {
            ports: (first, last),
            ..Options::default()
        })
    }

    /// Other nodes are behind the uplink, and there is no other.
    pub fn with_one_uplink() -> Self {
        Self::with(Options {
            link: UPLINK,
            ..Options::default()
        })
    }

    /// And with one port for sources that are changed.
    pub fn with_one_uplink_and_port(port: u16) -> Self {
        Self::with(Options {
            ports: (port, port),
            link: UPLINK,
            ..Options::default()
        })
    }

    /// Moves the calling thread into a namespace of its own.
    pub fn with(options: Options) -> Self {
        let (first, last) = options.ports;
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
            .map_max_entries(maps::FLOWS, options.flows)
            .override_global(variables::NODE_V4, &ip(NODE_V4).bits()[3], true)
            .override_global(variables::NODE_V6, &ip(NODE_V6).bits(), true)
            .override_global(variables::NODE_LINK, &options.link, true)
            .override_global(variables::DIRECT_RETURN, &u32::from(options.direct), true)
            .override_global(variables::MASQUERADE, &u32::from(options.masquerade), true)
            .override_global(variables::LEARN_NEXT_HOPS, &1_u32, true)
            .override_global(variables::SNAT_FIRST, &first, true)
            .override_global(variables::SNAT_LAST, &last, true)
            .load(object)
            .unwrap();
        for name in PROGRAMS {
            match ebpf.program_mut(name).unwrap() {
                Program::SchedClassifier(program) => program.load(),
                Program::Xdp(program) => program.load(),
                other => panic!("{name}: {other:?}"),
            }
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
        Self {
            ebpf,
            next_slot: 0,
            _dir: dir,
        }
    }

    /// Puts the programs where packets pass: at the pods' links and the uplink.
    pub fn attach(&mut self) {
        for (program, device, side) in [
            ("from_pod", "pod1", TcAttachType::Ingress),
            ("to_pod", "pod1", TcAttachType::Egress),
            ("from_pod", "pod2", TcAttachType::Ingress),
            ("to_pod", "pod2", TcAttachType::Egress),
            ("from_net", "up0", TcAttachType::Ingress),
            ("to_net", "up0", TcAttachType::Egress),
        ] {
            if side == TcAttachType::Ingress {
                // Without tcx (6.6) that is where filters are.
                let _ = tc::qdisc_add_clsact(device);
            }
            let program: &mut SchedClassifier =
                self.ebpf.program_mut(program).unwrap().try_into().unwrap();
            program.attach(device, side).unwrap();
        }
    }

    /// How many instructions the verifier looked at for each.
    pub fn verified(&self) -> Vec<(&'static str, u32)> {
        PROGRAMS
            .iter()
            .map(|name| {
                let info = self.ebpf.program(name).unwrap().info().unwrap();
                (*name, info.verified_instruction_count().unwrap())
            })
            .collect()
    }

    /// A frame without link addresses gets those of the link.
    pub fn run(&self, program: &str, ifindex: u32, frame: &Frame) -> Outcome {
        let mut frame = frame.clone();
        if frame.mac_to == [0; 6] {
            frame = frame.macs(mac(ifindex), peer_mac(ifindex));
        }
        self.run_bytes(program, ifindex, &frame.bytes())
    }

    pub fn run_bytes(&self, program: &str, ifindex: u32, bytes: &[u8]) -> Outcome {
        let ctx = if program == WIRE {
            frame_context(ifindex, bytes.len())
        } else {
            context(ifindex, 0).to_vec()
        };
        self.run_with(program, &ctx, bytes)
    }

    /// As a packet that had been received by the link `from`.
    pub fn run_forwarded(&self, program: &str, from: u32, ifindex: u32, frame: &Frame) -> Outcome {
        self.run_with(program, &context(ifindex, from), &frame.bytes())
    }

    fn run_with(&self, program: &str, ctx: &[u8], bytes: &[u8]) -> Outcome {
        let mut out = vec![0; bytes.len() + 256];
        let options = TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut out),
            ctx_in: Some(ctx),
            ..TestRunOptions::default()
        };
        let result = test_run(self.ebpf.program(program).unwrap(), options).unwrap();
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
            ingress: 0,
            egress: 0,
            netns: 0,
        };
        self.hash(maps::PODS)
            .insert(Raw(ip(address)), Raw(pod), 0)
            .unwrap();
    }

    /// Backends of a service-port: the cluster's, and the node's own. Slots are
    /// never shared, nor freed.
    pub fn service(&mut self, service: &Service<'_>) {
        let base = self.next_slot;
        let generation = service.generation;
        for backend in service.cluster.iter().chain(service.local) {
            let endpoint = endpoint(backend).words();
            let tag = Slot::tag(service.number, generation);
            let words = [endpoint[0], endpoint[1], endpoint[2], tag];
            let slot = self.next_slot;
            self.array(maps::SLOTS).set(slot, Raw(words), 0).unwrap();
            self.next_slot += 1;
        }
        let [cluster, local] = [service.cluster, service.local].map(|list| list.len() as u16);
        let word = ServiceWord::new(base, cluster, local, generation);
        let mut words = [0; kernel::Service::WORDS];
        words[kernel::Service::WORD] = word.bits();
        words[kernel::Service::TERMS] = service.terms.bits();
        self.array(maps::SERVICES)
            .set(service.number, Raw(words), 0)
            .unwrap();
    }

    /// A service-port with one backend, so that chance has none.
    pub fn simple_service(&mut self, number: u32, at: &str, protocol: Protocol, backend: &str) {
        self.service(&Service {
            number,
            generation: 1,
            cluster: &[backend],
            ..Service::default()
        });
        self.frontend(at, protocol, number, 0);
    }

    pub fn frontend(&mut self, at: &str, protocol: Protocol, service: u32, flags: u32) {
        let key = FrontendKey::new(endpoint(at), protocol as u8);
        self.hash(maps::FRONTENDS)
            .insert(Raw(key), Raw(Frontend::new(service, flags)), 0)
            .unwrap();
    }

    pub fn address(&mut self, address: &str, flags: u32) {
        self.hash(maps::ADDRESSES)
            .insert(Raw(ip(address)), Raw(flags), 0)
            .unwrap();
    }

    /// The node's, in the map of addresses.
    pub fn own_addresses(&mut self) {
        for node in [NODE_V4, NODE_V6] {
            self.address(node, addresses::NODE);
        }
    }

    /// Where pods of another node are; `prefix` as of an IPv6 range.
    pub fn peer_pods(&mut self, address: &str, prefix: u32, way: PeerPods) {
        self.range(maps::PEER_PODS, address, prefix, way);
    }

    /// Whom pods reach with their own address; likewise.
    pub fn non_masquerade(&mut self, address: &str, prefix: u32) {
        self.range(maps::NON_MASQUERADE, address, prefix, 1_u32);
    }

    /// As whom pods are seen behind an uplink.
    pub fn sources(&mut self, ifindex: u32, addresses: &[&str]) {
        let all = addresses.iter().map(|address| ip(address));
        let sources = all.fold(Sources::NONE, Sources::with);
        self.hash(maps::SOURCES)
            .insert(Raw(ifindex), Raw(sources), 0)
            .unwrap();
    }

    fn range<V: Copy + 'static>(&mut self, map: &str, address: &str, prefix: u32, way: V) {
        let map = self.ebpf.map_mut(map).unwrap();
        let mut ranges: LpmTrie<_, [u8; 16], Raw<V>> = LpmTrie::try_from(map).unwrap();
        let key = Key::new(prefix, ip(address).octets());
        ranges.insert(&key, Raw(way), 0).unwrap();
    }

    /// Holds a pod to sets of rules, by their numbers for ingress and egress.
    pub fn hold(&mut self, address: &str, ingress: u16, egress: u16) {
        self.change_pod(address, |pod| {
            pod.ingress = ingress;
            pod.egress = egress;
        });
    }

    /// Which rules hold the pod is not known yet.
    pub fn set_pending(&mut self, address: &str) {
        self.change_pod(address, |pod| pod.flags |= Pod::POLICY_PENDING);
    }

    fn change_pod(&mut self, address: &str, change: impl FnOnce(&mut Pod)) {
        let mut pods = self.hash::<Address, Pod>(maps::PODS);
        let Raw(mut pod) = pods.get(&Raw(ip(address)), 0).expect("a pod of the lab's");
        change(&mut pod);
        pods.insert(Raw(ip(address)), Raw(pod), 0).unwrap();
        self.policies(1);
    }

    /// Whether there are any.
    pub fn policies(&mut self, word: u32) {
        self.array(maps::POLICIES).set(0, Raw(word), 0).unwrap();
    }

    pub fn identity(&mut self, address: &str, number: u32) {
        self.hash(maps::IDENTITIES)
            .insert(Raw(ip(address)), Raw(number), 0)
            .unwrap();
    }

    /// `prefix` as of an IPv6 range.
    pub fn block(&mut self, address: &str, prefix: u32, number: u32) {
        let map = self.ebpf.map_mut(maps::BLOCKS).unwrap();
        let mut blocks: LpmTrie<_, [u8; 16], u32> = LpmTrie::try_from(map).unwrap();
        let key = Key::new(prefix, ip(address).octets());
        blocks.insert(&key, number, 0).unwrap();
    }

    /// One port of a protocol.
    pub fn let_port(&mut self, set: RuleSet, peer: Peer, protocol: Protocol, port: u16) {
        let rule = Rule::new(set, peer, protocol as u8, port.to_be_bytes());
        self.set_rule(Rule::PORT, rule, true);
    }

    /// Everything.
    pub fn let_all(&mut self, set: RuleSet, peer: Peer) {
        self.set_rule(Rule::ALL, Rule::new(set, peer, 0, [0; 2]), true);
    }

    /// `length` of its prefix.
    pub fn set_rule(&mut self, length: u32, rule: Rule, there: bool) {
        let map = self.ebpf.map_mut(maps::RULES).unwrap();
        let mut rules: LpmTrie<_, Raw<Rule>, u32> = LpmTrie::try_from(map).unwrap();
        let key = Key::new(length, Raw(rule));
        if there {
            rules.insert(&key, 1, 0).unwrap();
        } else {
            rules.remove(&key).unwrap();
        }
    }

    pub fn uplink(&mut self, ifindex: u32, mtu: u32) {
        let uplink = Uplink::new(mac(ifindex)).with_mtu(mtu);
        self.hash(maps::UPLINKS)
            .insert(Raw(ifindex), Raw(uplink), 0)
            .unwrap();
    }

    /// Where packets for an address went just now. What comes later than now
    /// holds as well, and does not grow old while a test waits for a processor.
    pub fn next_hop(&mut self, address: &str, mac: [u8; 6], link: u32) {
        self.next_hop_at(address, mac, link, u64::MAX);
    }

    /// `seen` on `CLOCK_MONOTONIC`.
    pub fn next_hop_at(&mut self, address: &str, mac: [u8; 6], link: u32, seen: u64) {
        let hop = NextHop::new(mac, link, seen);
        self.hash(maps::NEXT_HOPS)
            .insert(Raw(ip(address)), Raw(hop), 0)
            .unwrap();
    }

    /// Whether a backend serves.
    pub fn serving(&mut self, service: u32, backend: &str, serves: bool) {
        let key = Raw(BackendKey::new(service, endpoint(backend)));
        let mut backends = self.hash::<_, u32>(maps::BACKENDS);
        if serves {
            backends.insert(key, Raw(BackendKey::CLUSTER), 0).unwrap();
        } else {
            backends.remove(&key).unwrap();
        }
    }

    pub fn source_range(&mut self, service: u32, client: &str, prefix: u32) {
        let key = Key::new(
            SourceRange::prefix_len(prefix),
            Raw(SourceRange::new(service, ip(client))),
        );
        let mut ranges: LpmTrie<_, _, u32> =
            LpmTrie::try_from(self.ebpf.map_mut(maps::SOURCE_RANGES).unwrap()).unwrap();
        ranges.insert(&key, 1, 0).unwrap();
    }

    /// The records of a ring since the last call, and how many did not get into it.
    fn told<T, const WORDS: usize>(
        &mut self,
        ring: &str,
        missed: &str,
        read: impl Fn([u64; WORDS]) -> T,
    ) -> (Vec<T>, u64) {
        let mut told = Vec::new();
        {
            let mut ring = RingBuf::try_from(self.ebpf.map_mut(ring).unwrap()).unwrap();
            while let Some(record) = ring.next() {
                let words: Vec<u64> = record
                    .chunks_exact(8)
                    .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
                    .collect();
                told.push(read(words.try_into().unwrap()));
            }
        }
        let missed: PerCpuArray<_, u64> =
            PerCpuArray::try_from(self.ebpf.map(missed).unwrap()).unwrap();
        (told, missed.get(&0, 0).unwrap().iter().sum())
    }

    fn array<V: Copy + 'static>(&mut self, name: &str) -> Array<&mut MapData, Raw<V>> {
        Array::try_from(self.ebpf.map_mut(name).unwrap()).unwrap()
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

/// A service-port, as it is put into the maps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Service<'a> {
    pub number: u32,
    pub generation: u32,
    pub terms: Terms,
    pub cluster: &'a [&'a str],
    pub local: &'a [&'a str],
}

pub fn endpoint(text: &str) -> Endpoint {
    let address: SocketAddr = text.parse().unwrap();
    Endpoint::new(address.ip().into(), address.port().to_be_bytes())
}

pub fn tuple(src: &str, dst: &str, protocol: Protocol) -> Tuple {
    Tuple::new(endpoint(src), endpoint(dst), protocol as u8)
}

pub fn ip(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

/// The first fields of a `__sk_buff`, which is how a test run is told the
/// packet's device.
fn context(ifindex: u32, ingress_ifindex: u32) -> [u8; 44] {
    let mut ctx = [0; 44];
    ctx[36..40].copy_from_slice(&ingress_ifindex.to_ne_bytes());
    ctx[40..].copy_from_slice(&ifindex.to_ne_bytes());
    ctx
}

/// A `xdp_md`: the data's end and the device.
fn frame_context(ifindex: u32, length: usize) -> Vec<u8> {
    let words = [0, length as u32, 0, ifindex, 0, 0];
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

fn test_run(program: &Program, options: TestRunOptions<'_>) -> Result<TestRunResult, ProgramError> {
    match program {
        Program::SchedClassifier(program) => program.test_run(options),
        Program::Xdp(program) => program.test_run(options),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn devices() {
    for (ifindex, name) in [(POD_1, "pod1"), (POD_2, "pod2"), (UPLINK, "up0")] {
        ip_command(&format!(
            "link add {name} index {ifindex} address {} type veth peer name {name}-in address {}",
            text(mac(ifindex)),
            text(peer_mac(ifindex)),
        ));
        ip_command(&format!("link set {name} up"));
        ip_command(&format!("link set {name}-in up"));
    }
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
