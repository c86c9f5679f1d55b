//! Classic BPF, the language that capture filters are compiled to: a program is checked once and then run on frames.
//! Pure.
//!
//! A program comes from whoever may start a capture, compiled by libpcap or made up. What was checked ends after at
//! most one step for each of its instructions, reads nothing but the frame and sixteen words of its own, and
//! never fails: a load outside the frame refuses the frame, as does a division by zero. Where the kernel and libpcap
//! differ (a shift by 32 or more), it is as in libpcap, whose language it is.

/// Longest program, as in Linux (`BPF_MAXINSNS`).
pub const MOST_INSTRUCTIONS: usize = 4096;

/// Words of memory that a program has (`BPF_MEMWORDS`).
const WORDS: usize = 16;

/// One instruction as libpcap and kernels lay it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip when a test holds.
    pub jt: u8,
    /// And when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// Why a program is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// It does nothing.
    #[error("The filter has no instructions")]
    Empty,
    /// It is too long.
    #[error("The filter has {0} instructions; at most {MOST_INSTRUCTIONS} are taken")]
    TooLong(usize),
    /// There is no such instruction.
    #[error("Instruction {at} of the filter is unknown: {code:#06x}")]
    Unknown {
        /// Which one.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// It would go on behind its end.
    #[error("Instruction {0} of the filter jumps behind its end")]
    Jump(usize),
    /// It has sixteen words.
    #[error("Instruction {at} of the filter uses word {word}; there are {WORDS}")]
    Memory {
        /// Which one.
        at: usize,
        /// The word it asks for.
        word: u32,
    },
    /// It would divide by zero.
    #[error("Instruction {0} of the filter divides by zero")]
    Division(usize),
    /// It would shift all bits out.
    #[error("Instruction {at} of the filter shifts by {by}")]
    Shift {
        /// Which one.
        at: usize,
        /// By how much.
        by: u32,
    },
    /// It asks for something that only the kernel has, at a negative offset.
    #[error("Instruction {0} of the filter reads outside the frame, at a negative offset")]
    Ancillary(usize),
    /// Its end is no end.
    #[error("The filter does not end with a return")]
    NoReturn,
}

#[derive(Clone, Copy, Debug)]
enum Width {
    Word,
    Half,
    Byte,
}

#[derive(Clone, Copy, Debug)]
enum Operand {
    Constant(u32),
    X,
}

#[derive(Clone, Copy, Debug)]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
}

#[derive(Clone, Copy, Debug)]
enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// An instruction that was checked.
#[derive(Clone, Copy, Debug)]
enum Step {
    Load(Width, u32),
    LoadBehindX(Width, u32),
    LoadConstant(u32),
    LoadLength,
    LoadMemory(u8),
    XConstant(u32),
    XLength,
    XMemory(u8),
    /// Four times the low half of a byte: the length of an IPv4 header.
    XHeaderLength(u32),
    Store(u8),
    StoreX(u8),
    Calculate(Arithmetic, Operand),
    Negate,
    Jump(u32),
    Branch(Test, Operand, u8, u8),
    Return(u32),
    ReturnA,
    AToX,
    XToA,
}

/// A program that was checked.
#[derive(Clone, Debug)]
pub struct Program(Box<[Step]>);

impl Program {
    /// Check `instructions`.
    ///
    /// # Errors
    /// [`ProgramError`], the first that is found.
    pub fn new(instructions: &[Instruction]) -> Result<Self, ProgramError> {
        if instructions.len() > MOST_INSTRUCTIONS {
            return Err(ProgramError::TooLong(instructions.len()));
        }
        let steps: Result<Box<[Step]>, _> =
            instructions.iter().enumerate().map(|(at, one)| check(at, *one, instructions.len())).collect();
        let steps = steps?;
        match steps.last() {
            None => Err(ProgramError::Empty),
            Some(Step::Return(_) | Step::ReturnA) => Ok(Self(steps)),
            Some(_) => Err(ProgramError::NoReturn),
        }
    }

    /// How many bytes of `frame` are wanted; 0 when it is not.
    #[must_use]
    pub fn run(&self, frame: &[u8]) -> u32 {
        let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; WORDS]);
        let mut next = 0;
        // Each round goes forward, and what was checked ends with a return.
        while let Some(step) = self.0.get(next) {
            next += 1;
            match *step {
                Step::Load(width, at) => match load(frame, width, at) {
                    Some(value) => a = value,
                    None => return 0,
                },
                Step::LoadBehindX(width, at) => match x.checked_add(at).and_then(|at| load(frame, width, at)) {
                    Some(value) => a = value,
                    None => return 0,
                },
                Step::LoadConstant(value) => a = value,
                Step::LoadLength => a = frame.len() as u32,
                Step::LoadMemory(word) => a = memory[usize::from(word) % WORDS],
                Step::XConstant(value) => x = value,
                Step::XLength => x = frame.len() as u32,
                Step::XMemory(word) => x = memory[usize::from(word) % WORDS],
                Step::XHeaderLength(at) => match load(frame, Width::Byte, at) {
                    Some(value) => x = (value & 0xf) * 4,
                    None => return 0,
                },
                Step::Store(word) => memory[usize::from(word) % WORDS] = a,
                Step::StoreX(word) => memory[usize::from(word) % WORDS] = x,
                Step::Calculate(what, operand) => match calculate(what, a, value(operand, x)) {
                    Some(value) => a = value,
                    None => return 0,
                },
                Step::Negate => a = a.wrapping_neg(),
                Step::Jump(by) => next += by as usize,
                Step::Branch(test, operand, then, otherwise) => {
                    let holds = holds(test, a, value(operand, x));
                    next += usize::from(if holds { then } else { otherwise });
                }
                Step::Return(count) => return count,
                Step::ReturnA => return a,
                Step::AToX => x = a,
                Step::XToA => a = x,
            }
        }
        0
    }
}

