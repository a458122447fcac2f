//! Instructions of classic BPF, put together from the end: jumps only go
//! forward, so that where they lead to is there already.

use vetch_shim::protocol::Instruction;

/// A conditional jump has a byte for each of its ways.
const FAR: usize = u8::MAX as usize;

#[derive(Default)]
pub struct Assembler {
    /// Last instruction first.
    reversed: Vec<Instruction>,
}

/// An instruction that is there.
#[derive(Clone, Copy)]
pub struct Label(usize);

#[derive(Clone, Copy)]
pub enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

impl Assembler {
    pub fn end(&mut self, value: u32) -> Label {
        // Another one serves as well as long as a jump gets there.
        let code = (libc::BPF_RET | libc::BPF_K) as u16;
        let instruction = Instruction(code, 0, 0, value);
        let near = self.reversed.len().saturating_sub(FAR / 2);
        let same = |at: &usize| self.reversed[*at] == instruction;
        match (near..self.reversed.len()).rev().find(same) {
            Some(at) => Label(at),
            None => self.push(instruction),
        }
    }

    /// Loads a word of `struct seccomp_data`.
    pub fn load(&mut self, offset: u32, next: Label) -> Label {
        self.before(next);
        let code = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        self.push(Instruction(code, 0, 0, offset))
    }

    /// Leaves these bits of what is loaded.
    pub fn mask(&mut self, bits: u32, next: Label) -> Label {
        self.before(next);
        let code = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
        self.push(Instruction(code, 0, 0, bits))
    }

    /// Compares what is loaded.
    pub fn jump(&mut self, test: Test, value: u32, yes: Label, no: Label) -> Label {
        let test = match test {
            Test::Equal => libc::BPF_JEQ,
            Test::Greater => libc::BPF_JGT,
            Test::GreaterOrEqual => libc::BPF_JGE,
        };
        let code = (libc::BPF_JMP | test | libc::BPF_K) as u16;
        let (yes, no) = (self.near(yes), self.near(no));
        let (yes, no) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(Instruction(code, yes, no, value))
    }

    /// The program, whose first instruction is the last one made.
    pub fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, instruction: Instruction) -> Label {
        self.reversed.push(instruction);
        Label(self.reversed.len() - 1)
    }

    /// Instructions to skip between the next one and `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - 1 - target.0
    }

    /// What comes next is followed by `next`.
    fn before(&mut self, next: Label) {
        if self.distance(next) > 0 {
            self.reach(next);
        }
    }

    /// As near as a conditional jump reaches, with one more instruction between.
    fn near(&mut self, target: Label) -> Label {
        if self.distance(target) < FAR {
            target
        } else {
            self.reach(target)
        }
    }

    /// An end is repeated, all else jumped to.
    fn reach(&mut self, target: Label) -> Label {
        let there = self.reversed[target.0];
        if there.0 == (libc::BPF_RET | libc::BPF_K) as u16 {
            return self.push(there);
        }
        let distance = self.distance(target) as u32;
        let code = (libc::BPF_JMP | libc::BPF_JA) as u16;
        self.push(Instruction(code, 0, 0, distance))
    }
}
