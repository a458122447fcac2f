//! How much of the stack each program takes.
//!
//! A program and all that it calls at one time have 512 bytes together. Linux 6.1
//! rounds each frame up to 32 bytes (`check_max_stack_depth` in kernel/bpf/verifier.c;
//! later ones to 16 where the JIT is on), so its rule is the one that is kept. The
//! kernel counts what is reached, this counts what is written in the code: it may say
//! more, and never less.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use aya_obj::{Object, generated::bpf_insn};

use crate::Error;

/// Of all frames of a program (`MAX_BPF_STACK`).
pub const LIMIT: u32 = 512;
/// What Linux 6.1 rounds a frame up to.
const ROUND: u32 = 32;

/// The calls of a program that take the most, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    pub program: String,
    /// Of all of them, rounded up one by one.
    pub bytes: u32,
    pub frames: Vec<Frame>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// As the object has it; empty for one that is not told from others.
    pub function: String,
    /// As it is, without rounding.
    pub bytes: u32,
}

/// Sorted by the programs' names. Nothing is loaded. `object` is the ELF file, aligned to
/// 4 bytes.
pub fn stacks(object: &[u8]) -> Result<Vec<Stack>, Error> {
    let mut object = Object::parse(object)?;
    let named: Vec<(String, Vec<Instruction>)> = object
        .functions
        .values()
        .map(|function| (function.name.clone(), decode(&function.instructions)))
        .collect();
    let text_sections: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    object.relocate_calls(&text_sections)?;
    let mut stacks = Vec::new();
    for (name, program) in &object.programs {
        // Linked just now.
        let code = decode(&object.functions[&program.function_key()].instructions);
        let deepest = deepest(&code).ok_or_else(|| Error::Recursion { name: name.clone() })?;
        let frame = |function: &Function| Frame {
            function: name_of(&named, function.code(&code)),
            bytes: function.bytes,
        };
        stacks.push(Stack {
            program: name.clone(),
            bytes: deepest.bytes,
            frames: deepest.functions.iter().map(frame).collect(),
        });
    }
    stacks.sort_by(|one, other| one.program.cmp(&other.program));
    Ok(stacks)
}

