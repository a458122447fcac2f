//! Which events somebody wants to see. Pure.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use serde::Serialize;

use super::FlowEvent;
use crate::diff::ServiceId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Without words.
    Drop,
    /// The client was told.
    Refusal,
    /// It was given a backend of its service.
    Translate,
    /// It leaves the cluster with the node's address.
    Masquerade,
    /// NetworkPolicies let it begin.
    Allow,
}

impl Verdict {
    pub const ALL: [Self; 5] = [
        Self::Drop,
        Self::Refusal,
        Self::Translate,
        Self::Masquerade,
        Self::Allow,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Refusal => "refusal",
            Self::Translate => "translate",
            Self::Masquerade => "masquerade",
            Self::Allow => "allow",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|one| one.as_str() == text);
        named.ok_or_else(|| "a verdict is drop, refusal, translate, masquerade or allow".into())
    }
}

/// What is not said lets all through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// It is an end of it, before or after translation.
    pub pod: Option<IpAddr>,
    /// Numbers of service-ports.
    pub services: Option<BTreeSet<ServiceId>>,
    pub verdicts: BTreeSet<Verdict>,
}

impl FlowFilter {
    pub fn lets(&self, event: &FlowEvent) -> bool {
        let ends = [
            event.source,
            event.destination,
            event.backend.map(|backend| backend.ip()),
        ];
        let of_pod = self.pod.is_none_or(|pod| ends.contains(&Some(pod)));
        let of_service = match (&self.services, event.service) {
            (None, _) => true,
            (Some(wanted), service) => service.is_some_and(|number| wanted.contains(&number)),
        };
        let of_verdict = self.verdicts.is_empty() || self.verdicts.contains(&event.verdict);
        of_pod && of_service && of_verdict
    }
}
