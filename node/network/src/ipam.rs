//! Which sandbox has which addresses, one of each family that the node has a
//! CIDR of: one durable record per sandbox, which keeps what it has when the
//! CIDRs become others.
//!
//! `<dir>/sandboxes/<sandbox id>` holds the sandbox's addresses. It is written
//! and synced before they are handed out, and freeing is one rename to
//! `<dir>/freed/<first address>`, after links of the same file for the others,
//! so a crash between any two steps leaves an address either recorded or free,
//! never both: a freed mark beside a record counts for nothing. The
//! modification time of a freed record orders reuse: the address freed last is
//! used again last.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Attachment, HostPort, PodAddresses, PodOptions, link::POD_LINK};

#[cfg(test)]
mod tests;

/// So many freed addresses of a family are kept apart at most.
const REUSED_FROM: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    #[error("the node has no pod CIDR yet: Node.spec.podCIDRs is empty")]
    NoPodCidr,
    #[error("no free address left in {cidrs:?}: {used} are held by sandboxes")]
    Full { cidrs: Vec<IpNet>, used: usize },
    #[error(
        "{id:?} cannot name a record: a sandbox id is 1 to 128 letters, digits, '-', '_' or '.'"
    )]
    SandboxId { id: String },
    #[error("host port {port} is taken: sandbox {holder} has {has}")]
    HostPort {
        port: HostPort,
        holder: String,
        has: HostPort,
    },
    #[error(
        "{address} cannot be a pod's on this node: its pods have one address of each of {cidrs:?}"
    )]
    Unfit { address: IpAddr, cidrs: Vec<IpNet> },
    #[error("{address} is taken by another sandbox")]
    Taken { address: IpAddr },
    #[error("the sandbox has {has:?} and was asked to have {asked:?}: addresses stay as they are")]
    Others {
        has: Vec<IpAddr>,
        asked: Vec<IpAddr>,
    },
    #[error("{path} is in use by another process")]
    Locked { path: PathBuf },
    #[error("cannot {step} {path}")]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not an address record")]
    Record {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "{address} is recorded for two sandboxes, {first} and {second}: remove one of the records in {dir}"
    )]
    Duplicate {
        address: IpAddr,
        first: String,
        second: String,
        dir: PathBuf,
    },
}

/// What is recorded of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    #[serde(flatten)]
    pub addresses: PodAddresses,
    #[serde(default)]
    pub options: PodOptions,
    /// Of a namespace that is not this node's runtime's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Attachment>,
}

impl Record {
    /// Of the link inside.
    pub fn ifname(&self) -> &str {
        ifname(self.foreign.as_ref())
    }
}

/// What a sandbox is to get.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub options: PodOptions,
    pub foreign: Option<Attachment>,
    /// These and no others, of their families.
    pub ips: Vec<IpAddr>,
}

impl Wanted {
    pub fn ifname(&self) -> &str {
        ifname(self.foreign.as_ref())
    }
}

fn ifname(foreign: Option<&Attachment>) -> &str {
    foreign.map_or(POD_LINK, |attachment| &attachment.ifname)
}

#[derive(Debug)]
pub struct Ipam {
    sandboxes: PathBuf,
    freed_dir: PathBuf,
    /// Keeps a second daemon off the same records for as long as it is open.
    _lock: File,
    cidrs: Vec<IpNet>,
    records: HashMap<String, Record>,
    used: HashSet<IpAddr>,
    /// The oldest first.
    freed: VecDeque<IpAddr>,
}

impl Ipam {
    pub fn open(dir: &Path) -> Result<Self, IpamError> {
        let sandboxes = dir.join("sandboxes");
        let freed_dir = dir.join("freed");
        for path in [&sandboxes, &freed_dir] {
            fs::create_dir_all(path).map_err(io_error("create", path))?;
        }
        let lock = lock(&dir.join("lock"))?;
        let records = read_records(&sandboxes)?;
        let used = addresses_once(&records, dir)?;
        let freed = read_freed(&freed_dir, &used)?;
        Ok(Self {
            sandboxes,
            freed_dir,
            _lock: lock,
            cidrs: Vec::new(),
            records,
            used,
            freed,
        })
    }

