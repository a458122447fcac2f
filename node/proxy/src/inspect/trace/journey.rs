//! What a packet has behind it, and how it ends.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use vetch_ebpf_common::{Pod, Reason};

use super::choice::Candidate;

/// A place at which something is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// The program, or `pod`, `node`, `stack`.
    pub at: &'static str,
    /// What happens there, and why.
    pub what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// To a pod of this node, or to the node's own stack.
    Delivered,
    /// This node, for another or the network.
    Leaves,
    /// With words for who sends it.
    Refused,
    Dropped,
    /// The stack has no route for it.
    Unreachable,
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Leaves => "leaves",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
            Self::Unreachable => "unreachable",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    /// None of what is for no service.
    pub backend: Option<SocketAddr>,
    /// How many of the list's slots are its, of how many.
    pub slots: Option<[usize; 2]>,
    pub hops: Vec<Hop>,
    pub outcome: Outcome,
    /// As the counters name it.
    pub reason: Option<&'static str>,
}

impl Way {
    /// After a choice.
    pub fn to(self, backend: &Candidate) -> Self {
        Self {
            backend: Some(backend.address),
            slots: Some(backend.slots),
            ..self
        }
    }
}

/// A packet after translation.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: SocketAddr,
}

/// Whose packet a program has in hand.
#[derive(Clone, Copy, Debug)]
pub enum Sender<'a> {
    Pod(&'a Pod),
    Node,
    Uplink,
    Tunnel,
}

impl Sender<'_> {
    /// The program that sees it first.
    pub const fn hook(&self) -> &'static str {
        match self {
            Self::Pod(_) => "from_pod",
            Self::Node => "node",
            Self::Uplink => "from_net",
            Self::Tunnel => "from_tunnel",
        }
    }
}

/// Why it goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub why: String,
}

#[derive(Clone, Debug, Default)]
pub struct Journey {
    pub hops: Vec<Hop>,
}

impl Journey {
    pub fn at(at: &'static str, what: impl Into<String>) -> Self {
        Self::default().hop(at, what)
    }

    pub fn hop(mut self, at: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        self.hops.push(Hop { at, what });
        self
    }

    pub fn and(self, at: &'static str, all: Vec<String>) -> Self {
        all.into_iter().fold(self, |own, what| own.hop(at, what))
    }

    /// Who is told another source than the sender's.
    pub fn seen_as(self, was: IpAddr, is: IpAddr) -> Self {
        if was == is {
            return self;
        }
        self.hop(
            "nat",
            format!("the backend sees {is}, so that it answers this node"),
        )
    }

    pub fn delivered(self, at: &'static str, what: impl Into<String>) -> Way {
        self.hop(at, what).ends(Outcome::Delivered, None)
    }

    pub fn leaves(self, at: &'static str, what: impl Into<String>) -> Way {
        self.hop(at, what).ends(Outcome::Leaves, None)
    }

    pub fn unreachable(self, what: impl Into<String>) -> Way {
        self.hop("stack", what).ends(Outcome::Unreachable, None)
    }

    pub fn dropped(self, at: &'static str, reason: Reason, why: impl Into<String>) -> Way {
        self.hop(at, why).ends(Outcome::Dropped, Some(reason))
    }

    /// As the programs do it for this reason.
    pub fn fails(self, at: &'static str, reason: Reason, why: impl Into<String>) -> Way {
        let outcome = if reason.refuses() {
            Outcome::Refused
        } else {
            Outcome::Dropped
        };
        self.hop(at, why).ends(outcome, Some(reason))
    }

    pub fn turned_away(self, at: &'static str, refusal: Refusal) -> Way {
        self.fails(at, refusal.reason, refusal.why)
    }

    fn ends(self, outcome: Outcome, reason: Option<Reason>) -> Way {
        Way {
            backend: None,
            slots: None,
            hops: self.hops,
            outcome,
            reason: reason.map(Reason::as_str),
        }
    }
}
