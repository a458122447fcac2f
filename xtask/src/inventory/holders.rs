//! Which BPF objects belong to a cluster, and which to nobody.
//!
//! An object is kept by descriptors of processes, and by links at cgroups; a link keeps its program
//! and that its maps. Pins need no look: what is pinned in a node's file system is a link at the
//! node's cgroup, what such a link uses, or a link at an interface, whose program shares maps with
//! those at the cgroup.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bpf::{Id, Kind, Object, Objects};
use crate::cgroup::Cgroup;
use crate::cluster::Cluster;
use crate::{machine, process};

/// The kernel frees objects some time after their last holder has gone.
const FREED: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    /// Comes first: an object that two hold is the cluster's.
    Cluster,
    Other,
}

/// The objects that the cluster's cgroups and processes keep.
pub fn own_objects(cluster: &Cluster) -> Result<Objects> {
    let (objects, held) = look(cluster)?;
    Ok(only(&objects, |id| held.get(&id) == Some(&Holder::Cluster)))
}

/// Those, and what nobody keeps and the kernel has all the same.
pub fn own_and_orphaned(cluster: &Cluster) -> Result<Objects> {
    let deadline = Instant::now() + FREED;
    loop {
        let (objects, held) = look(cluster)?;
        let orphaned = objects.0.keys().any(|id| !held.contains_key(id));
        if !orphaned || Instant::now() > deadline {
            return Ok(only(&objects, |id| held.get(&id) != Some(&Holder::Other)));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn only(objects: &Objects, wanted: impl Fn(Id) -> bool) -> Objects {
    let wanted = objects.0.iter().filter(|(id, _)| wanted(**id));
    Objects(wanted.map(|(id, object)| (*id, object.clone())).collect())
}

fn look(cluster: &Cluster) -> Result<(Objects, BTreeMap<Id, Holder>)> {
    // Objects first: what comes up between the two looks is not listed, instead of held by nobody.
    let objects = Objects::all()?;
    let own: BTreeSet<u64> = inodes(&cluster.cgroup).collect();
    let all: BTreeSet<u64> = inodes(&Cgroup::at(machine::cgroup_mount()?)).collect();
    let pids: BTreeSet<i32> = cluster
        .cgroup
        .subtree()
        .iter()
        .flat_map(|cgroup| cgroup.pids())
        .collect();
    let mut held = Vec::new();
    for (id, object) in &objects.0 {
        match object.cgroup {
            Some(cgroup) if own.contains(&cgroup) => held.push((*id, Holder::Cluster)),
            Some(cgroup) if all.contains(&cgroup) => held.push((*id, Holder::Other)),
            _ => {}
        }
    }
    for pid in process::all() {
        let holder = if pids.contains(&pid) {
            Holder::Cluster
        } else {
            Holder::Other
        };
        held.extend(descriptors(pid).into_iter().map(|id| (id, holder)));
    }
    let mut held = spread(&objects.0, held);
    let links = at_interfaces(&objects.0, &held);
    if !links.is_empty() {
        let known = held.into_iter().chain(links).collect();
        held = spread(&objects.0, known);
    }
    Ok((objects, held))
}

/// The links that nothing of their own says whose they are, by the maps of their programs.
fn at_interfaces(objects: &BTreeMap<Id, Object>, held: &BTreeMap<Id, Holder>) -> Vec<(Id, Holder)> {
    let uses = |id: &Id| objects.get(id).map(|object| object.uses.clone());
    let holder = |link: &Id| {
        let programs = uses(link)?.into_iter();
        let maps = programs.filter_map(|program| uses(&program)).flatten();
        maps.filter_map(|map| held.get(&map)).min().copied()
    };
    let links = objects.keys().filter(|id| id.kind == Kind::Link);
    links
        .filter(|link| !held.contains_key(link))
        .filter_map(|link| Some((*link, holder(link)?)))
        .collect()
}

/// Hands holds on to what the held objects use.
fn spread(objects: &BTreeMap<Id, Object>, mut held: Vec<(Id, Holder)>) -> BTreeMap<Id, Holder> {
    let mut holders = BTreeMap::new();
    while let Some((id, holder)) = held.pop() {
        if holders.get(&id).is_some_and(|known| *known <= holder) {
            continue;
        }
        holders.insert(id, holder);
        let uses = objects
            .get(&id)
            .map(|object| object.uses.as_slice())
            .unwrap_or_default();
        held.extend(uses.iter().map(|id| (*id, holder)));
    }
    holders
}

/// By which links name cgroups.
fn inodes(cgroup: &Cgroup) -> impl Iterator<Item = u64> {
    let all = cgroup.subtree().into_iter();
    all.filter_map(|cgroup| Some(fs::metadata(cgroup.path()).ok()?.ino()))
}

/// BPF objects that a process has descriptors of.
fn descriptors(pid: i32) -> Vec<Id> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter(|entry| {
            fs::read_link(entry.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("anon_inode:bpf"))
        })
        .filter_map(|entry| {
            let number = entry.file_name().into_string().ok()?;
            fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()
        })
        .flat_map(|info| ids(&info))
        .collect()
}

fn ids(info: &str) -> Vec<Id> {
    info.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            let kind = match key {
                "prog_id" => Kind::Program,
                "map_id" => Kind::Map,
                "link_id" => Kind::Link,
                _ => return None,
            };
            let number = value.trim().parse().ok()?;
            Some(Id { kind, number })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: Kind, number: u32) -> Id {
        Id { kind, number }
    }

    #[test]
    fn a_hold_reaches_what_is_used_and_the_clusters_wins() {
        let (link, program, map, shared) = (
            id(Kind::Link, 1),
            id(Kind::Program, 2),
            id(Kind::Map, 3),
            id(Kind::Map, 4),
        );
        let other = id(Kind::Program, 5);
        let object = |uses: &[Id]| Object {
            uses: uses.to_vec(),
            ..Object::default()
        };
        let orphan = id(Kind::Map, 6);
        let objects = BTreeMap::from([
            (link, object(&[program])),
            (program, object(&[map, shared])),
            (map, object(&[])),
            (shared, object(&[])),
            (other, object(&[shared])),
            (orphan, object(&[])),
        ]);
        for held in [
            vec![(link, Holder::Cluster), (other, Holder::Other)],
            vec![(other, Holder::Other), (link, Holder::Cluster)],
        ] {
            let holders = spread(&objects, held);
            for ours in [link, program, map, shared] {
                assert_eq!(holders[&ours], Holder::Cluster);
            }
            assert_eq!(holders[&other], Holder::Other);
            assert!(!holders.contains_key(&orphan));
        }
    }

    #[test]
    fn a_link_at_an_interface_is_whose_the_maps_of_its_program_are() {
        let (link, program, map) = (id(Kind::Link, 1), id(Kind::Program, 2), id(Kind::Map, 3));
        let (lost, lost_program) = (id(Kind::Link, 4), id(Kind::Program, 5));
        let object = |uses: &[Id]| Object {
            uses: uses.to_vec(),
            ..Object::default()
        };
        let objects = BTreeMap::from([
            (link, object(&[program])),
            (program, object(&[map])),
            (map, object(&[])),
            (lost, object(&[lost_program])),
            (lost_program, object(&[])),
        ]);
        for holder in [Holder::Cluster, Holder::Other] {
            let held = BTreeMap::from([(map, holder)]);
            assert_eq!(at_interfaces(&objects, &held), [(link, holder)]);
        }
        assert_eq!(at_interfaces(&objects, &BTreeMap::new()), []);
    }

    #[test]
    fn descriptors_say_what_they_are_of() {
        let info = "pos:\t0\nflags:\t02000002\nlink_type:\tcgroup\nlink_id:\t7\nprog_tag:\tab\nprog_id:\t12\n";
        assert_eq!(ids(info), [id(Kind::Link, 7), id(Kind::Program, 12)]);
        assert_eq!(ids("map_type:\t1\nmap_id:\t9\n"), [id(Kind::Map, 9)]);
        assert_eq!(ids("pos: 0\n"), []);
    }
}
