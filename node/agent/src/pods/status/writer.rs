//! Writing a pod's status: the newest wins, what the server has is not sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::diff;
use crate::pods::spec;
use crate::pods::static_pods::is_static;
use crate::pods::text::chain;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// A status and its place in the row of them.
#[derive(Clone, Debug, Default)]
struct Wanted {
    number: u64,
    status: Value,
}

/// What the server has, as far as we know.
#[derive(Debug, Default)]
struct Server {
    /// Of the pod that takes the status; a static one's mirror may not be there.
    uid: Option<String>,
    version: u64,
    status: Value,
}

pub struct StatusWriter {
    wanted: watch::Sender<Wanted>,
    written: watch::Receiver<u64>,
    server: Arc<Mutex<Server>>,
    _task: AbortOnDropHandle<()>,
}

impl StatusWriter {
    pub fn new(client: &Client, pod: &Pod) -> StatusWriter {
        let (wanted, wanted_receiver) = watch::channel(Wanted::default());
        let (written_sender, written) = watch::channel(0);
        let server = Arc::new(Mutex::new(Server::default()));
        let task = Task {
            api: Api::namespaced(client.clone(), spec::namespace(pod)),
            name: spec::name(pod).to_owned(),
            wanted: wanted_receiver,
            written: written_sender,
            server: server.clone(),
        };
        let writer = StatusWriter {
            wanted,
            written,
            server,
            _task: AbortOnDropHandle::new(tokio::spawn(task.run())),
        };
        if !is_static(pod) {
            writer.observe(pod);
        }
        writer
    }

    /// Of a static pod: the status goes there, or nowhere while there is none.
    pub fn follow_mirror(&self, mirror: Option<&Pod>) {
        match mirror {
            Some(mirror) => self.observe(mirror),
            None => lock(&self.server).uid = None,
        }
    }

    /// The server has this pod now. Where somebody else wrote into what is ours,
    /// as the node lifecycle controller does while a node is away, it is
    /// written again.
    pub fn observe(&self, pod: &Pod) {
        observe(&self.server, pod);
        self.wanted.send_if_modified(|wanted| {
            let server = lock(&self.server);
            let uid = spec::uid(pod);
            let differs =
                wanted.number > 0 && diff::patch(uid, &server.status, &wanted.status).is_some();
            wanted.number += u64::from(differs);
            differs
        });
    }

    /// To be written as soon as what is under way is.
    pub fn set(&self, status: &PodStatus) {
        // A status made of plain types always has a JSON form.
        let Ok(status) = serde_json::to_value(status) else {
            return;
        };
        self.wanted.send_if_modified(|wanted| {
            let new = wanted.number == 0 || wanted.status != status;
            if new {
                wanted.number += 1;
                wanted.status = status;
            }
            new
        });
    }

    /// Until the server has what was set last, or the pod is gone.
    pub fn flushed(&self) -> impl Future<Output = ()> + Send + 'static {
        let number = self.wanted.borrow().number;
        let mut written = self.written.clone();
        async move {
            // Fails when the writer is gone: nobody will write any more.
            let _ = written.wait_for(|written| *written >= number).await;
        }
    }
}

fn lock(server: &Mutex<Server>) -> MutexGuard<'_, Server> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Versions count up: an older one tells nothing.
fn observe(server: &Mutex<Server>, pod: &Pod) {
    let version = pod.metadata.resource_version.as_deref();
    let version = version
        .and_then(|version| version.parse().ok())
        .unwrap_or(0);
    let mut known = lock(server);
    if version >= known.version {
        known.uid = pod.metadata.uid.clone();
        known.version = version;
        known.status = serde_json::to_value(&pod.status).unwrap_or_default();
    }
}

struct Task {
    api: Api<Pod>,
    name: String,
    wanted: watch::Receiver<Wanted>,
    written: watch::Sender<u64>,
    server: Arc<Mutex<Server>>,
}

impl Task {
    async fn run(mut self) {
        let mut pause = FIRST_RETRY;
        while self.wanted.changed().await.is_ok() {
            loop {
                let wanted = self.wanted.borrow_and_update().clone();
                match self.write(&wanted.status).await {
                    Ok(()) => {
                        pause = FIRST_RETRY;
                        let _ = self.written.send(wanted.number);
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(pod = self.name, "status: {}", chain(&error));
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LAST_RETRY);
                    }
                }
            }
        }
    }

    async fn write(&self, status: &Value) -> Result<(), kube::Error> {
        let patch = {
            let server = lock(&self.server);
            let uid = server.uid.as_deref();
            uid.and_then(|uid| diff::patch(uid, &server.status, status))
        };
        let Some(patch) = patch else {
            return Ok(());
        };
        let answer = self
            .api
            .patch_status(
                &self.name,
                &PatchParams::default(),
                &Patch::Strategic(&patch),
            )
            .await;
        match answer {
            Ok(pod) => {
                observe(&self.server, &pod);
                Ok(())
            }
            // It is gone, or another pod has its name: nobody is left to tell.
            Err(kube::Error::Api(status)) if is_gone(status.code, &status.message) => {
                tracing::debug!(pod = self.name, "status: {}", status.message);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// A conflict that is not about the uid is one that another try may win.
fn is_gone(code: u16, message: &str) -> bool {
    code == 404 || (code == 409 && message.to_ascii_lowercase().contains("uid"))
}
