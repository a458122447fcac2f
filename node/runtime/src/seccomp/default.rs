//! What a container may call by RuntimeDefault: as much as by the default
//! profiles of containerd and Docker
//! (<https://docs.docker.com/engine/security/seccomp/>).
//!
//! Named is what programs need and what the kernel confines by the caller's
//! capabilities and namespaces. Not named, and so refused with EPERM, are calls
//!
//! - that act on the whole machine (`kexec_load`, `swapon`, `reboot`, modules,
//!   clocks, accounting), though the kernel asks for capabilities there too;
//! - that know nothing of namespaces (`add_key`, `request_key`, `keyctl`);
//! - that make or join namespaces and mounts: within a user namespace everybody
//!   reaches kernel code that was written for root alone;
//! - with a history of ways out (`io_uring_setup` and what belongs to it,
//!   `userfaultfd`, `bpf`, `perf_event_open`, `open_by_handle_at`);
//! - of long ago (`uselib`, `ustat`, `sysfs`, `_sysctl`, `vm86`).
//!
//! A container with the capability that the kernel asks for anyway gets the
//! calls that it was given for.

mod calls;

use super::profile::{Action, Argument, Operator, Profile, Rule, Where};

/// Those that machines here may have.
const ARCHITECTURES: [&str; 5] = [
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
];

/// What the kernel does for whoever holds the capability.
const BY_CAPABILITY: [(&str, &[&str]); 14] = [
    // Past directories that may not be entered.
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (ADMIN, ADMINISTRATION),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    (
        "CAP_SYS_MODULE",
        &["delete_module", "finit_module", "init_module"],
    ),
    ("CAP_SYS_PACCT", &["acct"]),
    (
        "CAP_SYS_PTRACE",
        &["kcmp", "pidfd_getfd", "process_madvise"],
    ),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    (
        "CAP_SYS_TIME",
        &["clock_settime", "clock_settime64", "settimeofday", "stime"],
    ),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    (
        "CAP_SYS_NICE",
        &[
            "get_mempolicy",
            "mbind",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

const ADMIN: &str = "CAP_SYS_ADMIN";

/// Mounts, namespaces, and what older kernels ask CAP_SYS_ADMIN for.
const ADMINISTRATION: &[&str] = &[
    "bpf",
    "clone",
    "clone3",
    "fanotify_init",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "lookup_dcookie",
    "lsm_get_self_attr",
    "lsm_list_modules",
    "lsm_set_self_attr",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "perf_event_open",
    "quotactl",
    "quotactl_fd",
    "setdomainname",
    "sethostname",
    "setns",
    "syslog",
    "umount",
    "umount2",
    "unshare",
];

/// linux/personality.h
const PER_LINUX32: u64 = 8;

const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

pub fn profile() -> Profile {
    let mut syscalls: Vec<Rule> = calls::ALWAYS
        .iter()
        .map(|names| Rule::new(names, Action::Allow))
        .collect();
    syscalls.extend(sockets());
    syscalls.extend(personalities());
    syscalls.extend(BY_CAPABILITY.iter().map(|(capability, names)| Rule {
        includes: holds(capability),
        ..Rule::new(names, Action::Allow)
    }));
    syscalls.extend(clones());
    Profile {
        default_action: Some(Action::Errno),
        architectures: ARCHITECTURES.map(str::to_owned).into(),
        syscalls,
        ..Profile::default()
    }
}

/// All families but AF_ALG, the kernel's cryptography, and AF_VSOCK, which
/// knows no network namespaces and leads to the host of a virtual machine.
fn sockets() -> [Rule; 3] {
    let (alg, vsock) = (libc::AF_ALG as u64, libc::AF_VSOCK as u64);
    [
        (Operator::Less, alg),
        (Operator::Equal, alg + 1),
        (Operator::Greater, vsock),
    ]
    .map(|(op, family)| when("socket", op, family))
}

/// Linux, and Linux as 32-bit programs see it, each with UNAME26 or without; and
/// the question which it is. Others switch protections off.
fn personalities() -> [Rule; 5] {
    let (linux32, uname26) = (PER_LINUX32, libc::UNAME26 as u64);
    [0, linux32, uname26, linux32 | uname26, 0xffff_ffff]
        .map(|persona| when("personality", Operator::Equal, persona))
}

/// No new namespaces. What clone3 is asked for is in memory, where no filter
/// looks; told that there is none, C libraries use clone
/// (<https://github.com/moby/moby/pull/42681>).
fn clones() -> [Rule; 2] {
    [
        Rule {
            excludes: holds(ADMIN),
            ..when("clone", Operator::MaskedEqual, NAMESPACES as u64)
        },
        Rule {
            errno_ret: Some(libc::ENOSYS as u32),
            excludes: holds(ADMIN),
            ..Rule::new(&["clone3"], Action::Errno)
        },
    ]
}

/// By the first argument. Of a masked one nothing is left.
fn when(call: &str, op: Operator, value: u64) -> Rule {
    Rule {
        args: vec![Argument {
            index: 0,
            value,
            value_two: 0,
            op,
        }],
        ..Rule::new(&[call], Action::Allow)
    }
}

fn holds(capability: &str) -> Where {
    Where {
        caps: vec![capability.to_owned()],
        ..Where::default()
    }
}
