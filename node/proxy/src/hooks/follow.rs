//! When the programs at links are looked after: a pod came or went, something
//! of the node's network changed, or something did not work a moment ago.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::warn;
use vetch_ebpf_common::PeerPods;
use vetch_network::Guarded;

use super::{AttachedPods, HeldPods, Hooks, HooksError, Pods};
use crate::{announce::Uplink, netlink::Changes, proxy::chain};

/// Changes of links come in bursts, our own among them: looked at together.
const BURST: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(1);

pub struct Follow {
    hooks: Hooks,
    pods: AttachedPods,
    /// `None` once they cannot be had any more; the audit remains.
    changes: Option<Changes>,
    /// A look is due.
    look: Option<Instant>,
    /// Said once, not with every try.
    told: BTreeSet<String>,
    guarded: watch::Sender<Guarded>,
}

impl Follow {
    /// In a tokio runtime whose threads are in the node's network namespace.
    pub fn new(hooks: Hooks, pods: AttachedPods) -> Result<Self, HooksError> {
        let changes = Changes::open().map_err(|source| HooksError::Look {
            what: "changes of links",
            source,
        })?;
        Ok(Self {
            hooks,
            pods,
            changes: Some(changes),
            look: None,
            told: BTreeSet::new(),
            guarded: watch::Sender::default(),
        })
    }

    /// Tells whose programs are at their links and know their policies, which somebody
    /// will say.
    pub fn guarding(mut self, guarded: watch::Sender<Guarded>) -> Self {
        self.guarded = guarded;
        self.hooks.expect_policies();
        self
    }

    pub fn set_held(&mut self, held: HeldPods) {
        self.hooks.set_held(held);
    }

    /// The sets of rules by which pods are held now.
    pub fn sets(&self) -> BTreeMap<IpAddr, [u16; 2]> {
        self.hooks.sets()
    }

    /// The attached pods, as they were told last.
    pub fn attached(&self) -> Option<Arc<Pods>> {
        self.pods.borrow().clone()
    }

    /// The node's own addresses; fresh after [`Follow::act`].
    pub fn node_addresses(&self) -> &BTreeSet<IpAddr> {
        self.hooks.node_addresses()
    }

    pub fn uplinks(&self) -> Vec<Uplink> {
        self.hooks.uplinks()
    }

    pub fn tunnel(&self) -> Option<Uplink> {
        self.hooks.tunnel()
    }

    pub fn ways(&self, pods: &BTreeSet<IpNet>) -> BTreeMap<IpNet, PeerPods> {
        self.hooks.ways(pods)
    }

    pub fn uplink_addresses(&self) -> BTreeMap<u32, BTreeSet<IpAddr>> {
        self.hooks.uplink_addresses()
    }

    /// Looks, without changing anything: what comes first in a daemon.
    pub fn look(&mut self) {
        let looked = self.hooks.look();
        self.tell(looked.err().into_iter().collect());
    }

    /// Pends until [`Follow::act`] is called for. Nothing is lost when the
    /// future is dropped.
    pub async fn due(&mut self) {
        loop {
            tokio::select! {
                // Without a network any more the daemon is about to end.
                Ok(()) = self.pods.changed() => {
                    self.pods.mark_changed();
                    return;
                }
                changed = next(&mut self.changes) => match changed {
                    Ok(()) => self.look = self.look.or(Some(Instant::now() + BURST)),
                    Err(error) => {
                        warn!(%error, "changes of links are not told any more: they are looked for once a minute");
                        self.changes = None;
                    }
                },
                () = at(self.look) => return,
            }
        }
    }

    pub fn act(&mut self) {
        let pods = self.pods.borrow_and_update().clone();
        self.hooks.set_pods(pods);
        let mut problems = Vec::new();
        if self.look.is_some_and(|due| due <= Instant::now()) {
            self.look = None;
            problems.extend(self.hooks.look().err());
        }
        problems.extend(self.hooks.act());
        self.retry(problems);
    }

    /// Also what nobody tells: links that were detached, maps that were changed.
    pub fn audit(&mut self) {
        let pods = self.pods.borrow_and_update().clone();
        self.hooks.set_pods(pods);
        let problems = self.hooks.audit();
        self.retry(problems);
    }

    fn retry(&mut self, problems: Vec<HooksError>) {
        let guarded = self.hooks.guarded();
        self.guarded.send_if_modified(|told| {
            let news = **told != guarded;
            if news {
                *told = Arc::new(guarded);
            }
            news
        });
        if problems.iter().any(HooksError::may_pass) {
            self.look = self.look.or(Some(Instant::now() + RETRY));
        }
        self.tell(problems);
    }

    fn tell(&mut self, problems: Vec<HooksError>) {
        let problems: BTreeSet<String> = problems.iter().map(|problem| chain(problem)).collect();
        for problem in problems.difference(&self.told) {
            warn!(error = problem, "packets are not all handled at links");
        }
        self.told = problems;
    }
}

async fn next(changes: &mut Option<Changes>) -> std::io::Result<()> {
    match changes {
        Some(changes) => changes.next().await,
        None => pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
