//! What an instruction does, in words that the emulator knows.

use super::arithmetic::{Binary, BitChange, Shift, Unary};
use super::width::Width;
use iced_x86::{Instruction, MemorySize, Mnemonic, OpKind, Register};

/// What an instruction does with its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Copies the second operand to the first.
    Move(Conversion),
    /// CMOVcc, with the number of its condition.
    MoveIf(u8),
    /// SETcc, with the number of its condition.
    SetIf(u8),
    /// Two operands to the first.
    Binary(Binary),
    /// Two operands to flags alone: CMP, TEST.
    Compare(Binary),
    /// One operand to itself.
    Unary(Unary),
    /// The first operand, by the second or by one.
    Shift(Shift),
    /// SHLD, or SHRD.
    DoubleShift {
        /// SHLD.
        left: bool,
    },
    /// A bit of the first operand.
    Bit(BitChange),
    /// XCHG.
    Exchange,
    /// XADD.
    ExchangeAdd,
    /// CMPXCHG.
    CompareExchange,
    /// CMPXCHG8B.
    CompareExchangeWide,
    /// PUSH.
    Push,
    /// POP.
    Pop,
    /// A string instruction.
    String(Text),
}

/// How a value changes on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// Zeros above.
    Plain,
    /// Its sign above.
    Signed,
    /// Its bytes turned around.
    Swapped,
}

/// String instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Text {
    Move,
    Store,
    Load,
    Compare,
    Scan,
    Input,
    Output,
}

impl Operation {
    /// What `instruction` does, if it is one of those that the emulator knows,
    /// all its operands included.
    pub fn of(instruction: &Instruction) -> Option<Self> {
        let mnemonic = instruction.mnemonic();
        let Some(operation) = ordinary(mnemonic) else {
            // SSE has instructions that are called the same.
            let text = text(mnemonic).filter(|_| touches_string(instruction));
            return text.map(Self::String);
        };
        let on_stack = matches!(operation, Self::Push | Self::Pop);
        let mut in_memory = on_stack;
        for number in 0..instruction.op_count() {
            in_memory |= instruction.op_kind(number) == OpKind::Memory;
            known_operand(instruction, number, operation)?;
        }
        in_memory.then_some(operation)
    }
}

/// Whether the emulator can take operand `number`. Loading a segment register
/// reads a descriptor as well, which it does not.
fn known_operand(instruction: &Instruction, number: u32, operation: Operation) -> Option<()> {
    match instruction.op_kind(number) {
        OpKind::Memory => memory_width(instruction).map(drop),
        OpKind::Register => {
            let register = instruction.op_register(number);
            let stored = number == 1 && operation == Operation::Move(Conversion::Plain);
            let general = is_within(register, Register::AL, Register::R15);
            let known = general || (stored && is_within(register, Register::ES, Register::GS));
            known.then_some(())
        }
        _ => instruction.try_immediate(number).ok().map(drop),
    }
}

fn touches_string(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|number| {
        matches!(
            instruction.op_kind(number),
            OpKind::MemorySegSI
                | OpKind::MemorySegESI
                | OpKind::MemorySegRSI
                | OpKind::MemoryESDI
                | OpKind::MemoryESEDI
                | OpKind::MemoryESRDI
        )
    })
}

/// How wide the memory operand is.
pub fn memory_width(instruction: &Instruction) -> Option<Width> {
    match instruction.memory_size() {
        MemorySize::UInt8 | MemorySize::Int8 => Some(Width::Byte),
        MemorySize::UInt16 | MemorySize::Int16 => Some(Width::Word),
        MemorySize::UInt32 | MemorySize::Int32 => Some(Width::Double),
        MemorySize::UInt64 | MemorySize::Int64 => Some(Width::Quad),
        _ => None,
    }
}

fn is_within(register: Register, first: Register, last: Register) -> bool {
    (first as usize..=last as usize).contains(&(register as usize))
}

fn text(mnemonic: Mnemonic) -> Option<Text> {
    Some(match mnemonic {
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq => Text::Move,
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => Text::Store,
        Mnemonic::Lodsb | Mnemonic::Lodsw | Mnemonic::Lodsd | Mnemonic::Lodsq => Text::Load,
        Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsd | Mnemonic::Cmpsq => Text::Compare,
        Mnemonic::Scasb | Mnemonic::Scasw | Mnemonic::Scasd | Mnemonic::Scasq => Text::Scan,
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => Text::Input,
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd => Text::Output,
        _ => return None,
    })
}

