//! Which system calls a container may make: from a profile to what seccomp(2)
//! is given.
//!
//! ```text
//! default.rs ──┐
//! JSON ────────┴ profile.rs ── rules.rs ── compile.rs ── assemble.rs
//!               names, actions   numbers     a search     instructions
//!                                tables.rs   tree
//! ```
//!
//! Profiles are those of the OCI's runtime-spec
//! (<https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp>),
//! with Docker's additions: `archMap`, and `includes` and `excludes` by
//! capability, architecture and kernel, which containerd reads over. They mean
//! what they mean to runc (libcontainer/seccomp, and libseccomp below it):
//!
//! | rule | |
//! |---|---|
//! | names that no architecture here knows | are read over |
//! | a rule whose action is the default one | is read over |
//! | a rule without conditions | decides its call whatever the others say; the first of such |
//! | rules with conditions | the first that holds; all conditions of a rule must, or one of them where two look at the same argument |
//! | architectures that the profile does not name | kill the thread; the machine's own is always named |
//! | calls newer than all that the profile names | ENOSYS, where it refuses by default: a C library takes that for an old kernel and goes another way, while EPERM is an answer (`patchbpf` in runc) |
//!
//! A filter loads the architecture, then the call's number, and finds it by
//! halves among ranges of numbers that fare alike, some eight comparisons for the
//! default profile. Since Linux 5.11 the kernel finds out by itself which calls
//! are always allowed, and runs no filter for them.
//!
//! On a 32-bit x86 kernel interface, `socketcall` and `ipc` stand for the calls
//! they lead to where a rule has no conditions; conditions would have to look at
//! memory, which a filter cannot.

mod assemble;
mod compile;
mod default;
#[cfg(test)]
mod interpreter;
mod profile;
mod rules;
mod tables;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use vetch_shim::protocol::Filter;

use crate::types::{ContainerSpec, Seccomp};
use profile::Profile;
use rules::Host;
use tables::Arch;

/// In containerd's words where it has some.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error("cannot load seccomp profile {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("decoding seccomp profile failed {path:?}")]
    Decode {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("seccomp profile {path:?} is not usable")]
    Localhost {
        path: PathBuf,
        #[source]
        source: ProfileError,
    },
    #[error("the default seccomp profile is not usable")]
    Default(#[source] ProfileError),
    #[error("no seccomp profile is known for this machine's architecture")]
    Machine,
}

/// What is wrong in a profile that is well-formed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("it has no defaultAction")]
    NoDefaultAction,
    #[error("SCMP_ACT_NOTIFY is not supported by this node: nobody here answers for the kernel")]
    Notify,
    #[error("it has both architectures and archMap: use one of them")]
    BothArchitectures,
    #[error("unknown architecture {0:?}")]
    UnknownArchitecture(String),
    #[error("a rule has both name and names: use one of them")]
    BothNames,
    #[error("unknown flag {0:?}")]
    UnknownFlag(String),
    #[error("minKernel {0:?} is not a version such as \"4.8\"")]
    Kernel(String),
    #[error("errno {0} is over 4095")]
    Errno(u32),
    #[error("a rule for {call} looks at argument {index}: a call has six, from 0")]
    Argument { call: String, index: u32 },
    #[error("its filter would have {0} instructions; the kernel takes 4096")]
    TooLong(usize),
}

/// What the container's processes are confined by, given the capabilities in its
/// bounding set. Reads the profile's file.
pub fn filter(spec: &ContainerSpec, capabilities: u64) -> Result<Option<Filter>, SeccompError> {
    // As in containerd: whoever may do all to the machine may make all calls.
    if spec.privileged {
        return Ok(None);
    }
    match &spec.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => {
            let filter = build(&default::profile(), &host(capabilities)?);
            filter.map(Some).map_err(SeccompError::Default)
        }
        Seccomp::Localhost(path) => {
            let filter = build(&read(path)?, &host(capabilities)?);
            filter.map(Some).map_err(|source| SeccompError::Localhost {
                path: path.clone(),
                source,
            })
        }
    }
}

fn read(path: &Path) -> Result<Profile, SeccompError> {
    let text = fs::read(path).map_err(|source| SeccompError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| SeccompError::Decode {
        path: path.to_owned(),
        source,
    })
}

fn build(profile: &Profile, host: &Host) -> Result<Filter, ProfileError> {
    Ok(Filter {
        flags: profile.flags()?,
        program: compile::compile(&rules::decide(profile, host)?)?,
    })
}

fn host(capabilities: u64) -> Result<Host, SeccompError> {
    let uname = rustix::system::uname();
    Ok(Host {
        native: Arch::of_machine().ok_or(SeccompError::Machine)?,
        capabilities,
        // One that does not say is as old as any.
        kernel: profile::version(&uname.release().to_string_lossy()).unwrap_or_default(),
    })
}
