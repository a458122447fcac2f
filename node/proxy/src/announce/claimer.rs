//! Asks others for the addresses that this node would announce, one lot after
//! the other.
//!
//! Input: wishes, uplinks and the other nodes' addresses. Output: which of the
//! wishes nobody stands against, and news of who does.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    io,
    net::IpAddr,
    time::Instant,
};

use tokio::task::JoinHandle;
use tracing::warn;
use vetch_ebpf_common::Mac;

use super::{
    Uplink,
    claims::{Claims, Conflict},
    probe::who_has,
};

/// By address.
type Answers = io::Result<BTreeMap<IpAddr, Mac>>;

#[derive(Debug, Default)]
pub struct Claimer {
    claims: Claims,
    uplinks: Vec<Uplink>,
    nodes: BTreeSet<IpAddr>,
    asking: Option<(BTreeSet<IpAddr>, JoinHandle<Answers>)>,
}

impl Claimer {
    /// As [`Claims::set`]; `at` are where others are asked, and the addresses of
    /// the other nodes: a node that announced an address before this one answers
    /// until it hears of the change, or for ever if its daemon is dead.
    pub fn set(
        &mut self,
        wanted: BTreeSet<IpAddr>,
        has: &BTreeSet<IpAddr>,
        at: (&[Uplink], &BTreeSet<IpAddr>),
    ) {
        self.claims.set(&wanted, has);
        self.uplinks = at.0.to_vec();
        self.nodes.clone_from(at.1);
    }

    pub fn held(&self) -> BTreeSet<IpAddr> {
        self.claims.held()
    }

    /// As [`Claims::taken`].
    pub fn taken(&self) -> usize {
        self.claims.taken()
    }

    /// Pends until others were asked: then [`Claimer::held`] may have changed.
    /// Returns the conflicts that are news. Loses nothing when it is dropped.
    pub async fn next(&mut self) -> Vec<Conflict> {
        loop {
            if let Some((asked, asking)) = &mut self.asking {
                let ended = asking.await;
                let asked = std::mem::take(asked);
                self.asking = None;
                let by = match ended {
                    Ok(Ok(by)) => by,
                    // As if there were no such thing as asking.
                    Ok(Err(error)) => {
                        warn!(%error, "cannot ask the link who has an address; it is taken for free");
                        BTreeMap::new()
                    }
                    Err(error) => {
                        warn!(%error, "asking the link who has an address died; it is taken for free");
                        BTreeMap::new()
                    }
                };
                return self.claims.answered(&asked, &by, Instant::now());
            }
            match self.claims.due(Instant::now()) {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => pending().await,
            }
            let asked = self.claims.ask(Instant::now());
            let (uplinks, nodes) = (self.uplinks.clone(), self.nodes.clone());
            let job = {
                let asked = asked.clone();
                move || who_has(&uplinks, &asked, &nodes)
            };
            self.asking = Some((asked, tokio::task::spawn_blocking(job)));
        }
    }
}
