//! What a Service asks for and does not get.

/// For an Event at the Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    #[error(
        "SCTP port {port} leads to port {target} of endpoints; SCTP is served only where both are the same"
    )]
    SctpPort { port: u16, target: u16 },
    #[error("balance \"{0}\" is none of random, maglev and least; backends are chosen at random")]
    Balance(String),
    #[error(
        "weight \"{0}\" of an EndpointSlice is not a number from 1 to 100; its endpoints weigh 1"
    )]
    Weight(String),
    #[error("source range \"{0}\" is not a CIDR; it lets nobody in")]
    SourceRange(String),
    #[error("address \"{0}\" cannot be a service's; it is not served")]
    Address(String),
}

impl Problem {
    /// The Event's.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SctpPort { .. } => "SctpPortNotServed",
            Self::Balance(_) => "UnknownBalance",
            Self::Weight(_) => "InvalidWeight",
            Self::SourceRange(_) => "InvalidSourceRange",
            Self::Address(_) => "InvalidAddress",
        }
    }
}
