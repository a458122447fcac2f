//! From rules to a program of classic BPF.

use vetch_shim::protocol::Instruction;

use super::ProfileError;
use super::assemble::{Assembler, Label, Test};
use super::profile::{Argument, Operator};
use super::rules::{Rules, Verdict};

#[cfg(test)]
mod tests;

/// linux/bpf_common.h, BPF_MAXINSNS
const MAX_INSTRUCTIONS: usize = 4096;

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

pub fn compile(rules: &Rules) -> Result<Vec<Instruction>, ProfileError> {
    let mut program = Assembler::default();
    let mut next = program.end(rules.foreign);
    // The machine's own comes first in the program: it is what is asked most.
    for (audit, ranges) in rules.architectures.iter().rev() {
        let found = search(&mut program, ranges);
        let found = program.load(NUMBER, found);
        next = program.jump(Test::Equal, *audit, found, next);
    }
    program.load(ARCHITECTURE, next);
    let program = program.finish();
    match program.len() {
        ..=MAX_INSTRUCTIONS => Ok(program),
        length => Err(ProfileError::TooLong(length)),
    }
}

/// By halves.
fn search(program: &mut Assembler, ranges: &[(u32, Verdict)]) -> Label {
    if let [(_, verdict)] = ranges {
        return judge(program, verdict);
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let lower = search(program, lower);
    let start = upper[0].0;
    let upper = search(program, upper);
    program.jump(Test::GreaterOrEqual, start, upper, lower)
}

fn judge(program: &mut Assembler, verdict: &Verdict) -> Label {
    let mut next = program.end(verdict.otherwise);
    for case in verdict.cases.iter().rev() {
        let mut holds = program.end(case.action);
        for condition in case.conditions.iter().rev() {
            holds = compare(program, condition, holds, next);
        }
        next = holds;
    }
    next
}

/// A filter's words have 32 bits, arguments 64; on 32-bit architectures their
/// upper half is zero.
fn compare(program: &mut Assembler, condition: &Argument, yes: Label, no: Label) -> Label {
    let value = condition.value;
    let mut halves = Halves {
        program,
        argument: condition.index,
    };
    match condition.op {
        Operator::Equal => halves.equal(u64::MAX, value, yes, no),
        Operator::NotEqual => halves.equal(u64::MAX, value, no, yes),
        Operator::MaskedEqual => halves.equal(value, condition.value_two & value, yes, no),
        Operator::Greater => halves.above(Test::Greater, value, yes, no),
        Operator::GreaterOrEqual => halves.above(Test::GreaterOrEqual, value, yes, no),
        Operator::Less => halves.above(Test::GreaterOrEqual, value, no, yes),
        Operator::LessOrEqual => halves.above(Test::Greater, value, no, yes),
    }
}

struct Halves<'a> {
    program: &'a mut Assembler,
    argument: u32,
}

impl Halves<'_> {
    fn equal(&mut self, mask: u64, value: u64, yes: Label, no: Label) -> Label {
        let (mask_low, mask_high) = split(mask);
        let (low, high) = split(value);
        let yes = self.part_equal(0, mask_low, low, yes, no);
        self.part_equal(4, mask_high, high, yes, no)
    }

    fn part_equal(&mut self, part: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
        let mut next = self.program.jump(Test::Equal, value, yes, no);
        if mask != u32::MAX {
            next = self.program.mask(mask, next);
        }
        self.load(part, next)
    }

    /// `test` is for the lower half, where the upper one is the same.
    fn above(&mut self, test: Test, value: u64, yes: Label, no: Label) -> Label {
        let (low, high) = split(value);
        let lower = self.program.jump(test, low, yes, no);
        let lower = self.load(0, lower);
        let same = self.program.jump(Test::Equal, high, lower, no);
        let upper = self.program.jump(Test::Greater, high, yes, same);
        self.load(4, upper)
    }

    /// All architectures here have the lower half first.
    fn load(&mut self, part: u32, next: Label) -> Label {
        self.program
            .load(ARGUMENTS + self.argument * 8 + part, next)
    }
}

fn split(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}
