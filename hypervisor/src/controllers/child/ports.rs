//! Port accesses of a child, all of which are its program's.

use crate::children::program::{Answer, plain};
use crate::emulator::{self, Device};
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use abi::child::{exit as flags, kind};
use abi::record::VmExit;
use machine::{Memory, Vcpu};
use x86::exit::PortAccess;
use x86::{Exception, Exit};

/// Does the access with the program in the device's place.
pub fn handle_port<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    access: PortAccess,
) -> Outcome {
    let flag = |given, flag| if given { flag } else { 0 };
    let of = flag(access.string, flags::STRING) | flag(access.repeat, flags::REPEATED);
    let mut device = Asked::new(cpu);
    let outcome = emulator::port(vm, cpu, access, &mut device);
    device.finish(cpu, &Exit::Port(access), outcome, |asked| VmExit {
        flags: of,
        port: asked.at as u32,
        ..plain(kind::PORT)
    })
}

/// Gives an access that is no string's to the program, which has answered nothing
/// yet.
#[inline(always)]
pub fn handle_at_once<V: Vcpu, M: Memory>(
    _: &Vm<M>,
    cpu: &mut Cpu<V>,
    access: PortAccess,
) -> Outcome {
    if access.input {
        return ask_at_once(cpu, access);
    }
    let exit = &mut cpu.program.exit;
    (exit.kind, exit.flags) = (kind::PORT, 0);
    (exit.size, exit.port) = (u32::from(access.size), u32::from(access.port));
    (exit.address, exit.data) = (0, u64::from(access.value));
    cpu.program.is_told = true;
    match access.next {
        Some(next) => Outcome::Emulated {
            length: next.wrapping_sub(cpu.vcpu.rip()) as u8,
        },
        None => Outcome::Done,
    }
}

#[cold]
fn ask_at_once<V>(cpu: &mut Cpu<V>, access: PortAccess) -> Outcome {
    let record = VmExit {
        size: u32::from(access.size),
        port: u32::from(access.port),
        ..plain(kind::PORT)
    };
    cpu.program.ask(&Exit::Port(access), record);
    Outcome::HandUp
}

/// One access of a device.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Where.
    pub at: u64,
    size: u8,
    /// What is written; None if it is read.
    written: Option<u64>,
}

/// A device whose program is asked: it answers one read with what the program
/// said, and takes one write.
#[derive(Debug)]
pub struct Asked {
    answer: Option<Answer>,
    access: Option<Access>,
}

impl Device for Asked {
    fn read(&mut self, at: u64, size: u8) -> u64 {
        match self.answer.take() {
            Some(Answer::Values([value, ..])) => value,
            _ if self.access.is_some() => 0,
            _ => {
                self.access = Some(Access {
                    at,
                    size,
                    written: None,
                });
                0
            }
        }
    }

    fn write(&mut self, at: u64, size: u8, value: u64) {
        self.access.get_or_insert(Access {
            at,
            size,
            written: Some(value),
        });
    }

    fn is_waiting(&self) -> bool {
        self.access.is_some_and(|access| access.written.is_none())
    }

    fn is_full(&self) -> bool {
        true
    }
}

impl Asked {
    /// With what the program has said to the vCPU on `cpu`.
    pub fn new<V>(cpu: &mut Cpu<V>) -> Self {
        Self {
            answer: cpu.program.answer.take(),
            access: None,
        }
    }

    /// Gives the program what it was asked for. `outcome` is the emulator's.
    pub fn finish<V>(
        self,
        cpu: &mut Cpu<V>,
        exit: &Exit,
        outcome: Outcome,
        record: impl FnOnce(&Access) -> VmExit,
    ) -> Outcome {
        if self.answer == Some(Answer::Fault) {
            return Outcome::Fault(Exception::GeneralProtection(0));
        }
        let Some(access) = self.access else {
            return outcome;
        };
        let record = VmExit {
            size: u32::from(access.size),
            data: access.written.unwrap_or(0),
            ..record(&access)
        };
        match access.written {
            Some(_) => cpu.program.tell(record),
            None => cpu.program.ask(exit, record),
        }
        outcome
    }
}
