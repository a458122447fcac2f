use super::interpreter::{Call, assert_valid, run};
use super::*;
use crate::types::tests_support::container_spec;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
/// containerd's default capabilities.
const USUAL: u64 = 0xa804_25fb;
const ADMIN: u64 = 1 << 21;

fn default_filter(native: Arch, capabilities: u64) -> Filter {
    let host = Host {
        native,
        capabilities,
        kernel: (6, 1),
    };
    build(&default::profile(), &host).unwrap()
}

#[test]
fn what_runtime_default_allows() {
    let unshare_user = libc::CLONE_NEWUSER as u64;
    // By the usual capabilities, and with CAP_SYS_ADMIN.
    let table: [(&str, &[u64], u32, u32); 29] = [
        ("read", &[], ALLOW, ALLOW),
        ("execve", &[], ALLOW, ALLOW),
        ("ptrace", &[], ALLOW, ALLOW),
        ("chroot", &[], ALLOW, ALLOW),
        ("mount", &[], EPERM, ALLOW),
        ("umount2", &[], EPERM, ALLOW),
        ("open_tree", &[], EPERM, ALLOW),
        ("unshare", &[unshare_user], EPERM, ALLOW),
        ("setns", &[], EPERM, ALLOW),
        ("clone", &[libc::SIGCHLD as u64], ALLOW, ALLOW),
        ("clone", &[unshare_user], EPERM, ALLOW),
        ("clone3", &[], ENOSYS, ALLOW),
        ("bpf", &[], EPERM, ALLOW),
        ("perf_event_open", &[], EPERM, ALLOW),
        ("socket", &[libc::AF_INET as u64], ALLOW, ALLOW),
        ("socket", &[libc::AF_ALG as u64], EPERM, EPERM),
        ("socket", &[39], ALLOW, ALLOW),
        ("socket", &[libc::AF_VSOCK as u64], EPERM, EPERM),
        ("socket", &[libc::AF_XDP as u64], ALLOW, ALLOW),
        ("personality", &[0], ALLOW, ALLOW),
        ("personality", &[8], ALLOW, ALLOW),
        ("personality", &[0xffff_ffff], ALLOW, ALLOW),
        (
            "personality",
            &[libc::ADDR_NO_RANDOMIZE as u64],
            EPERM,
            EPERM,
        ),
        ("keyctl", &[], EPERM, EPERM),
        ("add_key", &[], EPERM, EPERM),
        ("kexec_load", &[], EPERM, EPERM),
        ("io_uring_setup", &[], EPERM, EPERM),
        ("userfaultfd", &[], EPERM, EPERM),
        ("open_by_handle_at", &[], EPERM, EPERM),
    ];
    for native in [Arch::X86_64, Arch::Aarch64] {
        let usual = default_filter(native, USUAL).program;
        let admin = default_filter(native, USUAL | ADMIN).program;
        for program in [&usual, &admin] {
            assert_valid(program);
        }
        for arch in native.with_others() {
            for (name, args, by_usual, by_admin) in table {
                let call = Call::named(*arch, name, args);
                let got = (run(&usual, &call).0, run(&admin, &call).0);
                assert_eq!(got, (by_usual, by_admin), "{name} {args:x?} on {arch:?}");
            }
            let number = arch.span().start + 10_000;
            let newer = Call {
                number,
                ..Call::named(*arch, "read", &[])
            };
            assert_eq!(run(&usual, &newer).0, ENOSYS, "{arch:?}");
        }
    }
}

#[test]
fn capabilities_open_what_they_are_for() {
    for (capability, name) in [
        ("DAC_READ_SEARCH", "open_by_handle_at"),
        ("SYS_BOOT", "reboot"),
        ("SYS_CHROOT", "chroot"),
        ("SYS_MODULE", "init_module"),
        ("SYS_PACCT", "acct"),
        ("SYS_PTRACE", "pidfd_getfd"),
        ("SYS_RAWIO", "iopl"),
        ("SYS_TIME", "clock_settime"),
        ("SYS_TTY_CONFIG", "vhangup"),
        ("SYS_NICE", "mbind"),
        ("SYSLOG", "syslog"),
        ("BPF", "bpf"),
        ("PERFMON", "perf_event_open"),
    ] {
        let call = Call::named(Arch::X86_64, name, &[]);
        let mask = 1 << crate::capability::number(capability).unwrap();
        let with = default_filter(Arch::X86_64, mask).program;
        let without = default_filter(Arch::X86_64, 0).program;
        let got = (run(&with, &call).0, run(&without, &call).0);
        assert_eq!(got, (ALLOW, EPERM), "{name}");
    }
}

#[test]
fn a_usual_call_is_found_fast() {
    let program = default_filter(Arch::X86_64, USUAL).program;
    for name in ["read", "futex", "epoll_pwait2", "sendmsg", "openat"] {
        let (_, steps) = run(&program, &Call::named(Arch::X86_64, name, &[]));
        assert!(steps < 24, "{steps} instructions for {name}");
    }
}

#[test]
fn who_is_confined() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.json");
    fs::write(
        &path,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [{"names": ["uname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]}"#,
    )
    .unwrap();
    let spec = |seccomp, privileged| ContainerSpec {
        seccomp,
        privileged,
        ..container_spec()
    };
    let localhost = || Seccomp::Localhost(path.clone());
    for (seccomp, privileged, confined) in [
        (Seccomp::Unconfined, false, false),
        (Seccomp::RuntimeDefault, false, true),
        (localhost(), false, true),
        (Seccomp::RuntimeDefault, true, false),
        (localhost(), true, false),
    ] {
        let got = filter(&spec(seccomp.clone(), privileged), USUAL).unwrap();
        assert_eq!(got.is_some(), confined, "{seccomp:?} {privileged}");
    }
    let got = filter(&spec(localhost(), false), USUAL).unwrap().unwrap();
    assert_eq!(got.flags, 2);
    let call = Call::named(Arch::of_machine().unwrap(), "uname", &[]);
    assert_eq!(run(&got.program, &call).0, libc::SECCOMP_RET_ERRNO | 5);
}

#[test]
fn a_profile_that_cannot_be_used_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.json");
    let error = || {
        let spec = ContainerSpec {
            seccomp: Seccomp::Localhost(path.clone()),
            ..container_spec()
        };
        let error = filter(&spec, USUAL).unwrap_err();
        crate::Chain(&error).to_string()
    };
    assert_eq!(
        error(),
        format!("cannot load seccomp profile {path:?}: No such file or directory (os error 2)")
    );
    for (text, words) in [
        ("{", "decoding seccomp profile failed"),
        (r#"{"defaultAction": "NO"}"#, "unknown variant `NO`"),
        ("{}", "is not usable: it has no defaultAction"),
    ] {
        fs::write(&path, text).unwrap();
        let error = error();
        assert!(
            error.contains(words) && error.contains("p.json"),
            "{error}, not {words}"
        );
    }
}