    /// The family of the first one comes first in what sandboxes get. Records
    /// of sandboxes outside the new CIDRs stay as they are.
    pub fn set_cidrs(&mut self, cidrs: &[IpNet]) {
        self.cidrs = cidrs.iter().map(IpNet::trunc).collect();
    }

    pub fn has_cidrs(&self) -> bool {
        !self.cidrs.is_empty()
    }

    pub fn get(&self, sandbox_id: &str) -> Option<&Record> {
        self.records.get(sandbox_id)
    }

    pub fn sandboxes(&self) -> impl Iterator<Item = &String> {
        self.records.keys()
    }

    /// The records of namespaces that are not this node's runtime's.
    pub fn foreign(&self) -> impl Iterator<Item = (&String, &Attachment)> {
        let all = self.records.iter();
        all.filter_map(|(id, record)| Some((id, record.foreign.as_ref()?)))
    }

    /// Each sandbox's addresses.
    pub fn addresses(&self) -> HashMap<String, PodAddresses> {
        let record = |(id, record): (&String, &Record)| (id.clone(), record.addresses.clone());
        self.records.iter().map(record).collect()
    }

    /// The sandbox's addresses: the recorded ones, or free ones recorded now.
    pub fn allocate(
        &mut self,
        sandbox_id: &str,
        wanted: Wanted,
    ) -> Result<PodAddresses, IpamError> {
        let Wanted {
            options,
            foreign,
            ips,
        } = wanted;
        self.check_host_ports(sandbox_id, &options.host_ports)?;
        if let Some(record) = self.records.get_mut(sandbox_id) {
            let has = &record.addresses.ips;
            if !ips.iter().all(|asked| has.contains(asked)) {
                return Err(IpamError::Others {
                    has: has.clone(),
                    asked: ips,
                });
            }
            if record.options != options || record.foreign != foreign {
                let changed = Record {
                    options,
                    foreign,
                    ..record.clone()
                };
                write_synced(&self.sandboxes, sandbox_id, &changed)?;
                *record = changed;
            }
            return Ok(record.addresses.clone());
        }
        check_id(sandbox_id)?;
        let addresses = PodAddresses {
            ips: self.choose(&ips)?,
        };
        let record = Record {
            addresses: addresses.clone(),
            options,
            foreign,
        };
        write_synced(&self.sandboxes, sandbox_id, &record)?;
        self.used.extend(&addresses.ips);
        self.records.insert(sandbox_id.to_owned(), record);
        for address in &addresses.ips {
            if let Some(at) = self.freed.iter().position(|freed| freed == address) {
                self.freed.remove(at);
                remove(&self.freed_dir.join(address.to_string()))?;
            }
        }
        Ok(addresses)
    }

    /// Frees the sandbox's addresses; a sandbox without any is fine.
    pub fn free(&mut self, sandbox_id: &str) -> Result<(), IpamError> {
        let Some(Record { addresses, .. }) = self.records.get(sandbox_id).cloned() else {
            return Ok(());
        };
        let record = self.sandboxes.join(sandbox_id);
        // The time of the change of ownership, not of the allocation.
        File::options()
            .append(true)
            .open(&record)
            .and_then(|file| file.set_modified(SystemTime::now()))
            .map_err(io_error("touch", &record))?;
        let Some((first, others)) = addresses.ips.split_first() else {
            return remove(&record);
        };
        for address in others {
            let freed = self.freed_dir.join(address.to_string());
            remove(&freed)?;
            fs::hard_link(&record, &freed).map_err(io_error("link", &freed))?;
        }
        let freed = self.freed_dir.join(first.to_string());
        fs::rename(&record, &freed).map_err(io_error("rename", &record))?;
        sync_dir(&self.sandboxes)?;
        sync_dir(&self.freed_dir)?;
        self.records.remove(sandbox_id);
        for address in &addresses.ips {
            self.used.remove(address);
            self.freed.push_back(*address);
        }
        Ok(())
    }

