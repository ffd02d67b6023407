//! String instructions, round by round. Registers are right after each round, so
//! that a fault, an interrupt or a single-step trap between two of them finds
//! the instruction where the CPU would have left it.

use super::address::{Logical, segment_name};
use super::arithmetic::Binary;
use super::operand::{Use, general};
use super::operation::{Text, memory_width};
use super::width::Width;
use super::{Device, Emulator, Progress};
use iced_x86::{Instruction, OpKind};
use machine::{Memory, Vcpu};
use x86::Exception;
use x86::control::Rflags;
use x86::segment::SegmentName;

/// The registers' numbers in instructions.
const RAX: u8 = 0;
const RCX: u8 = 1;
const RSI: u8 = 6;
const RDI: u8 = 7;

/// Rounds of one exit.
const ROUNDS: u32 = 256;
/// Ticks after which no other round begins, so that interrupts wait no longer
/// than for one round of a slow device: a line of the log takes milliseconds.
const TICKS: u64 = 1_000_000;

/// When a repeated instruction ends but for its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Never,
    Equal,
    Different,
}

/// What all rounds of an instruction have in common.
struct Rounds {
    text: Text,
    /// Of an element.
    width: Width,
    /// Of an address and of the count.
    address: Width,
    source: SegmentName,
    repeated: bool,
    until: Until,
}

impl Rounds {
    fn new(instruction: &Instruction, text: Text) -> Self {
        let (while_equal, while_different) =
            (instruction.has_rep_prefix(), instruction.has_repne_prefix());
        let compares = matches!(text, Text::Compare | Text::Scan);
        Self {
            text,
            width: memory_width(instruction).unwrap_or(Width::Byte),
            address: address_width(instruction),
            source: segment_name(instruction.memory_segment()),
            repeated: while_equal || while_different,
            until: match (compares, while_different) {
                (false, _) => Until::Never,
                (true, true) => Until::Equal,
                (true, false) => Until::Different,
            },
        }
    }

    fn at<V: Vcpu>(&self, vcpu: &V, register: u8, segment: SegmentName) -> Logical {
        Logical {
            segment,
            offset: self.address.cut(vcpu.general(register)),
            width: self.address,
        }
    }
}

fn address_width(instruction: &Instruction) -> Width {
    let kinds = [instruction.op0_kind(), instruction.op1_kind()];
    let has = |wanted: [OpKind; 2]| kinds.iter().any(|kind| wanted.contains(kind));
    if has([OpKind::MemorySegRSI, OpKind::MemoryESRDI]) {
        Width::Quad
    } else if has([OpKind::MemorySegESI, OpKind::MemoryESEDI]) {
        Width::Double
    } else {
        Width::Word
    }
}

impl<V: Vcpu, M: Memory, D: Device> Emulator<'_, V, M, D> {
    /// Runs as many rounds as an exit may take. Behind the watched memory the
    /// CPU goes on by itself.
    pub(super) fn string(
        &mut self,
        instruction: &Instruction,
        text: Text,
    ) -> Result<Progress, Exception> {
        let rounds = Rounds::new(instruction, text);
        if !rounds.repeated {
            self.round(&rounds)?;
            return Ok(Progress::Finished);
        }
        let counter = general(RCX, rounds.address);
        let mut count = self.load(&counter);
        if count == 0 {
            return Ok(Progress::Finished);
        }
        let begin = self.vcpu.ticks();
        for done in 0..ROUNDS {
            self.reached = false;
            match self.round(&rounds) {
                Err(exception) if done == 0 => return Err(exception),
                // Raised when the guest comes here again.
                Err(_) => break,
                Ok(()) => {}
            }
            count -= 1;
            self.store(&counter, count);
            let flags = self.vcpu.rflags();
            if count == 0 || ends(rounds.until, flags) {
                return Ok(Progress::Finished);
            }
            let late = self.vcpu.ticks().saturating_sub(begin) > TICKS;
            if !self.reached || late || self.device.is_full() || flags.contains(Rflags::TF) {
                break;
            }
        }
        Ok(Progress::Unfinished)
    }

    fn round(&mut self, rounds: &Rounds) -> Result<(), Exception> {
        let accumulator = general(RAX, rounds.width);
        let source = rounds.at(self.vcpu, RSI, rounds.source);
        let target = rounds.at(self.vcpu, RDI, SegmentName::Es);
        let width = rounds.width;
        let (from_source, to_target) = match rounds.text {
            Text::Move => {
                let from = self.at(source, width, Use::Read)?;
                let to = self.at(target, width, Use::Write)?;
                let value = self.load(&from);
                self.store(&to, value);
                (true, true)
            }
            Text::Store => {
                let to = self.at(target, width, Use::Write)?;
                let value = self.load(&accumulator);
                self.store(&to, value);
                (false, true)
            }
            Text::Load => {
                let from = self.at(source, width, Use::Read)?;
                let value = self.load(&from);
                self.store(&accumulator, value);
                (true, false)
            }
            Text::Compare => {
                let first = self.at(source, width, Use::Read)?;
                let second = self.at(target, width, Use::Read)?;
                let (a, b) = (self.load(&first), self.load(&second));
                self.compare_values(Binary::Subtract, width, a, b);
                (true, true)
            }
            Text::Scan => {
                let second = self.at(target, width, Use::Read)?;
                let (a, b) = (self.load(&accumulator), self.load(&second));
                self.compare_values(Binary::Subtract, width, a, b);
                (false, true)
            }
            Text::Input => {
                let to = self.at(target, width, Use::Write)?;
                let value = self.read_port(width);
                self.store(&to, value);
                (false, true)
            }
            Text::Output => {
                let from = self.at(source, width, Use::Read)?;
                let value = self.load(&from);
                self.write_port(width, value);
                (true, false)
            }
        };
        if from_source {
            self.advance(RSI, rounds);
        }
        if to_target {
            self.advance(RDI, rounds);
        }
        Ok(())
    }

    /// Moves an address register to the next element.
    fn advance(&mut self, register: u8, rounds: &Rounds) {
        let size = i64::from(rounds.width.bytes());
        let down = self.vcpu.rflags().contains(Rflags::DF);
        let here = rounds.at(self.vcpu, register, SegmentName::Es);
        let next = here.moved(if down { -size } else { size });
        self.store(&general(register, rounds.address), next.offset);
    }

    fn read_port(&mut self, width: Width) -> u64 {
        self.reached = true;
        let port = self.port_number();
        self.device.read(port, width.bytes())
    }

    fn write_port(&mut self, width: Width, value: u64) {
        self.reached = true;
        let port = self.port_number();
        self.device.write(port, width.bytes(), value);
    }

    fn port_number(&self) -> u64 {
        self.port.map_or(0, |access| u64::from(access.port))
    }
}

fn ends(until: Until, flags: Rflags) -> bool {
    match until {
        Until::Never => false,
        Until::Equal => flags.contains(Rflags::ZF),
        Until::Different => !flags.contains(Rflags::ZF),
    }
}
