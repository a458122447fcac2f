//! Which devices a container may use: a program in the kernel, at its cgroup.
//!
//! cgroup v2 has no file for it. A program of type BPF_PROG_TYPE_CGROUP_DEVICE
//! (4.15) is asked at each open and mknod of a device by a process in the
//! cgroup or below; `vetch_ebpf_common::DeviceRequest` is what it decides by.
//! It is attached without a link, so that it goes with the cgroup and not with
//! this daemon. A container that has more devices than all have (`nodes.rs`) has a
//! program of its own: the same one, behind a look at those (`rules.rs`).

pub mod nodes;
mod rules;
mod sys;

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aya_obj::Object;
use aya_obj::generated::bpf_insn;

pub use nodes::DeviceNode;

/// Its function in the object.
const PROGRAM: &str = "devices";
/// Below the root, for a moment.
const TRIAL: &str = "vetch-devices-trial";

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("built without eBPF programs: run cargo xtask build")]
    NoPrograms,
    #[error("the eBPF programs are no object")]
    Object(#[source] Box<aya_obj::ParseError>),
    #[error("the program {PROGRAM} is missing from the object: run cargo xtask build")]
    Missing,
    #[error("the kernel does not take the program {PROGRAM}{log}")]
    Load {
        /// What the verifier says, if anything.
        log: String,
        #[source]
        source: io::Error,
    },
    #[error("device {path}", path = path.display())]
    Node {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is no device and no directory of some", path = path.display())]
    NoDevice { path: PathBuf },
    #[error(
        "device {path} can only be had to read and to write, since no device cgroup decides: {problem}",
        path = path.display()
    )]
    Undecided { path: PathBuf, problem: String },
    #[error("{action} cgroup {path}", path = path.display())]
    Cgroup {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The loaded program; where it is attached it stays without this.
#[derive(Debug)]
pub struct DevicePolicy {
    program: OwnedFd,
    /// What it is made of.
    instructions: Vec<bpf_insn>,
    license: CString,
}

impl DevicePolicy {
    /// Tries the program at a cgroup made for that below `root`: what an
    /// ancestor forbids is found now and not at each container.
    pub fn load(root: &Path) -> Result<DevicePolicy, DeviceError> {
        let bytes = vetch_ebpf_object::object().ok_or(DeviceError::NoPrograms)?;
        let object = Object::parse(bytes).map_err(|error| DeviceError::Object(Box::new(error)))?;
        let function = object
            .programs
            .get(PROGRAM)
            .and_then(|program| object.functions.get(&program.function_key()))
            .ok_or(DeviceError::Missing)?;
        let policy = DevicePolicy {
            program: load(&function.instructions, &object.license)?,
            instructions: function.instructions.clone(),
            license: object.license.clone(),
        };

        let trial = root.join(TRIAL);
        match fs::create_dir(&trial) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("making", &trial)(error));
            }
            _ => {}
        }
        let tried = policy.restrict(&trial, &[]);
        fs::remove_dir(&trial).map_err(failed("removing", &trial))?;
        tried.map(|()| policy)
    }

    /// Holds for what runs in `cgroup` already, too. Idempotent: one that an
    /// earlier daemon attached stays. `more` may be used beside what all may.
    pub fn restrict(&self, cgroup: &Path, more: &[DeviceNode]) -> Result<(), DeviceError> {
        let dir = File::open(cgroup).map_err(failed("opening", cgroup))?;
        let attached =
            sys::attached(&dir).map_err(failed("asking for the device programs of", cgroup))?;
        if attached != 0 {
            return Ok(());
        }
        let attach = |program: &OwnedFd| {
            sys::attach(&dir, program).map_err(failed("attaching the device program to", cgroup))
        };
        if more.is_empty() {
            return attach(&self.program);
        }
        let mut instructions = rules::allow(more);
        instructions.extend(&self.instructions);
        attach(&load(&instructions, &self.license)?)
    }
}

fn load(instructions: &[bpf_insn], license: &CStr) -> Result<OwnedFd, DeviceError> {
    sys::load(instructions, license).map_err(|(source, log)| DeviceError::Load { log, source })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DeviceError + use<> {
    let path = path.to_owned();
    move |source| DeviceError::Cgroup {
        action,
        path,
        source,
    }
}