    fn check_host_ports(&self, sandbox_id: &str, wanted: &[HostPort]) -> Result<(), IpamError> {
        let others = self.records.iter().filter(|(id, _)| *id != sandbox_id);
        for (holder, record) in others {
            for has in &record.options.host_ports {
                if let Some(port) = wanted.iter().find(|port| port.collides(has)) {
                    return Err(IpamError::HostPort {
                        port: *port,
                        holder: holder.clone(),
                        has: *has,
                    });
                }
            }
        }
        Ok(())
    }

    /// One address of each family: that which is asked for, or a free one.
    fn choose(&self, asked: &[IpAddr]) -> Result<Vec<IpAddr>, IpamError> {
        let first = self.cidrs.first().ok_or(IpamError::NoPodCidr)?;
        let is_v4 = first.addr().is_ipv4();
        let families = [is_v4, !is_v4].map(|is_v4| {
            let own = self.cidrs.iter().copied();
            own.filter(|cidr| cidr.addr().is_ipv4() == is_v4)
                .collect::<Vec<_>>()
        });
        let families = families.iter().filter(|cidrs| !cidrs.is_empty());
        let chosen = families.map(|cidrs| {
            let is_v4 = cidrs[0].addr().is_ipv4();
            let mut asked = asked.iter().filter(|ip| ip.is_ipv4() == is_v4);
            match asked.next() {
                Some(address) => self.exactly(*address, cidrs),
                None => self.free_of(cidrs),
            }
        });
        let chosen = chosen.collect::<Result<Vec<_>, _>>()?;
        match asked.iter().find(|address| !chosen.contains(address)) {
            None => Ok(chosen),
            Some(address) => Err(self.unfit(*address)),
        }
    }

    fn exactly(&self, address: IpAddr, cidrs: &[IpNet]) -> Result<IpAddr, IpamError> {
        if !cidrs.iter().any(|cidr| is_usable(cidr, address)) {
            return Err(self.unfit(address));
        }
        if self.used.contains(&address) {
            return Err(IpamError::Taken { address });
        }
        Ok(address)
    }

    fn unfit(&self, address: IpAddr) -> IpamError {
        let cidrs = self.cidrs.clone();
        IpamError::Unfit { address, cidrs }
    }

    /// Of CIDRs of one family.
    fn free_of(&self, cidrs: &[IpNet]) -> Result<IpAddr, IpamError> {
        let of_these = |address: &&IpAddr| cidrs.iter().any(|cidr| is_usable(cidr, **address));
        let freed: HashSet<&IpAddr> = self.freed.iter().filter(of_these).collect();
        let oldest = || self.freed.iter().find(of_these).copied();
        let fresh = || {
            let mut all = cidrs.iter().flat_map(usable);
            all.find(|address| !self.used.contains(address) && !freed.contains(address))
        };
        // An IPv6 range never comes to its end.
        let found = if freed.len() < REUSED_FROM {
            fresh().or_else(oldest)
        } else {
            oldest()
        };
        found.ok_or_else(|| {
            let held = self.used.iter();
            IpamError::Full {
                cidrs: cidrs.to_vec(),
                used: held
                    .filter(|address| cidrs.iter().any(|cidr| cidr.contains(*address)))
                    .count(),
            }
        })
    }
}

/// Forgets all records. Fails while a daemon has them open.
pub fn remove_all(dir: &Path) -> Result<(), IpamError> {
    if !dir.exists() {
        return Ok(());
    }
    let _lock = lock(&dir.join("lock"))?;
    fs::remove_dir_all(dir).map_err(io_error("remove", dir))
}

