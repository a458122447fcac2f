//! A program of the object, taken by the kernel.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::{
    Ebpf,
    programs::{Program as AyaProgram, ProgramError},
};

use super::HooksError;

#[derive(Debug)]
pub struct Loaded {
    pub fd: OwnedFd,
    pub(super) id: u32,
}

/// A program of the kind that packets pass, loaded and attached nowhere.
pub fn load(ebpf: &mut Ebpf, name: &'static str) -> Result<Loaded, HooksError> {
    let failed = |error| HooksError::Program {
        program: name,
        source: Box::new(error),
    };
    let missing = HooksError::Missing { program: name };
    let program = ebpf.program_mut(name).ok_or(missing)?;
    match program {
        AyaProgram::SchedClassifier(program) => program.load(),
        AyaProgram::Xdp(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
    .map_err(failed)?;
    let info = program.info().map_err(failed)?;
    let fd = program.fd().map_err(failed)?;
    let fd = fd.as_fd().try_clone_to_owned();
    Ok(Loaded {
        fd: fd.map_err(|error| failed(ProgramError::IOError(error)))?,
        id: info.id(),
    })
}
