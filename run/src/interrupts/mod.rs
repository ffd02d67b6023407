//! The interrupt controllers of the VM: a local APIC for each vCPU and the I/O
//! APIC, all under one lock, and how a vCPU's thread hears of what arrives.

pub mod alarm;
mod io;
mod local;
pub mod runner;
mod timer;

use crate::lock::lock;
use io::{IoApic, Message};
use local::LocalApic;
use runner::Runner;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;
use underlay_vm::Event;

/// Ticks of the time-stamp counter in one of an APIC's timer.
pub const TICKS: u64 = 100;

/// The time-stamp counter, which all vCPUs share with this program.
pub fn now() -> u64 {
    // SAFETY: every CPU that Underlay runs on has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Where a vCPU is on its way from INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It runs.
    Runs,
    /// It waits for a start-up interrupt.
    Waits,
    /// It is to start at this page.
    Starts(u8),
}

/// What a vCPU can take before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    /// An interrupt.
    pub interrupts: bool,
    /// Any other event.
    pub events: bool,
}

/// What a vCPU's thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It runs the vCPU.
    Run {
        /// And raises this.
        raise: Option<Event>,
        /// And wants to know when an interrupt can be taken.
        window: bool,
        /// And comes back when its timer is due.
        due: Option<u64>,
    },
    /// It has the vCPU start at this page, in real mode.
    Start(u8),
    /// It sleeps.
    Sleep,
    /// It ends.
    End,
}

struct Vcpu {
    local: LocalApic,
    life: Life,
    nmi: bool,
    /// It waits for an interrupt.
    halted: bool,
}

struct State {
    vcpus: Vec<Vcpu>,
    io: IoApic,
    ended: bool,
}

/// All of them.
pub struct Interrupts {
    state: Mutex<State>,
    /// Signalled when there is something for the vCPU of this number.
    news: Vec<Condvar>,
    runners: Vec<Runner>,
    ticks_per_second: u64,
}

