//! The calls of bpf(2) with which a program is loaded and its log kept.

#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};

/// BPF_LOG_LEVEL2 and BPF_LOG_STATS of linux/bpf_verifier.h: each instruction
/// of every path, then the counts.
const EVERYTHING: u32 = 2 | 4;
/// Enough for each program at the first try, as every try verifies anew; memory
/// that the log does not reach is never touched.
const FIRST_LOG: usize = 1 << 26;
/// The kernel takes a quarter of 2³²; no program of ours comes near this.
const LARGEST_LOG: usize = 1 << 28;

pub struct ProgramLoad<'a> {
    pub kind: bpf_prog_type,
    pub attach: Option<bpf_attach_type>,
    pub flags: u32,
    pub instructions: &'a [bpf_insn],
    pub license: &'a CStr,
    pub btf: Option<BorrowedFd<'a>>,
    pub functions: Vec<u8>,
    pub function_size: usize,
    pub lines: Vec<u8>,
    pub line_size: usize,
}

/// Loads the program and lets go of it. The buffer grows until the log fits.
pub fn load_with_log(load: &ProgramLoad<'_>) -> (io::Result<()>, String) {
    let mut size = FIRST_LOG;
    loop {
        let mut log = vec![0_u8; size];
        let loaded = load_once(load, &mut log);
        let too_small = |error: &io::Error| error.raw_os_error() == Some(libc::ENOSPC);
        if loaded.as_ref().is_err_and(too_small) && size < LARGEST_LOG {
            size *= 4;
            continue;
        }
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        return (
            loaded.map(drop),
            String::from_utf8_lossy(&log[..end]).into_owned(),
        );
    }
}

fn load_once(load: &ProgramLoad<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: every bit pattern is a value of these plain integers.
    let program = unsafe { &mut attr.__bindgen_anon_3 };
    program.prog_type = load.kind as u32;
    program.expected_attach_type = load.attach.map_or(0, |attach| attach as u32);
    program.prog_flags = load.flags;
    program.insns = load.instructions.as_ptr() as u64;
    program.insn_cnt = count(load.instructions.len());
    program.license = load.license.as_ptr() as u64;
    program.log_level = EVERYTHING;
    program.log_buf = log.as_mut_ptr() as u64;
    program.log_size = count(log.len());
    if let Some(btf) = load.btf {
        program.prog_btf_fd = btf.as_raw_fd().cast_unsigned();
        if let Some(functions) = load.functions.len().checked_div(load.function_size) {
            program.func_info = load.functions.as_ptr() as u64;
            program.func_info_cnt = count(functions);
            program.func_info_rec_size = count(load.function_size);
        }
        if let Some(lines) = load.lines.len().checked_div(load.line_size) {
            program.line_info = load.lines.as_ptr() as u64;
            program.line_info_cnt = count(lines);
            program.line_info_rec_size = count(load.line_size);
        }
    }
    new_file(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

pub fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: every bit pattern is a value of these plain integers.
    let load = unsafe { &mut attr.__bindgen_anon_7 };
    load.btf = btf.as_ptr() as u64;
    load.btf_size = count(btf.len());
    new_file(bpf_cmd::BPF_BTF_LOAD, &mut attr)
}

/// The one value of the map that stands for a section of the object.
pub fn write_section(map: BorrowedFd<'_>, data: &[u8]) -> io::Result<()> {
    let mut attr = zeroed();
    let key = 0_u32;
    // SAFETY: every bit pattern is a value of these plain integers.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd().cast_unsigned();
    element.key = (&raw const key) as u64;
    element.__bindgen_anon_1.value = data.as_ptr() as u64;
    call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

pub fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd().cast_unsigned();
    call(bpf_cmd::BPF_MAP_FREEZE, &mut attr).map(drop)
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers.
    unsafe { std::mem::zeroed() }
}

/// Lengths of what is in memory here; bpf(2) counts in 32 bits.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn new_file(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: these commands answer a new file that is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: the pointers in `attr` are to buffers of the callers, of the
    // lengths beside them, that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
