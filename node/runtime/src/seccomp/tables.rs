//! Architectures as seccomp(2) tells them apart, and the numbers of their calls.

use std::ops::Range;

use syscalls::{aarch64, arm, x86, x86_64};

use super::ProfileError;

/// linux/audit.h
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
const AUDIT_ARCH_ARM: u32 = 0x4000_0028;

/// A call of x32 is one of x86_64's with this bit, for the kernel and here.
const X32_BIT: u32 = 0x4000_0000;
/// arm/asm/unistd.h: calls of ARM alone are above.
const ARM_BASE: u32 = 0xf_0000;

/// Calls that x32 has its own numbers for: structures of 32-bit pointers.
/// arch/x86/entry/syscalls/syscall_64.tbl, in order from 512.
const X32: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];
const X32_FIRST: u32 = 512;

const ARM_OWN: [(&str, u32); 3] = [("breakpoint", 1), ("cacheflush", 2), ("set_tls", 5)];

/// linux/net.h: first argument of socketcall, from 1.
const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// linux/ipc.h: low half of the first argument of ipc.
const IPC: [(&str, u32); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    X32,
    X86,
    Aarch64,
    Arm,
}

/// A call that leads to others, by its first argument.
pub struct Door {
    pub number: u32,
    pub mask: u64,
    pub value: u64,
}

impl Arch {
    pub fn of_machine() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Arch::X86_64),
            "aarch64" => Some(Arch::Aarch64),
            _ => None,
        }
    }

    /// None of a known one that this node's machines do not have.
    pub fn named(name: &str) -> Result<Option<Arch>, ProfileError> {
        match name {
            "SCMP_ARCH_X86_64" => Ok(Some(Arch::X86_64)),
            "SCMP_ARCH_X32" => Ok(Some(Arch::X32)),
            "SCMP_ARCH_X86" => Ok(Some(Arch::X86)),
            "SCMP_ARCH_AARCH64" => Ok(Some(Arch::Aarch64)),
            "SCMP_ARCH_ARM" => Ok(Some(Arch::Arm)),
            "SCMP_ARCH_LOONGARCH64"
            | "SCMP_ARCH_MIPS"
            | "SCMP_ARCH_MIPS64"
            | "SCMP_ARCH_MIPS64N32"
            | "SCMP_ARCH_MIPSEL"
            | "SCMP_ARCH_MIPSEL64"
            | "SCMP_ARCH_MIPSEL64N32"
            | "SCMP_ARCH_PPC"
            | "SCMP_ARCH_PPC64"
            | "SCMP_ARCH_PPC64LE"
            | "SCMP_ARCH_RISCV64"
            | "SCMP_ARCH_S390"
            | "SCMP_ARCH_S390X" => Ok(None),
            _ => Err(ProfileError::UnknownArchitecture(name.to_owned())),
        }
    }

    /// As Docker's `arches` have it.
    pub fn go_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::X32 => "x32",
            Arch::X86 => "x86",
            Arch::Aarch64 => "arm64",
            Arch::Arm => "arm",
        }
    }

    /// What a kernel of `self` runs.
    pub fn with_others(self) -> &'static [Arch] {
        match self {
            Arch::X86_64 | Arch::X32 | Arch::X86 => &[Arch::X86_64, Arch::X32, Arch::X86],
            Arch::Aarch64 | Arch::Arm => &[Arch::Aarch64, Arch::Arm],
        }
    }

    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => AUDIT_ARCH_X86_64,
            Arch::X86 => AUDIT_ARCH_I386,
            Arch::Aarch64 => AUDIT_ARCH_AARCH64,
            Arch::Arm => AUDIT_ARCH_ARM,
        }
    }

    /// Where calls of the common kind may be. The last number is none: a tracer
    /// says by it that there is no call.
    pub fn span(self) -> Range<u32> {
        match self {
            Arch::X86_64 => 0..X32_BIT,
            Arch::X32 => X32_BIT..u32::MAX,
            Arch::X86 | Arch::Aarch64 => 0..u32::MAX,
            Arch::Arm => 0..ARM_BASE,
        }
    }

    pub fn number(self, name: &str) -> Option<u32> {
        match self {
            Arch::X86_64 => Some(name.parse::<x86_64::Sysno>().ok()?.id() as u32),
            Arch::X32 => {
                let own = X32.iter().position(|own| *own == name);
                let number = match own {
                    Some(index) => X32_FIRST + index as u32,
                    None => Arch::X86_64.number(name)?,
                };
                Some(number | X32_BIT)
            }
            Arch::X86 => Some(name.parse::<x86::Sysno>().ok()?.id() as u32),
            Arch::Aarch64 => Some(name.parse::<aarch64::Sysno>().ok()?.id() as u32),
            Arch::Arm => {
                let own = ARM_OWN.iter().find(|(own, _)| *own == name);
                match own {
                    Some((_, number)) => Some(ARM_BASE + number),
                    None => Some(name.parse::<arm::Sysno>().ok()?.id() as u32),
                }
            }
        }
    }

    /// Another way to `name`.
    pub fn door(self, name: &str) -> Option<Door> {
        if self != Arch::X86 {
            return None;
        }
        if let Some(index) = SOCKETCALL.iter().position(|known| *known == name) {
            return Some(Door {
                number: self.number("socketcall")?,
                mask: u64::MAX,
                value: index as u64 + 1,
            });
        }
        let (_, value) = IPC.iter().find(|(known, _)| *known == name)?;
        Some(Door {
            number: self.number("ipc")?,
            // Above is a version.
            mask: 0xffff,
            value: u64::from(*value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_by_architecture() {
        for (name, want) in [
            ("read", [Some(0), Some(X32_BIT), Some(3), Some(63), Some(3)]),
            (
                "ioctl",
                [Some(16), Some(X32_BIT + 514), Some(54), Some(29), Some(54)],
            ),
            (
                "pwritev2",
                [
                    Some(328),
                    Some(X32_BIT + 547),
                    Some(379),
                    Some(287),
                    Some(393),
                ],
            ),
            ("_llseek", [None, None, Some(140), None, Some(140)]),
            ("set_tls", [None, None, None, None, Some(0xf_0005)]),
            (
                "clone3",
                [
                    Some(435),
                    Some(X32_BIT + 435),
                    Some(435),
                    Some(435),
                    Some(435),
                ],
            ),
            ("nothing", [None; 5]),
        ] {
            let all = [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm];
            assert_eq!(all.map(|arch| arch.number(name)), want, "{name}");
        }
    }

    #[test]
    fn doors_are_of_x86_alone() {
        let door = |arch: Arch, name| arch.door(name).map(|door| (door.number, door.value));
        assert_eq!(door(Arch::X86, "sendmmsg"), Some((102, 20)));
        assert_eq!(door(Arch::X86, "shmctl"), Some((117, 24)));
        assert_eq!(door(Arch::X86, "read"), None);
        assert_eq!(door(Arch::X86_64, "connect"), None);
    }
}
