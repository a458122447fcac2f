use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::seccomp::interpreter::{Call, assert_valid, run};
use crate::seccomp::profile::{Action, Profile, Rule};
use crate::seccomp::rules::{self, Host};
use crate::seccomp::tables::Arch;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_THREAD;
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

const ARCHES: [(&str, Arch); 5] = [
    ("SCMP_ARCH_X86_64", Arch::X86_64),
    ("SCMP_ARCH_X32", Arch::X32),
    ("SCMP_ARCH_X86", Arch::X86),
    ("SCMP_ARCH_AARCH64", Arch::Aarch64),
    ("SCMP_ARCH_ARM", Arch::Arm),
];
const NAMES: [&str; 16] = [
    "read",
    "write",
    "ioctl",
    "mkdirat",
    "socket",
    "connect",
    "socketcall",
    "shmget",
    "ipc",
    "personality",
    "rt_sigaction",
    "pwritev2",
    "clone3",
    "set_tls",
    "_llseek",
    "no_such_call",
];
const OPERATORS: [Operator; 7] = [
    Operator::Equal,
    Operator::NotEqual,
    Operator::Less,
    Operator::LessOrEqual,
    Operator::Greater,
    Operator::GreaterOrEqual,
    Operator::MaskedEqual,
];
/// Around what 32 bits hold, and first arguments of socketcall and ipc.
const VALUES: [u64; 12] = [
    0,
    1,
    3,
    23,
    0x1_0017,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x1_ffff_ffff,
    0x2_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];

fn host(native: Arch) -> Host {
    Host {
        native,
        capabilities: 0,
        kernel: (6, 1),
    }
}

fn program(profile: &Profile, host: &Host) -> Result<Vec<Instruction>, ProfileError> {
    compile(&rules::decide(profile, host)?)
}

fn random_rule(random: &mut StdRng) -> Rule {
    let actions = [
        Action::Allow,
        Action::Errno,
        Action::KillProcess,
        Action::Trap,
        Action::Log,
    ];
    let mut names = || *NAMES.choose(random).unwrap();
    let names = [names(), names()];
    let conditions = [0, 0, 1, 1, 2, 3].choose(random).copied().unwrap();
    Rule {
        errno_ret: random.random_bool(0.5).then(|| random.random_range(1..5)),
        args: (0..conditions).map(|_| random_condition(random)).collect(),
        ..Rule::new(&names, *actions.choose(random).unwrap())
    }
}

fn random_condition(random: &mut StdRng) -> Argument {
    Argument {
        index: random.random_range(0..6),
        value: *VALUES.choose(random).unwrap(),
        value_two: *VALUES.choose(random).unwrap(),
        op: *OPERATORS.choose(random).unwrap(),
    }
}

fn random_profile(random: &mut StdRng) -> Profile {
    let defaults = [
        Action::Allow,
        Action::Errno,
        Action::KillThread,
        Action::Log,
    ];
    Profile {
        default_action: defaults.choose(random).copied(),
        default_errno_ret: random.random_bool(0.5).then(|| random.random_range(1..5)),
        architectures: ARCHES
            .iter()
            .filter(|_| random.random_bool(0.6))
            .map(|(name, _)| (*name).to_owned())
            .collect(),
        syscalls: (0..random.random_range(0..12))
            .map(|_| random_rule(random))
            .collect(),
        ..Profile::default()
    }
}

fn random_call(random: &mut StdRng) -> Call {
    let (_, arch) = ARCHES.choose(random).unwrap();
    let named = NAMES.choose(random).and_then(|name| arch.number(name));
    let number = match random.random_range(0..8) {
        0 => u32::MAX,
        1 => random.random(),
        2 => named.unwrap_or(0).wrapping_add(1),
        3 => named.unwrap_or(1).wrapping_sub(1),
        _ => named.unwrap_or(0),
    };
    Call {
        audit: arch.audit(),
        number,
        args: std::array::from_fn(|_| *VALUES.choose(random).unwrap()),
    }
}

