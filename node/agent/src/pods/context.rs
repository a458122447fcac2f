//! What all pod workers share.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use kube::Client;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use vetch_network::{HostPort, Network};
use vetch_runtime::{QosClass, Runtime};

use super::PodsConfig;
use super::admission;
use super::apparmor;
use super::events::Recorder;
use super::host_ports::host_ports;
use super::objects::Objects;
use super::own_node::OwnNode;
use super::preempt::{self, Holder, is_critical};
use super::probe::Prober;
use super::quantity::ResourceList;
use super::resize::{self, Answer};
use super::resources::{self, HostMemory};
use super::sentence::Sentence;
use super::services::Services;
use super::shutdown;
use super::spec;
use super::static_pods::is_static;
use super::status::Verdict;
use super::volumes;

/// How long a first read from the API server may take before it is called a
/// failure.
pub const READ_LIMIT: Duration = Duration::from_secs(5);
/// The same, of a static pod's.
const OWN_READ_LIMIT: Duration = Duration::from_secs(1);
/// How long a critical pod waits for others to end.
const PREEMPTION_LIMIT: Duration = Duration::from_secs(60);

pub struct Context {
    pub client: Client,
    pub config: PodsConfig,
    pub runtime: Runtime,
    pub network: Network,
    pub network_ready: watch::Receiver<bool>,
    pub recorder: Recorder,
    pub config_maps: Objects<ConfigMap>,
    pub secrets: Objects<Secret>,
    pub services: Services,
    pub node: OwnNode,
    pub http: reqwest::Client,
    pub memory: HostMemory,
    /// What the pods have that the node has taken, by uid.
    taken: Mutex<HashMap<String, Taken>>,
    /// Who has the volumes that only one pod may have: uids, by the volumes' names.
    held: Mutex<HashMap<String, String>>,
    /// Sends when that becomes less.
    room: watch::Sender<()>,
    /// Sends when that becomes anything else.
    load: watch::Sender<()>,
    /// Pods that shall run, by uid: those that may be ended.
    candidates: Mutex<HashMap<String, Arc<Pod>>>,
    sentence: UnboundedSender<(String, Sentence)>,
    sentences: Mutex<Option<UnboundedReceiver<(String, Sentence)>>>,
}

struct Refused {
    verdict: Verdict,
    /// Pods that would make the room.
    victims: Option<Vec<String>>,
}

/// What a pod has of the node.
struct Taken {
    requests: ResourceList,
    qos: QosClass,
    ports: Vec<HostPort>,
    critical: bool,
}

impl Taken {
    fn holder<'a>(&'a self, uid: &'a str) -> Holder<'a> {
        Holder {
            uid,
            qos: self.qos,
            critical: self.critical,
            requests: &self.requests,
        }
    }

    fn by(pod: &Pod) -> Self {
        Self {
            requests: resources::pod_requests(pod),
            qos: resources::class(pod),
            ports: host_ports(pod),
            critical: is_critical(pod),
        }
    }
}

/// What a [`Context`] is made of, without what it keeps itself.
pub struct Shared {
    pub client: Client,
    pub config: PodsConfig,
    pub runtime: Runtime,
    pub network: Network,
    pub network_ready: watch::Receiver<bool>,
    pub recorder: Recorder,
    pub services: Services,
    pub node: OwnNode,
    pub http: reqwest::Client,
}

impl Context {
    pub fn new(shared: Shared) -> Arc<Context> {
        let (sentence, sentences) = unbounded_channel();
        Arc::new(Context {
            sentence,
            sentences: Mutex::new(Some(sentences)),
            candidates: Mutex::default(),
            config_maps: Objects::new(shared.client.clone()),
            secrets: Objects::new(shared.client.clone()),
            memory: HostMemory::read(shared.config.can_lower_oom_score),
            taken: Mutex::default(),
            held: Mutex::default(),
            room: watch::Sender::new(()),
            load: watch::Sender::new(()),
            client: shared.client,
            config: shared.config,
            runtime: shared.runtime,
            network: shared.network,
            network_ready: shared.network_ready,
            recorder: shared.recorder,
            services: shared.services,
            node: shared.node,
            http: shared.http,
        })
    }

    pub fn prober(&self) -> Prober {
        Prober {
            runtime: self.runtime.clone(),
            http: self.http.clone(),
            numbers: self.config.probes.clone(),
        }
    }

    pub fn pod_dir(&self, pod: &Pod) -> PathBuf {
        volumes::pod_dir(&self.config.pod_dir, spec::uid(pod))
    }

    /// The node's own name, as pods of its network see it.
    pub fn hostname(&self) -> String {
        let uname = rustix::system::uname();
        uname.nodename().to_string_lossy().into_owned()
    }

