//! The kernel's list of BPF objects: the door to bpf(2).
//!
//! Only the few commands that list objects are here. Structures are read as bytes at the offsets of
//! linux/bpf.h, which the kernel never changes; all of them are there since 5.8.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Program,
    Map,
    Link,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub kind: Kind,
    pub number: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    pub name: String,
    /// What it keeps alive: a link its program, a program its maps.
    pub uses: Vec<Id>,
    /// The cgroup that a link is at: the inode of its directory.
    pub cgroup: Option<u64>,
}

/// Objects of a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects(pub BTreeMap<Id, Object>);

impl Kind {
    const ALL: [Kind; 3] = [Kind::Program, Kind::Map, Kind::Link];

    pub fn word(self) -> &'static str {
        match self {
            Kind::Program => "program",
            Kind::Map => "map",
            Kind::Link => "link",
        }
    }

    /// `BPF_*_GET_NEXT_ID` and `BPF_*_GET_FD_BY_ID`.
    fn commands(self) -> (libc::c_long, libc::c_long) {
        match self {
            Kind::Program => (11, 13),
            Kind::Map => (12, 14),
            Kind::Link => (31, 30),
        }
    }
}

impl Objects {
    /// Everything that this kernel has.
    pub fn all() -> Result<Objects> {
        let mut all = BTreeMap::new();
        for kind in Kind::ALL {
            for id in ids(kind)? {
                // It may have gone meanwhile.
                if let Some(object) = describe(id)? {
                    all.insert(id, object);
                }
            }
        }
        Ok(Objects(all))
    }

    /// Those of them that the kernel still has.
    pub fn still_there(&self) -> Result<Vec<Id>> {
        let mut left = Vec::new();
        for id in self.0.keys() {
            if open(*id)?.is_some() {
                left.push(*id);
            }
        }
        Ok(left)
    }
}

fn ids(kind: Kind) -> Result<Vec<Id>> {
    let mut found = Vec::new();
    let mut attributes = Attributes::default();
    while call(kind.commands().0, &mut attributes)
        .or_else(missing)
        .with_context(|| format!("list BPF {}s", kind.word()))?
        .is_some()
    {
        let number = attributes.u32_at(4);
        found.push(Id { kind, number });
        attributes = Attributes::default();
        attributes.put(0, &number.to_ne_bytes());
    }
    Ok(found)
}

fn open(id: Id) -> Result<Option<OwnedFd>> {
    let mut attributes = Attributes::default();
    attributes.put(0, &id.number.to_ne_bytes());
    let fd = call(id.kind.commands().1, &mut attributes)
        .or_else(missing)
        .with_context(|| format!("open BPF {} {}", id.kind.word(), id.number))?;
    let Some(fd) = fd else { return Ok(None) };
    let fd = i32::try_from(fd)?;
    #[expect(unsafe_code, reason = "the kernel hands descriptors out as numbers")]
    // SAFETY: the call succeeded, so the number is a new descriptor that nobody else knows.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(Some(fd))
}

fn describe(id: Id) -> Result<Option<Object>> {
    let Some(fd) = open(id)? else { return Ok(None) };
    let mut info = [0_u8; 256];
    let mut maps = [0_u8; 4 * MAPS];
    info_of(id.kind, &fd, &mut info, &mut maps)
        .with_context(|| format!("look at BPF {} {}", id.kind.word(), id.number))?;
    let text = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .trim_end_matches('\0')
            .to_owned()
    };
    let number =
        |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
    Ok(Some(match id.kind {
        Kind::Program => Object {
            name: text(&info[64..80]),
            uses: maps
                .chunks_exact(4)
                .take((number(52) as usize).min(MAPS))
                .map(|bytes| Id {
                    kind: Kind::Map,
                    number: u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
                })
                .collect(),
            cgroup: None,
        },
        Kind::Map => Object {
            name: text(&info[24..40]),
            ..Object::default()
        },
        Kind::Link => {
            const CGROUP: u32 = 3;
            let cgroup = u64::from(number(16)) | u64::from(number(20)) << 32;
            Object {
                name: format!("of type {}", number(0)),
                uses: vec![Id {
                    kind: Kind::Program,
                    number: number(8),
                }],
                cgroup: (number(0) == CGROUP && cfg!(target_endian = "little")).then_some(cgroup),
            }
        }
    }))
}

/// Maps of one program that are told.
const MAPS: usize = 64;

/// What bpf(2) takes and gives: union bpf_attr.
#[derive(Debug)]
#[repr(align(8))]
struct Attributes([u8; 128]);

impl Default for Attributes {
    fn default() -> Attributes {
        Attributes([0; 128])
    }
}

impl Attributes {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

fn missing(error: io::Error) -> io::Result<Option<i64>> {
    match error.raw_os_error() {
        Some(libc::ENOENT) => Ok(None),
        _ => Err(error),
    }
}

fn call(command: libc::c_long, attributes: &mut Attributes) -> io::Result<Option<i64>> {
    let size = std::mem::size_of::<Attributes>();
    #[expect(unsafe_code, reason = "there is no safe wrapper of bpf(2)")]
    // SAFETY: the attributes are as long as said and live through the call, and so does all they
    // point to: only `info_of` passes pointers, to arrays of the lengths it names, which it borrows.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.0.as_mut_ptr(), size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Some(result))
}

/// `BPF_OBJ_GET_INFO_BY_FD`: fills `info`, and for programs `maps` with their ids.
fn info_of(
    kind: Kind,
    fd: &OwnedFd,
    info: &mut [u8; 256],
    maps: &mut [u8; 4 * MAPS],
) -> io::Result<()> {
    const COMMAND: libc::c_long = 15;
    if kind == Kind::Program {
        // nr_map_ids and map_ids: how much may be written, and where to.
        info[52..56].copy_from_slice(&(MAPS as u32).to_ne_bytes());
        info[56..64].copy_from_slice(&(maps.as_mut_ptr() as u64).to_ne_bytes());
    }
    let mut attributes = Attributes::default();
    attributes.put(0, &fd.as_raw_fd().to_ne_bytes());
    attributes.put(4, &(info.len() as u32).to_ne_bytes());
    attributes.put(8, &(info.as_mut_ptr() as u64).to_ne_bytes());
    call(COMMAND, &mut attributes).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root, as the whole of xtask does.
    #[test]
    fn the_kernels_lists_can_be_read() {
        let all = Objects::all().unwrap();
        for (id, object) in &all.0 {
            assert!(id.number > 0);
            assert!(object.uses.is_empty() || id.kind != Kind::Map);
        }
        let nothing = Objects(BTreeMap::from([(
            Id {
                kind: Kind::Map,
                number: u32::MAX,
            },
            Object::default(),
        )]));
        assert_eq!(nothing.still_there().unwrap(), []);
    }
}
