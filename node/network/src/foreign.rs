//! Network namespaces that another runtime made, attached because a CNI plugin asks.
//!
//! Their records say whose they are, so that the next daemon keeps them: only a DEL of theirs, or
//! a GC whose list has not got them, ends them. Where no daemon answers a DEL, the plugin leaves a
//! mark, `<state dir>/deleted/<sandbox id>`, and takes the link away; the records have one writer,
//! the daemon, which ends what is marked before it does anything else, and before an ADD.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use crate::{
    Error, IpamError, Network, PodOptions,
    ipam::{self, Wanted, io_error},
    link::{self, Pair},
    netns::Netns,
    route,
};

/// One namespace's place in one network, by CNI's primary key and the place of the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The name of the network's configuration.
    pub network: String,
    pub container_id: String,
    /// Of the link inside.
    pub ifname: String,
    /// As the runtime says it; empty where it does not know any more.
    pub netns: PathBuf,
}

impl Attachment {
    /// Names the record and the links. Follows from the primary key, whose parts may be long and
    /// have any dots.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.network, &self.container_id, &self.ifname] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let hash = hash.finalize();
        let hex: String = hash[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("cni-{hex}")
    }

    /// The namespace, as this process finds it without its caller.
    pub(crate) fn place(&self) -> PathBuf {
        visible(&self.netns).unwrap_or_else(|| self.netns.clone())
    }

    fn pair(&self) -> Pair {
        Pair::named(&self.id(), &self.ifname)
    }
}

/// An attached one, as CNI tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignPod {
    pub ips: Vec<IpAddr>,
    pub host_name: String,
    pub host_mac: [u8; 6],
    pub pod_mac: [u8; 6],
    pub mtu: u32,
}

impl ForeignPod {
    /// Where the pod sends what is for `address`'s family.
    pub fn gateway(address: IpAddr) -> IpAddr {
        link::gateway(address)
    }
}

impl Network {
    /// Connects the namespace at `netns`, which is `attachment.netns` as this process sees it.
    /// Again: the same addresses, and what is missing comes back.
    ///
    /// # Errors
    /// Among others where the namespace has the link's name or a default route from elsewhere, and
    /// where one of `ips` is no free address of the node's.
    pub async fn attach_foreign(
        &self,
        attachment: Attachment,
        netns: &Path,
        options: PodOptions,
        ips: Vec<IpAddr>,
    ) -> Result<ForeignPod, Error> {
        let (id, pair) = (attachment.id(), attachment.pair());
        self.check_namespace(&attachment, &pair, netns).await?;
        let wanted = Wanted {
            options,
            foreign: Some(attachment),
            ips,
        };
        let addresses = self.attach_as(&id, netns, wanted).await?;
        Ok(ForeignPod {
            ips: addresses.ips,
            host_name: pair.host_name,
            host_mac: pair.host_mac,
            pod_mac: pair.pod_mac,
            mtu: self.inner.mtu.get(),
        })
    }

    /// Before anything is changed: others' links and routes are not touched.
    async fn check_namespace(
        &self,
        attachment: &Attachment,
        pair: &Pair,
        path: &Path,
    ) -> Result<(), Error> {
        let inside = Netns::open(path)?.netlink()?;
        let netns = attachment.netns.clone();
        if inside.cookie() == self.inner.netlink.cookie() {
            return Err(Error::OwnNamespace { netns });
        }
        let found = link::by_name(&inside, &pair.pod_name).await?;
        if found.as_ref().is_some_and(|link| link.mac != pair.pod_mac) {
            let ifname = pair.pod_name.clone();
            return Err(Error::LinkTaken { netns, ifname });
        }
        let own = found.map(|link| link.index);
        let defaults = route::default_links(&inside).await?;
        if defaults.into_iter().any(|index| Some(index) != own) {
            return Err(Error::DefaultRoute { netns });
        }
        Ok(())
    }

