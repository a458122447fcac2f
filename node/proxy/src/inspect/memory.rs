//! The maps themselves: how large they are and how full.

use std::{collections::BTreeMap, fs, io, os::fd::AsFd as _, path::Path};

use aya::maps::{MapError, MapInfo, MapType};
use serde::Serialize;
use vetch_ebpf_common::maps;

use crate::{diff::Current, maps::MapsError, sys};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    pub maps: Vec<MemoryMap>,
    /// Refused or dropped, by reason.
    pub reasons: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryMap {
    pub name: String,
    /// As bpftool names it.
    #[serde(rename = "type")]
    pub kind: String,
    pub max_entries: u32,
    /// None for arrays that are always full, for buffers, and for what sockets
    /// keep.
    pub used_entries: Option<u32>,
    /// What the kernel holds for it now (`memlock` in fdinfo); one that is not
    /// preallocated grows.
    pub memory_bytes: Option<u64>,
}

/// Every map pinned in the directory, by name.
pub fn read(maps_dir: &Path, current: &Current) -> Result<Vec<MemoryMap>, MapsError> {
    let list_error = |source| MapsError::List {
        path: maps_dir.to_owned(),
        source,
    };
    let mut read = Vec::new();
    for entry in fs::read_dir(maps_dir).map_err(list_error)? {
        let path = entry.map_err(list_error)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        read.push(
            map(&path, &name, current).map_err(|source| MapsError::Inspect {
                name: name.into_owned(),
                source,
            })?,
        );
    }
    read.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(read)
}

fn map(path: &Path, name: &str, current: &Current) -> io::Result<MemoryMap> {
    let info = MapInfo::from_pin(path).map_err(io_error)?;
    let kind = info.map_type().map_err(io_error)?;
    let fd = info.fd().map_err(io_error)?;
    let used_entries = match kind {
        MapType::Array | MapType::PerCpuArray => used_of_array(name, current),
        // Neither has keys of its own.
        MapType::RingBuf | MapType::SkStorage => None,
        _ => Some(sys::count_keys(
            fd.as_fd(),
            info.key_size(),
            info.max_entries(),
        )?),
    };
    Ok(MemoryMap {
        name: name.to_owned(),
        kind: kind_name(kind),
        max_entries: info.max_entries(),
        used_entries,
        memory_bytes: sys::memlock(fd.as_fd())?,
    })
}

/// What the frontends lead to.
fn used_of_array(name: &str, current: &Current) -> Option<u32> {
    let used = match name {
        maps::SERVICES => current.services.len(),
        maps::SLOTS => current
            .services
            .values()
            .map(|target| target.cluster.len() + target.local.len())
            .sum(),
        _ => return None,
    };
    u32::try_from(used).ok()
}

fn kind_name(kind: MapType) -> String {
    let name = match kind {
        MapType::Array => "array",
        MapType::Hash => "hash",
        MapType::LpmTrie => "lpm_trie",
        MapType::LruHash => "lru_hash",
        MapType::PerCpuArray => "percpu_array",
        MapType::PerCpuHash => "percpu_hash",
        MapType::RingBuf => "ringbuf",
        MapType::SkStorage => "sk_storage",
        other => return format!("{other:?}"),
    };
    name.to_owned()
}

fn io_error(error: MapError) -> io::Error {
    io::Error::other(error)
}
