//! Port accesses of a child, all of which are its program's.

use crate::children::program::{Answer, Program};
use crate::emulator;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use abi::child::{exit as flags, kind};
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
    let Some(mut device) = Asked::new(cpu) else {
        return Outcome::Fault(Exception::GeneralProtection(0));
    };
    let outcome = emulator::port(vm, cpu, access, &mut device);
    device.finish(cpu, &Exit::Port(access), outcome, |asked| Device {
        kind: kind::PORT,
        flags: of,
        port: asked.at as u32,
        address: 0,
    })
}

/// Gives an access that is no string's to the program, which has answered nothing
/// yet: what [`handle_port`] would do, without the emulator's detour, which is the
/// difference between a turn that costs what it may and one that does not.
#[inline(always)]
pub fn handle_at_once<V: Vcpu, M: Memory>(
    _: &Vm<M>,
    cpu: &mut Cpu<V>,
    access: PortAccess,
) -> Outcome {
    let device = Device {
        kind: kind::PORT,
        flags: 0,
        port: u32::from(access.port),
        address: 0,
    };
    if access.input {
        device.tell(&mut cpu.program, flags::READ, access.size, 0);
        cpu.program.waiting = Some(Exit::Port(access));
        return Outcome::HandUp;
    }
    device.tell(&mut cpu.program, 0, access.size, u64::from(access.value));
    match access.next {
        Some(next) => Outcome::Emulated {
            length: next.wrapping_sub(cpu.vcpu.rip()) as u8,
        },
        None => Outcome::Done,
    }
}

/// What the program is told of an access beside its size and its value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Device {
    /// Port or memory.
    pub kind: u32,
    /// Flags of the exit.
    pub flags: u32,
    /// The port.
    pub port: u32,
    /// The address.
    pub address: u64,
}

impl Device {
    /// Gives it to the program, but for the values, which mean nothing of a device.
    #[inline(always)]
    fn tell(self, program: &mut Program, flags: u32, size: u8, value: u64) {
        let exit = &mut program.exit;
        (exit.kind, exit.flags) = (self.kind, self.flags | flags);
        (exit.size, exit.port) = (u32::from(size), self.port);
        (exit.address, exit.data) = (self.address, value);
        program.is_told = true;
    }
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
    answer: Option<u64>,
    access: Option<Access>,
}

impl emulator::Device for Asked {
    fn read(&mut self, at: u64, size: u8) -> u64 {
        match self.answer.take() {
            Some(value) => value,
            None if self.access.is_some() => 0,
            None => {
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
    /// With what the program has said to the vCPU on `cpu`. None: the access is to
    /// fault.
    #[inline(always)]
    pub fn new<V>(cpu: &mut Cpu<V>) -> Option<Self> {
        let answer = match cpu.program.answer.take() {
            None => None,
            Some(Answer::Values([value, ..])) => Some(value),
            Some(Answer::Fault) => return None,
        };
        Some(Self {
            answer,
            access: None,
        })
    }

    /// Gives the program what it was asked for. `outcome` is the emulator's.
    #[inline(always)]
    pub fn finish<V>(
        self,
        cpu: &mut Cpu<V>,
        exit: &Exit,
        outcome: Outcome,
        device: impl FnOnce(&Access) -> Device,
    ) -> Outcome {
        let Some(access) = self.access else {
            return outcome;
        };
        let device = device(&access);
        match access.written {
            Some(value) => device.tell(&mut cpu.program, 0, access.size, value),
            None => {
                device.tell(&mut cpu.program, flags::READ, access.size, 0);
                cpu.program.waiting = Some(*exit);
            }
        }
        outcome
    }
}