    /// What is wrong with an attachment, in words; nothing if it is as it was made, with `ips`.
    pub async fn check_foreign(
        &self,
        attachment: &Attachment,
        netns: &Path,
        ips: &[IpAddr],
    ) -> Result<Vec<String>, Error> {
        let id = attachment.id();
        let record = {
            let id = id.clone();
            self.inner.ipam(move |ipam| ipam.get(&id).cloned()).await
        };
        let Some(record) = record else {
            return Ok(vec!["no address is recorded for it".to_owned()]);
        };
        let recorded = &record.addresses.ips;
        let mut wrong = Vec::new();
        for ip in recorded.iter().filter(|ip| !ips.contains(ip)) {
            wrong.push(format!("{ip} is recorded for it, and is not in prevResult"));
        }
        let pair = attachment.pair();
        let inside = Netns::open(netns)?.netlink()?;
        let Some((host, pod)) = self.inner.existing_pair(&pair, &inside).await? else {
            let name = &pair.pod_name;
            wrong.push(format!("its link {name} or the node's end of it is gone"));
            return Ok(wrong);
        };
        for link in [&host, &pod] {
            if !link.is_up {
                wrong.push(format!("the link {} is down", link.name));
            }
        }
        let has = link::addresses(&inside, pod.index).await?;
        let defaults = route::default_links(&inside).await?;
        let routed = route::pods(&self.inner.netlink).await?;
        for ip in recorded {
            if !has.contains(ip) {
                wrong.push(format!("{} has lost its address {ip}", pod.name));
            }
            if routed.get(ip) != Some(&host.index) {
                wrong.push(format!("the node's route to {ip} is gone"));
            }
        }
        if !defaults.contains(&pod.index) {
            wrong.push(format!("no default route leads to {}", pod.name));
        }
        if self.inner.attached.get(&id).is_none() {
            wrong.push("the node does not know that it is attached".to_owned());
        }
        Ok(wrong)
    }

    /// All that are recorded, with what names them.
    pub async fn foreign(&self) -> Vec<(String, Attachment)> {
        let list = |(id, attachment): (&String, &Attachment)| (id.clone(), attachment.clone());
        self.inner
            .ipam(move |ipam| ipam.foreign().map(list).collect())
            .await
    }