impl Interrupts {
    /// Those of `count` vCPUs, of which the first runs.
    pub fn new(count: u8, ticks_per_second: u64) -> Self {
        let vcpu = |number| Vcpu {
            local: LocalApic::new(number, TICKS),
            life: if number == 0 { Life::Runs } else { Life::Waits },
            nmi: false,
            halted: false,
        };
        Self {
            state: Mutex::new(State {
                vcpus: (0..count).map(vcpu).collect(),
                io: IoApic::new(count),
                ended: false,
            }),
            news: (0..count).map(|_| Condvar::new()).collect(),
            runners: (0..count).map(|_| Runner::default()).collect(),
            ticks_per_second,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Does `act` with the state, and tells the vCPUs whose bits it gives.
    fn change(&self, act: impl FnOnce(&mut State) -> u64) {
        let concerned = act(&mut self.state());
        for (number, (news, runner)) in self.news.iter().zip(&self.runners).enumerate() {
            if concerned >> number & 1 != 0 {
                news.notify_all();
                runner.kick();
            }
        }
    }

    /// The number of vCPUs.
    pub fn count(&self) -> usize {
        self.news.len()
    }

    /// A vCPU reads its local APIC.
    pub fn read_local(&self, number: usize, offset: u64) -> u32 {
        let state = self.state();
        state.vcpus[number].local.read(offset, now())
    }

    /// It writes it.
    pub fn write_local(&self, number: usize, offset: u64, value: u32) {
        self.change(|state| {
            let command = state.vcpus[number].local.write(offset, value, now());
            command.map_or(0, |command| state.command(number, command))
        });
    }

    /// It reads the deadline of its timer.
    pub fn deadline(&self, number: usize) -> u64 {
        self.state().vcpus[number].local.timer.deadline()
    }

    /// It writes it.
    pub fn set_deadline(&self, number: usize, moment: u64) {
        self.state().vcpus[number].local.timer.set_deadline(moment);
    }

    /// A vCPU reads the I/O APIC.
    pub fn read_io(&self, offset: u64) -> u32 {
        self.state().io.read(offset)
    }

    /// It writes it.
    pub fn write_io(&self, offset: u64, value: u32) {
        self.change(|state| {
            let message = state.io.write(offset, value);
            message.map_or(0, |message| state.deliver(message))
        });
    }

    /// A device pulses its input of the I/O APIC.
    pub fn pulse(&self, input: u8) {
        self.change(|state| {
            let message = state.io.pulse(input);
            message.map_or(0, |message| state.deliver(message))
        });
    }

    /// The VM is over.
    pub fn end(&self) {
        self.change(|state| {
            state.ended = true;
            u64::MAX
        });
    }

    /// What the thread of vCPU `number` does next. An interrupt that it is to
    /// raise counts as taken.
    /// `thread` is called back from here on when there is something new.
    pub fn next(&self, number: usize, thread: i32, takes: Takes) -> Next {
        // Whoever changes something behind this sees that it must be told.
        self.runners[number].set_busy(thread);
        let next = self.state().next(number, takes, now());
        if !matches!(next, Next::Run { .. }) {
            self.came_back(number);
        }
        next
    }

    /// The vCPU's turn is over.
    pub fn came_back(&self, number: usize) {
        self.runners[number].set_busy(0);
    }

    /// A vCPU halts. False if nothing can wake any of them any more: those that
    /// halted take no interrupts, and the others wait to be started.
    pub fn halt(&self, number: usize, takes_interrupts: bool) -> bool {
        let mut state = self.state();
        state.vcpus[number].halted = true;
        takes_interrupts
            || state
                .vcpus
                .iter()
                .any(|vcpu| vcpu.life == Life::Runs && !vcpu.halted)
    }

    /// Waits until there may be something for vCPU `number`.
    pub fn sleep(&self, number: usize) {
        let state = self.state();
        let vcpu = &state.vcpus[number];
        if state.ended || vcpu.has_news() {
            return;
        }
        let news = &self.news[number];
        match vcpu.local.timer.due() {
            None => drop(news.wait(state)),
            Some(due) => drop(news.wait_timeout(state, self.time(due.saturating_sub(now())))),
        }
    }

    /// How long so many ticks of the time-stamp counter last.
    pub fn time(&self, ticks: u64) -> Duration {
        let nanoseconds =
            u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

impl Vcpu {
    fn has_news(&self) -> bool {
        let is_awake = self.life == Life::Runs;
        let wakes = self.nmi || self.local.pending().is_some();
        matches!(self.life, Life::Starts(_)) || is_awake && wakes
    }

    fn next(&mut self, takes: Takes) -> Next {
        match self.life {
            Life::Waits => return Next::Sleep,
            Life::Starts(page) => {
                (self.life, self.halted) = (Life::Runs, false);
                return Next::Start(page);
            }
            Life::Runs => {}
        }
        let (vector, due) = (self.local.pending(), self.local.timer.due());
        let wakes = self.nmi || takes.interrupts && vector.is_some();
        if self.halted && !wakes {
            return Next::Sleep;
        }
        self.halted = false;
        if self.nmi && takes.events {
            self.nmi = false;
            return Next::Run {
                raise: Some(Event::Nmi),
                window: vector.is_some(),
                due,
            };
        }
        let raise = vector.filter(|_| takes.interrupts);
        if let Some(vector) = raise {
            self.local.take(vector);
        }
        Next::Run {
            raise: raise.map(Event::Interrupt),
            window: vector.is_some() && raise.is_none(),
            due,
        }
    }
}

impl State {
    fn next(&mut self, number: usize, takes: Takes, now: u64) -> Next {
        if self.ended {
            return Next::End;
        }
        let vcpu = &mut self.vcpus[number];
        vcpu.local.tick(now);
        vcpu.next(takes)
    }

    /// The vCPUs that a destination means, as bits.
    fn meant(&self, destination: u8, is_logical: bool) -> u64 {
        let numbered = self.vcpus.iter().enumerate();
        let meant = numbered.filter(|(_, vcpu)| vcpu.local.is_meant(destination, is_logical));
        meant.fold(0, |bits, (number, _)| bits | 1 << number)
    }

    fn deliver(&mut self, message: Message) -> u64 {
        let mut meant = self.meant(message.destination, message.is_logical);
        if message.is_lowest {
            meant &= meant.wrapping_neg();
        }
        self.request(meant, message.vector, message.is_level);
        meant
    }

    fn request(&mut self, meant: u64, vector: u8, level: bool) {
        for (number, vcpu) in self.vcpus.iter_mut().enumerate() {
            if meant >> number & 1 != 0 {
                vcpu.local.request(vector, level);
            }
        }
    }

    /// Intel SDM volume 3, "Interrupt Command Register (ICR)".
    fn command(&mut self, from: usize, command: u64) -> u64 {
        const INIT: u64 = 5;
        const STARTUP: u64 = 6;
        const NMI: u64 = 4;
        const ASSERT: u64 = 1 << 14;
        let all = (1 << self.vcpus.len()) - 1;
        let mut meant = match command >> 18 & 3 {
            0 => self.meant((command >> 56) as u8, command & 1 << 11 != 0),
            1 => 1 << from,
            2 => all,
            _ => all & !(1 << from),
        };
        let vector = command as u8;
        match command >> 8 & 7 {
            0 => self.request(meant, vector, false),
            1 => {
                meant &= meant.wrapping_neg();
                self.request(meant, vector, false);
            }
            NMI => self.each(meant, |vcpu| vcpu.nmi = true),
            INIT if command & ASSERT != 0 => self.each(meant, |vcpu| {
                vcpu.life = Life::Waits;
                vcpu.nmi = false;
                vcpu.local.reset();
            }),
            STARTUP => self.each(meant, |vcpu| {
                if vcpu.life == Life::Waits {
                    vcpu.life = Life::Starts(vector);
                }
            }),
            _ => return 0,
        }
        meant
    }

    fn each(&mut self, meant: u64, act: impl Fn(&mut Vcpu)) {
        for (number, vcpu) in self.vcpus.iter_mut().enumerate() {
            if meant >> number & 1 != 0 {
                act(vcpu);
            }
        }
    }
}

#[cfg(test)]
mod tests;