/// The rules of `seccomp.rs`, word by word.
fn expected(profile: &Profile, native: Arch, call: &Call) -> u32 {
    let default = profile.default_action.unwrap();
    let default = default.value(profile.default_errno_ret).unwrap();
    let listed = |arch: Arch| {
        let names = &profile.architectures;
        let named =
            |(name, known): &(&str, Arch)| *known == arch && names.iter().any(|n| n == name);
        arch == native || ARCHES.iter().any(named)
    };
    let of_kernel = |arch: &&(&str, Arch)| arch.1.audit() == call.audit;
    let mut arches = ARCHES.iter().filter(of_kernel).map(|(_, arch)| *arch);
    let base = arches.next().unwrap();
    if !native.with_others().contains(&base) || !listed(base) {
        return KILL;
    }
    if call.number == u32::MAX {
        return default;
    }
    let x32 = base == Arch::X86_64 && call.number >= 0x4000_0000;
    let arch = if x32 { Arch::X32 } else { base };
    if !listed(arch) {
        return KILL;
    }

    let mut always = None;
    let mut sometimes = None;
    let mut newest = None;
    for rule in &profile.syscalls {
        let action = rule.action.value(rule.errno_ret).unwrap();
        let counts = action != default;
        for name in &rule.names {
            let number = arch.number(name);
            newest = newest.max(number.filter(|number| arch.span().contains(number)));
            if number == Some(call.number) && counts {
                if rule.args.is_empty() {
                    always = always.or(Some(action));
                } else if satisfied(&rule.args, call) {
                    sometimes = sometimes.or(Some(action));
                }
            }
            if let Some(door) = arch.door(name).filter(|_| rule.args.is_empty()) {
                newest = newest.max(Some(door.number));
                let through = door.number == call.number && call.args[0] & door.mask == door.value;
                if through && counts {
                    sometimes = sometimes.or(Some(action));
                }
            }
        }
    }
    let permissive = matches!(profile.default_action, Some(Action::Allow | Action::Log));
    let new =
        newest.is_some_and(|newest| call.number > newest) && arch.span().contains(&call.number);
    let otherwise = if new && !permissive { UNKNOWN } else { default };
    always.or(sometimes).unwrap_or(otherwise)
}

fn satisfied(args: &[Argument], call: &Call) -> bool {
    let holds = |arg: &Argument| {
        let got = call.args[arg.index as usize];
        match arg.op {
            Operator::Equal => got == arg.value,
            Operator::NotEqual => got != arg.value,
            Operator::Less => got < arg.value,
            Operator::LessOrEqual => got <= arg.value,
            Operator::Greater => got > arg.value,
            Operator::GreaterOrEqual => got >= arg.value,
            Operator::MaskedEqual => got & arg.value == arg.value_two & arg.value,
        }
    };
    let mut indices: Vec<u32> = args.iter().map(|arg| arg.index).collect();
    indices.sort_unstable();
    if indices.windows(2).any(|pair| pair[0] == pair[1]) {
        args.iter().any(holds)
    } else {
        args.iter().all(holds)
    }
}

#[test]
fn a_filter_says_what_its_profile_says() {
    for seed in 0..400 {
        let mut random = StdRng::seed_from_u64(seed);
        let profile = random_profile(&mut random);
        for native in [Arch::X86_64, Arch::Aarch64] {
            let program = program(&profile, &host(native)).unwrap();
            assert_valid(&program);
            for _ in 0..200 {
                let call = random_call(&mut random);
                assert_eq!(
                    run(&program, &call).0,
                    expected(&profile, native, &call),
                    "seed {seed} on {native:?}: {call:x?} by {profile:#?}"
                );
            }
        }
    }
}

/// Every call by itself, so that ways through the program are long.
fn many(random: &mut StdRng, conditions: usize) -> Profile {
    let rules = syscalls::x86_64::Sysno::iter().map(|call| Rule {
        errno_ret: Some(call.id() as u32 + 2),
        args: (0..conditions)
            .map(|index| Argument {
                index: index as u32,
                ..random_condition(random)
            })
            .collect(),
        ..Rule::new(&[call.name()], Action::Errno)
    });
    Profile {
        default_action: Some(Action::Errno),
        syscalls: rules.collect(),
        ..Profile::default()
    }
}

