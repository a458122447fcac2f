//! The programs at links: pods' and the node's uplinks.
//!
//! Input: the attached pods, the node's links, what an earlier daemon left in
//! the kernel. Output: programs at their places, and the maps by which they
//! know pods. What is wanted is decided by [`links`], [`xdp`] and [`plan`];
//! [`pinned`], [`clsact`] and [`tables`] act. Programs of others at the same links
//! are left alone.
//!
//! A pod is told to the programs after they are at its link, and forgotten
//! before they leave it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use aya::Ebpf;
use tokio::sync::watch;
use tracing::info;
use vetch_ebpf_common::{Address, Pod};
use vetch_network::netns_cookie;

mod attached;
mod clsact;
mod driver;
mod error;
mod follow;
mod held;
mod links;
mod load;
mod node;
mod pinned;
mod plan;
mod step;
mod tables;
mod xdp;

pub use attached::{Attached, LinkName, attached, filters, remove};
pub use error::HooksError;
pub use follow::Follow;
pub use held::HeldPods;
pub use load::load;
pub use plan::{Kind, Program};
pub use tables::{TableError, pods};
pub use xdp::Xdp;

use crate::{ProxyConfig, netlink::Netlink, programs::maps_dir, proxy::chain};
use links::NodeLinks;
use load::Loaded;
use plan::{Found, Place, Step, plan};
use tables::{Tables, Writer};

/// Each address of an attached pod with the pod.
pub type Pods = BTreeMap<IpAddr, Pod>;

/// The pods that have a link to this node; `None` until they are known.
pub type AttachedPods = watch::Receiver<Option<Arc<Pods>>>;

#[derive(Clone, Debug)]
pub struct HooksConfig {
    pub pin_dir: PathBuf,
    pub node_ips: Vec<IpAddr>,
    /// Names of the uplinks; empty to find them.
    pub uplinks: Vec<String>,
    /// How programs are held. [`Kind::Tcx`] gives way to the other where the
    /// kernel does not have it.
    pub kind: Kind,
    pub xdp: Xdp,
}

impl HooksConfig {
    pub fn of(config: &ProxyConfig) -> Self {
        Self {
            pin_dir: config.pin_dir.clone(),
            node_ips: config.node_ips.clone(),
            uplinks: config.uplinks.clone(),
            kind: Kind::Tcx,
            xdp: config.xdp,
        }
    }
}

/// The programs of one daemon at the links of the network namespace of the
/// thread that opened it, which is the one to call its methods.
#[derive(Debug)]
pub struct Hooks {
    config: HooksConfig,
    kind: Kind,
    netlink: Netlink,
    netns: u64,
    programs: BTreeMap<Program, Loaded>,
    tables: Writer,
    node: NodeLinks,
    /// `None` until they are known: then nothing of pods is touched.
    pods: Option<Arc<Pods>>,
    /// `None` while it is waited for: then who is held stays as he is, and who is new
    /// waits.
    held: Option<HeldPods>,
    found: BTreeMap<Place, Found>,
    /// Whose drivers did not take a program that they were only tried with.
    declined: BTreeSet<u32>,
}

impl Hooks {
    /// Loads the programs of `ebpf`, whose maps are pinned. Nothing is
    /// attached or written yet.
    pub fn open(mut config: HooksConfig, ebpf: &mut Ebpf) -> Result<Self, HooksError> {
        let look = |source| HooksError::Look {
            what: "a netlink socket",
            source,
        };
        let mut programs = BTreeMap::new();
        for program in Program::ALL {
            if program == Program::FromWire && !config.xdp.is_on() {
                continue;
            }
            match load(ebpf, program.name()) {
                Err(HooksError::Program { source, .. })
                    if program == Program::FromWire && config.xdp == Xdp::Auto =>
                {
                    info!(
                        error = chain(&*source),
                        "this kernel does not take the program for drivers"
                    );
                    config.xdp = Xdp::Off;
                }
                loaded => {
                    programs.insert(program, loaded?);
                }
            }
        }
        Ok(Self {
            kind: config.kind,
            netlink: Netlink::open().map_err(look)?,
            netns: netns_cookie().map_err(HooksError::Netns)?,
            programs,
            tables: Writer::open(&maps_dir(&config.pin_dir))?,
            node: NodeLinks::default(),
            pods: None,
            held: Some(HeldPods::default()),
            found: BTreeMap::new(),
            declined: BTreeSet::new(),
            config,
        })
    }

    pub fn set_pods(&mut self, pods: Option<Arc<Pods>>) {
        self.pods = pods;
    }

    /// Somebody will say which policies pods have; else there are none.
    pub fn expect_policies(&mut self) {
        self.held = None;
    }

    /// Which policies pods have; takes effect with [`Hooks::act`].
    pub fn set_held(&mut self, held: HeldPods) {
        self.held = Some(held);
    }

    /// The sets of rules by which pods are held now.
    pub fn sets(&self) -> BTreeMap<IpAddr, [u16; 2]> {
        held::sets(&self.tables.held().pods)
    }

    /// Whose programs are at their links and know their policies.
    pub fn guarded(&self) -> BTreeMap<IpAddr, u32> {
        held::guarded(&self.tables.held().pods)
    }

