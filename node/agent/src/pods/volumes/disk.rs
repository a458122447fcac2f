//! A file system on a block device of the node's: found, made where there is none, checked and mounted,
//! as the kubelet does it for `local` volumes.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::PoisonError;

use rustix::mount::{MountFlags, mount};

use super::{VolumeError, mounts};
use locks::Locks;

mod locks;

/// Made where neither the volume nor the device says another one.
const DEFAULT: &str = "ext4";
/// blkid's, for a device on which it knows nothing.
const NOTHING_FOUND: i32 = 2;
/// fsck's: what was wrong stays so.
const UNCORRECTED: i32 = 4;

/// Two pods of one volume must not both find it empty. Nobody waits for another device: making and checking
/// have no limit of time.
static ONE_AT_A_TIME: Locks = Locks::new();

/// What is on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Nothing,
    FileSystem(String),
    /// Partitions, by their table's name.
    Partitions(String),
}

/// What is to be done before it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    kind: String,
    make: bool,
    check: bool,
}

/// Blocks on disks. `kind` is what the volume asks for; `data` are options of its own. One that is mounted
/// there stays.
pub fn mount_at(
    device: &Path,
    target: &Path,
    kind: Option<&str>,
    flags: MountFlags,
    data: &[String],
) -> Result<(), VolumeError> {
    if mounts::is_mount_point(target) {
        return Ok(());
    }
    let lock = ONE_AT_A_TIME.of(locks::number(device)?);
    let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let refused = |what| VolumeError::Disk {
        path: device.to_owned(),
        what,
    };
    let read_only = flags.contains(MountFlags::RDONLY);
    let plan = plan(&content(device)?, kind, read_only).map_err(refused)?;
    if plan.make {
        make(device, &plan.kind)?;
    }
    if plan.check {
        check(device)?;
    }
    fs::create_dir_all(target).map_err(VolumeError::io("making", target))?;
    let data = CString::new(data.join(",")).map_err(|_| refused("an option has a zero".into()))?;
    let data = Some(data.as_c_str()).filter(|data| !data.is_empty());
    mount(device, target, plan.kind.as_str(), flags, data)
        .map_err(VolumeError::io("mounting at", target))
}

fn plan(content: &Content, wanted: Option<&str>, read_only: bool) -> Result<Plan, String> {
    let wanted = wanted.filter(|kind| !kind.is_empty());
    let is_name = |kind: &str| kind.chars().all(|c| c.is_ascii_alphanumeric());
    if let Some(kind) = wanted.filter(|kind| !is_name(kind)) {
        return Err(format!("{kind:?} is no type of a file system"));
    }
    match content {
        Content::Partitions(table) => Err(format!(
            "has partitions ({table}), and no file system of its own"
        )),
        Content::Nothing if read_only => {
            Err("has no file system, and none is made by a volume that is only read".into())
        }
        Content::Nothing => Ok(Plan {
            kind: wanted.unwrap_or(DEFAULT).to_owned(),
            make: true,
            check: false,
        }),
        Content::FileSystem(found) => match wanted {
            Some(wanted) if wanted != found => Err(format!(
                "already contains {found}, and the volume wants {wanted}"
            )),
            _ => Ok(Plan {
                kind: found.clone(),
                make: false,
                check: !read_only,
            }),
        },
    }
}

fn content(device: &Path) -> Result<Content, VolumeError> {
    let asked = ["-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export"];
    let output = run(device, "blkid", &asked)?;
    match output.status.code() {
        Some(0) => Ok(parse(&String::from_utf8_lossy(&output.stdout))),
        Some(NOTHING_FOUND) => Ok(Content::Nothing),
        _ => Err(failed(device, "blkid", &output)),
    }
}

/// Lines of `NAME=value`.
fn parse(exported: &str) -> Content {
    let field = |name: &str| {
        let mut fields = exported.lines().filter_map(|line| line.split_once('='));
        let found = fields.find(|(known, value)| *known == name && !value.is_empty());
        found.map(|(_, value)| value.to_owned())
    };
    match (field("TYPE"), field("PTTYPE")) {
        (Some(kind), _) => Content::FileSystem(kind),
        (None, Some(table)) => Content::Partitions(table),
        (None, None) => Content::Nothing,
    }
}

/// With the kubelet's options.
fn make(device: &Path, kind: &str) -> Result<(), VolumeError> {
    let options: &[&str] = match kind {
        "ext3" | "ext4" => &["-F", "-m0"],
        "xfs" => &["-f"],
        _ => &[],
    };
    let program = format!("mkfs.{kind}");
    tracing::info!(device = %device.display(), "making a file system: {program}");
    let output = run(device, &program, options)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(device, &program, &output)),
    }
}

fn check(device: &Path) -> Result<(), VolumeError> {
    let output = match run(device, "fsck", &["-a"]) {
        // The kernel looks at it, too.
        Err(VolumeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(());
        }
        output => output?,
    };
    match output.status.code() {
        Some(code) if code & UNCORRECTED != 0 => Err(failed(device, "fsck", &output)),
        _ => Ok(()),
    }
}

fn run(device: &Path, program: &str, options: &[&str]) -> Result<Output, VolumeError> {
    let output = Command::new(program).args(options).arg(device).output();
    output.map_err(|source| VolumeError::Io {
        action: "running",
        path: program.into(),
        source,
    })
}

fn failed(device: &Path, program: &str, output: &Output) -> VolumeError {
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    let said = said.join(" ");
    VolumeError::Disk {
        path: device.to_owned(),
        what: format!("{program} failed ({}): {}", output.status, said.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_made_only_where_nothing_is() {
        let made = |kind: &str, make, check| {
            Ok(Plan {
                kind: kind.into(),
                make,
                check,
            })
        };
        let has = |kind: &str| Content::FileSystem(kind.into());
        for (content, wanted, read_only, want) in [
            (Content::Nothing, None, false, made("ext4", true, false)),
            (Content::Nothing, Some(""), false, made("ext4", true, false)),
            (
                Content::Nothing,
                Some("xfs"),
                false,
                made("xfs", true, false),
            ),
            (
                Content::Nothing,
                None,
                true,
                Err("has no file system, and none is made by a volume that is only read"),
            ),
            (has("xfs"), None, false, made("xfs", false, true)),
            (has("ext4"), Some("ext4"), true, made("ext4", false, false)),
            (
                has("xfs"),
                Some("ext4"),
                false,
                Err("already contains xfs, and the volume wants ext4"),
            ),
            (
                Content::Partitions("dos".into()),
                None,
                false,
                Err("has partitions (dos), and no file system of its own"),
            ),
            (
                Content::Nothing,
                Some("../sh"),
                false,
                Err("\"../sh\" is no type of a file system"),
            ),
        ] {
            let got = plan(&content, wanted, read_only);
            let want = want.map_err(str::to_owned);
            assert_eq!(got, want, "{content:?} {wanted:?} {read_only}");
        }
    }

    #[test]
    fn what_blkid_says() {
        for (said, want) in [
            ("", Content::Nothing),
            ("DEVNAME=/dev/loop0\n", Content::Nothing),
            (
                "DEVNAME=/dev/loop0\nTYPE=ext4\n",
                Content::FileSystem("ext4".into()),
            ),
            ("PTTYPE=dos\n", Content::Partitions("dos".into())),
            (
                "TYPE=vfat\nPTTYPE=dos\n",
                Content::FileSystem("vfat".into()),
            ),
        ] {
            assert_eq!(parse(said), want, "{said:?}");
        }
    }
}
