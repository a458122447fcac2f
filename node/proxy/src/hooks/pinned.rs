//! Programs at links by pinned links of the kernel's, tcx (6.6) and XDP (5.9):
//!
//! ```text
//! <pin_dir>/links/<program>-<ifindex>
//! ```
//! The pin holds the program at its place, not the daemon.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use super::plan::{Direction, Place, Program};
use crate::sys;

const NEW: &str = "-new";

fn attach_type(program: Program) -> u32 {
    match (program, program.direction()) {
        (Program::FromWire, _) => sys::BPF_XDP,
        (_, Direction::Ingress) => sys::BPF_TCX_INGRESS,
        (_, Direction::Egress) => sys::BPF_TCX_EGRESS,
    }
}

pub fn pin(dir: &Path, place: Place) -> PathBuf {
    dir.join(format!("{}-{}", place.program.name(), place.ifindex))
}

/// The place a pin's name says; `None` for pins that are not of this kind.
fn place(name: &str) -> Option<Place> {
    let (program, ifindex) = name.split_once('-')?;
    Some(Place {
        program: *Program::ALL.iter().find(|known| known.name() == program)?,
        ifindex: ifindex.parse().ok()?,
    })
}

/// What the pins hold, as [`list`] has it, after what an earlier daemon had begun is
/// brought to its end.
pub fn find(dir: &Path, xdp: impl Fn(u32) -> Option<u32>) -> io::Result<Vec<(Place, Option<u32>)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string());
    }
    for name in &names {
        if let Some(finished) = name.strip_suffix(NEW)
            && place(finished).is_some()
        {
            finish(dir, finished, names.iter().any(|name| name == finished))?;
        }
    }
    list(dir, xdp)
}

/// With the program's number; `None` for one that holds nothing at its place in this
/// network namespace: its link vanished, or is another's. `xdp` says which program is
/// at a link's driver. Changes nothing.
pub fn list(dir: &Path, xdp: impl Fn(u32) -> Option<u32>) -> io::Result<Vec<(Place, Option<u32>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        if let Some(place) = place(&name) {
            found.push((place, held(dir, place, &xdp)?));
        }
    }
    Ok(found)
}

/// A daemon was killed between the two steps of [`attach`].
fn finish(dir: &Path, name: &str, is_there: bool) -> io::Result<()> {
    let new = dir.join(format!("{name}{NEW}"));
    if is_there {
        remove(&new)
    } else {
        fs::rename(&new, dir.join(name))
    }
}

fn held(dir: &Path, place: Place, xdp: impl Fn(u32) -> Option<u32>) -> io::Result<Option<u32>> {
    let link = sys::obj_get(&pin(dir, place))?;
    let info = sys::link_info(link.as_fd())?;
    if info.interface() != Some((place.ifindex, attach_type(place.program))) {
        return Ok(None);
    }
    // Numbers of links are of the machine, those of interfaces of a namespace.
    if place.program == Program::FromWire {
        return Ok(xdp(place.ifindex).filter(|id| *id == info.program_id));
    }
    let here = match sys::tcx_links(place.ifindex, attach_type(place.program)) {
        Ok(links) => links.contains(&info.id),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => false,
        Err(error) => return Err(error),
    };
    Ok(here.then_some(info.program_id))
}

/// Behind what is there of others; at a driver, where there is room for one,
/// not if there is another's. `flags` are the kind's own.
pub fn attach(dir: &Path, place: Place, program: BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    let link = sys::link_attach(program, place.ifindex, attach_type(place.program), flags)?;
    let path = pin(dir, place);
    let mut new = path.clone().into_os_string();
    new.push(NEW);
    let new = PathBuf::from(new);
    remove(&new)?;
    sys::obj_pin(&link, &new)?;
    // Over a pin that holds nothing any more.
    fs::rename(&new, &path)
}

pub fn replace(dir: &Path, place: Place, program: BorrowedFd<'_>) -> io::Result<()> {
    sys::link_update(sys::obj_get(&pin(dir, place))?, program)
}

pub fn detach(dir: &Path, place: Place) -> io::Result<()> {
    let path = pin(dir, place);
    // At once, where the next one may wait for the place.
    if place.program == Program::FromWire
        && let Ok(link) = sys::obj_get(&path)
    {
        sys::link_detach(link)?;
    }
    remove(&path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pins_name_is_its_place() {
        for program in Program::ALL {
            let at = Place {
                program,
                ifindex: 12,
            };
            let path = pin(Path::new("/pins"), at);
            assert_eq!(place(path.file_name().unwrap().to_str().unwrap()), Some(at));
        }
        for other in [
            "connect4",
            "from_pod",
            "from_pod-",
            "from_pod-1-new",
            "to_moon-1",
        ] {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