fn ordinary(mnemonic: Mnemonic) -> Option<Operation> {
    Some(match mnemonic {
        Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movnti => Operation::Move(Conversion::Plain),
        Mnemonic::Movsx | Mnemonic::Movsxd => Operation::Move(Conversion::Signed),
        Mnemonic::Movbe => Operation::Move(Conversion::Swapped),
        Mnemonic::Cmp => Operation::Compare(Binary::Subtract),
        Mnemonic::Test => Operation::Compare(Binary::And),
        Mnemonic::Shld => Operation::DoubleShift { left: true },
        Mnemonic::Shrd => Operation::DoubleShift { left: false },
        Mnemonic::Xchg => Operation::Exchange,
        Mnemonic::Xadd => Operation::ExchangeAdd,
        Mnemonic::Cmpxchg => Operation::CompareExchange,
        Mnemonic::Cmpxchg8b => Operation::CompareExchangeWide,
        Mnemonic::Push => Operation::Push,
        Mnemonic::Pop => Operation::Pop,
        _ => return computing(mnemonic).or_else(|| conditional(mnemonic)),
    })
}

fn computing(mnemonic: Mnemonic) -> Option<Operation> {
    Some(match mnemonic {
        Mnemonic::Add => Operation::Binary(Binary::Add),
        Mnemonic::Adc => Operation::Binary(Binary::AddWithCarry),
        Mnemonic::Sub => Operation::Binary(Binary::Subtract),
        Mnemonic::Sbb => Operation::Binary(Binary::SubtractWithBorrow),
        Mnemonic::And => Operation::Binary(Binary::And),
        Mnemonic::Or => Operation::Binary(Binary::Or),
        Mnemonic::Xor => Operation::Binary(Binary::ExclusiveOr),
        Mnemonic::Inc => Operation::Unary(Unary::Increment),
        Mnemonic::Dec => Operation::Unary(Unary::Decrement),
        Mnemonic::Neg => Operation::Unary(Unary::Negate),
        Mnemonic::Not => Operation::Unary(Unary::Not),
        Mnemonic::Rol => Operation::Shift(Shift::RotateLeft),
        Mnemonic::Ror => Operation::Shift(Shift::RotateRight),
        Mnemonic::Rcl => Operation::Shift(Shift::RotateCarryLeft),
        Mnemonic::Rcr => Operation::Shift(Shift::RotateCarryRight),
        Mnemonic::Shl | Mnemonic::Sal => Operation::Shift(Shift::Left),
        Mnemonic::Shr => Operation::Shift(Shift::Right),
        Mnemonic::Sar => Operation::Shift(Shift::RightSigned),
        Mnemonic::Bt => Operation::Bit(BitChange::Keep),
        Mnemonic::Bts => Operation::Bit(BitChange::Set),
        Mnemonic::Btr => Operation::Bit(BitChange::Reset),
        Mnemonic::Btc => Operation::Bit(BitChange::Complement),
        _ => return None,
    })
}

/// CMOVcc and SETcc by their conditions' numbers.
fn conditional(mnemonic: Mnemonic) -> Option<Operation> {
    const CONDITIONS: [(Mnemonic, Mnemonic); 16] = [
        (Mnemonic::Cmovo, Mnemonic::Seto),
        (Mnemonic::Cmovno, Mnemonic::Setno),
        (Mnemonic::Cmovb, Mnemonic::Setb),
        (Mnemonic::Cmovae, Mnemonic::Setae),
        (Mnemonic::Cmove, Mnemonic::Sete),
        (Mnemonic::Cmovne, Mnemonic::Setne),
        (Mnemonic::Cmovbe, Mnemonic::Setbe),
        (Mnemonic::Cmova, Mnemonic::Seta),
        (Mnemonic::Cmovs, Mnemonic::Sets),
        (Mnemonic::Cmovns, Mnemonic::Setns),
        (Mnemonic::Cmovp, Mnemonic::Setp),
        (Mnemonic::Cmovnp, Mnemonic::Setnp),
        (Mnemonic::Cmovl, Mnemonic::Setl),
        (Mnemonic::Cmovge, Mnemonic::Setge),
        (Mnemonic::Cmovle, Mnemonic::Setle),
        (Mnemonic::Cmovg, Mnemonic::Setg),
    ];
    for (number, (moves, sets)) in (0..).zip(CONDITIONS) {
        if mnemonic == moves {
            return Some(Operation::MoveIf(number));
        }
        if mnemonic == sets {
            return Some(Operation::SetIf(number));
        }
    }
    None
}
