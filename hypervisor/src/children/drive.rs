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
use abi::child::{EXIT_OFFSET, entry, exit as flags, kind};
use abi::record::{VmEntry, VmExit};
use machine::{ChildVcpu, Memory, Vcpu};
use x86::event::{EventType, VALID};
use x86::{Event, Gpa};

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
pub struct Wish {
    flags: u32,
    event: Option<Event>,
    answer: Option<Answer>,
}

impl Wish {
    /// Just to go on.
    pub const NONE: Self = Self {
        flags: 0,
        event: None,
        answer: None,
    };

    /// What `entry` says.
    pub fn new(entry: &VmEntry) -> Result<Self, Errno> {
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
    pub fn run(&self, cpu: &mut Cpu<V>, number: u64, wish: &Wish) -> Result<VmExit, Errno> {
        self.with_vcpu(number, |child| {
            self.drive_as(cpu, child, number, wish)?;
            Ok(child.program.exit)
        })
    }

    /// The same with records in the child's own page, in the guest's `memory`. Gives
    /// the kind of the exit.
    #[inline(always)]
    pub fn turn<M: Memory>(&self, cpu: &mut Cpu<V>, number: u64, memory: &M) -> Result<u32, Errno> {
        self.with_vcpu(number, |child| {
            let page = child.program.records.ok_or(Errno::InvalidArgument)?;
            // The flags are in the first half. Without any the rest means nothing.
            match memory.load_wide(page) {
                0 => self.drive(cpu, child, number, &Wish::NONE)?,
                _ => self.drive_as(cpu, child, number, &wish_at(memory, page)?)?,
            }
            let exit = &child.program.exit;
            let at = Gpa(page.0 + EXIT_OFFSET);
            let written = match exit.kind {
                kind::CALL | kind::CPUID => memory.write(at, &exit.to_bytes()),
                _ => memory.write(at, &exit.to_head()),
            };
            // The page was found to be memory when it was named, and stays so; the
            // turn is over whatever becomes of this.
            written.ok();
            Ok(exit.kind)
        })
    }

    /// Runs a vCPU once, and leaves what its program is to hear of in `program`.
    #[inline(always)]
    fn drive(
        &self,
        cpu: &mut Cpu<V>,
        child: &mut Cpu<V::Child>,
        number: u64,
        wish: &Wish,
    ) -> Result<(), Errno> {
        if self.is_ending() {
            return Err(Errno::NotFound);
        }
        if child.program.is_shut {
            child.program.exit = plain(kind::SHUTDOWN);
            return Ok(());
        }
        let chain = self.chain(number)?;
        child.counted = cpu.counted;
        child.number = cpu.number;
        child.vcpu.load(&mut cpu.vcpu);
        let ran = self.exchange(chain, &mut cpu.vcpu, child, wish);
        if child.program.arrived.is_some() {
            tell_guest::<V>(cpu, child);
        }
        child.vcpu.unload(&mut cpu.vcpu);
        ran
    }

    /// As [`Self::drive`], for wishes that are none of the most frequent ones.
    #[inline(never)]
    fn drive_as(
        &self,
        cpu: &mut Cpu<V>,
        child: &mut Cpu<V::Child>,
        number: u64,
        wish: &Wish,
    ) -> Result<(), Errno> {
        self.drive(cpu, child, number, wish)
    }

    /// vCPU `number`'s.
    #[inline(always)]
    fn chain(&self, number: u64) -> Result<ChildChain<'_>, Errno> {
        Ok(ChildChain {
            counts: Some(self.counts(number)?),
            whose: Whose::child(self.number, number as u16),
        })
    }

    /// Exchanges the registers for as long as the vCPU runs.
    #[inline(always)]
    fn exchange(
        &self,
        chain: ChildChain<'_>,
        host: &mut V,
        child: &mut Cpu<V::Child>,
        wish: &Wish,
    ) -> Result<(), Errno> {
        use machine::ChildMemory;
        let generation = self.vm.memory.generation();
        if !child.vcpu.board(host, generation) {
            return Err(Errno::NoService);
        }
        child.program.is_told = false;
        if (wish.flags ^ child.program.flags) & entry::WINDOW != 0 {
            child.vcpu.await_interrupts(wish.flags & entry::WINDOW != 0);
        }
        child.program.flags = wish.flags & Program::KEPT;
        let stop = match self.finish_last(chain, child, wish) {
            None => run_by(chain, &self.vm, child),
            Some(stop) => stop,
        };
        complete::<V>(child, stop);
        child.vcpu.alight(host);
        Ok(())
    }

    /// Finishes the exit that waited for its program, and raises the event.
    /// What ends the turn already is returned.
    #[inline(always)]
    fn finish_last(
        &self,
        chain: ChildChain<'_>,
        child: &mut Cpu<V::Child>,
        wish: &Wish,
    ) -> Option<Stop> {
        // Each wish has a flag.
        if wish.flags != 0 || child.program.waiting.is_some() {
            return self.finish(chain, child, wish);
        }
        None
    }

    fn finish(
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
                // The instruction needs the program again, or another one is next.
                let missed = wish.event.map_or(0, |_| flags::NOT_RAISED);
                child.program.exit.flags |= missed;
                return Some(stop);
            }
        }
        let raised = wish
            .event
            .map_or(Ok(()), |event| raise(&mut child.vcpu, event));
        if raised.is_err() {
            let mut record = plain(kind::INTERRUPTED);
            record.flags = flags::NOT_RAISED;
            child.program.tell(record);
            return Some(Stop::HandUp);
        }
        if wish.flags & entry::RETURN != 0 {
            child.program.tell(plain(kind::INTERRUPTED));
            return Some(Stop::HandUp);
        }
        None
    }
}

/// Notes for the guest what arrived for it.
#[cold]
fn tell_guest<V: Vcpu>(cpu: &Cpu<V>, child: &mut Cpu<V::Child>) {
    if let Some(exit) = child.program.arrived.take() {
        child.vcpu.note_for_guest(&cpu.vcpu, &exit);
    }
}

/// What the entry at `page` says.
#[cold]
fn wish_at<M: Memory>(memory: &M, page: Gpa) -> Result<Wish, Errno> {
    let mut entry = [0; VmEntry::SIZE];
    let read = memory.read(page, &mut entry);
    read.map_err(|_| Errno::InvalidArgument)?;
    Wish::new(&VmEntry::from_bytes(&entry))
}

/// Completes what the program is told.
#[inline(always)]
fn complete<V: Vcpu>(child: &mut Cpu<V::Child>, stop: Stop) {
    if !matches!(stop, Stop::HandUp) || !child.program.is_told {
        child.program.exit = ended(stop);
    }
    let flag = |given, flag| if given { flag } else { 0 };
    let flags = flag(child.vcpu.takes_interrupts(), flags::INTERRUPTIBLE)
        | flag(child.vcpu.has_event(), flags::EVENT_DUE);
    let exit = &mut child.program.exit;
    exit.flags |= flags;
    exit.rip = child.vcpu.rip();
    child.program.is_shut = exit.kind == kind::SHUTDOWN;
}

/// What the program is told of a stop that no controller has put into words.
#[cold]
fn ended(stop: Stop) -> VmExit {
    match stop {
        Stop::Reset => plain(kind::SHUTDOWN),
        Stop::Unhandled(exit) => VmExit {
            address: exit.kind() as u64,
            ..plain(kind::OTHER)
        },
        _ => plain(kind::OTHER),
    }
}
