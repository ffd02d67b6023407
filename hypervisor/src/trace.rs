//! A trace of the exits of one CPU: the newest of them, each with its times,
//! its payload and its outcome.

pub mod ring;

use crate::outcome::Outcome;
use abi::report;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use machine::Vcpu;
use ring::{Reader, Ring};
use spin::Mutex;
use x86::Exit;
use x86::exit::{ControlAccess, Kind, RegisterAccess};

/// Words of a record in memory: a cache line.
const LINE: usize = 8;
/// Words that it fills, behind the ring's own.
const WORDS: usize = 6;

/// The trace. Written in `run` by the CPU that has it; switched, and read, by
/// any.
pub struct Trace {
    on: AtomicBool,
    ring: Ring<'static, LINE>,
    /// How far it has been written to the log's port. Taken by who writes it
    /// there.
    pub written: Mutex<Reader>,
}

/// Whose an exit is: in the word of its record that says what it was, above the
/// kind and the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose(u64);

impl Whose {
    /// The guest's own.
    pub const GUEST: Self = Self(0);

    /// That of a child's vCPU. No child has the number 0.
    #[inline]
    pub const fn child(number: u32, vcpu: u16) -> Self {
        Self((number as u64) << 16 | (vcpu as u64) << 48)
    }
}

/// What an exit looked like before it was answered.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    rip: u64,
    payload: [u64; 2],
    whose: Whose,
}

impl Before {
    /// Looks at `vcpu`, which stopped with `exit`.
    pub fn new<V: Vcpu>(vcpu: &V, exit: &Exit, whose: Whose) -> Self {
        Self {
            rip: vcpu.rip(),
            payload: payload(vcpu, exit),
            whose,
        }
    }
}

impl Trace {
    /// A trace in `memory`, which is zero; on if there is any.
    pub fn new(memory: &'static [AtomicU64]) -> Self {
        let (lines, _) = memory.as_chunks();
        Self {
            on: AtomicBool::new(!lines.is_empty()),
            ring: Ring::new(lines),
            written: Mutex::default(),
        }
    }

    /// Whether there is memory for one.
    pub fn is_possible(&self) -> bool {
        self.ring.capacity() > 0
    }

    /// Whether exits are recorded now.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Starts or stops recording.
    pub fn switch(&self, on: bool) {
        self.on.store(on && self.is_possible(), Relaxed);
    }

    /// Records an exit that was answered between `begin` and `end`. Only for
    /// the CPU that has the trace.
    #[cold]
    pub fn write(&self, exit: &Exit, before: Before, outcome: Outcome, [begin, end]: [u64; 2]) {
        let Whose(whose) = before.whose;
        let what = u64::from(exit.kind() as u8) | u64::from(outcome.number()) << 8 | whose;
        let [first, second] = before.payload;
        self.ring
            .write(&[begin, end, what, before.rip, first, second]);
    }

    /// The next record for `reader`, who is the `cpu` of its lines.
    pub fn read(&self, reader: &mut Reader, cpu: u32) -> Option<report::Record<'static>> {
        let mut words = [0; WORDS];
        if !reader.read(&self.ring, &mut words) {
            return None;
        }
        let [begin, end, what, rip, first, second] = words;
        let kind = Kind::ALL.get((what & 0xff) as usize);
        Some(report::Record {
            cpu,
            number: reader.next - 1,
            begin,
            end,
            kind: kind.map_or("unknown", |kind| kind.name()),
            outcome: Outcome::name((what >> 8) as u8),
            rip,
            payload: [first, second],
            child: (what >> 16) as u32,
            vcpu: (what >> 48) as u32,
        })
    }

    /// The number of the next record.
    pub fn next(&self) -> u64 {
        self.ring.next()
    }

    /// Records that `reader` has yet to read; some may be lost until then.
    pub fn left(&self, reader: &Reader) -> u64 {
        let unread = self.ring.next().saturating_sub(reader.next);
        unread.min(self.ring.capacity())
    }
}

/// The two words that say most about an exit; of a call its number and first
/// argument.
fn payload<V: Vcpu>(vcpu: &V, exit: &Exit) -> [u64; 2] {
    match *exit {
        Exit::Cpuid { leaf, subleaf } => [leaf.into(), subleaf.into()],
        Exit::Hypercall => [vcpu.registers().rax, vcpu.registers().rbx],
        Exit::ReadMsr { number } => [number.into(), 0],
        Exit::WriteMsr { number, value } => [number.into(), value],
        Exit::SetExtendedControl { index, value } => [index.into(), value],
        Exit::Control(access) => control(access),
        Exit::Debug(access) => register(access),
        Exit::Port(port) => {
            let flags = [port.input, port.string, port.repeat];
            [port.port.into(), access(flags) | u64::from(port.size) << 8]
        }
        Exit::NestedFault(fault) => {
            let flags = [fault.access.write, fault.access.fetch, fault.walk];
            [fault.gpa.0, access(flags)]
        }
        Exit::NestedTables { gpa } => [gpa.0, 0],
        Exit::Exception { event, detail } => [event.vector.into(), detail],
        Exit::Interrupt { vector } => [vector.unwrap_or(0).into(), 0],
        Exit::Startup { vector } => [vector.into(), 0],
        Exit::TaskSwitch(task) => [task.selector.into(), task.error.unwrap_or(0).into()],
        Exit::Apic { reason, detail } | Exit::Other { reason, detail } => [reason, detail],
        _ => [0, 0],
    }
}

fn control(access: ControlAccess) -> [u64; 2] {
    match access {
        ControlAccess::Move(access) => register(access),
        ControlAccess::Undecoded { register, write } => [register.into(), write.into()],
        ControlAccess::ClearTaskSwitched => [0, 0],
        ControlAccess::LoadMachineStatus { value } => [0, value.into()],
    }
}

fn register(access: RegisterAccess) -> [u64; 2] {
    [access.register.into(), access.write.into()]
}

/// Bit 0 is the first flag.
fn access(flags: [bool; 3]) -> u64 {
    let bits = flags.iter().zip(0..);
    bits.fold(0, |word, (flag, bit)| word | u64::from(*flag) << bit)
}
