//! The pods' part of the cgroup v2 tree:
//! `kubepods[/burstable|/besteffort]/pod<uid>/{shim-<sandbox>,<container>}`.
//!
//! Written as files: cgroups-rs takes /sys/fs/cgroup for the unified mount,
//! while here the root is given (tests and hybrid hosts have others), and of
//! a handful of values and `cgroup.kill` it knows the smaller half.
//!
//! memory.min, memory.low and memory.high stay the kernel's: memory QoS
//! (KEP-2570) is alpha in Kubernetes 1.36 and off unless somebody asks for it.

mod hugetlb;

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::Error;
use crate::types::{QosClass, Resources};

/// What Kubernetes' limits need.
const WANTED: [&str; 3] = ["cpu", "memory", "pids"];
/// Counts, limits of pages that few machines set aside, and CPUs for few containers.
const USEFUL: [&str; 3] = ["io", "hugetlb", "cpuset"];

const UNLIMITED: i64 = -1;
/// The kernel's default, in microseconds.
const CPU_PERIOD: u64 = 100_000;

#[derive(Debug)]
pub struct CgroupTree {
    root: PathBuf,
    enabled: Vec<&'static str>,
    missing: Vec<String>,
}

impl CgroupTree {
    /// Enables what controllers the root offers; what is missing is said once.
    pub fn open(root: &Path) -> Result<CgroupTree, Error> {
        let path = root.join("cgroup.controllers");
        let offered = fs::read_to_string(&path).map_err(Error::io("reading", path))?;
        let (mut enabled, mut missing) = choose(&offered);
        // What is only useful must not cost the rest.
        if enable(root, &enabled).is_err() {
            enabled.retain(|name| WANTED.contains(name));
        }
        if !enabled.is_empty()
            && let Err(error) = enable(root, &enabled)
        {
            tracing::warn!(
                cgroup = %root.display(),
                "cgroup controllers {enabled:?} cannot be handed to pods (is a process in the \
                 root itself?): {error}"
            );
            missing = WANTED.map(str::to_owned).into();
            enabled.clear();
        } else if !missing.is_empty() {
            tracing::warn!(
                cgroup = %root.display(),
                "cgroup v2 controllers {missing:?} are missing: their requests and limits have \
                 no effect on this node"
            );
        }
        Ok(CgroupTree {
            root: root.to_owned(),
            enabled,
            missing,
        })
    }

    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Above all pods but those whose client names another place.
    pub fn pods(&self) -> PathBuf {
        self.root.join("kubepods")
    }

    fn class(&self, qos: QosClass) -> PathBuf {
        let kubepods = self.pods();
        match qos {
            QosClass::Guaranteed => kubepods,
            QosClass::Burstable => kubepods.join("burstable"),
            QosClass::BestEffort => kubepods.join("besteffort"),
        }
    }

    pub fn pod(&self, qos: QosClass, uid: &str) -> PathBuf {
        self.class(qos).join(format!("pod{uid}"))
    }

    /// Whatever `path` says, it is not above the root.
    pub fn below(&self, path: &Path) -> PathBuf {
        let parts = path
            .components()
            .filter(|part| matches!(part, Component::Normal(_)));
        parts.fold(self.root.clone(), |path, part| path.join(part))
    }

