//! The manager's part in static pods: which of them have a worker, and which have to wait for one of
//! the same name to end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::Manager;
use crate::pods::spec;
use crate::pods::static_pods::mirror::{Original, shows};
use crate::pods::static_pods::{Folder, FullName, StaticPods, follow, full_name, is_static};

/// The manifests as they are; none without a folder.
pub struct Manifests {
    pods: Option<watch::Receiver<Arc<StaticPods>>>,
    _task: Option<AbortOnDropHandle<()>>,
}

impl Manifests {
    /// Reads the folder once: no pod of it is an orphan of anybody.
    pub async fn open(folder: Option<Folder>) -> Manifests {
        let Some(mut folder) = folder else {
            return Manifests {
                pods: None,
                _task: None,
            };
        };
        let read = tokio::task::spawn_blocking(move || {
            let read = folder.read();
            (folder, read)
        });
        let Ok((folder, read)) = read.await else {
            tracing::error!("reading the manifest folder died: no static pods");
            return Manifests {
                pods: None,
                _task: None,
            };
        };
        let (sender, mut pods) = watch::channel(Arc::new(read));
        pods.mark_changed();
        let task = tokio::spawn(follow(folder, sender));
        Manifests {
            pods: Some(pods),
            _task: Some(AbortOnDropHandle::new(task)),
        }
    }

    /// Waits for others than were seen last.
    pub async fn changed(&mut self) {
        if let Some(pods) = &mut self.pods
            && pods.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    pub fn all(&self) -> Arc<StaticPods> {
        let pods = self.pods.as_ref();
        pods.map_or_else(Arc::default, |pods| pods.borrow().clone())
    }
}

impl Manager {
    /// The folder has other manifests than before.
    pub(super) async fn take_manifests(&mut self) {
        let wanted = self.manifests.all();
        let old = self.workers.iter().filter(|(_, handle)| {
            let same = |pod: &Arc<Pod>| Arc::ptr_eq(pod, &handle.pod);
            let stays = wanted.get(&full_name(&handle.pod)).is_some_and(same);
            is_static(&handle.pod) && !handle.removed && !stays
        });
        let old: Vec<String> = old.map(|(uid, _)| uid.clone()).collect();
        for uid in old {
            self.remove(&uid, None);
        }
        self.start_static_pods().await;
    }

    /// Those that have no worker, and whose name no worker has.
    pub(super) async fn start_static_pods(&mut self) {
        let wanted = self.manifests.all();
        for (name, pod) in wanted.iter() {
            let mut workers = self.workers.iter();
            let taken = workers.any(|(uid, handle)| {
                uid == spec::uid(pod) || (is_static(&handle.pod) && full_name(&handle.pod) == *name)
            });
            if !taken {
                let name = spec::name(pod);
                tracing::info!(pod = name, namespace = spec::namespace(pod), "a static pod");
                self.begin(spec::uid(pod).to_owned(), pod.clone()).await;
            }
        }
        self.follow_mirrors();
    }

    /// Uids of static pods that are here or shall be.
    pub(super) fn static_uids(&self) -> BTreeSet<String> {
        let workers = self.workers.iter();
        let own = workers.filter(|(_, handle)| is_static(&handle.pod));
        let own = own.map(|(uid, _)| uid.clone());
        let wanted = self.manifests.all();
        own.chain(wanted.values().map(|pod| spec::uid(pod).to_owned()))
            .collect()
    }

    /// All of them: what they show, and whether they shall be.
    pub(super) fn follow_mirrors(&mut self) {
        let mut names: BTreeSet<FullName> = self.mirrors.names().cloned().collect();
        let handles = self.workers.values();
        let own = handles.filter(|handle| is_static(&handle.pod));
        names.extend(own.map(|handle| full_name(&handle.pod)));
        for name in names {
            self.follow_mirror(&name);
        }
    }

    pub(super) fn follow_mirror(&mut self, name: &FullName) {
        let mirror = self.mirrors.get(name);
        let mut original = Original::Gone;
        for handle in self.workers.values() {
            if !is_static(&handle.pod) || full_name(&handle.pod) != *name {
                continue;
            }
            original = match handle.removed {
                true => Original::Ending,
                false => Original::Running(&handle.pod),
            };
            let own = mirror.filter(|mirror| shows(mirror, &handle.pod));
            handle.inbox.put_mirror(own.cloned());
        }
        // Before the first list nobody knows which there are.
        if self.listed_once {
            self.mirrors.reconcile(name, original);
        }
    }
}

/// Mirrors and others of a list.
pub fn parted(listed: BTreeMap<String, Arc<Pod>>) -> (Vec<Arc<Pod>>, BTreeMap<String, Arc<Pod>>) {
    let (mirrors, others): (BTreeMap<_, _>, BTreeMap<_, _>) = listed
        .into_iter()
        .partition(|(_, pod)| crate::pods::static_pods::is_mirror(pod));
    (mirrors.into_values().collect(), others)
}