fn load(frame: &[u8], width: Width, at: u32) -> Option<u32> {
    let rest = frame.get(at as usize..)?;
    match width {
        Width::Word => rest.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
        Width::Half => rest.first_chunk().map(|bytes| u32::from(u16::from_be_bytes(*bytes))),
        Width::Byte => rest.first().map(|byte| u32::from(*byte)),
    }
}

fn value(operand: Operand, x: u32) -> u32 {
    match operand {
        Operand::Constant(value) => value,
        Operand::X => x,
    }
}

fn calculate(what: Arithmetic, a: u32, by: u32) -> Option<u32> {
    Some(match what {
        Arithmetic::Add => a.wrapping_add(by),
        Arithmetic::Subtract => a.wrapping_sub(by),
        Arithmetic::Multiply => a.wrapping_mul(by),
        Arithmetic::Divide => return a.checked_div(by),
        Arithmetic::Modulo => return a.checked_rem(by),
        Arithmetic::And => a & by,
        Arithmetic::Or => a | by,
        Arithmetic::Xor => a ^ by,
        Arithmetic::ShiftLeft => a.checked_shl(by).unwrap_or(0),
        Arithmetic::ShiftRight => a.checked_shr(by).unwrap_or(0),
    })
}

fn holds(test: Test, a: u32, other: u32) -> bool {
    match test {
        Test::Equal => a == other,
        Test::Greater => a > other,
        Test::GreaterOrEqual => a >= other,
        Test::AnyBit => a & other != 0,
    }
}