/// The addresses of a CIDR that a pod may have: not the network's, which is any
/// router's in IPv6, the broadcast's or the first, which is kept for the node.
fn usable(cidr: &IpNet) -> impl Iterator<Item = IpAddr> + use<> {
    // Of IPv4 already without the network's and the broadcast's.
    cidr.hosts().skip(match cidr {
        _ if is_small(cidr) => 0,
        IpNet::V4(_) => 1,
        IpNet::V6(_) => 2,
    })
}

fn is_usable(cidr: &IpNet, address: IpAddr) -> bool {
    let reserved = || {
        let is_end = address == cidr.network() || address == cidr.broadcast();
        match cidr {
            IpNet::V4(_) => is_end || cidr.hosts().next() == Some(address),
            IpNet::V6(_) => cidr.hosts().take(2).any(|own| own == address),
        }
    };
    cidr.contains(&address) && (is_small(cidr) || !reserved())
}

/// Of one or two addresses: all are pods'.
fn is_small(cidr: &IpNet) -> bool {
    cidr.prefix_len() >= cidr.max_prefix_len() - 1
}

fn check_id(id: &str) -> Result<(), IpamError> {
    let fits = (1..=128).contains(&id.len())
        && !id.starts_with('.')
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits {
        Ok(())
    } else {
        Err(IpamError::SandboxId { id: id.to_owned() })
    }
}

fn lock(path: &Path) -> Result<File, IpamError> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(io_error("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(IpamError::Locked { path: path.into() }),
        Err(TryLockError::Error(source)) => Err(IpamError::Io {
            step: "lock",
            path: path.into(),
            source,
        }),
    }
}

fn read_records(dir: &Path) -> Result<HashMap<String, Record>, IpamError> {
    let mut records = HashMap::new();
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let path = entry.map_err(io_error("list", dir))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') {
            // A record that was never renamed into place: its address was not handed out.
            remove(&path)?;
            continue;
        }
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        let record =
            serde_json::from_slice(&bytes).map_err(|source| IpamError::Record { path, source })?;
        records.insert(name, record);
    }
    Ok(records)
}

fn addresses_once(
    records: &HashMap<String, Record>,
    dir: &Path,
) -> Result<HashSet<IpAddr>, IpamError> {
    let mut holders: HashMap<IpAddr, &String> = HashMap::new();
    for (id, record) in records {
        for address in &record.addresses.ips {
            if let Some(first) = holders.insert(*address, id) {
                return Err(IpamError::Duplicate {
                    address: *address,
                    first: first.clone(),
                    second: id.clone(),
                    dir: dir.into(),
                });
            }
        }
    }
    Ok(holders.into_keys().collect())
}

fn read_freed(dir: &Path, used: &HashSet<IpAddr>) -> Result<VecDeque<IpAddr>, IpamError> {
    let mut freed = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let entry = entry.map_err(io_error("list", dir))?;
        let path = entry.path();
        let address = entry.file_name().to_string_lossy().parse::<IpAddr>();
        match address {
            Ok(address) if !used.contains(&address) => {
                let time = entry
                    .metadata()
                    .and_then(|meta| meta.modified())
                    .map_err(io_error("stat", &path))?;
                freed.push((time, address));
            }
            // Taken again before the crash, or not ours to read.
            _ => remove(&path)?,
        }
    }
    freed.sort_unstable();
    Ok(freed.into_iter().map(|(_, address)| address).collect())
}

fn write_synced(dir: &Path, name: &str, record: &Record) -> Result<(), IpamError> {
    let temporary = dir.join(format!(".{name}"));
    let path = dir.join(name);
    let bytes = serde_json::to_vec(record).map_err(|source| IpamError::Record {
        path: path.clone(),
        source,
    })?;
    File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        })
        .map_err(io_error("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(io_error("rename", &temporary))?;
    sync_dir(dir)
}

pub fn sync_dir(dir: &Path) -> Result<(), IpamError> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(io_error("sync", dir))
}

pub fn remove(path: &Path) -> Result<(), IpamError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

pub fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IpamError + use<> {
    let path = path.to_owned();
    move |source| IpamError::Io { step, path, source }
}
