//! A vCPU of a VM.

use crate::exit::Exit;
use crate::vm::{Error, Handle, PAGE, patiently};
use abi::child::{EXIT_OFFSET, entry, exit, kind};
use abi::record::{VmEntry, VmExit, VmRegisters};
use std::io;
use std::sync::Arc;

/// A vCPU. Any thread may run it, one at a time.
#[derive(Debug)]
pub struct Vcpu {
    handle: Arc<Handle>,
    number: u64,
    entry: VmEntry,
    /// Flags of the last exit.
    flags: u32,
}

/// What can be raised in a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interrupt with this vector.
    Interrupt(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// An exception, with its error code if it has one.
    Exception(u8, Option<u32>),
}

impl Event {
    fn words(self) -> (u32, u32) {
        match self {
            Self::Interrupt(vector) => (vector.into(), 0),
            Self::Nmi => (2 << 8 | 2, 0),
            Self::Exception(vector, None) => (3 << 8 | u32::from(vector), 0),
            Self::Exception(vector, Some(error)) => (1 << 11 | 3 << 8 | u32::from(vector), error),
        }
    }
}

const IDLE: VmEntry = VmEntry {
    flags: 0,
    event: 0,
    error: 0,
    zero: 0,
    values: [0; 4],
};

impl Vcpu {
    pub(crate) fn new(handle: Arc<Handle>, number: u64) -> Self {
        let entry = IDLE;
        Self {
            handle,
            number,
            entry,
            flags: 0,
        }
    }

    /// Its registers.
    ///
    /// # Errors
    ///
    /// If the VM was ended.
    pub fn registers(&self) -> Result<VmRegisters, Error> {
        let Handle {
            underlay, number, ..
        } = *self.handle;
        Ok(patiently(|| {
            underlay.vm_registers_read(number, self.number)
        })?)
    }

    /// Sets them. An exit that waits for an answer waits no longer.
    ///
    /// # Errors
    ///
    /// If a register cannot hold what it is to hold.
    pub fn set_registers(&mut self, registers: &VmRegisters) -> Result<(), Error> {
        (self.entry, self.flags) = (IDLE, 0);
        let Handle {
            underlay, number, ..
        } = *self.handle;
        patiently(|| underlay.vm_registers_write(number, self.number, registers))?;
        Ok(())
    }

    /// Has it start at `address`, below 64 KiB, in real mode, with all segments
    /// beginning at 0.
    ///
    /// # Errors
    ///
    /// If the VM was ended.
    pub fn start_real_mode(&mut self, address: u16) -> Result<(), Error> {
        let mut registers = self.registers()?;
        for segment in 0..6 {
            registers.selectors[segment] = 0;
            registers.bases[segment] = 0;
        }
        registers.rip = address.into();
        self.set_registers(&registers)
    }

    /// Answers the last exit: a port's or a register's value, or a call's RAX.
    pub fn answer(&mut self, value: u64) {
        self.answer_all([value, 0, 0, 0]);
    }

    /// Answers CPUID: EAX, EBX, ECX, EDX.
    pub fn answer_all(&mut self, values: [u64; 4]) {
        self.entry.flags |= entry::ANSWER;
        self.entry.values = values;
    }

    /// Answers the last exit by a general-protection fault.
    pub fn refuse(&mut self) {
        self.entry.flags |= entry::FAULT;
    }

    /// Raises `event` when it runs next. If it cannot take it then, it does not go
    /// on, and [`Exit::NotRaised`] says so.
    pub fn raise(&mut self, event: Event) {
        (self.entry.event, self.entry.error) = event.words();
        self.entry.flags |= entry::EVENT;
    }

    /// Whether an event can be raised now: none is yet.
    pub fn takes_events(&self) -> bool {
        let is_raised = self.entry.flags & (entry::EVENT | entry::FAULT) != 0;
        !is_raised && self.flags & exit::EVENT_DUE == 0
    }

    /// Whether it can be an interrupt, as the last exit said.
    pub fn takes_interrupts(&self) -> bool {
        self.takes_events() && self.flags & exit::INTERRUPTIBLE != 0
    }

    /// Makes its next run end as soon as it can take an interrupt.
    pub fn await_window(&mut self) {
        self.entry.flags |= entry::WINDOW;
    }

    /// Makes CPUID, and MSRs that it may not use, exits of its next run.
    pub fn watch(&mut self, cpuid: bool, msrs: bool) {
        let flag = |wanted, flag| if wanted { flag } else { 0 };
        self.entry.flags |= flag(cpuid, entry::CPUID) | flag(msrs, entry::MSRS);
    }

    /// Runs it until it needs this program, or the CPU is wanted.
    ///
    /// # Errors
    ///
    /// If the VM was ended.
    pub fn run(&mut self) -> Result<Exit, Error> {
        let said = std::mem::replace(&mut self.entry, IDLE);
        let Handle {
            underlay, number, ..
        } = *self.handle;
        let Some(records) = self.handle.records.get() else {
            return Err(Error::Memory(io::ErrorKind::NotFound.into()));
        };
        let at = (self.number * PAGE) as usize;
        records.write(at, &said.to_bytes());
        patiently(|| underlay.vm_turn(number, self.number))?;
        let mut bytes = [0; VmExit::SIZE];
        records.read(at + EXIT_OFFSET as usize, &mut bytes);
        let told = VmExit::from_bytes(&bytes);
        self.flags = told.flags;
        if told.flags & exit::NOT_RAISED != 0 && told.kind != kind::INTERRUPTED {
            // The answer led to this exit before the event: it comes next time.
            (self.entry.event, self.entry.error) = (said.event, said.error);
            self.entry.flags |= entry::EVENT;
        }
        Ok(Exit::from(&told))
    }
}
