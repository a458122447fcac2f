//! Programs at the node's cgroup, of either kind.

use std::{fs::File, os::fd::BorrowedFd};

use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSockAddr, Program, ProgramError, SockOps,
        links::{FdLink, LinkError},
    },
};

pub enum AtCgroup<'a> {
    /// Asked for the address of a call.
    Address(&'a mut CgroupSockAddr),
    /// Told of a connection.
    Connection(&'a mut SockOps),
}

/// The step that failed.
pub enum AttachError {
    Program(ProgramError),
    Link(LinkError),
}

impl<'a> AtCgroup<'a> {
    /// By its name; None if the object has no such program.
    pub fn find(ebpf: &'a mut Ebpf, name: &str) -> Option<Self> {
        match ebpf.program_mut(name)? {
            Program::CgroupSockAddr(program) => Some(Self::Address(program)),
            Program::SockOps(program) => Some(Self::Connection(program)),
            _ => None,
        }
    }

    pub fn load(&mut self) -> Result<(), ProgramError> {
        match self {
            Self::Address(program) => program.load(),
            Self::Connection(program) => program.load(),
        }
    }

    pub fn id(&self) -> Result<u32, ProgramError> {
        let info = match self {
            Self::Address(program) => program.info(),
            Self::Connection(program) => program.info(),
        };
        info.map(|info| info.id())
    }

    pub fn fd(&self) -> Result<BorrowedFd<'_>, ProgramError> {
        use std::os::fd::AsFd as _;
        let fd = match self {
            Self::Address(program) => program.fd(),
            Self::Connection(program) => program.fd(),
        };
        fd.map(|fd| fd.as_fd())
    }

    /// Links to a cgroup always allow others beside them.
    pub fn attach(&mut self, cgroup: &File) -> Result<FdLink, AttachError> {
        let link = match self {
            Self::Address(program) => {
                let id = program.attach(cgroup, CgroupAttachMode::Single);
                let link = id.and_then(|id| program.take_link(id));
                FdLink::try_from(link.map_err(AttachError::Program)?)
            }
            Self::Connection(program) => {
                let id = program.attach(cgroup, CgroupAttachMode::Single);
                let link = id.and_then(|id| program.take_link(id));
                FdLink::try_from(link.map_err(AttachError::Program)?)
            }
        };
        link.map_err(AttachError::Link)
    }
}
