//! A look at a container's own devices, in front of the program that is every container's.
//!
//! `struct bpf_cgroup_dev_ctx` (linux/bpf.h, 4.15) has three words: what is asked for above the kind
//! of the device, its major number, its minor one. What a device of the container's own grants ends in
//! `1`, at once; all else goes on to the program behind, which finds the context where it was.

use aya_obj::generated::{
    BPF_ALU64, BPF_AND, BPF_EXIT, BPF_JMP, BPF_JNE, BPF_K, BPF_LDX, BPF_MEM, BPF_MOV, BPF_RSH,
    BPF_W, BPF_X, bpf_insn,
};

use super::nodes::{DeviceNode, Kind};

/// BPF_DEVCG_DEV_*
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
/// BPF_DEVCG_ACC_*
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// Offsets of the three words.
const ASKED: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

/// Registers: the verdict, the context, which stays, and what is made of it.
const R0: u8 = 0;
const CONTEXT: u8 = 1;
const R_ASKED: u8 = 2;
const R_MAJOR: u8 = 3;
const R_MINOR: u8 = 4;
const SCRATCH: u8 = 5;

pub fn allow(nodes: &[DeviceNode]) -> Vec<bpf_insn> {
    let mut program = vec![
        load(R_ASKED, ASKED),
        load(R_MAJOR, MAJOR),
        load(R_MINOR, MINOR),
    ];
    for node in nodes {
        let kind = match node.kind {
            Kind::Block => BLOCK,
            Kind::Character => CHARACTER,
        };
        // Major numbers have 12 bits and minor ones 20.
        let number = |number: u32| i32::try_from(number).unwrap_or(-1);
        program.extend([
            alu(BPF_MOV | BPF_X, SCRATCH, R_ASKED, 0),
            alu(BPF_AND | BPF_K, SCRATCH, 0, 0xffff),
            unless(SCRATCH, kind, 8),
            alu(BPF_MOV | BPF_X, SCRATCH, R_ASKED, 0),
            alu(BPF_RSH | BPF_K, SCRATCH, 0, 16),
            alu(BPF_AND | BPF_K, SCRATCH, 0, !granted(node)),
            unless(SCRATCH, 0, 4),
            unless(R_MAJOR, number(node.major), 3),
            unless(R_MINOR, number(node.minor), 2),
            alu(BPF_MOV | BPF_K, R0, 0, 1),
            instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
        ]);
    }
    program
}

fn granted(node: &DeviceNode) -> i32 {
    let access = node.access;
    let bit = |may, bit| if may { bit } else { 0 };
    bit(access.make, MAKE) | bit(access.read, READ) | bit(access.write, WRITE)
}

fn load(to: u8, offset: i16) -> bpf_insn {
    instruction(BPF_LDX | BPF_MEM | BPF_W, to, CONTEXT, offset, 0)
}

fn alu(operation: u32, to: u8, from: u8, value: i32) -> bpf_insn {
    instruction(BPF_ALU64 | operation, to, from, 0, value)
}

/// Skips so many, unless the register has that value.
fn unless(register: u8, value: i32, skip: i16) -> bpf_insn {
    instruction(BPF_JMP | BPF_JNE | BPF_K, register, 0, skip, value)
}

fn instruction(code: u32, to: u8, from: u8, offset: i16, value: i32) -> bpf_insn {
    bpf_insn {
        // All codes have 8 bits.
        code: code as u8,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(to, from),
        off: offset,
        imm: value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DeviceAccess;

    /// Runs it as the kernel would: whether it allows the request by itself. Knows the instructions
    /// of this file and no others.
    fn allows(program: &[bpf_insn], context: [u32; 3]) -> bool {
        let mut registers = [0_u64; 6];
        let mut at = 0;
        while let Some(one) = program.get(at) {
            let (to, from) = (usize::from(one.dst_reg()), usize::from(one.src_reg()));
            let value = i64::from(one.imm).cast_unsigned();
            at += 1;
            match u32::from(one.code) {
                0x61 => {
                    assert_eq!(from, 1, "only the context is read");
                    registers[to] = context[usize::try_from(one.off).unwrap() / 4].into();
                }
                0xbf => registers[to] = registers[from],
                0xb7 => registers[to] = value,
                0x57 => registers[to] &= value,
                0x77 => registers[to] >>= value,
                0x55 if registers[to] != value => at += usize::try_from(one.off).unwrap(),
                0x55 => {}
                0x95 => return registers[0] == 1,
                other => panic!("{other:#x}"),
            }
        }
        // On to the program behind.
        assert_eq!(at, program.len());
        false
    }

    #[test]
    fn a_device_grants_what_it_says_and_no_other_device() {
        let node = |kind, major, minor, access: &str| DeviceNode {
            host_path: "/dev/x".into(),
            container_path: "/dev/x".into(),
            kind,
            major,
            minor,
            access: DeviceAccess {
                read: access.contains('r'),
                write: access.contains('w'),
                make: access.contains('m'),
            },
        };
        let program = allow(&[
            node(Kind::Character, 10, 229, "rw"),
            node(Kind::Block, 7, 3, "r"),
            node(Kind::Character, 4095, 0xf_ffff, "m"),
        ]);
        let (block, character) = (1, 2);
        for (kind, major, minor, granted) in [
            (character, 10, 229, READ | WRITE),
            (block, 7, 3, READ),
            (character, 4095, 0xf_ffff, MAKE),
            (block, 10, 229, -1),
            (character, 10, 228, -1),
            (character, 229, 10, -1),
            (character, 7, 3, -1),
        ] {
            for access in 0..=7 {
                let asked = u32::try_from(access << 16 | kind).unwrap();
                let may = granted >= 0 && access & !granted == 0;
                assert_eq!(
                    allows(&program, [asked, major, minor]),
                    may,
                    "{kind} {major}:{minor} {access:03b}"
                );
            }
        }
        assert!(!allows(&allow(&[]), [2 << 16 | 2, 1, 3]));
    }
}
