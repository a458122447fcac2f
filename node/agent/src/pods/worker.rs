//! One pod's worker: it observes, decides with [`plan`], and acts by jobs that
//! run beside it. Woken by changes of the pod, its containers, its probes, the
//! objects it uses, by jobs that end, and by timers; it never polls.

mod clean;
mod end;
mod ending;
mod inbox;
mod job;
mod kill;
mod make_sandbox;
mod observe;
mod outcome;
mod resize;
mod run;
mod running;
mod stage;
mod start;
mod tell;
mod update;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::watch;
use vetch_runtime::SandboxId;

use super::backoff::Backoff;
use super::context::Context;
use super::plan::Hold;
use super::probe::ProbeSet;
use super::restart;
use super::seen::Seen;
use super::spec;
use super::status::{StatusWriter, TerminationMessages, Verdict, Waiting, previous};
use super::volumes::MountedVolumes;
use super::volumes::token::TokenStore;

pub use clean::{network_and_sandbox as remove_orphan, remove_log_directory};
pub use inbox::{Inbox, Update};
use job::Jobs;
use resize::Resize;
use stage::Stage;
use volumes::FollowedObjects;

/// The kubelet's.
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
pub const LAST_BACK_OFF: Duration = Duration::from_secs(300);

pub struct Worker {
    context: Arc<Context>,
    inbox: Arc<Inbox>,
    network_ready: watch::Receiver<bool>,
    /// As the API server had it last, with the resources the node has allocated to it.
    pod: Arc<Pod>,
    resize: Resize,
    /// The API server has it no more.
    removed: bool,
    dir: PathBuf,
    stage: Stage,

    sandboxes: BTreeSet<SandboxId>,
    seen: Seen,
    /// Exit codes of containers that ran before this daemon came.
    past: BTreeMap<String, i32>,
    pod_ips: Vec<IpAddr>,
    objects: Arc<FollowedObjects>,
    volumes: Option<Arc<MountedVolumes>>,
    /// What the volumes were last made from.
    volumes_print: String,
    tokens: Option<TokenStore>,
    probes: ProbeSet,
    jobs: Jobs,

    crashes: Backoff,
    pulls: Backoff,
    pull_errors: BTreeMap<String, String>,
    holds: BTreeMap<String, Hold>,
    /// Those of them that another version of an object may end.
    config_held: BTreeSet<String>,
    objects_print: String,
    /// Starts that failed after the container was made.
    failures: BTreeMap<String, Waiting>,
    sandbox_retry: Retry,
    volumes_retry: Retry,
    /// When the plan wants to be made anew.
    wake_at: Option<Timestamp>,
    /// When what failed on the way out is tried again.
    end_retry: Option<Timestamp>,
    /// The cleaning under way takes all traces.
    cleaning_all: bool,
    /// The API server was told to delete it.
    deleted: bool,

    messages: TerminationMessages,
    waiting: BTreeMap<String, Waiting>,
    /// Back-offs people were told of.
    told: BTreeMap<String, (String, Timestamp)>,
    told_network: bool,
    verdict: Option<Verdict>,
    /// The message of its condition DisruptionTarget.
    disruption: Option<String>,
    /// Its containers have no more time than this.
    most_grace: Option<Duration>,
    status: PodStatus,
    writer: StatusWriter,
    /// How long containers have to end; may become shorter.
    grace: watch::Sender<Duration>,
}

/// When a failed step is tried again, and how long it waits the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Retry {
    at: Option<Timestamp>,
    delay: Duration,
    first: Duration,
    most: Duration,
}

impl Retry {
    fn new(first: Duration, most: Duration) -> Retry {
        Retry {
            at: None,
            delay: first,
            first,
            most,
        }
    }

    fn failed(&mut self, now: Timestamp) {
        self.at = now.saturating_add(self.delay).ok();
        self.delay = (self.delay * 2).min(self.most);
    }

    fn succeeded(&mut self) {
        *self = Retry::new(self.first, self.most);
    }
}

impl Worker {
    /// `sandboxes` are those the runtime has of this pod already.
    pub fn new(
        context: Arc<Context>,
        inbox: Arc<Inbox>,
        pod: Arc<Pod>,
        sandboxes: BTreeSet<SandboxId>,
    ) -> Worker {
        let seconds = Duration::from_secs;
        Worker {
            network_ready: context.network_ready.clone(),
            resize: Resize::new(pod.clone(), context.room()),
            dir: context.pod_dir(&pod),
            objects: Arc::new(FollowedObjects::none()),
            probes: ProbeSet::new(context.prober(), context.recorder.clone()),
            writer: StatusWriter::new(&context.client, &pod),
            status: pod.status.clone().unwrap_or_default(),
            grace: watch::Sender::new(super::termination::pod_grace(&pod)),
            removed: false,
            stage: Stage::Running,
            seen: Seen::default(),
            past: match restart::may_restart_all(&pod) {
                true => BTreeMap::new(),
                false => previous::exit_codes(&pod),
            },
            pod_ips: Vec::new(),
            volumes: None,
            volumes_print: String::new(),
            tokens: Some(TokenStore::default()),
            jobs: Jobs::default(),
            crashes: Backoff::new(FIRST_BACK_OFF, LAST_BACK_OFF),
            pulls: Backoff::new(FIRST_BACK_OFF, LAST_BACK_OFF),
            pull_errors: BTreeMap::new(),
            holds: BTreeMap::new(),
            config_held: BTreeSet::new(),
            objects_print: String::new(),
            failures: BTreeMap::new(),
            sandbox_retry: Retry::new(seconds(1), seconds(60)),
            volumes_retry: Retry::new(Duration::from_millis(500), seconds(120)),
            wake_at: None,
            end_retry: None,
            cleaning_all: false,
            deleted: false,
            messages: TerminationMessages::new(),
            waiting: BTreeMap::new(),
            told: BTreeMap::new(),
            told_network: false,
            verdict: None,
            disruption: None,
            most_grace: None,
            sandboxes,
            context,
            inbox,
            pod,
        }
    }

    fn name(&self) -> &str {
        spec::name(&self.pod)
    }
}
