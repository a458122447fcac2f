//! Devices that one container has beside those of no harm: read from the node's files, and allowed by a
//! few instructions before the program that all containers have.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use rustix::fs::{major, minor};
use serde::{Deserialize, Serialize};
use vetch_shim::protocol::DeviceNode;

use super::DeviceError;
use crate::types::Device;

/// `enum` of the kernel's linux/bpf.h (4.15), as are those below.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// What a cgroup allows of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    kind: i32,
    major: i32,
    minor: i32,
    access: i32,
}

/// The node that is made in the container, and what may be done with it there.
pub fn read(device: &Device) -> Result<(DeviceNode, Rule), DeviceError> {
    let path = &device.host_path;
    let meta = fs::metadata(path).map_err(|source| DeviceError::Node {
        path: path.clone(),
        source,
    })?;
    let kind = meta.file_type();
    let block = kind.is_block_device();
    if !block && !kind.is_char_device() {
        return Err(DeviceError::NoDevice(path.clone()));
    }
    let number = meta.rdev();
    let node = DeviceNode {
        path: device.container_path.clone(),
        block,
        number,
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    };
    // The kernel has 12 bits of the one and 20 of the other.
    let part = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let rule = Rule {
        kind: if block { BLOCK } else { CHARACTER },
        major: part(major(number)),
        minor: part(minor(number)),
        access: access(&device.permissions)?,
    };
    Ok((node, rule))
}

/// Any node may be made, as by the program for all.
fn access(permissions: &str) -> Result<i32, DeviceError> {
    permissions.chars().try_fold(MAKE, |access, letter| {
        Ok(access
            | match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MAKE,
                _ => return Err(DeviceError::Permissions(permissions.to_owned())),
            })
    })
}

/// `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u8,
    pub to: u8,
    pub from: u8,
    pub offset: i16,
    pub value: i32,
}

// BPF_LDX|BPF_MEM|BPF_W, and of 64 bits with a value: BPF_AND, BPF_RSH, BPF_JNE, BPF_MOV.
const LOAD: u8 = 0x61;
const COPY: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const UNLESS_EQUAL: u8 = 0x55;
const SET: u8 = 0xb7;
const EXIT: u8 = 0x95;

const RESULT: u8 = 0;
/// `struct bpf_cgroup_dev_ctx`: access_type, major, minor. Left as it is for what follows.
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const MAJOR: u8 = 3;
const MINOR: u8 = 4;
const KIND: u8 = 5;

/// Decides on the devices of `rules`, and goes on behind its end with all others.
pub fn before_all(rules: &[Rule]) -> Vec<Instruction> {
    let mut all = vec![
        load(ACCESS, 0),
        load(MAJOR, 4),
        load(MINOR, 8),
        Instruction {
            from: ACCESS,
            ..with(COPY, KIND, 0)
        },
        with(AND, KIND, 0xffff),
        with(SHIFT_RIGHT, ACCESS, 16),
    ];
    for rule in rules {
        all.extend([
            unless(KIND, rule.kind, 7),
            unless(MAJOR, rule.major, 6),
            unless(MINOR, rule.minor, 5),
            // What is asked for and not granted.
            with(AND, ACCESS, !rule.access),
            with(SET, RESULT, 0),
            unless(ACCESS, 0, 1),
            with(SET, RESULT, 1),
            with(EXIT, 0, 0),
        ]);
    }
    all
}

fn with(code: u8, to: u8, value: i32) -> Instruction {
    Instruction {
        code,
        to,
        from: 0,
        offset: 0,
        value,
    }
}

fn load(to: u8, offset: i16) -> Instruction {
    Instruction {
        from: CONTEXT,
        offset,
        ..with(LOAD, to, 0)
    }
}

/// Goes `offset` instructions further unless the register has the value.
fn unless(register: u8, value: i32, offset: i16) -> Instruction {
    Instruction {
        offset,
        ..with(UNLESS_EQUAL, register, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel runs it: what it returns, or nothing where it goes on behind the end.
    fn run(program: &[Instruction], context: [u32; 3]) -> Option<u64> {
        let mut registers = [0_u64; 11];
        let mut at = 0;
        while let Some(instruction) = program.get(at) {
            at += 1;
            let to = usize::from(instruction.to);
            // Sign-extended.
            let value = i64::from(instruction.value).cast_unsigned();
            match instruction.code {
                LOAD => {
                    assert_eq!(instruction.from, CONTEXT);
                    let field = usize::try_from(instruction.offset).unwrap() / 4;
                    registers[to] = context[field].into();
                }
                COPY => registers[to] = registers[usize::from(instruction.from)],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                SET => registers[to] = value,
                UNLESS_EQUAL if registers[to] != value => {
                    at += usize::try_from(instruction.offset).unwrap();
                }
                UNLESS_EQUAL => {}
                EXIT => return Some(registers[usize::from(RESULT)]),
                other => panic!("{other:#x}"),
            }
        }
        None
    }

    #[test]
    fn a_device_is_used_as_it_was_granted() {
        let rule = |kind, major, minor, permissions| Rule {
            kind,
            major,
            minor,
            access: access(permissions).unwrap(),
        };
        let program = before_all(&[rule(BLOCK, 8, 0, "r"), rule(CHARACTER, 10, 229, "rwm")]);
        for (kind, asked, major, minor, want) in [
            (BLOCK, READ, 8, 0, Some(1)),
            (BLOCK, MAKE, 8, 0, Some(1)),
            (BLOCK, READ | MAKE, 8, 0, Some(1)),
            (BLOCK, WRITE, 8, 0, Some(0)),
            (BLOCK, READ | WRITE, 8, 0, Some(0)),
            (CHARACTER, READ | WRITE, 10, 229, Some(1)),
            // All else is for the program behind.
            (CHARACTER, READ, 8, 0, None),
            (BLOCK, READ, 8, 1, None),
            (BLOCK, READ, 9, 0, None),
            (BLOCK, READ, 10, 229, None),
            (CHARACTER, READ, 1, 3, None),
        ] {
            let context = [asked << 16 | kind, major, minor].map(i32::cast_unsigned);
            assert_eq!(
                run(&program, context),
                want,
                "{kind} {asked:03b} {major}:{minor}"
            );
        }
        assert_eq!(run(&before_all(&[]), [0, 0, 0]), None);
        assert!(access("rx").is_err());
    }

    #[test]
    fn what_is_no_device_is_none() {
        let device = |path: &str| Device {
            host_path: path.into(),
            container_path: "/dev/x".into(),
            permissions: "rw".into(),
        };
        let (node, rule) = read(&device("/dev/null")).unwrap();
        assert_eq!((node.block, rule.kind), (false, CHARACTER));
        assert_eq!((rule.major, rule.minor), (1, 3));
        for (path, told) in [
            (
                "/proc/self/stat",
                "/proc/self/stat is neither a block nor a character device",
            ),
            ("/none/of/these", "looking at device /none/of/these"),
        ] {
            assert_eq!(read(&device(path)).unwrap_err().to_string(), told);
        }
    }
}
