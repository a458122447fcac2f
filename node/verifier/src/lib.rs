//! What the kernel's verifier says of each program, in its own words.
//!
//! aya 0.14 hands the verifier's log on only where a program is refused. So the
//! object is made ready here as aya makes it, over maps of its own, and each
//! program is loaded once with a log. Nothing is attached or pinned, and all is
//! gone when this returns.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
};

use aya::maps::{MapData, MapError};
use aya_obj::{
    EbpfSectionKind, Function, Map, Object, ParseError, Program, ProgramSection,
    btf::BtfError,
    generated::{bpf_attach_type, bpf_prog_type},
    relocation::EbpfRelocationError,
};

mod stack;
mod sys;

pub use stack::{Frame, LIMIT as STACK_LIMIT, Stack, stacks};
use sys::ProgramLoad;

/// One program, as this kernel takes or refuses it.
#[derive(Debug)]
pub struct Verdict {
    pub program: String,
    /// Every instruction the verifier went through, with what it knew there,
    /// and its counts at the end.
    pub log: String,
    pub refused: Option<io::Error>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the object is not readable")]
    Parse(#[from] ParseError),
    #[error("the type information of the object does not fit")]
    Btf(#[from] BtfError),
    #[error("the kernel does not take the type information of the object")]
    LoadBtf(#[source] io::Error),
    #[error("cannot make the map {name}")]
    Map {
        name: String,
        #[source]
        source: Box<MapError>,
    },
    #[error("cannot fill the map {name}")]
    Fill {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("the object does not fit together")]
    Relocation(#[from] EbpfRelocationError),
    #[error("a function of {name} calls itself")]
    Recursion { name: String },
    #[error("{name} is of a kind that is not known here: {section:?}")]
    Kind {
        name: String,
        section: ProgramSection,
    },
}

/// Sorted by the programs' names. `object` is the ELF file, aligned to 4 bytes.
pub fn verdicts(object: &[u8]) -> Result<Vec<Verdict>, Error> {
    let mut object = Object::parse(object)?;
    let btf = match aya::features().btf() {
        None => None,
        Some(features) => match object.fixup_and_sanitize_btf(features)? {
            None => None,
            Some(btf) => Some(sys::load_btf(&btf.to_bytes()).map_err(Error::LoadBtf)?),
        },
    };
    let maps = make_maps(&mut object, btf.as_ref())?;
    let text_sections: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let known = maps
        .iter()
        .map(|made| (made.name.as_str(), made.fd(), &made.definition));
    object.relocate_maps(known, &text_sections)?;
    object.relocate_calls(&text_sections)?;
    object.sanitize_functions(aya::features());

    let mut programs: Vec<(&String, &Program)> = object.programs.iter().collect();
    programs.sort_by_key(|(name, _)| *name);
    programs
        .into_iter()
        .map(|(name, program)| {
            // Linked just now.
            let function = &object.functions[&program.function_key()];
            verdict(name, program, function, btf.as_ref())
        })
        .collect()
}

/// A map of the object's, for as long as the value lives.
struct Made {
    name: String,
    definition: Map,
    data: MapData,
}

impl Made {
    fn fd(&self) -> RawFd {
        self.data.fd().as_fd().as_raw_fd()
    }
}

fn make_maps(object: &mut Object, btf: Option<&OwnedFd>) -> Result<Vec<Made>, Error> {
    let mut made = Vec::new();
    for (name, mut definition) in object.maps.drain() {
        let data = MapData::create(definition.clone(), &name, btf.map(AsFd::as_fd));
        let data = data.map_err(|source| Error::Map {
            name: name.clone(),
            source: Box::new(source),
        })?;
        let fill = |source| Error::Fill {
            name: name.clone(),
            source,
        };
        let map = data.fd().as_fd();
        if !definition.data().is_empty() {
            sys::write_section(map, definition.data_mut()).map_err(fill)?;
        }
        // Known to the verifier as constants, by which it leaves code out.
        if definition.section_kind() == EbpfSectionKind::Rodata {
            sys::freeze(map).map_err(fill)?;
        }
        made.push(Made {
            name,
            definition,
            data,
        });
    }
    Ok(made)
}

fn verdict(
    name: &str,
    program: &Program,
    function: &Function,
    btf: Option<&OwnedFd>,
) -> Result<Verdict, Error> {
    let (kind, attach, flags) = kind(&program.section).ok_or_else(|| Error::Kind {
        name: name.to_owned(),
        section: program.section.clone(),
    })?;
    let load = ProgramLoad {
        kind,
        attach,
        flags,
        instructions: &function.instructions,
        license: &program.license,
        btf: btf.map(AsFd::as_fd),
        functions: function.func_info.func_info_bytes(),
        function_size: function.func_info_rec_size,
        lines: function.line_info.line_info_bytes(),
        line_size: function.line_info_rec_size,
    };
    let (loaded, log) = sys::load_with_log(&load);
    Ok(Verdict {
        program: name.to_owned(),
        log,
        refused: loaded.err(),
    })
}

/// As aya loads them: program type, expected attach type, flags.
fn kind(section: &ProgramSection) -> Option<(bpf_prog_type, Option<bpf_attach_type>, u32)> {
    use bpf_attach_type as attach;
    use bpf_prog_type as program;
    /// linux/bpf.h
    const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
    Some(match section {
        ProgramSection::CgroupSockAddr { attach_type } => (
            program::BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
            Some((*attach_type).into()),
            0,
        ),
        ProgramSection::CgroupSock { attach_type } => (
            program::BPF_PROG_TYPE_CGROUP_SOCK,
            Some((*attach_type).into()),
            0,
        ),
        ProgramSection::CgroupSkb { attach_type } => (
            program::BPF_PROG_TYPE_CGROUP_SKB,
            attach_type.map(Into::into),
            0,
        ),
        ProgramSection::CgroupSockopt { attach_type } => (
            program::BPF_PROG_TYPE_CGROUP_SOCKOPT,
            Some((*attach_type).into()),
            0,
        ),
        ProgramSection::CgroupDevice => (
            program::BPF_PROG_TYPE_CGROUP_DEVICE,
            Some(attach::BPF_CGROUP_DEVICE),
            0,
        ),
        ProgramSection::SockOps => (
            program::BPF_PROG_TYPE_SOCK_OPS,
            Some(attach::BPF_CGROUP_SOCK_OPS),
            0,
        ),
        ProgramSection::SkMsg => (
            program::BPF_PROG_TYPE_SK_MSG,
            Some(attach::BPF_SK_MSG_VERDICT),
            0,
        ),
        ProgramSection::SkLookup => (
            program::BPF_PROG_TYPE_SK_LOOKUP,
            Some(attach::BPF_SK_LOOKUP),
            0,
        ),
        ProgramSection::SchedClassifier => (program::BPF_PROG_TYPE_SCHED_CLS, None, 0),
        ProgramSection::Xdp { frags, attach_type } => (
            program::BPF_PROG_TYPE_XDP,
            Some((*attach_type).into()),
            if *frags { BPF_F_XDP_HAS_FRAGS } else { 0 },
        ),
        _ => return None,
    })
}
