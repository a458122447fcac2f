//! The other end of a link whose driver has a program.

use std::{
    ffi::c_long,
    io::Error,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

const BPF_PROG_LOAD: c_long = 5;
const BPF_LINK_CREATE: c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// The head of that command's part of `union bpf_attr`.
#[repr(C)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// Puts a program that leaves every packet to the stack at a device's driver,
/// until the descriptor is closed. A veth's end takes what a program sends back
/// (XDP_TX) only if it has a program too: without one there is no queue for
/// frames, and with GRO in place of one nobody is woken for them.
pub fn pass_at_driver(device: &str) -> OwnedFd {
    // r0 = XDP_PASS; exit
    let instructions: [u64; 2] = [0x2_0000_00b7, 0x95];
    let program = bpf(
        BPF_PROG_LOAD,
        &mut ProgLoad {
            kind: BPF_PROG_TYPE_XDP,
            count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
        },
    );
    let interface = nix::net::if_::if_nametoindex(device).unwrap();
    bpf(
        BPF_LINK_CREATE,
        &mut LinkCreate {
            program: program.as_raw_fd().unsigned_abs(),
            interface,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        },
    )
}

fn bpf<T>(command: c_long, attr: &mut T) -> OwnedFd {
    #[expect(unsafe_code, reason = "aya loads from object files only")]
    // SAFETY: `attr` is the command's part of union bpf_attr with its true
    // size; pointers inside it are alive in the caller's frame. What comes back
    // is a new descriptor that nobody else has.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>());
        assert!(fd >= 0, "bpf {command}: {}", Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    }
}