#[test]
fn long_ways_arrive() {
    let mut random = StdRng::seed_from_u64(1);
    for conditions in [0, 1] {
        let profile = many(&mut random, conditions);
        let program = program(&profile, &host(Arch::X86_64)).unwrap();
        assert!(program.len() > 700, "{}", program.len());
        assert_valid(&program);
        for number in 0..512 {
            let args = std::array::from_fn(|_| *VALUES.choose(&mut random).unwrap());
            let call = Call {
                audit: Arch::X86_64.audit(),
                number,
                args,
            };
            let (got, steps) = run(&program, &call);
            assert_eq!(got, expected(&profile, Arch::X86_64, &call), "{call:x?}");
            // Halves of some 500 ranges, each perhaps with a jump on the way.
            assert!(steps < 40, "{steps} instructions for call {number}");
        }
    }
}

#[test]
fn more_than_the_kernel_takes_is_refused() {
    let mut random = StdRng::seed_from_u64(2);
    let profile = many(&mut random, 6);
    let error = program(&profile, &host(Arch::X86_64)).unwrap_err();
    assert!(
        matches!(error, ProfileError::TooLong(length) if length > 4096),
        "{error}"
    );
}

#[test]
fn rules_of_docker_s_are_for_some() {
    let parse = |text: &str| serde_json::from_str::<Profile>(text).unwrap();
    let with = |place: &str| {
        parse(&format!(
            r#"{{"defaultAction": "SCMP_ACT_KILL", "archMap": [{{"architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86"]}}, {{"architecture": "SCMP_ARCH_S390X", "subArchitectures": null}}],
            "syscalls": [{{"name": "mount", "action": "SCMP_ACT_ALLOW", {place}}}]}}"#
        ))
    };
    let admin = Host {
        capabilities: 1 << 21,
        ..host(Arch::X86_64)
    };
    for (place, plain, by_admin) in [
        (r#""includes": {}"#, ALLOW, ALLOW),
        (r#""includes": {"caps": ["CAP_SYS_ADMIN"]}"#, KILL, ALLOW),
        (
            r#""includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}"#,
            KILL,
            KILL,
        ),
        (
            r#""excludes": {"caps": ["CAP_BPF", "CAP_SYS_ADMIN"]}"#,
            ALLOW,
            KILL,
        ),
        (r#""includes": {"caps": ["CAP_NO_SUCH"]}"#, KILL, KILL),
        (
            r#""includes": {"arches": ["arm64", "amd64"]}"#,
            ALLOW,
            ALLOW,
        ),
        (r#""includes": {"arches": ["x86"]}"#, KILL, KILL),
        (r#""excludes": {"arches": ["amd64"]}"#, KILL, KILL),
        (r#""includes": {"minKernel": "6.1"}"#, ALLOW, ALLOW),
        (r#""includes": {"minKernel": "6.2"}"#, KILL, KILL),
        (r#""excludes": {"minKernel": "5.19"}"#, KILL, KILL),
    ] {
        for (host, want) in [(host(Arch::X86_64), plain), (admin, by_admin)] {
            let program = program(&with(place), &host).unwrap();
            for arch in [Arch::X86_64, Arch::X86] {
                let got = run(&program, &Call::named(arch, "mount", &[])).0;
                assert_eq!(got, want, "{place} of {host:?} for {arch:?}");
            }
            let x32 = Call::named(Arch::X32, "mount", &[]);
            assert_eq!(run(&program, &x32).0, KILL);
        }
    }
}

#[test]
fn what_cannot_be_a_filter_says_why() {
    for (text, want) in [
        ("{}", ProfileError::NoDefaultAction),
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
            ProfileError::Notify,
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            ProfileError::Notify,
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]}"#,
            ProfileError::UnknownArchitecture("SCMP_ARCH_PDP11".into()),
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86"}]}"#,
            ProfileError::BothArchitectures,
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_LOG"}]}"#,
            ProfileError::BothNames,
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "action": "SCMP_ACT_LOG", "includes": {"minKernel": "new"}}]}"#,
            ProfileError::Kernel("new".into()),
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "action": "SCMP_ACT_LOG", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            ProfileError::Argument {
                call: "a".into(),
                index: 6,
            },
        ),
    ] {
        let profile: Profile = serde_json::from_str(text).unwrap();
        let error = program(&profile, &host(Arch::X86_64)).unwrap_err();
        assert_eq!(error, want, "{text}");
    }
}
