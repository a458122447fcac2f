//! Classic BPF as seccomp(2) takes it, so that tests ask a filter without a
//! process for each question.

use vetch_shim::protocol::Instruction;

use super::tables::Arch;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const ALWAYS: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const GREATER_OR_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;

/// `struct seccomp_data`, but for the address of the call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub audit: u32,
    pub number: u32,
    pub args: [u64; 6],
}

impl Call {
    pub fn named(arch: Arch, name: &str, args: &[u64]) -> Call {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        Call {
            audit: arch.audit(),
            number: arch.number(name).unwrap_or_else(|| panic!("no {name}")),
            args: all,
        }
    }

    fn word(&self, offset: u32) -> u32 {
        let argument = |index: u32| self.args[index as usize];
        match offset {
            0 => self.number,
            4 => self.audit,
            16.. if offset % 8 == 0 => argument((offset - 16) / 8) as u32,
            16.. if offset % 8 == 4 => (argument((offset - 20) / 8) >> 32) as u32,
            _ => panic!("no word at {offset}"),
        }
    }
}

/// What it returns, and after how many instructions.
pub fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let mut loaded = 0;
    let mut at = 0;
    for count in 1.. {
        let Instruction(code, yes, no, k) = program[at];
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { yes } else { no });
        match code {
            LOAD => loaded = call.word(k),
            AND => loaded &= k,
            EQUAL => branch(loaded == k),
            GREATER => branch(loaded > k),
            GREATER_OR_EQUAL => branch(loaded >= k),
            ALWAYS => at += k as usize,
            RETURN => return (k, count),
            _ => panic!("instruction {code:#x}"),
        }
    }
    unreachable!("a program ends: it only jumps forward")
}

/// What the kernel looks at first: no way leads out of the program.
pub fn assert_valid(program: &[Instruction]) {
    assert!(program.len() <= 4096);
    for (at, Instruction(code, yes, no, k)) in program.iter().enumerate() {
        let furthest = match *code {
            RETURN => continue,
            ALWAYS => *k as usize,
            EQUAL | GREATER | GREATER_OR_EQUAL => usize::from(*yes.max(no)),
            _ => 0,
        };
        assert!(at + 1 + furthest < program.len(), "instruction {at}");
    }
}
