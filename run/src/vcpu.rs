//! A vCPU's thread: it has the vCPU run, again and again, and does what it needs
//! of this program in between.

use crate::boot;
use crate::cpuid::{self, Asking};
use crate::devices::Devices;
use crate::end::End;
use crate::interrupts::alarm::Alarm;
use crate::interrupts::runner::this_thread;
use crate::interrupts::{Next, Takes};
use crate::msrs::Msrs;
use std::sync::Arc;
use underlay_vm::{Error, Event, Exit, Vcpu, VmRegisters};

const INVALID_OPCODE: u8 = 6;

/// A vCPU with what its thread needs.
pub struct Runner {
    number: usize,
    vcpu: Vcpu,
    devices: Arc<Devices>,
    msrs: Msrs,
    asking: Asking,
    /// Its registers after INIT.
    reset: VmRegisters,
}

impl Runner {
    /// For vCPU `number`, which is as after a reset.
    pub fn new(
        number: u8,
        vcpu: Vcpu,
        devices: Arc<Devices>,
        ticks_per_second: u64,
    ) -> Result<Self, Error> {
        let asking = Asking {
            number: number.into(),
            count: devices.interrupts.count() as u32,
            ticks_per_second,
        };
        let number = number.into();
        Ok(Self {
            number,
            reset: vcpu.registers()?,
            vcpu,
            devices,
            msrs: Msrs::new(number),
            asking,
        })
    }

    /// Has it begin in the kernel that is entered at `entry`.
    pub fn begin_at(&mut self, entry: u64) -> anyhow::Result<()> {
        boot::prepare(&mut self.vcpu, entry)
    }

    /// Runs it until the VM is over.
    pub fn run(mut self) {
        if let Err(error) = self.rounds() {
            self.devices.end(End::Failed(error.to_string()));
        }
    }

    fn rounds(&mut self) -> Result<(), Error> {
        let thread = this_thread();
        let mut alarm = Alarm::new();
        loop {
            let takes = Takes {
                interrupts: self.vcpu.takes_interrupts(),
                events: self.vcpu.takes_events(),
            };
            match self.devices.interrupts.next(self.number, thread, takes) {
                Next::End => return Ok(()),
                Next::Sleep => self.devices.interrupts.sleep(self.number),
                Next::Start(page) => {
                    let mut registers = self.reset;
                    registers.selectors[1] = u64::from(page) << 8;
                    registers.bases[1] = u64::from(page) << 12;
                    registers.rip = 0;
                    self.msrs = Msrs::new(self.number);
                    self.vcpu.set_registers(&registers)?;
                }
                Next::Run { raise, window, due } => {
                    alarm.set(due, |ticks| self.devices.interrupts.time(ticks));
                    if let Some(event) = raise {
                        self.vcpu.raise(event);
                    }
                    if window {
                        self.vcpu.await_window();
                    }
                    self.turn()?;
                }
            }
        }
    }

    fn turn(&mut self) -> Result<(), Error> {
        self.vcpu.watch(true, true);
        let exit = self.vcpu.run();
        self.devices.interrupts.came_back(self.number);
        match exit? {
            Exit::Port(access) => self.answer(self.devices.port(&access)),
            Exit::Memory(access) => self.answer(self.devices.memory(self.number, &access)),
            Exit::Cpuid(cpuid) => {
                let answer = cpuid::answer(self.asking, &cpuid);
                self.vcpu.answer_all(answer.map(u64::from));
            }
            Exit::Msr(msr) => match self.msrs.access(&self.devices.interrupts, msr) {
                Some(value) => self.vcpu.answer(value),
                None => self.vcpu.refuse(),
            },
            // There is nobody to call: the instruction is as unknown as on a CPU
            // without virtualisation.
            Exit::Call(_) => self.vcpu.raise(Event::Exception(INVALID_OPCODE, None)),
            Exit::Halt => self.halt(),
            Exit::Interrupted | Exit::Window => {}
            // Looked at before each turn.
            Exit::NotRaised => self.crash("an event that it cannot take"),
            Exit::Shutdown => self.crash("a triple fault"),
            Exit::EntryFailed { reason, detail } => {
                self.crash(&format!("the CPU refuses it ({reason}, {detail:#x})"));
            }
            Exit::Other { reason, detail } => {
                self.crash(&format!(
                    "an exit that is not known ({reason:#x}, {detail:#x})"
                ));
            }
        }
        Ok(())
    }

    fn answer(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            self.vcpu.answer(value);
        }
    }

    fn halt(&self) {
        let takes = self.vcpu.takes_interrupts();
        if !self.devices.interrupts.halt(self.number, takes) {
            self.crash("it halted, and takes no interrupts");
        }
    }

    fn crash(&self, why: &str) {
        let rip = self.vcpu.registers().map_or(0, |registers| registers.rip);
        let why = format!("vCPU {} at {rip:#x}: {why}", self.number);
        self.devices.end(End::Crashed(why));
    }
}
