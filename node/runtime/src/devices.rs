//! Which devices a container may use: a program in the kernel, at its cgroup.
//!
//! cgroup v2 has no file for it. A program of type BPF_PROG_TYPE_CGROUP_DEVICE
//! (4.15) is asked at each open and mknod of a device by a process in the
//! cgroup or below; `vetch_ebpf_common::DeviceRequest` is what it decides by.
//! It is attached without a link, so that it goes with the cgroup and not with
//! this daemon.

mod allowed;
mod sys;

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aya_obj::Object;
use aya_obj::generated::bpf_insn;

pub use allowed::{Rule, read};

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
    #[error("looking at device {path}", path = path.display())]
    Node {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is neither a block nor a character device", path = .0.display())]
    NoDevice(PathBuf),
    #[error("{0:?}: what may be done with a device is said by r, w and m")]
    Permissions(String),
    #[error(
        "no device can be given to a container here, since no program at its cgroup allows it: {0}"
    )]
    NotAllowed(String),
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
    /// Of which it was made, for those with more before it.
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
        let program = load(&function.instructions, &object.license)?;
        let policy = DevicePolicy {
            program,
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
    /// earlier daemon attached stays. `rules` are of devices that its container has
    /// beside those of all.
    pub fn restrict(&self, cgroup: &Path, rules: &[Rule]) -> Result<(), DeviceError> {
        let dir = File::open(cgroup).map_err(failed("opening", cgroup))?;
        let attached =
            sys::attached(&dir).map_err(failed("asking for the device programs of", cgroup))?;
        if attached > 0 {
            return Ok(());
        }
        let attached = match rules {
            [] => sys::attach(&dir, &self.program),
            rules => sys::attach(&dir, self.with(rules)?),
        };
        attached.map_err(failed("attaching the device program to", cgroup))
    }

    fn with(&self, rules: &[Rule]) -> Result<OwnedFd, DeviceError> {
        let any = *self.instructions.first().ok_or(DeviceError::Missing)?;
        let before = allowed::before_all(rules).into_iter().map(|made| {
            let mut instruction = any;
            instruction.code = made.code;
            instruction.set_dst_reg(made.to);
            instruction.set_src_reg(made.from);
            instruction.off = made.offset;
            instruction.imm = made.value;
            instruction
        });
        // It jumps to no place but by distance, and is as good further down.
        let all: Vec<bpf_insn> = before.chain(self.instructions.iter().copied()).collect();
        load(&all, &self.license)
    }
}

fn load(instructions: &[bpf_insn], license: &CString) -> Result<OwnedFd, DeviceError> {
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
