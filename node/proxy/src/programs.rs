//! Loading the programs and keeping them attached.
//!
//! ```text
//! <pin_dir>/maps-<layout>/   the maps, adopted by every daemon of the same layout
//! <pin_dir>/links/<hook>     the cgroup links: they, not the daemon, hold the programs;
//!                            beside them those of [`crate::hooks`]
//! ```
//! A daemon that starts loads its own programs over the pinned maps and, once
//! those are filled, swaps them into the pinned links: at every moment exactly
//! one program answers a hook.

use std::{
    fs, io,
    net::IpAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{HashMap, MapData, MapError},
    pin::PinError,
    programs::{
        ProgramError,
        links::{FdLink, LinkError},
    },
};
use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    net::if_::if_nametoindex,
    sys::statfs,
};
use tracing::{debug, info, warn};
use vetch_ebpf_common::{
    Address, BackendKey, LAYOUT, Live, MAX_NEXT_HOPS, maps, notes::Settings, variables,
};
use vetch_network::netns_cookie;

use crate::{
    LoadBalancerMode, Masquerade, ProxyConfig,
    notes::{LoadedFor, Notes},
    sys,
};
use at_cgroup::{AtCgroup, AttachError};

mod at_cgroup;

/// The names of the programs at sockets, which are those of the hooks.
const HOOKS: [&str; 9] = [
    SOCK_OPS,
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "sendmsg4",
    "sendmsg6",
    "connect4",
    "connect6",
];

/// Told of connections, as long as they are. The kernel asks it several times
/// in each connection of the cgroup, whoever's it is, so it is attached only
/// where somebody wants to know.
const SOCK_OPS: &str = "sock_ops";