/// Instruction `at` of `count`, checked. Codes are those of `linux/bpf_common.h`, whole: class, size or operation,
/// mode or source.
fn check(at: usize, one: Instruction, count: usize) -> Result<Step, ProgramError> {
    let Instruction { code, jt, jf, k } = one;
    let unknown = Err(ProgramError::Unknown { at, code });
    let operand = if code & 0x08 == 0 { Operand::Constant(k) } else { Operand::X };
    let word = || u8::try_from(k).ok().filter(|word| usize::from(*word) < WORDS);
    let memory = |step: fn(u8) -> Step| word().map(step).ok_or(ProgramError::Memory { at, word: k });
    let inside = |step: Step| if k > i32::MAX as u32 { Err(ProgramError::Ancillary(at)) } else { Ok(step) };
    let calculates = |what| Ok(Step::Calculate(what, operand));
    let branches = |test| {
        let far = usize::from(jt.max(jf));
        if far < count - at - 1 { Ok(Step::Branch(test, operand, jt, jf)) } else { Err(ProgramError::Jump(at)) }
    };
    match code {
        0x20 => inside(Step::Load(Width::Word, k)),
        0x28 => inside(Step::Load(Width::Half, k)),
        0x30 => inside(Step::Load(Width::Byte, k)),
        0x40 => inside(Step::LoadBehindX(Width::Word, k)),
        0x48 => inside(Step::LoadBehindX(Width::Half, k)),
        0x50 => inside(Step::LoadBehindX(Width::Byte, k)),
        0x00 => Ok(Step::LoadConstant(k)),
        0x80 => Ok(Step::LoadLength),
        0x60 => memory(Step::LoadMemory),
        0x01 => Ok(Step::XConstant(k)),
        0x81 => Ok(Step::XLength),
        0x61 => memory(Step::XMemory),
        0xb1 => inside(Step::XHeaderLength(k)),
        0x02 => memory(Step::Store),
        0x03 => memory(Step::StoreX),
        0x04 | 0x0c => calculates(Arithmetic::Add),
        0x14 | 0x1c => calculates(Arithmetic::Subtract),
        0x24 | 0x2c => calculates(Arithmetic::Multiply),
        0x34 | 0x94 if k == 0 => Err(ProgramError::Division(at)),
        0x34 | 0x3c => calculates(Arithmetic::Divide),
        0x44 | 0x4c => calculates(Arithmetic::Or),
        0x54 | 0x5c => calculates(Arithmetic::And),
        0x64 | 0x74 if k >= u32::BITS => Err(ProgramError::Shift { at, by: k }),
        0x64 | 0x6c => calculates(Arithmetic::ShiftLeft),
        0x74 | 0x7c => calculates(Arithmetic::ShiftRight),
        0x84 => Ok(Step::Negate),
        0x94 | 0x9c => calculates(Arithmetic::Modulo),
        0xa4 | 0xac => calculates(Arithmetic::Xor),
        0x05 if (k as usize) < count - at - 1 => Ok(Step::Jump(k)),
        0x05 => Err(ProgramError::Jump(at)),
        0x15 | 0x1d => branches(Test::Equal),
        0x25 | 0x2d => branches(Test::Greater),
        0x35 | 0x3d => branches(Test::GreaterOrEqual),
        0x45 | 0x4d => branches(Test::AnyBit),
        0x06 => Ok(Step::Return(k)),
        0x16 => Ok(Step::ReturnA),
        0x07 => Ok(Step::AToX),
        0x87 => Ok(Step::XToA),
        _ => unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPT: Instruction = Instruction { code: 0x06, jt: 0, jf: 0, k: 0xffff };

    fn one(code: u16, k: u32) -> Instruction {
        Instruction { code, jt: 0, jf: 0, k }
    }

    fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    fn refusal(instructions: &[Instruction]) -> ProgramError {
        Program::new(instructions).unwrap_err()
    }

    #[test]
    fn what_could_do_harm_is_refused() {
        let table = [
            ("nothing", vec![], ProgramError::Empty),
            ("too long", vec![ACCEPT; 4097], ProgramError::TooLong(4097)),
            ("no such code", vec![one(0xffff, 0), ACCEPT], ProgramError::Unknown { at: 0, code: 0xffff }),
            ("a return of X", vec![one(0x0e, 0)], ProgramError::Unknown { at: 0, code: 0x0e }),
            ("no return", vec![ACCEPT, one(0x00, 1)], ProgramError::NoReturn),
            ("a jump to the end", vec![one(0x05, 1), ACCEPT], ProgramError::Jump(0)),
            ("a jump back", vec![one(0x05, u32::MAX), ACCEPT], ProgramError::Jump(0)),
            ("a branch to the end", vec![branch(0x15, 0, 0, 1), ACCEPT], ProgramError::Jump(0)),
            ("a branch at the end", vec![ACCEPT, branch(0x15, 0, 0, 0)], ProgramError::Jump(1)),
            ("word 16", vec![one(0x02, 16), ACCEPT], ProgramError::Memory { at: 0, word: 16 }),
            ("word 256", vec![one(0x60, 256), ACCEPT], ProgramError::Memory { at: 0, word: 256 }),
            ("division", vec![one(0x34, 0), ACCEPT], ProgramError::Division(0)),
            ("remainder", vec![one(0x94, 0), ACCEPT], ProgramError::Division(0)),
            ("shift", vec![one(0x64, 32), ACCEPT], ProgramError::Shift { at: 0, by: 32 }),
            ("of the kernel's", vec![one(0x28, 0xffff_f000), ACCEPT], ProgramError::Ancillary(0)),
        ];
        for (name, program, error) in table {
            assert_eq!(refusal(&program), error, "{name}");
        }
    }

    #[test]
    fn loads_outside_the_frame_and_divisions_by_zero_refuse_it() {
        for (name, program) in [
            ("a word", vec![one(0x20, 57), ACCEPT]),
            ("far outside", vec![one(0x30, i32::MAX as u32), ACCEPT]),
            ("behind X", vec![one(0x01, u32::MAX), one(0x50, 1), ACCEPT]),
            ("a header length", vec![one(0xb1, 60), ACCEPT]),
            ("a division by X", vec![one(0x3c, 0), ACCEPT]),
            ("a remainder by X", vec![one(0x9c, 0), ACCEPT]),
        ] {
            assert_eq!(Program::new(&program).unwrap().run(&[1; 60]), 0, "{name}");
        }
        assert_eq!(Program::new(&[one(0x20, 56), ACCEPT]).unwrap().run(&[1; 60]), 0xffff);
        assert_eq!(Program::new(&[ACCEPT]).unwrap().run(&[]), 0xffff);
    }

    #[test]
    fn the_longest_way_through_a_program_ends() {
        let mut program = vec![one(0x04, 1); MOST_INSTRUCTIONS - 1];
        program.push(one(0x16, 0));
        assert_eq!(Program::new(&program).unwrap().run(&[]), MOST_INSTRUCTIONS as u32 - 1);
    }

    #[test]
    fn arp_is_told_from_the_rest() {
        // tcpdump -d arp
        let arp = [one(0x28, 12), branch(0x15, 0x0806, 0, 1), one(0x06, 262_144), one(0x06, 0)];
        let arp = Program::new(&arp).unwrap();
        let mut frame = [0; 60];
        frame[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(arp.run(&frame), 262_144);
        frame[13] = 0;
        assert_eq!(arp.run(&frame), 0);
        assert_eq!(arp.run(&frame[..13]), 0);
    }
}
