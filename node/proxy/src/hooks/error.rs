//! What may not work of programs at links.

use std::io;

use aya::programs::ProgramError;

use super::{TableError, plan::Program};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HooksError {
    #[error("the program {program} is missing from the object: run cargo xtask build")]
    Missing { program: &'static str },
    #[error("the kernel does not take the program {program}")]
    Program {
        program: &'static str,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("cannot tell the node's network namespace (5.14 is needed)")]
    Netns(#[source] io::Error),
    #[error("programs are attached by a thread in another network namespace than the node's")]
    WrongNetns,
    #[error("cannot ask the kernel for {what}")]
    Look {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot {step} the program {program} at link {link}")]
    Step {
        step: &'static str,
        program: &'static str,
        link: String,
        #[source]
        source: io::Error,
    },
    #[error("no uplink {name}: no such link, or not of Ethernet, or a pod's")]
    NoUplink { name: String },
    /// The uplink is served all the same, by the programs in the stack.
    #[error(
        "cannot {step} the program {} at the driver of link {link}: what comes for other nodes takes \
         the stack's way",
        Program::FromWire.name()
    )]
    Driver {
        step: &'static str,
        link: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "another's XDP program is at link {link} and stays: what comes for other nodes takes the \
         stack's way"
    )]
    DriverTaken { link: String },
    #[error(transparent)]
    Table(#[from] TableError),
}

impl HooksError {
    /// Whether a moment may change it; with each change of links it is tried
    /// again anyhow, and a driver is not asked every second.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(self, Self::Driver { .. } | Self::DriverTaken { .. })
    }
}
