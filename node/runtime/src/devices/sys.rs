//! bpf(2), as far as a device program needs it. aya would make every map of the
//! object to load this one program, and attaches by a link, which goes with the
//! process that holds it.

#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use aya_obj::generated::{
    BPF_F_ALLOW_MULTI, bpf_attach_type::BPF_CGROUP_DEVICE, bpf_cmd, bpf_insn,
    bpf_prog_type::BPF_PROG_TYPE_CGROUP_DEVICE,
};

/// The verifier needs a tenth of it for this program.
const LOG_SIZE: usize = 64 * 1024;

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct ProgAttach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Whole, because kernels write to fields that older ones did not have.
#[repr(C)]
#[derive(Default)]
struct ProgQuery {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// With a refusal comes what the verifier says, from the second line on.
pub fn load(instructions: &[bpf_insn], license: &CStr) -> Result<OwnedFd, (io::Error, String)> {
    let mut attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE as u32,
        insn_cnt: u32::try_from(instructions.len())
            .map_err(|error| (io::Error::other(error), String::new()))?,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"devices\0\0\0\0\0\0\0\0\0",
        prog_ifindex: 0,
        expected_attach_type: BPF_CGROUP_DEVICE as u32,
    };
    let refusal = match bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr) {
        Ok(fd) => {
            // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        Err(error) => error,
    };
    let mut log = vec![0; LOG_SIZE];
    attr.log_level = 1;
    attr.log_size = LOG_SIZE as u32;
    attr.log_buf = log.as_mut_ptr() as u64;
    if let Ok(fd) = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr) {
        // SAFETY: as above.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(LOG_SIZE);
    let mut words = String::from_utf8_lossy(&log[..end]).trim().to_owned();
    if !words.is_empty() {
        words.insert(0, '\n');
    }
    Err((refusal, words))
}

/// Beside others, which may refuse more and allow nothing that this refuses.
pub fn attach(cgroup: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let mut attr = ProgAttach {
        target_fd: raw(&cgroup),
        attach_bpf_fd: raw(&program),
        attach_type: BPF_CGROUP_DEVICE as u32,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    bpf(bpf_cmd::BPF_PROG_ATTACH, &mut attr).map(|_| ())
}

/// How many device programs are attached to this very cgroup.
pub fn attached(cgroup: impl AsFd) -> io::Result<u32> {
    let mut attr = ProgQuery {
        target_fd: raw(&cgroup),
        attach_type: BPF_CGROUP_DEVICE as u32,
        ..ProgQuery::default()
    };
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    Ok(attr.prog_cnt)
}

fn raw(fd: &impl AsFd) -> u32 {
    // Descriptors are never negative.
    fd.as_fd().as_raw_fd().unsigned_abs()
}

fn bpf<T>(command: bpf_cmd, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is the command's part of union bpf_attr with its true
    // size; pointers inside it are alive in the callers' frames.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