    /// Makes it and its parents, which hand the controllers on.
    pub fn make(&self, path: &Path) -> Result<(), Error> {
        let mut current = self.root.clone();
        for part in path.strip_prefix(&self.root).unwrap_or(path) {
            // The root has them from `open`.
            if current != self.root && !self.enabled.is_empty() {
                enable(&current, &self.enabled)
                    .map_err(Error::io("enabling controllers in", &current))?;
            }
            current.push(part);
            match fs::create_dir(&current) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("making cgroup", current)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn apply(&self, path: &Path, resources: &Resources) -> Result<(), Error> {
        for (controller, file, value) in settings(resources) {
            if self.enabled.contains(&controller) {
                write(path.join(file), &value)?;
            }
        }
        // A kernel without swap has no such file, and nothing to forbid.
        let swap = path.join("memory.swap.max");
        if let Some(bytes) = resources.swap_max
            && self.enabled.contains(&"memory")
            && swap.exists()
        {
            write(swap, &limit(bytes))?;
        }
        if let Some(limits) = &resources.hugetlb_max
            && self.enabled.contains(&"hugetlb")
        {
            for (file, bytes) in hugetlb::wanted(&hugetlb::files(path)?, limits) {
                write(path.join(file), &limit(bytes))?;
            }
        }
        // Who asks for these has said so about this very container, and would not miss them silently.
        for (file, value) in chosen(resources) {
            self.check_file(path, file)?;
            write_lines(path.join(file), value)?;
        }
        Ok(())
    }

    fn check_file(&self, path: &Path, file: &str) -> Result<(), Error> {
        let refused = |message: String| {
            let path = path.to_owned();
            Err(Error::Cgroup { path, message })
        };
        let Some((controller, _)) = file.split_once('.').filter(|_| !file.contains('/')) else {
            return refused(format!("{file:?} is no file of a controller"));
        };
        if !self.enabled.contains(&controller) {
            return refused(format!(
                "{file} needs the controller {controller} of cgroup v2, which is not handed to pods here"
            ));
        }
        Ok(())
    }

    /// Of all pods of a class together, or of all pods: those of Guaranteed ones
    /// are right below. Nothing to do where no controller heeds it.
    pub fn apply_to_class(&self, qos: QosClass, resources: &Resources) -> Result<(), Error> {
        let heeded = |name| self.enabled.contains(name);
        if !["cpu", "memory"].iter().any(heeded) {
            return Ok(());
        }
        let path = self.class(qos);
        self.make(&path)?;
        self.apply(&path, resources)
    }

    /// Of one that is in use: CPU and memory without a limit lose the one they had, all else that is
    /// not said stays.
    pub fn update(&self, path: &Path, resources: &Resources) -> Result<(), Error> {
        self.apply(path, &without_gaps(resources))
    }

    /// As the kubelet has it since 1.28: all of a container dies, not the one
    /// process that asked for too much.
    pub fn kill_whole_on_oom(&self, path: &Path) -> Result<(), Error> {
        if self.enabled.contains(&"memory") {
            write(path.join("memory.oom.group"), "1")?;
        }
        Ok(())
    }
}

fn choose(offered: &str) -> (Vec<&'static str>, Vec<String>) {
    let offers = |wanted: &str| offered.split_whitespace().any(|name| name == wanted);
    let (enabled, missing): (Vec<_>, Vec<_>) = WANTED.into_iter().partition(|name| offers(name));
    let useful = USEFUL.into_iter().filter(|name| offers(name));
    let enabled = enabled.into_iter().chain(useful).collect();
    (enabled, missing.into_iter().map(str::to_owned).collect())
}

fn enable(path: &Path, controllers: &[&str]) -> io::Result<()> {
    let words: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    fs::write(path.join("cgroup.subtree_control"), words.join(" "))
}

fn write(path: PathBuf, value: &str) -> Result<(), Error> {
    fs::write(&path, value).map_err(Error::io("writing", path))
}

/// Each line by a call of its own, as the kernel wants some of its files (io.max).
fn write_lines(path: PathBuf, value: &str) -> Result<(), Error> {
    if value.is_empty() {
        return write(path, "\n");
    }
    value
        .lines()
        .try_for_each(|line| fs::write(&path, line))
        .map_err(Error::io("writing", path))
}

/// What no other field stands for.
fn chosen(resources: &Resources) -> impl Iterator<Item = (&str, &str)> {
    let sets = [
        ("cpuset.cpus", &resources.cpuset_cpus),
        ("cpuset.mems", &resources.cpuset_mems),
    ];
    let sets = sets
        .into_iter()
        .filter_map(|(file, value)| Some((file, value.as_deref()?)));
    let rest = resources.unified.iter();
    sets.chain(rest.map(|(file, value)| (file.as_str(), value.as_str())))
}

fn settings(resources: &Resources) -> Vec<(&'static str, &'static str, String)> {
    let mut all = Vec::new();
    if let Some(weight) = resources.cpu_weight {
        all.push(("cpu", "cpu.weight", weight.clamp(1, 10_000).to_string()));
    }
    if let Some((quota, period)) = resources.cpu_max {
        let quota = limit(quota);
        all.push(("cpu", "cpu.max", format!("{quota} {period}")));
    }
    if let Some(bytes) = resources.memory_max {
        all.push(("memory", "memory.max", limit(bytes)));
    }
    for (file, bytes) in [
        ("memory.min", resources.memory_min),
        ("memory.low", resources.memory_low),
        ("memory.high", resources.memory_high),
    ] {
        all.extend(bytes.map(|bytes| ("memory", file, limit(bytes))));
    }
    if let Some(pids) = resources.pids_max {
        all.push(("pids", "pids.max", limit(pids)));
    }
    all
}

fn without_gaps(resources: &Resources) -> Resources {
    Resources {
        cpu_max: resources.cpu_max.or(Some((UNLIMITED, CPU_PERIOD))),
        memory_max: resources.memory_max.or(Some(UNLIMITED)),
        memory_min: resources.memory_min.or(Some(0)),
        memory_low: resources.memory_low.or(Some(0)),
        memory_high: resources.memory_high.or(Some(UNLIMITED)),
        ..resources.clone()
    }
}

fn limit(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// SIGKILL to all in it and below. One that is gone has nothing to kill.
pub fn kill(path: &Path) -> Result<(), Error> {
    let file = path.join("cgroup.kill");
    match fs::write(&file, "1") {
        Err(error) if !gone(&error) => Err(Error::io("writing", file)(error)),
        _ => Ok(()),
    }
}

/// Bytes of memory it cannot give back at once: all it has but for the cache of
/// files nobody looked at lately. `None` without the memory controller.
pub fn working_set(path: &Path) -> Option<u64> {
    let current = fs::read_to_string(path.join("memory.current")).ok()?;
    let stat = fs::read_to_string(path.join("memory.stat")).ok()?;
    let current: u64 = current.trim().parse().ok()?;
    Some(current.saturating_sub(inactive_file(&stat)))
}

fn inactive_file(stat: &str) -> u64 {
    let mut lines = stat.lines();
    lines
        .find_map(|line| line.strip_prefix("inactive_file "))
        .and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or(0)
}

pub fn populated(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events"))
        .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

/// Waits for the last process; false when one stays.
pub async fn wait_empty(path: &Path, timeout: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + timeout;
    let mut pause = Duration::from_micros(500);
    while populated(path) {
        if tokio::time::Instant::now() > deadline {
            return false;
        }
        // cgroup.events can be polled for, but a dying process takes less
        // time than the set-up of that.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    true
}

/// Removes it with what is below; it must be empty of processes.
pub fn remove(path: &Path) -> Result<(), Error> {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path())?;
            }
        }
    }
    match fs::remove_dir(path) {
        Err(error) if !gone(&error) => Err(Error::io("removing cgroup", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a parent that has no children left; one in use stays.
pub fn remove_if_unused(path: &Path) {
    // EBUSY says that it is used.
    let _ = fs::remove_dir(path);
}

/// ENODEV: removed while a file of it was open.
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_that_are_missing_are_named() {
        assert_eq!(
            choose("cpuset cpu io memory pids rdma\n"),
            (vec!["cpu", "memory", "pids", "io", "cpuset"], vec![])
        );
        assert_eq!(
            choose("hugetlb"),
            (vec!["hugetlb"], WANTED.map(str::to_owned).to_vec())
        );
        assert_eq!(
            choose("memory"),
            (vec!["memory"], vec!["cpu".to_owned(), "pids".to_owned()])
        );
    }

    #[test]
    fn values_as_the_kernel_takes_them() {
        let resources = Resources {
            cpu_weight: Some(20_000),
            cpu_max: Some((50_000, 100_000)),
            memory_max: Some(1 << 20),
            memory_min: Some(4096),
            memory_low: Some(0),
            memory_high: Some(-1),
            pids_max: Some(-1),
            oom_score_adj: Some(5),
            ..Resources::default()
        };
        assert_eq!(
            settings(&resources),
            [
                ("cpu", "cpu.weight", "10000".to_owned()),
                ("cpu", "cpu.max", "50000 100000".to_owned()),
                ("memory", "memory.max", "1048576".to_owned()),
                ("memory", "memory.min", "4096".to_owned()),
                ("memory", "memory.low", "0".to_owned()),
                ("memory", "memory.high", "max".to_owned()),
                ("pids", "pids.max", "max".to_owned()),
            ]
        );
        assert_eq!(settings(&Resources::default()), []);
        let unlimited = Resources {
            cpu_max: Some((-1, 100_000)),
            ..Resources::default()
        };
        assert_eq!(
            settings(&unlimited),
            [("cpu", "cpu.max", "max 100000".to_owned())]
        );
    }

    /// A folder with the files of a cgroup; values are written over `-`.
    fn written(files: &[&str], enabled: &[&'static str], resources: &Resources) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(dir.path().join(file), "-").unwrap();
        }
        let tree = CgroupTree {
            root: dir.path().to_owned(),
            enabled: enabled.to_vec(),
            missing: vec![],
        };
        tree.apply(dir.path(), resources).unwrap();
        contents(dir.path())
    }

    fn contents(dir: &Path) -> Vec<String> {
        let all = fs::read_dir(dir).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            format!("{name} {}", fs::read_to_string(path).unwrap())
        });
        let mut all: Vec<String> = all.collect();
        all.sort();
        all
    }

    #[test]
    fn files_that_not_every_kernel_has() {
        let swap = Resources {
            swap_max: Some(0),
            ..Resources::default()
        };
        for (files, enabled, want) in [
            (
                vec!["memory.swap.max"],
                vec!["memory"],
                vec!["memory.swap.max 0"],
            ),
            (vec!["memory.swap.max"], vec![], vec!["memory.swap.max -"]),
            (vec![], vec!["memory"], vec![]),
        ] {
            assert_eq!(written(&files, &enabled, &swap), want, "{files:?}");
        }
        let pages = Resources {
            hugetlb_max: Some([(2 << 20, 6 << 20)].into()),
            ..Resources::default()
        };
        let files = ["hugetlb.2MB.max", "hugetlb.1GB.max", "hugetlb.2MB.current"];
        assert_eq!(
            written(&files, &["hugetlb"], &pages),
            [
                "hugetlb.1GB.max 0",
                "hugetlb.2MB.current -",
                "hugetlb.2MB.max 6291456"
            ]
        );
        assert_eq!(
            written(&files[..1], &["memory"], &pages),
            ["hugetlb.2MB.max -"]
        );
    }

    #[test]
    fn what_is_asked_for_by_name_is_written_or_refused() {
        let files = ["cpuset.cpus", "cpuset.mems", "memory.high"];
        let asked = Resources {
            cpuset_cpus: Some("0-1,3".into()),
            unified: [("memory.high".to_owned(), "max".to_owned())].into(),
            ..Resources::default()
        };
        assert_eq!(
            written(&files, &["cpuset", "memory"], &asked),
            ["cpuset.cpus 0-1,3", "cpuset.mems -", "memory.high max"]
        );
        let dir = tempfile::tempdir().unwrap();
        let tree = CgroupTree {
            root: dir.path().to_owned(),
            enabled: vec!["memory"],
            missing: vec![],
        };
        let unified = |file: &str| Resources {
            unified: [(file.to_owned(), "1".to_owned())].into(),
            ..Resources::default()
        };
        let sets = Resources {
            unified: Default::default(),
            ..asked
        };
        for (resources, words) in [
            (sets, "cpuset.cpus needs the controller cpuset"),
            (unified("io.max"), "io.max needs the controller io"),
            (unified("cgroup.procs"), "the controller cgroup"),
            (unified("memory"), "\"memory\" is no file of a controller"),
            (unified("memory./../../x"), "is no file of a controller"),
        ] {
            let refused = tree.apply(dir.path(), &resources).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
        assert_eq!(contents(dir.path()), <[String; 0]>::default());
    }

    #[test]
    fn a_class_is_made_where_it_has_an_effect() {
        for (enabled, made) in [(vec!["cpu"], true), (vec!["pids", "hugetlb"], false)] {
            let dir = tempfile::tempdir().unwrap();
            let tree = CgroupTree {
                root: dir.path().to_owned(),
                enabled,
                missing: vec![],
            };
            let weight = Resources {
                cpu_weight: Some(7),
                ..Resources::default()
            };
            tree.apply_to_class(QosClass::Burstable, &weight).unwrap();
            let file = dir.path().join("kubepods/burstable/cpu.weight");
            let written = fs::read_to_string(file).ok();
            assert_eq!(
                written.as_deref(),
                made.then_some("7"),
                "{:?}",
                tree.enabled
            );
        }
    }

    #[test]
    fn an_update_takes_limits_away() {
        let weight = Resources {
            cpu_weight: Some(5),
            swap_max: Some(0),
            ..Resources::default()
        };
        assert_eq!(without_gaps(&weight).swap_max, Some(0));
        assert_eq!(
            settings(&without_gaps(&weight)),
            [
                ("cpu", "cpu.weight", "5".to_owned()),
                ("cpu", "cpu.max", "max 100000".to_owned()),
                ("memory", "memory.max", "max".to_owned()),
                ("memory", "memory.min", "0".to_owned()),
                ("memory", "memory.low", "0".to_owned()),
                ("memory", "memory.high", "max".to_owned()),
            ]
        );
    }

    #[test]
    fn cache_that_is_not_used_is_no_working_set() {
        let stat = "anon 4096\nfile 8192\ninactive_anon 1\ninactive_file 6000\nactive_file 2192\n";
        assert_eq!(inactive_file(stat), 6000);
        assert_eq!(inactive_file("anon 1\n"), 0);
    }

    #[test]
    fn where_pods_live() {
        let tree = CgroupTree {
            root: "/c".into(),
            enabled: vec![],
            missing: vec![],
        };
        for (qos, want) in [
            (QosClass::Guaranteed, "/c/kubepods/podu"),
            (QosClass::Burstable, "/c/kubepods/burstable/podu"),
            (QosClass::BestEffort, "/c/kubepods/besteffort/podu"),
        ] {
            assert_eq!(tree.pod(qos, "u"), Path::new(want));
        }
        for (parent, want) in [("/a/b", "/c/a/b"), ("a/../../b", "/c/a/b"), ("/", "/c")] {
            assert_eq!(tree.below(Path::new(parent)), Path::new(want));
        }
    }
}