/// By its instructions: linking changes only the numbers in calls.
fn name_of(named: &[(String, Vec<Instruction>)], code: &[Instruction]) -> String {
    let same = |one: &Instruction, other: &Instruction| {
        (one.code, one.dst, one.off) == (other.code, other.dst, other.off)
    };
    let found = named.iter().find(|(_, own)| {
        own.len() == code.len() && own.iter().zip(code).all(|(one, other)| same(one, other))
    });
    found.map_or_else(String::new, |(name, _)| name.clone())
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Instruction {
    code: u8,
    dst: u8,
    src: u8,
    off: i16,
    imm: i32,
}

fn decode(code: &[bpf_insn]) -> Vec<Instruction> {
    let one = |instruction: &bpf_insn| Instruction {
        code: instruction.code,
        dst: instruction.dst_reg(),
        src: instruction.src_reg(),
        off: instruction.off,
        imm: instruction.imm,
    };
    code.iter().map(one).collect()
}

impl Instruction {
    const LD: u8 = 0;
    const LDX: u8 = 1;
    const ST: u8 = 2;
    const STX: u8 = 3;
    const ALU: u8 = 4;
    const ALU64: u8 = 7;
    const LD_IMM64: u8 = 0x18;
    const CALL: u8 = 0x85;
    const MOV64: u8 = 0xbf;
    const ADD64_IMMEDIATE: u8 = 0x07;
    /// In `src`: the call of another function, and a function as an argument.
    const PSEUDO_CALL: u8 = 1;
    const PSEUDO_FUNC: u8 = 4;

    fn class(self) -> u8 {
        self.code & 7
    }

    /// How far the function is that it calls, or has called, from the next instruction.
    fn calls(self) -> Option<i32> {
        let calls = matches!(
            (self.code, self.src),
            (Self::CALL, Self::PSEUDO_CALL) | (Self::LD_IMM64, Self::PSEUDO_FUNC)
        );
        calls.then_some(self.imm)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Function {
    start: usize,
    end: usize,
    bytes: u32,
}

impl Function {
    fn code<'a>(&self, all: &'a [Instruction]) -> &'a [Instruction] {
        &all[self.start..self.end]
    }

    fn rounded(&self) -> u32 {
        self.bytes.max(1).next_multiple_of(ROUND)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Deepest {
    bytes: u32,
    functions: Vec<Function>,
}

/// Of a linked program, which begins with its own function. None if one of them calls
/// itself, which no kernel takes.
fn deepest(code: &[Instruction]) -> Option<Deepest> {
    let target = |at: usize| {
        let distance = isize::try_from(code[at].calls()?).ok()?;
        (at + 1).checked_add_signed(distance)
    };
    let mut starts: BTreeSet<usize> = (0..code.len()).filter_map(target).collect();
    starts.insert(0);
    let ends = starts.iter().copied().skip(1).chain([code.len()]);
    let functions: BTreeMap<usize, Function> = starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let bytes = depth(code.get(*start..end).unwrap_or_default());
            let function = Function {
                start: *start,
                end,
                bytes,
            };
            (*start, function)
        })
        .collect();
    let called = |function: &Function| -> BTreeSet<usize> {
        (function.start..function.end).filter_map(target).collect()
    };
    let mut known = BTreeMap::new();
    chain(0, &functions, &called, &mut Vec::new(), &mut known)
}

fn chain(
    start: usize,
    functions: &BTreeMap<usize, Function>,
    called: &dyn Fn(&Function) -> BTreeSet<usize>,
    above: &mut Vec<usize>,
    known: &mut BTreeMap<usize, Deepest>,
) -> Option<Deepest> {
    if let Some(known) = known.get(&start) {
        return Some(known.clone());
    }
    if above.contains(&start) {
        return None;
    }
    let function = functions.get(&start)?;
    above.push(start);
    let mut below = Deepest::default();
    for callee in called(function) {
        let one = chain(callee, functions, called, above, known)?;
        if one.bytes > below.bytes {
            below = one;
        }
    }
    above.pop();
    let mut whole = Deepest {
        bytes: function.rounded() + below.bytes,
        functions: vec![*function],
    };
    whole.functions.extend(below.functions);
    known.insert(start, whole.clone());
    Some(whole)
}

/// How far below the frame's end the code of one function reaches: by register 10, or by
/// another that was made from it.
fn depth(code: &[Instruction]) -> u32 {
    const FRAME: usize = 10;
    let mut from_frame: [Option<i32>; 16] = [None; 16];
    from_frame[FRAME] = Some(0);
    let mut depth = 0;
    for one in code {
        let (dst, src) = (usize::from(one.dst & 15), usize::from(one.src & 15));
        let mut reach = |at: Option<i32>| {
            if let Some(at) = at
                && at < 0
            {
                depth = depth.max(at.unsigned_abs());
            }
        };
        let off = i32::from(one.off);
        match one.class() {
            Instruction::LDX => {
                reach(from_frame[src].map(|at| at + off));
                from_frame[dst] = None;
            }
            Instruction::ST | Instruction::STX => reach(from_frame[dst].map(|at| at + off)),
            Instruction::ALU | Instruction::ALU64 if dst != FRAME => {
                from_frame[dst] = match one.code {
                    Instruction::MOV64 => from_frame[src],
                    Instruction::ADD64_IMMEDIATE => {
                        from_frame[dst].and_then(|at| at.checked_add(one.imm))
                    }
                    _ => None,
                };
                // Its address is taken: whoever gets it reaches what is above.
                if one.code == Instruction::ADD64_IMMEDIATE {
                    reach(from_frame[dst]);
                }
            }
            Instruction::LD => from_frame[dst] = None,
            // A call leaves nothing in them.
            _ if one.code == Instruction::CALL => from_frame[..=5].fill(None),
            _ => {}
        }
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Instruction {
        Instruction {
            code,
            dst,
            src,
            off,
            imm,
        }
    }

    /// `*(u64 *)(r10 - bytes) = r1`
    fn store(bytes: i16) -> Instruction {
        instruction(0x7b, 10, 1, -bytes, 0)
    }

    fn call(distance: i32) -> Instruction {
        instruction(0x85, 0, 1, 0, distance)
    }

    const EXIT: Instruction = Instruction {
        code: 0x95,
        dst: 0,
        src: 0,
        off: 0,
        imm: 0,
    };

    #[test]
    fn a_frame_is_as_deep_as_what_is_reached() {
        let moved = instruction(0xbf, 2, 10, 0, 0);
        for (what, code, bytes) in [
            ("nothing", vec![EXIT], 0),
            ("a store", vec![store(24), EXIT], 24),
            ("a load", vec![instruction(0x79, 1, 10, -40, 0)], 40),
            ("an immediate", vec![instruction(0x7a, 10, 0, -8, 0)], 8),
            (
                "an address",
                vec![moved, instruction(0x07, 2, 0, 0, -72)],
                72,
            ),
            (
                "through an address",
                vec![
                    moved,
                    instruction(0x07, 2, 0, 0, -72),
                    instruction(0x7b, 2, 1, -8, 0),
                ],
                80,
            ),
            (
                "a number that is none",
                vec![
                    instruction(0xb7, 2, 0, 0, 500),
                    instruction(0x07, 2, 0, 0, -300),
                ],
                0,
            ),
            (
                "a register that was written since",
                vec![
                    moved,
                    instruction(0x79, 2, 1, 0, 0),
                    instruction(0x07, 2, 0, 0, -300),
                ],
                0,
            ),
            ("another's memory", vec![instruction(0x7b, 1, 2, -90, 0)], 0),
        ] {
            assert_eq!(depth(&code), bytes, "{what}");
        }
    }

    #[test]
    fn frames_add_up_each_rounded() {
        // 0: 40 bytes, calls 4 and 7; 4: 8 bytes, calls 7; 7: nothing of its own.
        let code = [
            store(40),
            call(2),
            call(4),
            EXIT,
            store(8),
            call(1),
            EXIT,
            EXIT,
        ];
        let deepest = deepest(&code).unwrap();
        let frames: Vec<_> = deepest
            .functions
            .iter()
            .map(|one| (one.start, one.bytes))
            .collect();
        assert_eq!(frames, [(0, 40), (4, 8), (7, 0)]);
        assert_eq!(deepest.bytes, 64 + 32 + 32);
    }

    #[test]
    fn a_function_that_is_handed_on_counts_as_called() {
        let code = [
            instruction(0x18, 2, 4, 0, 2),
            Instruction::default(),
            EXIT,
            store(33),
            EXIT,
        ];
        assert_eq!(deepest(&code).unwrap().bytes, 32 + 64);
    }

    #[test]
    fn what_calls_itself_has_no_end() {
        assert_eq!(deepest(&[store(8), call(-2), EXIT]), None);
    }
}
