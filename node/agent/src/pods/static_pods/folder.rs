//! Reads the manifest folder: at once when a file there changes, and every 20 s, as the kubelet does.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::parse::{ManifestError, parse};
use super::{FullName, SEEN, full_name};

/// The kubelet's fileCheckFrequency.
const READ_EVERY: Duration = Duration::from_secs(20);
/// A pod is some kilobytes; what is larger is none.
const MAX_BYTES: u64 = 1 << 20;

/// By name. A pod whose file did not change is the same `Arc`.
pub type StaticPods = BTreeMap<FullName, Arc<Pod>>;

/// A folder, or a single file.
pub struct Folder {
    path: PathBuf,
    node: String,
    files: BTreeMap<PathBuf, Entry>,
}

/// What is known of a file.
struct Entry {
    pod: Option<Arc<Pod>>,
    /// What it was told of.
    problem: Option<String>,
}

impl Folder {
    pub fn new(path: PathBuf, node: &str) -> Folder {
        Folder {
            path,
            node: node.to_owned(),
            files: BTreeMap::new(),
        }
    }

    /// Every pod there is. A file that cannot be read as a manifest at all, as one that is being
    /// written, leaves the pod it made before.
    pub fn read(&mut self) -> StaticPods {
        let mut before = std::mem::take(&mut self.files);
        for file in self.list() {
            let old = before.remove(&file);
            let entry = self.read_file(&file, old);
            self.files.insert(file, entry);
        }
        let mut pods = StaticPods::new();
        for (file, entry) in &self.files {
            let Some(pod) = &entry.pod else { continue };
            if pods.contains_key(&full_name(pod)) {
                let file = file.display();
                tracing::warn!(%file, "another manifest has a pod of this name already: left out");
                continue;
            }
            pods.insert(full_name(pod), pod.clone());
        }
        pods
    }

    fn list(&self) -> Vec<PathBuf> {
        match list(&self.path) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, "cannot read the manifest folder, its pods stay: {error}");
                self.files.keys().cloned().collect()
            }
        }
    }

    fn read_file(&self, file: &Path, old: Option<Entry>) -> Entry {
        let (known, told) = old.map_or((None, None), |old| (old.pod, old.problem));
        let read = read_bounded(file).map_err(|error| ManifestError::Text(error.to_string()));
        let parsed = read.and_then(|text| parse(&text, file, &self.node, Timestamp::now()));
        match parsed {
            Ok(pod) => Entry {
                pod: Some(match known {
                    Some(known) if is_same(&known, &pod) => known,
                    _ => Arc::new(pod),
                }),
                problem: None,
            },
            Err(error) => {
                let words = error.to_string();
                if told.as_ref() != Some(&words) {
                    tracing::warn!(file = %file.display(), "manifest of a static pod: {words}");
                }
                let half = matches!(error, ManifestError::Text(_));
                Entry {
                    pod: known.filter(|_| half),
                    problem: Some(words),
                }
            }
        }
    }
}

/// But for when they were read.
fn is_same(known: &Pod, pod: &Pod) -> bool {
    let mut pod = pod.clone();
    let seen = known
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(SEEN));
    if let (Some(annotations), Some(seen)) = (&mut pod.metadata.annotations, seen) {
        annotations.insert(SEEN.to_owned(), seen.clone());
    }
    pod == *known
}

/// Files by name; those that begin with a dot are somebody's else.
fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if fs::metadata(path)?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // Through a link: Kubernetes' own tools write those.
        let file = entry.path();
        if !hidden && fs::metadata(&file).is_ok_and(|metadata| metadata.is_file()) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    fs::File::open(file)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_BYTES) {
        let words = format!("larger than {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, words));
    }
    Ok(text)
}

/// Sends what changed until nobody listens.
pub async fn follow(mut folder: Folder, pods: watch::Sender<Arc<StaticPods>>) {
    let mut changes = Changes::default();
    loop {
        let path = folder.path.clone();
        tokio::select! {
            () = pods.closed() => return,
            () = changes.next(&path) => {}
            () = tokio::time::sleep(READ_EVERY) => {}
        }
        let read = tokio::task::spawn_blocking(move || {
            let read = folder.read();
            (folder, read)
        });
        let Ok((back, read)) = read.await else {
            tracing::error!("reading the manifest folder died: static pods stay as they are");
            return;
        };
        folder = back;
        pods.send_if_modified(|known| {
            let same = known.len() == read.len()
                && known
                    .iter()
                    .zip(&read)
                    .all(|((a, old), (b, new))| a == b && Arc::ptr_eq(old, new));
            if !same {
                *known = Arc::new(read);
            }
            !same
        });
    }
}

