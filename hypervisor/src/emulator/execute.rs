//! What each operation does with its operands. Operands are all found before
//! the first is read, because reading a device can change it.

use super::arithmetic::{self, Binary, BitChange};
use super::operand::{Operand, Use, general};
use super::operation::{Conversion, Operation, memory_width};
use super::width::Width;
use super::{Device, Emulator, Progress};
use iced_x86::{Instruction, OpKind};
use machine::{Memory, Vcpu};
use x86::Exception;
use x86::control::Rflags;
use x86::registers::RSP;

/// The registers' numbers in instructions.
const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;
const RBX: u8 = 3;

type Finished = Result<(), Exception>;

impl<V: Vcpu, M: Memory, D: Device> Emulator<'_, V, M, D> {
    /// Runs `instruction`, or some rounds of it.
    pub(super) fn execute(
        &mut self,
        instruction: &Instruction,
        operation: Operation,
    ) -> Result<Progress, Exception> {
        match operation {
            Operation::String(text) => return self.string(instruction, text),
            Operation::Move(conversion) => self.move_value(instruction, conversion),
            Operation::MoveIf(condition) => self.move_if(instruction, condition),
            Operation::SetIf(condition) => self.set_if(instruction, condition),
            Operation::Binary(binary) => self.binary(instruction, binary),
            Operation::Compare(binary) => self.compare(instruction, binary),
            Operation::Unary(unary) => self.change(instruction, |width, value, flags| {
                arithmetic::unary(unary, width, value, flags)
            }),
            Operation::Shift(shift) => {
                let count = self.operand(instruction, 1, Use::Read)?;
                let count = self.load(&count);
                self.change(instruction, |width, value, flags| {
                    arithmetic::shift(shift, width, value, count, flags)
                })
            }
            Operation::DoubleShift { left } => self.double_shift(instruction, left),
            Operation::Bit(change) => self.bit(instruction, change),
            Operation::Exchange => self.exchange(instruction),
            Operation::ExchangeAdd => self.exchange_add(instruction),
            Operation::CompareExchange => self.compare_exchange(instruction),
            Operation::CompareExchangeWide => self.compare_exchange_wide(instruction),
            Operation::Push => self.push(instruction),
            Operation::Pop => self.pop(instruction),
        }
        .map(|()| Progress::Finished)
    }

    fn move_value(&mut self, instruction: &Instruction, conversion: Conversion) -> Finished {
        let from = self.operand(instruction, 1, Use::Read)?;
        let to = self.operand(instruction, 0, Use::Write)?;
        let value = self.load(&from);
        let value = match conversion {
            Conversion::Plain => value,
            Conversion::Signed => from.width.extend(value),
            Conversion::Swapped => value.swap_bytes() >> (64 - from.width.bits()),
        };
        self.store(&to, value);
        Ok(())
    }

    /// The source is read in any case, and a 32-bit destination loses its upper
    /// half in any case.
    fn move_if(&mut self, instruction: &Instruction, condition: u8) -> Finished {
        let from = self.operand(instruction, 1, Use::Read)?;
        let to = self.operand(instruction, 0, Use::Write)?;
        let value = self.load(&from);
        let value = if arithmetic::holds(condition, self.vcpu.rflags()) {
            value
        } else {
            self.load(&to)
        };
        self.store(&to, value);
        Ok(())
    }

    fn set_if(&mut self, instruction: &Instruction, condition: u8) -> Finished {
        let to = self.operand(instruction, 0, Use::Write)?;
        let holds = arithmetic::holds(condition, self.vcpu.rflags());
        self.store(&to, u64::from(holds));
        Ok(())
    }

    fn binary(&mut self, instruction: &Instruction, binary: Binary) -> Finished {
        let from = self.operand(instruction, 1, Use::Read)?;
        let to = self.operand(instruction, 0, Use::Write)?;
        let b = to.width.cut(self.load(&from));
        let a = self.load(&to);
        let (result, flags) = arithmetic::binary(binary, to.width, a, b, self.vcpu.rflags());
        self.store(&to, result);
        self.set_status(flags);
        Ok(())
    }

    fn compare(&mut self, instruction: &Instruction, binary: Binary) -> Finished {
        let first = self.operand(instruction, 0, Use::Read)?;
        let second = self.operand(instruction, 1, Use::Read)?;
        let a = self.load(&first);
        let b = first.width.cut(self.load(&second));
        self.compare_values(binary, first.width, a, b);
        Ok(())
    }

    pub(super) fn compare_values(&mut self, binary: Binary, width: Width, a: u64, b: u64) {
        let (_, flags) = arithmetic::binary(binary, width, a, b, self.vcpu.rflags());
        self.set_status(flags);
    }

    /// Reads the first operand and writes what `compute` makes of it.
    fn change(
        &mut self,
        instruction: &Instruction,
        compute: impl FnOnce(Width, u64, Rflags) -> arithmetic::Computed,
    ) -> Finished {
        let to = self.operand(instruction, 0, Use::Write)?;
        let value = self.load(&to);
        let (result, flags) = compute(to.width, value, self.vcpu.rflags());
        self.store(&to, result);
        self.set_status(flags);
        Ok(())
    }

    fn double_shift(&mut self, instruction: &Instruction, left: bool) -> Finished {
        let filler = self.operand(instruction, 1, Use::Read)?;
        let count = self.operand(instruction, 2, Use::Read)?;
        let (b, count) = (self.load(&filler), self.load(&count));
        self.change(instruction, |width, a, flags| {
            arithmetic::double_shift(left, width, (a, b), count, flags)
        })
    }

    /// A bit number in a register counts from the operand's address as far as it
    /// goes, in both directions; an immediate one counts within the operand.
    fn bit(&mut self, instruction: &Instruction, change: BitChange) -> Finished {
        let number = self.operand(instruction, 1, Use::Read)?;
        let usage = if change == BitChange::Keep {
            Use::Read
        } else {
            Use::Write
        };
        let width = memory_width(instruction).unwrap_or(Width::Byte);
        let wanted = self.load(&number);
        let mut place = self.effective(instruction, 0);
        if instruction.op1_kind() == OpKind::Register {
            let units = number.width.extend(wanted) as i64 >> width.bits().trailing_zeros();
            place = place.moved(units.wrapping_mul(i64::from(width.bytes())));
        }
        let to = self.at(place, width, usage)?;
        let value = self.load(&to);
        let within = wanted as u32 & (width.bits() - 1);
        let (result, flags) = arithmetic::bit(change, value, within, self.vcpu.rflags());
        if usage == Use::Write {
            self.store(&to, result);
        }
        self.set_status(flags);
        Ok(())
    }

    fn exchange(&mut self, instruction: &Instruction) -> Finished {
        let (first, second) = self.both_written(instruction)?;
        let (a, b) = (self.load(&first), self.load(&second));
        self.store(&first, b);
        self.store(&second, a);
        Ok(())
    }

    fn exchange_add(&mut self, instruction: &Instruction) -> Finished {
        let (to, from) = self.both_written(instruction)?;
        let (a, b) = (self.load(&to), self.load(&from));
        let (sum, flags) = arithmetic::binary(Binary::Add, to.width, a, b, self.vcpu.rflags());
        self.store(&from, a);
        self.store(&to, sum);
        self.set_status(flags);
        Ok(())
    }

    fn both_written(&self, instruction: &Instruction) -> Result<(Operand, Operand), Exception> {
        let first = self.operand(instruction, 0, Use::Write)?;
        Ok((first, self.operand(instruction, 1, Use::Write)?))
    }

    /// The destination is written in any case, as the CPU does: with its own
    /// value where the comparison failed.
    fn compare_exchange(&mut self, instruction: &Instruction) -> Finished {
        let (to, from) = self.both_written(instruction)?;
        let accumulator = general(RAX, to.width);
        let (found, wanted) = (self.load(&to), self.load(&accumulator));
        let new = self.load(&from);
        if found == wanted {
            self.store(&to, new);
        } else {
            self.store(&to, found);
            self.store(&accumulator, found);
        }
        self.compare_values(Binary::Subtract, to.width, wanted, found);
        Ok(())
    }

    fn compare_exchange_wide(&mut self, instruction: &Instruction) -> Finished {
        let to = self.operand(instruction, 0, Use::Write)?;
        let [rax, rcx, rdx, rbx] = [RAX, RCX, RDX, RBX].map(|n| general(n, Width::Double));
        let found = self.load(&to);
        let wanted = self.load(&rdx) << 32 | self.load(&rax);
        let flags = self.vcpu.rflags();
        if found == wanted {
            let new = self.load(&rcx) << 32 | self.load(&rbx);
            self.store(&to, new);
            self.set_status(flags | Rflags::ZF);
        } else {
            self.store(&to, found);
            self.store(&rax, found);
            self.store(&rdx, found >> 32);
            self.set_status(flags - Rflags::ZF);
        }
        Ok(())
    }

    fn push(&mut self, instruction: &Instruction) -> Finished {
        let from = self.operand(instruction, 0, Use::Read)?;
        let top = self.stack(-i64::from(from.width.bytes()));
        let to = self.at(top, from.width, Use::Write)?;
        let value = self.load(&from);
        self.store(&to, value);
        self.store(&general(RSP, top.width), top.offset);
        Ok(())
    }

    /// The address of what is written is made with the stack pointer as it is
    /// after the pop. Intel SDM volume 2, "POP—Pop a Value From the Stack".
    fn pop(&mut self, instruction: &Instruction) -> Finished {
        let to = self.popped_to(instruction)?;
        let from = self.at(self.stack(0), to.width, Use::Read)?;
        let above = self.stack(i64::from(to.width.bytes()));
        let value = self.load(&from);
        self.store(&general(RSP, above.width), above.offset);
        self.store(&to, value);
        Ok(())
    }

    fn popped_to(&self, instruction: &Instruction) -> Result<Operand, Exception> {
        match memory_width(instruction) {
            Some(width) if instruction.op0_kind() == OpKind::Memory => {
                let popped = u64::from(width.bytes());
                self.at(self.effective(instruction, popped), width, Use::Write)
            }
            _ => self.operand(instruction, 0, Use::Write),
        }
    }
}
