//! Whether the node's mounts can do what a bind mount's propagation asks for.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use vetch_shim::protocol::Propagation;

use crate::failure::{Context, Failure};

/// Without this, mounts would silently not arrive. Words as containerd's.
pub fn check(source: &Path, wanted: Propagation) -> Result<(), Failure> {
    if wanted == Propagation::Private {
        return Ok(());
    }
    let step = || format!("mount source {}", source.display());
    // STATX_MNT_ID is of 5.8.
    let stat = statx(CWD, source, AtFlags::empty(), StatxFlags::MNT_ID).context(step)?;
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").context(step)?;
    let Some(mount) = find(&mountinfo, stat.stx_mnt_id) else {
        return Err(Failure(format!("{}: its mount is not listed", step())));
    };
    let lacking = match wanted {
        Propagation::Bidirectional if !mount.shared => "a shared",
        Propagation::HostToContainer if !mount.shared && !mount.slave => "a shared or slave",
        _ => return Ok(()),
    };
    Err(Failure(format!(
        "path {:?} is mounted on {:?} but it is not {lacking} mount",
        source, mount.point
    )))
}

#[derive(Debug, PartialEq)]
struct Mount<'a> {
    point: &'a str,
    shared: bool,
    slave: bool,
}

/// proc_pid_mountinfo(5): id, parent, device, root, point, options, then
/// optional fields up to a hyphen.
fn find(mountinfo: &str, id: u64) -> Option<Mount<'_>> {
    let id = id.to_string();
    let line = mountinfo
        .lines()
        .find(|line| line.split(' ').next() == Some(&id))?;
    let mut fields = line.split(' ').skip(4);
    let point = fields.next()?;
    let mut mount = Mount {
        point,
        shared: false,
        slave: false,
    };
    for field in fields.skip(1).take_while(|field| *field != "-") {
        mount.shared |= field.starts_with("shared:");
        mount.slave |= field.starts_with("master:");
    }
    Some(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_mount() {
        let text = "22 27 0:21 / /proc rw - proc proc rw\n\
                    2 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
                    31 27 0:22 / /sys rw master:4 propagate_from:2 - sysfs shared:9 rw\n\
                    32 27 0:23 / /mnt rw shared:5 master:6 - tmpfs t rw\n";
        let mount = |point, shared, slave| {
            Some(Mount {
                point,
                shared,
                slave,
            })
        };
        assert_eq!(find(text, 22), mount("/proc", false, false));
        assert_eq!(find(text, 2), mount("/", true, false));
        assert_eq!(find(text, 31), mount("/sys", false, true));
        assert_eq!(find(text, 32), mount("/mnt", true, true));
        assert_eq!(find(text, 3), None);
    }
}