    /// Takes away the links of sandboxes that nothing is recorded of; answers how many there were.
    /// A record is there before its link and longer than it, so none is on its way.
    pub async fn remove_strays(&self) -> Result<usize, Error> {
        let links = link::list(&self.inner.netlink).await?;
        let names: HashSet<String> = self
            .inner
            .ipam(|ipam| ipam.sandboxes().map(|id| Pair::of(id).host_name).collect())
            .await;
        let mut removed = 0;
        for link in links {
            if link.is_veth && Pair::is_host_name(&link.name) && !names.contains(&link.name) {
                link::delete(&self.inner.netlink, &link).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The sandboxes whose end was asked for while no daemon answered.
    pub fn marked(&self) -> Result<Vec<String>, Error> {
        Ok(marked(&self.inner.state_dir)?)
    }

    /// Ends the sandbox if it is marked. Nobody may be attaching it meanwhile.
    pub async fn end_marked(&self, sandbox_id: &str) -> Result<(), Error> {
        let mark = marks(&self.inner.state_dir).join(sandbox_id);
        if !mark.exists() {
            return Ok(());
        }
        info!(sandbox_id, "its end was asked for while no daemon answered");
        self.detach(sandbox_id).await?;
        Ok(ipam::remove(&mark)?)
    }

    /// `live` with what is not the runtime's and goes on, after the ends that were asked for.
    pub(crate) async fn with_foreign(
        &self,
        live: &HashMap<String, Option<PathBuf>>,
    ) -> Result<HashMap<String, Option<PathBuf>>, Error> {
        for id in self.marked()? {
            self.end_marked(&id).await?;
        }
        let mut all = live.clone();
        for (id, attachment) in self.foreign().await {
            let netns = visible(&attachment.netns);
            if netns.is_none() {
                warn!(
                    container = attachment.container_id,
                    netns = %attachment.netns.display(),
                    "a namespace is gone whose end nobody asked for: its address stays taken until a CNI DEL or GC"
                );
            }
            all.insert(id, netns);
        }
        Ok(all)
    }
}

/// Where this process finds what a runtime calls `path`: its own mounts may be others, and the
/// machine's first process has the runtime's most likely.
fn visible(path: &Path) -> Option<PathBuf> {
    let inside = path.strip_prefix("/").ok()?;
    let by_first = Path::new("/proc/1/root").join(inside);
    [path.to_owned(), by_first]
        .into_iter()
        .find(|path| path.exists())
}

/// DEL without a daemon: marks the attachment as ended and takes its link away, in the network
/// namespace of the calling thread and inside its own. What is gone is fine. The address is free
/// when a daemon has seen the mark.
pub async fn detach_offline(state_dir: &Path, attachment: &Attachment) -> Result<(), Error> {
    let pair = attachment.pair();
    // First: killed after this, the daemon does the rest.
    mark(state_dir, &attachment.id())?;
    let node = Netns::current()?.netlink()?;
    if let Some(link) = link::by_name(&node, &pair.host_name).await? {
        link::delete(&node, &link).await?;
    }
    // The caller may be in another namespace than the node.
    let Ok(inside) = Netns::open(&attachment.netns).and_then(|netns| netns.netlink()) else {
        return Ok(());
    };
    match link::by_name(&inside, &pair.pod_name).await? {
        Some(link) if link.is_veth && link.mac == pair.pod_mac => {
            Ok(link::delete(&inside, &link).await?)
        }
        _ => Ok(()),
    }
}

fn marks(state_dir: &Path) -> PathBuf {
    state_dir.join("deleted")
}

/// Where no records are, as after a reboot, there is nothing to end.
fn mark(state_dir: &Path, id: &str) -> Result<(), IpamError> {
    if !state_dir.join("sandboxes").exists() {
        return Ok(());
    }
    let dir = marks(state_dir);
    fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
    let path = dir.join(id);
    File::create(&path)
        .and_then(|file| file.sync_all())
        .map_err(io_error("write", &path))?;
    ipam::sync_dir(&dir)
}

fn marked(state_dir: &Path) -> Result<Vec<String>, IpamError> {
    let dir = marks(state_dir);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", &dir)(error)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", &dir))?;
        ids.extend(entry.file_name().into_string().ok());
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(network: &str, container_id: &str, ifname: &str) -> Attachment {
        Attachment {
            network: network.into(),
            container_id: container_id.into(),
            ifname: ifname.into(),
            netns: "/run/netns/x".into(),
        }
    }

    #[test]
    fn ids_follow_from_the_primary_key_alone() {
        let one = attachment("net", "a.b", "eth0");
        let moved = Attachment {
            netns: "/elsewhere".into(),
            ..one.clone()
        };
        assert_eq!(one.id(), moved.id());
        for other in [
            attachment("net", "a", "b.eth0"),
            attachment("neta", ".b", "eth0"),
            attachment("net", "a.b", "eth1"),
            attachment("net2", "a.b", "eth0"),
        ] {
            assert_ne!(one.id(), other.id(), "{other:?}");
        }
        assert_eq!(one.id().len(), 36);
        let pair = one.pair();
        assert_eq!(pair.pod_name, "eth0");
        assert_eq!(pair.host_name, Pair::of(&one.id()).host_name);
    }

    #[test]
    fn marks_are_found_where_there_are_records() {
        let dir = tempfile::tempdir().unwrap();
        mark(dir.path(), "cni-a").unwrap();
        assert!(marked(dir.path()).unwrap().is_empty());
        assert!(!marks(dir.path()).exists(), "nothing is left behind");
        fs::create_dir(dir.path().join("sandboxes")).unwrap();
        for _ in 0..2 {
            mark(dir.path(), "cni-a").unwrap();
        }
        assert_eq!(marked(dir.path()).unwrap(), ["cni-a"]);
    }
}
