//! What the kernel made of the programs: read from the kernel, through the pinned links.

use std::{collections::BTreeSet, fs, io, os::fd::AsFd as _, path::Path};

use aya::programs::loaded_programs;
use serde::Serialize;

use crate::{Error, hooks, programs::ProgramsError, sys};

/// A program as it answers its hook now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadedProgram {
    /// `connect4`, `from_pod`, …
    pub hook: String,
    pub id: u32,
    /// Instructions the verifier went through, over all paths; its limit is 1,000,000
    /// (Linux 5.16 and newer say it).
    pub verified_instructions: Option<u32>,
    /// Bytes of bytecode after the verifier's rewriting.
    pub translated_bytes: Option<u32>,
    /// Bytes of machine code; 0 where the JIT is off.
    pub jited_bytes: u32,
}

/// Every program that is attached through a link below `pin_dir`, or by a filter
/// of ours in the calling thread's network namespace, by its hook's name. One at
/// many links is there once.
pub fn loaded(pin_dir: &Path) -> Result<Vec<LoadedProgram>, Error> {
    let links = pin_dir.join("links");
    let failed = |step, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| ProgramsError::Io { step, path, source }
    };
    let mut hooks = BTreeSet::new();
    for entry in fs::read_dir(&links).map_err(failed("list", &links))? {
        let path = entry.map_err(failed("list", &links))?.path();
        let link = sys::obj_get(&path).map_err(failed("open", &path))?;
        let info = sys::link_info(link.as_fd()).map_err(failed("inspect", &path))?;
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        let hook = name.split('-').next().unwrap_or_default();
        hooks.insert((hook.to_owned(), info.program_id));
    }
    let filters = hooks::filters()?;
    hooks.extend(filters.map(|(program, id)| (program.name().to_owned(), id)));
    // A program that was unloaded between the listing and the look is none.
    let known: Vec<_> = loaded_programs().filter_map(Result::ok).collect();
    let programs = hooks.into_iter().filter_map(|(hook, id)| {
        let info = known.iter().find(|info| info.id() == id)?;
        Some(LoadedProgram {
            hook,
            id,
            verified_instructions: info.verified_instruction_count(),
            translated_bytes: info.size_translated(),
            jited_bytes: info.size_jitted(),
        })
    });
    Ok(programs.collect())
}
