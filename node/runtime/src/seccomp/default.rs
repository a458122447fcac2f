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

use super::profile::{Action, Argument, Operator, Profile, Rule, Where};

/// Those that machines here may have.
const ARCHITECTURES: [&str; 5] = [
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
];

/// What every container may call, whatever the arguments.
const ALWAYS: [&[&str]; 12] = [
    DESCRIPTORS,
    FILES,
    ATTRIBUTES,
    WAITING,
    SOCKETS,
    MESSAGES,
    MEMORY,
    PROCESSES,
    USERS,
    SIGNALS,
    TIME,
    OTHERS,
];

/// Reading and writing: what may be opened was decided at open.
const DESCRIPTORS: &[&str] = &[
    "close",
    "close_range",
    "copy_file_range",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "fcntl64",
    "ioctl",
    "lseek",
    "_llseek",
    "pipe",
    "pipe2",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readv",
    "sendfile",
    "sendfile64",
    "splice",
    "tee",
    "vmsplice",
    "write",
    "writev",
    // Without a ring of io_uring's.
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_pgetevents_time64",
    "io_setup",
    "io_submit",
];

/// Names and contents, within the container's own mounts.
const FILES: &[&str] = &[
    "access",
    "arm_fadvise64_64",
    "arm_sync_file_range",
    "cachestat",
    "chdir",
    "creat",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fadvise64_64",
    "fallocate",
    "fchdir",
    "fdatasync",
    "flock",
    "fsync",
    "ftruncate",
    "ftruncate64",
    "getcwd",
    "getdents",
    "getdents64",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "name_to_handle_at",
    "open",
    "openat",
    "openat2",
    "readahead",
    "readlink",
    "readlinkat",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "sync_file_range2",
    "syncfs",
    "truncate",
    "truncate64",
    "umask",
    "unlink",
    "unlinkat",
];

/// What is known of files and file systems, and who owns them.
const ATTRIBUTES: &[&str] = &[
    "chmod",
    "chown",
    "chown32",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchown32",
    "fchownat",
    "fgetxattr",
    "flistxattr",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstat64",
    "fstatat64",
    "fstatfs",
    "fstatfs64",
    "futimesat",
    "getxattr",
    "getxattrat",
    "lchown",
    "lchown32",
    "lgetxattr",
    "listmount",
    "listxattr",
    "listxattrat",
    "llistxattr",
    "lremovexattr",
    "lsetxattr",
    "lstat",
    "lstat64",
    "newfstatat",
    "removexattr",
    "removexattrat",
    "setxattr",
    "setxattrat",
    "stat",
    "stat64",
    "statfs",
    "statfs64",
    "statmount",
    "statx",
    "utime",
    "utimensat",
    "utimensat_time64",
    "utimes",
];

/// For something to happen.
const WAITING: &[&str] = &[
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_ctl_old",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "epoll_wait_old",
    "eventfd",
    "eventfd2",
    "fanotify_mark",
    "futex",
    "futex_requeue",
    "futex_time64",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "get_robust_list",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "_newselect",
    "poll",
    "ppoll",
    "ppoll_time64",
    "pselect6",
    "pselect6_time64",
    "select",
    "set_robust_list",
];

/// Within the network namespace. What kind may be made is below.
const SOCKETS: &[&str] = &[
    "accept",
    "accept4",
    "bind",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "recv",
    "recvfrom",
    "recvmmsg",
    "recvmmsg_time64",
    "recvmsg",
    "send",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socketcall",
    "socketpair",
];

/// Within the IPC namespace.
const MESSAGES: &[&str] = &[
    "ipc",
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedreceive_time64",
    "mq_timedsend",
    "mq_timedsend_time64",
    "mq_unlink",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "semtimedop_time64",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
];

/// The caller's own.
const MEMORY: &[&str] = &[
    "brk",
    "cacheflush",
    "madvise",
    "map_shadow_stack",
    "membarrier",
    "memfd_create",
    "memfd_secret",
    "mincore",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mmap2",
    "mprotect",
    "mremap",
    "mseal",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "remap_file_pages",
];

/// Starting, ending, scheduling and looking into those that the kernel's own
/// checks leave to the caller. Of `clone` the rest is below.
const PROCESSES: &[&str] = &[
    "arch_prctl",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "fork",
    "getcpu",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getrlimit",
    "getrusage",
    "getsid",
    "get_thread_area",
    "gettid",
    "ioprio_get",
    "ioprio_set",
    "modify_ldt",
    "pidfd_open",
    "prctl",
    "prlimit64",
    "process_mrelease",
    // Since Linux 4.8 a tracer cannot lead a process past its filter.
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "rseq",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_rr_get_interval_time64",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "set_thread_area",
    "set_tid_address",
    "set_tls",
    "setpgid",
    "setpriority",
    "setrlimit",
    "setsid",
    "ugetrlimit",
    "vfork",
    "wait4",
    "waitid",
    "waitpid",
];

/// The kernel asks for capabilities where more is gained than is held.
const USERS: &[&str] = &[
    "capget",
    "capset",
    "getegid",
    "getegid32",
    "geteuid",
    "geteuid32",
    "getgid",
    "getgid32",
    "getgroups",
    "getgroups32",
    "getresgid",
    "getresgid32",
    "getresuid",
    "getresuid32",
    "getuid",
    "getuid32",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "seccomp",
    "setfsgid",
    "setfsgid32",
    "setfsuid",
    "setfsuid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setuid",
    "setuid32",
];

/// To processes of the PID namespace.
const SIGNALS: &[&str] = &[
    "kill",
    "pause",
    "pidfd_send_signal",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo",
    "sigaltstack",
    "signalfd",
    "signalfd4",
    "sigprocmask",
    "sigreturn",
    "tgkill",
    "tkill",
];

/// Clocks are read; what would set one of these the kernel refuses without
/// CAP_SYS_TIME.
const TIME: &[&str] = &[
    "adjtimex",
    "alarm",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_getres",
    "clock_getres_time64",
    "clock_gettime",
    "clock_gettime64",
    "clock_nanosleep",
    "clock_nanosleep_time64",
    "getitimer",
    "gettimeofday",
    "nanosleep",
    "setitimer",
    "time",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_gettime64",
    "timer_settime",
    "timer_settime64",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_gettime64",
    "timerfd_settime",
    "timerfd_settime64",
    "times",
];

/// What machine it is, and what only some machines have.
const OTHERS: &[&str] = &["breakpoint", "getrandom", "sysinfo", "uname", "uretprobe"];

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
    let mut syscalls: Vec<Rule> = ALWAYS
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