/// The kernel's word on the folder. Where it cannot be had, the next reading comes by the clock.
#[derive(Default)]
struct Changes(Option<AsyncFd<OwnedFd>>);

impl Changes {
    async fn next(&mut self, path: &Path) {
        if self.0.is_none() {
            match watch_folder(path) {
                // What happened before the watch is read once more.
                Ok(watched) => {
                    self.0 = Some(watched);
                    return;
                }
                Err(error) => {
                    tracing::debug!(path = %path.display(), "no word of changes: {error}");
                    return std::future::pending().await;
                }
            }
        }
        let Some(watched) = &self.0 else { return };
        let gone = match watched.readable().await {
            Ok(mut ready) => {
                let gone = drain(watched.get_ref());
                ready.clear_ready();
                gone
            }
            Err(_) => true,
        };
        if gone {
            self.0 = None;
        }
    }
}

fn watch_folder(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let flags = WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    inotify::add_watch(&inotify, path, flags)?;
    register(inotify)
}

#[expect(
    unsafe_code,
    reason = "AsyncFd has to be told that nobody changes the descriptor"
)]
fn register(inotify: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the AsyncFd owns the descriptor, and nobody gets hold of it but by reference.
    Ok(unsafe { AsyncFd::register(inotify)? })
}

/// Whether what was watched is no more.
fn drain(inotify: &OwnedFd) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    let mut gone = false;
    loop {
        match reader.next() {
            Ok(event) => {
                use inotify::ReadFlags;
                let last = ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
                gone |= event.events().intersects(last);
            }
            Err(Errno::INTR) => {}
            Err(_) => return gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::spec;

    fn manifest(name: &str, image: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}"
        )
    }

    fn names(pods: &StaticPods) -> Vec<&str> {
        pods.values().map(|pod| spec::name(pod)).collect()
    }

    #[test]
    fn each_file_is_a_pod() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let mut folder = Folder::new(dir.path().to_owned(), "n");
        assert!(folder.read().is_empty());
        write("a.yaml", &manifest("a", "i"));
        write(".hidden", &manifest("hidden", "i"));
        write("broken", "{");
        write("twice", &manifest("a", "other"));
        fs::create_dir(dir.path().join("folder")).unwrap();
        let first = folder.read();
        assert_eq!(names(&first), ["a-n"]);

        // Read again, and with a remark: the same.
        let second = folder.read();
        write("a.yaml", &format!("# why\n{}", manifest("a", "i")));
        let third = folder.read();
        for again in [&second, &third] {
            assert!(Arc::ptr_eq(
                &first[&full_name(&first.values().next().unwrap())],
                again.values().next().unwrap()
            ));
        }

        write("a.yaml", &manifest("a", "j"));
        let changed = folder.read();
        let uid = |pods: &StaticPods| spec::uid(pods.values().next().unwrap()).to_owned();
        assert_ne!(uid(&changed), uid(&first));

        // Half written: as before. No pod any more: gone, and the other file's has the name.
        write("a.yaml", "{apiVersion: v1");
        assert_eq!(uid(&folder.read()), uid(&changed));
        write("a.yaml", "{apiVersion: v1, kind: List}");
        let left = folder.read();
        assert_eq!(names(&left), ["a-n"]);
        assert_ne!(uid(&left), uid(&changed));
        fs::remove_file(dir.path().join("twice")).unwrap();
        assert!(folder.read().is_empty());
    }

    #[test]
    fn one_file_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pod.json");
        let mut folder = Folder::new(file.clone(), "n");
        assert!(folder.read().is_empty());
        fs::write(&file, manifest("a", "i")).unwrap();
        assert_eq!(names(&folder.read()), ["a-n"]);
    }

    #[tokio::test]
    async fn changes_are_heard_of() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned(), "n");
        let (sender, mut pods) = watch::channel(Arc::default());
        let task = tokio::spawn(follow(folder, sender));
        for (name, count) in [("a", 1), ("b", 2)] {
            let half = dir.path().join(format!(".{name}"));
            fs::write(&half, manifest(name, "i")).unwrap();
            fs::rename(&half, dir.path().join(name)).unwrap();
            let wait = pods.wait_for(|pods| pods.len() == count);
            // Long before the clock's turn.
            tokio::time::timeout(Duration::from_secs(10), wait)
                .await
                .unwrap()
                .unwrap();
        }
        fs::remove_file(dir.path().join("a")).unwrap();
        let wait = pods.wait_for(|pods| pods.len() == 1);
        tokio::time::timeout(Duration::from_secs(10), wait)
            .await
            .unwrap()
            .unwrap();
        drop(pods);
        task.await.unwrap();
    }
}
