//! The counters of cAdvisor that monitoring knows. One row says a metric's name, its words and where it
//! comes from; what the kernel does not count here has no value.

mod rows;

use std::path::Path;

use jiff::Timestamp;

use crate::Error;
use crate::runtime::Runtime;
use crate::stats::{ContainerUsage, ProcessUsage};
use crate::types::{ContainerId, Resources};

pub use rows::{CONTAINER, LINK};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

pub struct Row<T> {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// A label of its own, beside those of all. Rows of one name follow each other.
    pub label: Option<(&'static str, &'static str)>,
    pub value: fn(&T) -> Option<f64>,
}

/// What is known of a container.
pub struct Sample {
    /// Its cgroup, from the runtime's root on.
    pub cgroup: String,
    pub usage: ContainerUsage,
    pub processes: ProcessUsage,
    pub resources: Resources,
    pub started_at: Option<Timestamp>,
    /// Of the file system it writes to.
    pub disk: Disk,
}

#[derive(Clone, Copy)]
pub struct Disk {
    pub bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

impl Runtime {
    /// Of one that runs. Counts files, and looks at every process.
    pub async fn container_sample(&self, id: &ContainerId) -> Result<Sample, Error> {
        let missing = || Error::ContainerNotFound(id.clone());
        let (_, spec, status) = self.container(id).ok_or_else(missing)?;
        let cgroup = self.container_cgroup(id).ok_or_else(missing)?;
        let below = cgroup.strip_prefix(self.cgroups().root());
        let root_dir = self.root_dir();
        let disk = rustix::fs::statvfs(root_dir)
            .map_err(|errno| Error::io("measuring", root_dir)(errno.into()))?;
        Ok(Sample {
            cgroup: Path::new("/")
                .join(below.unwrap_or(&cgroup))
                .display()
                .to_string(),
            usage: self.container_usage(id).await?,
            processes: self.process_usage(id).await?,
            resources: spec.resources,
            started_at: status.started_at,
            disk: Disk {
                bytes: disk.f_blocks * disk.f_frsize,
                inodes: disk.f_files,
                inodes_free: disk.f_ffree,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rows_of_one_name_follow_each_other() {
        let mut names = HashSet::new();
        for rows in CONTAINER.chunk_by(|one, next| one.name == next.name) {
            assert!(names.insert(rows[0].name), "{}", rows[0].name);
            let labels: HashSet<_> = rows.iter().map(|row| row.label).collect();
            assert_eq!(labels.len(), rows.len(), "{}", rows[0].name);
            assert!(rows.iter().all(|row| row.kind == rows[0].kind));
        }
        for row in LINK {
            assert!(names.insert(row.name), "{}", row.name);
        }
    }
}
