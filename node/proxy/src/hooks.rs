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
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::{
    Ebpf,
    programs::{Program as AyaProgram, ProgramError},
};
use ipnet::IpNet;
use tokio::sync::watch;
use tracing::{debug, info};
use vetch_ebpf_common::{Address, PeerPods, Pod};
use vetch_network::netns_cookie;

mod clsact;
mod driver;
mod follow;
mod held;
mod links;
mod pinned;
mod plan;
mod tables;
mod xdp;

pub use follow::Follow;
pub use held::HeldPods;
pub use plan::{Kind, Program};
pub use tables::{TableError, pods};
pub use xdp::Xdp;

use crate::{ProxyConfig, announce::Uplink, netlink::Netlink, programs::maps_dir, proxy::chain};
use clsact::Slot;
use links::NodeLinks;
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

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HooksError {
    #[error("the program {program} is missing from the object: run cargo xtask build")]
    Missing { program: &'static str },
    #[error("the kernel does not take the program {program}")]
    Program {
        program: &'static str,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("cannot tell the node's network namespace (5.14 is needed)")]
    Netns(#[source] io::Error),
    #[error("programs are attached by a thread in another network namespace than the node's")]
    WrongNetns,
    #[error("cannot ask the kernel for {what}")]
    Look {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot {step} the program {program} at link {link}")]
    Step {
        step: &'static str,
        program: &'static str,
        link: String,
        #[source]
        source: io::Error,
    },
    #[error("no uplink {name}: no such link, or not of Ethernet, or a pod's")]
    NoUplink { name: String },
    /// The uplink is served all the same, by the programs in the stack.
    #[error(
        "cannot {step} the program {} at the driver of link {link}: what comes for other nodes takes \
         the stack's way",
        Program::FromWire.name()
    )]
    Driver {
        step: &'static str,
        link: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "another's XDP program is at link {link} and stays: what comes for other nodes takes the \
         stack's way"
    )]
    DriverTaken { link: String },
    #[error(transparent)]
    Table(#[from] TableError),
}

impl HooksError {
    /// Whether a moment may change it; with each change of links it is tried
    /// again anyhow, and a driver is not asked every second.
    fn may_pass(&self) -> bool {
        !matches!(self, Self::Driver { .. } | Self::DriverTaken { .. })
    }
}

#[derive(Debug)]
pub struct Loaded {
    pub fd: OwnedFd,
    id: u32,
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

    /// The node's own addresses, as [`Hooks::look`] saw them last.
    pub fn node_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.node.addresses
    }

    /// The links by which the node reaches others, likewise.
    pub fn uplinks(&self) -> Vec<Uplink> {
        self.node.uplinks.iter().map(told).collect()
    }

    /// The device of the tunnel to other nodes, likewise.
    pub fn tunnel(&self) -> Option<Uplink> {
        self.node
            .tunnel
            .as_ref()
            .map(|(index, link)| told((index, link)))
    }

    /// By which links `pods` of other nodes are reached, likewise.
    pub fn ways(&self, pods: &BTreeSet<IpNet>) -> BTreeMap<IpNet, PeerPods> {
        let tunnel = self.node.tunnel.as_ref().map(|(index, _)| *index);
        let way = |range: &IpNet| match self.node.peer_routes.get(range) {
            Some(link) if Some(*link) == tunnel => PeerPods::in_tunnel(*link),
            // Of others the programs do not know how long packets may be.
            Some(link) if self.node.uplinks.contains_key(link) => PeerPods::direct(*link),
            _ => PeerPods::default(),
        };
        pods.iter().map(|range| (*range, way(range))).collect()
    }

    /// Their own addresses, by their numbers.
    pub fn uplink_addresses(&self) -> BTreeMap<u32, BTreeSet<IpAddr>> {
        let uplinks = self.node.uplinks.iter();
        uplinks
            .map(|(index, uplink)| (*index, uplink.addresses.clone()))
            .collect()
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
        for (place, id) in find_filters(&mut self.netlink)? {
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

    fn step(&mut self, step: Step) -> Result<(), HooksError> {
        if netns_cookie().map_err(HooksError::Netns)? != self.netns {
            return Err(HooksError::WrongNetns);
        }
        let (place, done, word) = match step {
            Step::Attach(place, Kind::Xdp) => (place, self.attach_at_driver(place), "attach"),
            Step::Attach(place, _) => (place, self.attach(place), "attach"),
            Step::Replace(place, kind) => (place, self.replace(place, kind), "replace"),
            Step::Detach(place, kind) => (place, self.detach(place, kind), "detach"),
        };
        let program = place.program.name();
        match done {
            Ok(()) => {
                debug!(
                    program,
                    ifindex = place.ifindex,
                    step = word,
                    "program at link"
                );
                Ok(())
            }
            // The link went meanwhile: whoever took it will say so.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                self.found.remove(&place);
                Ok(())
            }
            Err(error) if place.program == Program::FromWire => {
                self.not_at_driver(place, word, error)
            }
            Err(source) => Err(HooksError::Step {
                step: word,
                program,
                link: self.link_name(place.ifindex),
                source,
            }),
        }
    }

    fn attach(&mut self, place: Place) -> io::Result<()> {
        let dir = self.pins();
        let program = &self.programs[&place.program];
        if self.kind == Kind::Tcx {
            match pinned::attach(&dir, place, program.fd.as_fd(), 0) {
                // Before 6.6 the kernel does not know such links.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    info!("this kernel has no tcx: programs are attached as clsact filters");
                    self.kind = Kind::Clsact;
                }
                attached => return attached.map(|()| self.record(place, Kind::Tcx)),
            }
        }
        let program = &self.programs[&place.program];
        clsact::attach(&mut self.netlink, place, program.fd.as_fd())?;
        self.record(place, Kind::Clsact);
        Ok(())
    }

    fn replace(&mut self, place: Place, kind: Kind) -> io::Result<()> {
        let program = self.programs[&place.program].fd.as_fd();
        match kind {
            Kind::Tcx | Kind::Xdp => pinned::replace(&self.pins(), place, program)?,
            Kind::Clsact => clsact::replace(&mut self.netlink, place, program)?,
        }
        self.record(place, kind);
        Ok(())
    }

    fn detach(&mut self, place: Place, kind: Kind) -> io::Result<()> {
        match kind {
            Kind::Tcx | Kind::Xdp => pinned::detach(&self.pins(), place)?,
            Kind::Clsact => clsact::detach(&mut self.netlink, place)?,
        }
        if let Some(found) = self.found.get_mut(&place) {
            found.set(kind, None);
        }
        Ok(())
    }

    fn record(&mut self, place: Place, kind: Kind) {
        let id = self.programs[&place.program].id;
        self.found.entry(place).or_default().set(kind, Some(id));
    }

    fn pins(&self) -> PathBuf {
        self.config.pin_dir.join("links")
    }

    fn link_name(&self, ifindex: u32) -> String {
        let tunnel = self.node.tunnel.iter();
        let tunnel = tunnel
            .filter(|(index, _)| *index == ifindex)
            .map(|(_, link)| link);
        let uplink = self
            .node
            .uplinks
            .get(&ifindex)
            .into_iter()
            .chain(tunnel)
            .next();
        uplink.map_or_else(|| ifindex.to_string(), |uplink| uplink.name.clone())
    }
}

fn told((index, uplink): (&u32, &links::Uplink)) -> Uplink {
    Uplink {
        index: *index,
        mac: uplink.mac,
        mtu: uplink.mtu,
    }
}

/// A program of the kind that packets pass, loaded and attached nowhere.
pub fn load(ebpf: &mut Ebpf, name: &'static str) -> Result<Loaded, HooksError> {
    let failed = |error| HooksError::Program {
        program: name,
        source: Box::new(error),
    };
    let missing = HooksError::Missing { program: name };
    let program = ebpf.program_mut(name).ok_or(missing)?;
    match program {
        AyaProgram::SchedClassifier(program) => program.load(),
        AyaProgram::Xdp(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
    .map_err(failed)?;
    let info = program.info().map_err(failed)?;
    let fd = program.fd().map_err(failed)?;
    let fd = fd.as_fd().try_clone_to_owned();
    Ok(Loaded {
        fd: fd.map_err(|error| failed(ProgramError::IOError(error)))?,
        id: info.id(),
    })
}

/// The programs that our filters hold in the calling thread's network
/// namespace, with their numbers.
pub fn filters() -> Result<impl Iterator<Item = (Program, u32)>, HooksError> {
    let failed = |source| HooksError::Look {
        what: "the programs at links",
        source,
    };
    let mut netlink = Netlink::open().map_err(failed)?;
    let found = find_filters(&mut netlink).map_err(failed)?;
    Ok(found.into_iter().map(|(place, id)| (place.program, id)))
}

fn find_filters(netlink: &mut Netlink) -> io::Result<Vec<(Place, u32)>> {
    let mut found = Vec::new();
    for ifindex in clsact::links(netlink)? {
        let by_filter = |program: &Program| program.held_by(Kind::Clsact) == Kind::Clsact;
        for program in Program::ALL.into_iter().filter(by_filter) {
            let place = Place { program, ifindex };
            if let Slot::Ours(id) = clsact::find(netlink, place)? {
                found.push((place, id));
            }
        }
    }
    Ok(found)
}

/// A program of ours at a link, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub program: Program,
    pub kind: Kind,
    pub ifindex: u32,
}

/// The programs at the links of the calling thread's network namespace, and these
/// links' names and MTU, whether a daemon runs or not. Changes nothing.
pub fn attached(pin_dir: &Path) -> Result<(Vec<Attached>, BTreeMap<u32, LinkName>), HooksError> {
    let failed = |what| move |source| HooksError::Look { what, source };
    let mut netlink = Netlink::open().map_err(failed("a netlink socket"))?;
    let seen = links::look(&mut netlink).map_err(failed("the node's links"))?;
    let at_driver = |ifindex| seen.links.get(&ifindex)?.xdp;
    let pinned = pinned::list(&pin_dir.join("links"), at_driver);
    let pinned = pinned.map_err(failed("the programs at links"))?.into_iter();
    let held = pinned
        .filter_map(|(place, program)| program.map(|_| (place, place.program.held_by(Kind::Tcx))));
    let filters = find_filters(&mut netlink).map_err(failed("the programs at links"))?;
    let filters = filters.into_iter().map(|(place, _)| (place, Kind::Clsact));
    let attached = held.chain(filters).map(|(place, kind)| Attached {
        program: place.program,
        kind,
        ifindex: place.ifindex,
    });
    let names = seen.links.into_iter();
    let names = names.map(|(index, link)| (index, (link.name, link.mtu)));
    Ok((attached.collect(), names.collect()))
}

/// And MTU.
pub type LinkName = (String, u32);

/// Takes our filters away, which no pin holds: for the end of a node.
pub fn remove() -> Result<(), HooksError> {
    let failed = |source| HooksError::Look {
        what: "the programs at links",
        source,
    };
    let mut netlink = Netlink::open().map_err(failed)?;
    for (place, _) in find_filters(&mut netlink).map_err(failed)? {
        clsact::detach(&mut netlink, place).map_err(|source| HooksError::Step {
            step: "detach",
            program: place.program.name(),
            link: place.ifindex.to_string(),
            source,
        })?;
    }
    Ok(())
}