    /// Takes the pod, or says why the node does not. A critical one waits for others that make room.
    pub async fn admit(&self, pod: &Pod) -> Result<(), Verdict> {
        let pressure = *self.config.eviction.pressure.borrow();
        if let Some(verdict) = admission::under_pressure(pod, pressure) {
            return Err(verdict);
        }
        if *self.config.shutdown.state.borrow() {
            return Err(shutdown::refusal());
        }
        if let Some(verdict) = apparmor::refusal(pod, self.runtime.apparmor_problem()) {
            return Err(verdict);
        }
        // A server that is away may be what a static pod brings back.
        let limit = match is_static(pod) {
            true => OWN_READ_LIMIT,
            false => READ_LIMIT,
        };
        let node = self.node.get(limit).await;
        let deadline = Instant::now() + PREEMPTION_LIMIT;
        let mut room = self.room();
        let mut asked = BTreeSet::new();
        loop {
            let refused = match self.try_admit(pod, node.as_deref()) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            let Some(victims) = refused.victims else {
                return Err(refused.verdict);
            };
            for uid in victims {
                if asked.insert(uid.clone()) {
                    self.sentence(&uid, Sentence::preempted());
                }
            }
            if timeout_at(deadline, room.changed()).await.is_err() {
                return Err(refused.verdict);
            }
        }
    }

    fn try_admit(&self, pod: &Pod, node: Option<&Node>) -> Result<(), Refused> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = spec::uid(pod);
        let (requests, ports) = (others(&taken, own), other_ports(&taken, own));
        let Some(verdict) = admission::refusal(pod, node, &requests, &ports) else {
            taken.insert(own.to_owned(), Taken::by(pod));
            self.load.send_replace(());
            return Ok(());
        };
        // Only room is made: what is refused whoever else is here stays refused.
        let makes_room = is_critical(pod) && admission::refusal(pod, node, &[], &ports).is_none();
        let victims = node.filter(|_| makes_room).and_then(|node| {
            let short = admission::shortages(pod, node, &requests).into_iter();
            let missing = short.map(|short| (short.resource.clone(), short.missing()));
            let holders: Vec<Holder<'_>> = taken.iter().map(|(uid, own)| own.holder(uid)).collect();
            preempt::victims(&missing.collect(), &holders)
        });
        Err(Refused { verdict, victims })
    }

    /// Ends a pod, if it shall still run.
    pub fn sentence(&self, uid: &str, sentence: Sentence) {
        // Fails on the way down only.
        let _ = self.sentence.send((uid.to_owned(), sentence));
    }

    /// Pods that are to end, by uid. Taken once, by the manager.
    pub fn sentences(&self) -> Option<UnboundedReceiver<(String, Sentence)>> {
        let mut held = self
            .sentences
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.take()
    }

    /// Grants a pod that is here what it asks for now, or says why not.
    pub async fn resize(&self, pod: &Pod) -> Answer {
        let node = self.node.get(READ_LIMIT).await;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = spec::uid(pod);
        let others = others(&taken, own);
        let had = taken.get(own).map(|taken| &taken.requests);
        let answer = resize::decide(pod, node.as_deref(), had, &others);
        if answer == Answer::Granted {
            taken.insert(own.to_owned(), Taken::by(pod));
            drop(taken);
            self.load.send_replace(());
            self.room.send_replace(());
        }
        answer
    }

    /// The pod shall run, as it is now.
    pub fn runs(&self, pod: &Arc<Pod>) {
        let mut candidates = self.lock_candidates();
        candidates.insert(spec::uid(pod).to_owned(), pod.clone());
    }

    /// The pod is on its way out.
    pub fn ends(&self, uid: &str) {
        self.lock_candidates().remove(uid);
    }

    /// Those that shall run.
    pub fn candidates(&self) -> Vec<Arc<Pod>> {
        self.lock_candidates().values().cloned().collect()
    }

    fn lock_candidates(&self) -> MutexGuard<'_, HashMap<String, Arc<Pod>>> {
        self.candidates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a pod has something of the node.
    pub fn has(&self, uid: &str) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.contains_key(uid)
    }

    /// Changes when a pod may have given something back.
    pub fn room(&self) -> watch::Receiver<()> {
        self.room.subscribe()
    }

    /// A pod that is here already is not asked.
    pub fn take(&self, pod: &Pod) {
        let own = Taken::by(pod);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(spec::uid(pod).to_owned(), own);
        self.load.send_replace(());
    }

    /// Changes when the node's pods have more or less of it.
    pub fn load(&self) -> watch::Receiver<()> {
        self.load.subscribe()
    }

    /// The requests of all pods of a class that the node has taken.
    pub fn requests_of(&self, class: QosClass) -> Vec<ResourceList> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all = taken.values().filter(|own| own.qos == class);
        all.map(|own| own.requests.clone()).collect()
    }

    /// Gives the pod a volume that only one may have, unless another has it.
    pub fn hold_volume(&self, volume: &str, uid: &str) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.entry(volume.to_owned())
            .or_insert_with(|| uid.to_owned())
            == uid
    }

    /// What it had is free.
    pub fn release(&self, uid: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, holder| holder != uid);
        drop(held);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.remove(uid).is_some() {
            self.load.send_replace(());
            self.room.send_replace(());
        }
    }
}

fn others(taken: &HashMap<String, Taken>, own: &str) -> Vec<ResourceList> {
    let others = taken.iter().filter(|(uid, _)| *uid != own);
    others.map(|(_, taken)| taken.requests.clone()).collect()
}

fn other_ports(taken: &HashMap<String, Taken>, own: &str) -> Vec<HostPort> {
    let others = taken.iter().filter(|(uid, _)| *uid != own);
    others.flat_map(|(_, taken)| taken.ports.clone()).collect()
}