    /// Looks at the node's links, and at what is attached.
    pub fn look(&mut self) -> Result<(), HooksError> {
        let failed = |what| move |source| HooksError::Look { what, source };
        let seen = links::look(&mut self.netlink).map_err(failed("the node's links"))?;
        let pods = self.pods.clone();
        let is_pods = |index| {
            let mut pods = pods.iter().flat_map(|pods| pods.values());
            pods.any(|pod| pod.ifindex == index)
        };
        let (node_ips, named) = (&self.config.node_ips, &self.config.uplinks);
        self.node = links::decide(&seen, node_ips, named, is_pods);
        self.find().map_err(failed("the programs at links"))
    }

    fn find(&mut self) -> io::Result<()> {
        let dir = self.pins();
        self.found.clear();
        let at_driver = |ifindex| self.node.uplinks.get(&ifindex)?.xdp;
        for (place, program) in pinned::find(&dir, at_driver)? {
            match program {
                Some(_) => {
                    let kind = place.program.held_by(Kind::Tcx);
                    self.found.entry(place).or_default().set(kind, program);
                }
                // A dead one is in nobody's way, but would stay for ever.
                None => pinned::detach(&dir, place)?,
            }
        }
        for (place, id) in clsact::list(&mut self.netlink)? {
            self.found.entry(place).or_default().clsact = Some(id);
        }
        Ok(())
    }

    /// From what was found to what is wanted; returns what did not work, and
    /// is worth another try. After it everything is as it is told to be, but
    /// for that.
    pub fn act(&mut self) -> Vec<HooksError> {
        let mut problems = self.missing_uplinks();
        let wanted = self.wanted();
        // Forgotten first: pods whose links may be gone. Those with programs of an
        // earlier daemon are known before its next ones come, whose maps may be new: at
        // no moment does one of them find a pod that nobody holds to its policies.
        let mut kept = self.tables.held().also_in(&self.tables(&wanted));
        kept.add(self.tables(&self.attached(&wanted)));
        if let Err(error) = self.tables.write(&kept) {
            problems.push(error.into());
        }
        let mut steps = self.plan(&wanted);
        let put = steps.partition_point(|step| !matches!(step, Step::Detach(..)));
        let mut detach = steps.split_off(put);
        for step in steps {
            if let Err(problem) = self.step(step) {
                problems.push(problem);
            }
        }
        let attached = self.attached(&wanted);
        if let Err(error) = self.tables.write(&self.tables(&attached)) {
            problems.push(error.into());
        }
        // Where the new kind did not get to its place, the old one serves on.
        detach.retain(|step| {
            let Step::Detach(place, kind) = step else {
                return false;
            };
            *kind == place.program.held_by(self.kind)
                || !wanted.contains(place)
                || attached.contains(place)
        });
        for step in detach {
            if let Err(problem) = self.step(step) {
                problems.push(problem);
            }
        }
        problems
    }

    /// As [`Hooks::look`] and [`Hooks::act`], from the maps' content on.
    pub fn audit(&mut self) -> Vec<HooksError> {
        let looked = self.tables.reload().map_err(HooksError::from);
        match looked.and_then(|()| self.look()) {
            Ok(()) => self.act(),
            Err(error) => vec![error],
        }
    }

    fn missing_uplinks(&self) -> Vec<HooksError> {
        let names = self.node.not_found.iter();
        let error = |name: &String| HooksError::NoUplink { name: name.clone() };
        names.map(error).collect()
    }

    /// With the places of pods that are not known yet as they are.
    fn wanted(&self) -> BTreeSet<Place> {
        let at =
            |programs: [Program; 2], ifindex| programs.map(|program| Place { program, ifindex });
        let uplinks = self.node.uplinks.keys();
        let mut wanted: BTreeSet<Place> = uplinks
            .flat_map(|ifindex| at(Program::NET, *ifindex))
            .collect();
        let tunnel = self.node.tunnel.iter();
        wanted.extend(tunnel.flat_map(|(ifindex, _)| at(Program::TUNNEL, *ifindex)));
        wanted.extend(self.at_drivers());
        match &self.pods {
            Some(pods) => {
                wanted.extend(pods.values().flat_map(|pod| at(Program::POD, pod.ifindex)));
            }
            None => wanted.extend(
                self.found
                    .keys()
                    .filter(|place| Program::POD.contains(&place.program)),
            ),
        }
        wanted
    }

    fn plan(&self, wanted: &BTreeSet<Place>) -> Vec<Step> {
        let loaded = |program| self.programs[&program].id;
        plan(wanted, &self.found, loaded, self.kind)
    }

    fn attached(&self, wanted: &BTreeSet<Place>) -> BTreeSet<Place> {
        let attached = wanted.iter().filter(|place| self.is_attached(place));
        attached.copied().collect()
    }

    fn is_attached(&self, place: &Place) -> bool {
        let found = self.found.get(place);
        let kind = place.program.held_by(self.kind);
        found.is_some_and(|found| found.of(kind).is_some())
    }

    fn tables(&self, attached: &BTreeSet<Place>) -> Tables {
        match &self.pods {
            Some(pods) => {
                let now = &self.tables.held().pods;
                let pods = pods.iter().map(|(ip, pod)| {
                    let address = Address::from(*ip);
                    let pod = held::held(self.held.as_ref(), *ip, pod, now.get(&address));
                    (address, pod)
                });
                Tables::of(pods, attached)
            }
            None => self.tables.held().clone(),
        }
    }

    fn pins(&self) -> PathBuf {
        self.config.pin_dir.join("links")
    }
}
