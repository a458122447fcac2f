//! What the processes of a cgroup hold, by /proc.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::Error;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    pub processes: u64,
    pub threads: u64,
    pub descriptors: u64,
    pub sockets: u64,
}

/// One that ends meanwhile is counted as far as it was seen.
pub fn usage(cgroup: &Path) -> Result<ProcessUsage, Error> {
    let path = cgroup.join("cgroup.procs");
    let pids = fs::read_to_string(&path).map_err(Error::io("reading", path))?;
    let mut sum = ProcessUsage::default();
    for pid in pids.lines() {
        let of = Path::new("/proc").join(pid);
        sum.processes += 1;
        sum.threads += entries(&of.join("task")).count() as u64;
        for descriptor in entries(&of.join("fd")) {
            sum.descriptors += 1;
            let target = fs::read_link(descriptor.path());
            if target.is_ok_and(|to| to.as_os_str().as_bytes().starts_with(b"socket:")) {
                sum.sockets += 1;
            }
        }
    }
    Ok(sum)
}

fn entries(path: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(path).into_iter().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let dir = tempfile::tempdir().unwrap();
        assert!(usage(dir.path()).is_err());
        let pid = std::process::id();
        fs::write(dir.path().join("cgroup.procs"), format!("{pid}\n")).unwrap();
        let (_left, _right) = std::os::unix::net::UnixStream::pair().unwrap();
        let got = usage(dir.path()).unwrap();
        assert_eq!(got.processes, 1);
        assert!(got.threads >= 1 && got.sockets >= 2, "{got:?}");
        assert!(got.descriptors >= got.sockets + 3, "{got:?}");
    }
}