#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    #[error("built without eBPF programs: run cargo xtask build")]
    NoPrograms,
    #[error("{path} is not on a BPF file system: mount -t bpf bpf {path} first")]
    NotBpffs { path: PathBuf },
    #[error("cannot {step} {path}")]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot tell the node's network namespace (5.14 is needed)")]
    Netns(#[source] io::Error),
    #[error("the kernel does not take the eBPF programs (5.18 and root are needed)")]
    Load(#[source] Box<EbpfError>),
    #[error("the kernel does not take the program {hook}")]
    Program {
        hook: &'static str,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("the program {hook} is missing from the object: run cargo xtask build")]
    Missing { hook: &'static str },
    #[error("cannot link {hook} to {cgroup}")]
    Link {
        hook: &'static str,
        cgroup: PathBuf,
        #[source]
        source: Box<LinkError>,
    },
    #[error("cannot pin the link of {hook}")]
    Pin {
        hook: &'static str,
        #[source]
        source: Box<PinError>,
    },
    #[error("cannot empty the map {name}")]
    Empty {
        name: &'static str,
        #[source]
        source: Box<MapError>,
    },
}

/// The loaded programs.
pub struct Programs {
    ebpf: Ebpf,
    pin_dir: PathBuf,
    cgroup: PathBuf,
    /// For metrics; otherwise a service must ask for it.
    always_follow: bool,
    asked_to_follow: bool,
    attached: bool,
    loaded_for: LoadedFor,
}

impl Programs {
    /// Loads the programs over the maps pinned under `pin_dir`, which are made
    /// when they are not there. Nothing is attached yet. The calling thread is
    /// in the node's network namespace.
    pub fn load(config: &ProxyConfig, log_level: u8) -> Result<Self, ProgramsError> {
        let object = vetch_ebpf_object::object().ok_or(ProgramsError::NoPrograms)?;
        let (pin_dir, cgroup) = (config.pin_dir.as_path(), config.cgroup.as_path());
        require_bpffs(pin_dir)?;
        let netns = netns_cookie().map_err(ProgramsError::Netns)?;
        let own = |v4: bool| {
            let mut own = config.node_ips.iter().copied();
            own.find(|ip| ip.is_ipv4() == v4)
        };
        let node = |v4: bool| own(v4).map_or([0; 4], |ip| Address::from(ip).bits());
        let ([_, _, _, node_v4], node_v6) = (node(true), node(false));
        let node_link = link_of(&config.node_ips);
        for dir in [maps_dir(pin_dir), pin_dir.join("links")] {
            fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
        }
        let (first_port, last_port) = config.source_ports.clone().into_inner();
        // Preallocated, so only for who has a use for it.
        let next_hops = if config.xdp.is_on() { MAX_NEXT_HOPS } else { 1 };
        let direct_return = config.load_balancer_mode == LoadBalancerMode::Dsr;
        let masquerade = config.masquerade == Masquerade::On;
        let mut loader = EbpfLoader::new();
        for (name, entries) in config.tables.by_name() {
            loader.map_max_entries(name, entries);
        }
        let mut ebpf = loader
            .default_map_pin_directory(maps_dir(pin_dir))
            // Its definition says nothing of pins.
            .map_pin_path(maps::CONNECTIONS, maps_dir(pin_dir).join(maps::CONNECTIONS))
            // Read-only data of the program: the verifier removes the code of
            // levels that are off.
            .override_global(aya_log::LEVEL, &log_level, true)
            .override_global(variables::NODE_NETNS, &netns, true)
            .override_global(variables::NODE_V4, &node_v4, true)
            .override_global(variables::NODE_V6, &node_v6, true)
            .override_global(variables::NODE_LINK, &node_link, true)
            .override_global(variables::VXLAN_VNI, &config.vxlan_vni, true)
            .override_global(variables::DIRECT_RETURN, &u32::from(direct_return), true)
            .override_global(variables::MASQUERADE, &u32::from(masquerade), true)
            .override_global(variables::SNAT_FIRST, &first_port, true)
            .override_global(variables::SNAT_LAST, &last_port, true)
            .override_global(
                variables::LEARN_NEXT_HOPS,
                &u32::from(config.xdp.is_on()),
                true,
            )
            .map_max_entries(maps::NEXT_HOPS, next_hops)
            .load(object)
            .map_err(|error| ProgramsError::Load(Box::new(error)))?;
        for hook in HOOKS {
            let mut program = program(&mut ebpf, hook)?;
            program.load().map_err(|error| ProgramsError::Program {
                hook,
                source: Box::new(error),
            })?;
        }
        Ok(Self {
            ebpf,
            pin_dir: pin_dir.to_owned(),
            cgroup: cgroup.to_owned(),
            always_follow: config.connection_metrics,
            asked_to_follow: false,
            attached: false,
            loaded_for: LoadedFor {
                settings: Settings {
                    masquerade,
                    direct_return,
                    link: node_link,
                },
                v4: own(true),
                v6: own(false),
            },
        })
    }

    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Puts the loaded programs where calls pass; those that undo come before
    /// those that do. What is attached right stays as it is.
    pub fn attach(&mut self) -> Result<(), ProgramsError> {
        let cgroup_file = fs::File::open(&self.cgroup).map_err(io_error("open", &self.cgroup))?;
        let cgroup_id = cgroup_file
            .metadata()
            .map_err(io_error("stat", &self.cgroup))?
            .ino();
        for hook in HOOKS {
            let path = self.pin_dir.join("links").join(hook);
            if hook == SOCK_OPS && !self.follows_connections() {
                gone(fs::remove_file(&path)).map_err(io_error("remove", &path))?;
                continue;
            }
            let mut program = program(&mut self.ebpf, hook)?;
            let program_error = |error| ProgramsError::Program {
                hook,
                source: Box::new(error),
            };
            let program_id = program.id().map_err(program_error)?;
            if let Some((link, info)) = pinned_link(&path)?
                && info.cgroup_id == cgroup_id
            {
                if info.program_id != program_id {
                    let program = program.fd().map_err(program_error)?;
                    sys::link_update(&link, program)
                        .map_err(io_error("replace the program of", &path))?;
                    debug!(hook, "program replaced");
                }
                continue;
            }
            let link = program.attach(&cgroup_file).map_err(|error| match error {
                AttachError::Program(error) => program_error(error),
                AttachError::Link(error) => ProgramsError::Link {
                    hook,
                    cgroup: self.cgroup.clone(),
                    source: Box::new(error),
                },
            })?;
            pin(link, hook, &path)?;
            if hook == SOCK_OPS {
                // Nobody was told of connections that ended until now.
                forget_live_sockets(&mut self.ebpf).map_err(|error| ProgramsError::Empty {
                    name: maps::LIVE_SOCKETS,
                    source: Box::new(error),
                })?;
            }
            info!(hook, cgroup = %self.cgroup.display(), "program attached");
        }
        self.attached = true;
        self.note();
        Ok(())
    }

    /// For those who read the maps, and have no other way to know.
    fn note(&self) {
        let noted = Notes::open(&maps_dir(&self.pin_dir))
            .and_then(|mut notes| notes.write(&self.loaded_for));
        if let Err(error) = noted {
            warn!(%error, "vetch-node trace will not know how the programs were loaded");
        }
    }

    /// Whether a service asks for connections to be followed. Takes effect at
    /// once if programs are attached.
    pub fn follow_connections(&mut self, asked: bool) -> Result<(), ProgramsError> {
        let before = self.follows_connections();
        self.asked_to_follow = asked;
        if self.attached && self.follows_connections() != before {
            return self.attach();
        }
        Ok(())
    }

    fn follows_connections(&self) -> bool {
        self.always_follow || self.asked_to_follow
    }

    /// Forgets maps of other layouts; call when the programs that used them
    /// have been replaced.
    pub fn remove_other_layouts(&self) -> Result<(), ProgramsError> {
        let keep = maps_dir(&self.pin_dir);
        for entry in fs::read_dir(&self.pin_dir).map_err(io_error("list", &self.pin_dir))? {
            let path = entry.map_err(io_error("list", &self.pin_dir))?.path();
            let maps = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("maps-"));
            if maps && path != keep {
                fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Detaches what pinned links hold and forgets the maps.
pub fn remove(pin_dir: &Path) -> Result<(), ProgramsError> {
    gone(fs::remove_dir_all(pin_dir)).map_err(io_error("remove", pin_dir))
}

/// The link that has one of the addresses: what the other nodes are reached
/// by. 0, which leaves the way to the stack, where no link has one.
fn link_of(addresses: &[IpAddr]) -> u32 {
    let has_one = |link: &InterfaceAddress| {
        let address = link.address.as_ref()?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let own = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        addresses.contains(&own).then_some(())
    };
    let mut links = getifaddrs().into_iter().flatten();
    links
        .find(|link| has_one(link).is_some())
        .and_then(|link| if_nametoindex(link.interface_name.as_str()).ok())
        .unwrap_or(0)
}

pub fn maps_dir(pin_dir: &Path) -> PathBuf {
    pin_dir.join(format!("maps-{LAYOUT:08x}"))
}

fn program<'a>(ebpf: &'a mut Ebpf, hook: &'static str) -> Result<AtCgroup<'a>, ProgramsError> {
    AtCgroup::find(ebpf, hook).ok_or(ProgramsError::Missing { hook })
}

fn forget_live_sockets(ebpf: &mut Ebpf) -> Result<(), MapError> {
    let missing = || MapError::InvalidName {
        name: maps::LIVE_SOCKETS.into(),
    };
    let map = ebpf.map_mut(maps::LIVE_SOCKETS).ok_or_else(missing)?;
    let mut live: HashMap<&mut MapData, BackendKey, Live> = HashMap::try_from(map)?;
    let keys: Vec<BackendKey> = live.keys().collect::<Result<_, _>>()?;
    for key in keys {
        crate::maps::gone(live.remove(&key))?;
    }
    Ok(())
}

fn pinned_link(path: &Path) -> Result<Option<(OwnedFd, sys::LinkInfo)>, ProgramsError> {
    let link = match sys::obj_get(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(io_error("open", path))?,
    };
    let info = sys::link_info(link.as_fd()).map_err(io_error("inspect", path))?;
    Ok(Some((link, info)))
}

/// Under another name first: the rename replaces a link to another or a dead
/// cgroup at one instant.
fn pin(link: FdLink, hook: &'static str, path: &Path) -> Result<(), ProgramsError> {
    // bpffs takes no dots in names.
    let temporary = path.with_file_name(format!("{hook}-new"));
    gone(fs::remove_file(&temporary)).map_err(io_error("remove", &temporary))?;
    link.pin(&temporary).map_err(|error| ProgramsError::Pin {
        hook,
        source: Box::new(error),
    })?;
    fs::rename(&temporary, path).map_err(io_error("rename", &temporary))
}

fn require_bpffs(pin_dir: &Path) -> Result<(), ProgramsError> {
    let existing = pin_dir
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let kind = statfs::statfs(existing)
        .map_err(|errno| io_error("stat", existing)(errno.into()))?
        .filesystem_type();
    if kind != statfs::BPF_FS_MAGIC {
        return Err(ProgramsError::NotBpffs {
            path: existing.to_owned(),
        });
    }
    Ok(())
}

/// What is to be gone and is.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ProgramsError + use<> {
    let path = path.to_owned();
    move |source| ProgramsError::Io { step, path, source }
}
