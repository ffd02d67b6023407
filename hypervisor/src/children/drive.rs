//! One turn of a child's vCPU: the registers change hands, the last exit is
//! finished with what its program answered, and then the loop runs that runs the
//! guest itself, with a child's controllers.

use super::Child;
use super::program::{Answer, Program, plain};
use crate::chain::Child as ChildChain;
use crate::outcome::Stop;
use crate::run::{answer, run_by};
use crate::trace::Whose;
use crate::vm::Cpu;
use abi::Errno;
use abi::child::{entry, exit as flags, kind};
use abi::record::{VmEntry, VmExit};
use machine::{ChildVcpu, Vcpu};
use x86::Event;
use x86::event::{EventType, VALID};

/// Bits of an event that a program may set.
const EVENT: u32 = 0xfff;

/// The event that a program means, if it is one.
pub fn event(word: u32, error: u32) -> Result<Event, Errno> {
    let event = Event::from_words(word & EVENT | VALID, error);
    let event = event.filter(|_| word & !(EVENT | VALID) == 0);
    let event = event.ok_or(Errno::InvalidArgument)?;
    let has_code = matches!(event.vector, 8 | 10..=14 | 17 | 21);
    let makes_sense = match event.kind {
        EventType::Interrupt => event.error.is_none() && event.vector >= 16,
        EventType::Nmi => event.error.is_none() && event.vector == 2,
        EventType::Exception => {
            event.vector < 32 && event.vector != 2 && (has_code || event.error.is_none())
        }
        _ => false,
    };
    makes_sense.then_some(event).ok_or(Errno::InvalidArgument)
}

/// Raises `event` in a vCPU that is loaded.
pub fn raise<H, V: ChildVcpu<H>>(vcpu: &mut V, event: Event) -> Result<(), Errno> {
    let waits = event.kind == EventType::Interrupt && !vcpu.takes_interrupts();
    if waits || vcpu.has_event() {
        return Err(Errno::Busy);
    }
    vcpu.raise(event);
    Ok(())
}

/// What an entry says, once it is found to make sense.
struct Wish {
    flags: u32,
    event: Option<Event>,
    answer: Option<Answer>,
}

impl Wish {
    fn new(entry: &VmEntry) -> Result<Self, Errno> {
        let has = |flag| entry.flags & flag != 0;
        let twice = has(entry::ANSWER) && has(entry::FAULT);
        if entry.flags & !entry::ALL != 0 || entry.zero != 0 || twice {
            return Err(Errno::InvalidArgument);
        }
        let event = match has(entry::EVENT) {
            true => Some(event(entry.event, entry.error)?),
            false => None,
        };
        let answer = match (has(entry::ANSWER), has(entry::FAULT)) {
            (true, _) => Some(Answer::Values(entry.values)),
            (_, true) => Some(Answer::Fault),
            _ => None,
        };
        Ok(Self {
            flags: entry.flags,
            event,
            answer,
        })
    }
}

impl<V: Vcpu> Child<V> {
    /// Runs vCPU `number` until its program is needed, or this CPU is.
    pub fn run(&self, cpu: &mut Cpu<V>, number: u64, entry: &VmEntry) -> Result<VmExit, Errno> {
        let wish = Wish::new(entry)?;
        if self.is_ending() {
            return Err(Errno::NotFound);
        }
        self.with_vcpu(number, |child| {
            if child.program.is_shut {
                return Ok(plain(kind::SHUTDOWN));
            }
            let chain = self.chain(number)?;
            child.counted = cpu.counted;
            child.number = cpu.number;
            self.count_running(true);
            child.vcpu.load(&mut cpu.vcpu);
            let outcome = self.turn(chain, &mut cpu.vcpu, child, &wish);
            if let Some(cause) = child.program.cause.take() {
                child.vcpu.note_for_guest(&cpu.vcpu, &cause);
            }
            child.vcpu.unload(&mut cpu.vcpu);
            self.count_running(false);
            outcome
        })
    }

    /// vCPU `number`'s.
    fn chain(&self, number: u64) -> Result<ChildChain<'_>, Errno> {
        Ok(ChildChain {
            counts: Some(self.counts(number)?),
            whose: Whose::child(self.number, number as u16),
        })
    }

    fn turn(
        &self,
        chain: ChildChain<'_>,
        host: &mut V,
        child: &mut Cpu<V::Child>,
        wish: &Wish,
    ) -> Result<VmExit, Errno> {
        use machine::ChildMemory;
        let generation = self.vm.memory.generation();
        if !child.vcpu.board(host, generation) {
            return Err(Errno::NoService);
        }
        let Program { exit, cause, .. } = &mut child.program;
        (*exit, *cause) = (None, None);
        child.program.flags = wish.flags & Program::KEPT;
        child.vcpu.await_interrupts(wish.flags & entry::WINDOW != 0);
        let stop = self
            .finish_last(chain, child, wish)
            .unwrap_or_else(|| run_by(chain, &self.vm, child));
        let record = record::<V>(child, stop);
        child.vcpu.alight(host);
        Ok(record)
    }

    /// Finishes the exit that waited for its program, and raises the event.
    /// What ends the turn already is returned.
    fn finish_last(
        &self,
        chain: ChildChain<'_>,
        child: &mut Cpu<V::Child>,
        wish: &Wish,
    ) -> Option<Stop> {
        let waiting = child.program.waiting.take();
        if let (Some(exit), Some(said)) = (waiting, wish.answer) {
            child.program.answer = Some(said);
            let chain = ChildChain {
                counts: None,
                ..chain
            };
            let done = answer(chain, &self.vm, child, exit);
            child.program.answer = None;
            if let Err(stop) = done {
                return Some(stop);
            }
        }
        let raised = wish
            .event
            .map_or(Ok(()), |event| raise(&mut child.vcpu, event));
        if raised.is_err() {
            let mut record = plain(kind::INTERRUPTED);
            record.flags = flags::NOT_RAISED;
            child.program.exit = Some(record);
            return Some(Stop::HandUp);
        }
        if wish.flags & entry::RETURN != 0 {
            child.program.exit = Some(plain(kind::INTERRUPTED));
            return Some(Stop::HandUp);
        }
        None
    }
}

/// What the program is told.
fn record<V: Vcpu>(child: &mut Cpu<V::Child>, stop: Stop) -> VmExit {
    let told = child.program.exit.take();
    let record = match (stop, told) {
        (Stop::HandUp, Some(record)) => record,
        (Stop::Reset, _) => plain(kind::SHUTDOWN),
        (Stop::Unhandled(exit), _) => VmExit {
            address: exit.kind() as u64,
            ..plain(kind::OTHER)
        },
        _ => plain(kind::OTHER),
    };
    child.program.is_shut = record.kind == kind::SHUTDOWN;
    let flag = |given, flag| if given { flag } else { 0 };
    VmExit {
        flags: record.flags
            | flag(child.vcpu.takes_interrupts(), flags::INTERRUPTIBLE)
            | flag(child.vcpu.has_event(), flags::EVENT_DUE),
        rip: child.vcpu.rip(),
        ..record
    }
}
