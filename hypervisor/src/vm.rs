//! The guest and its CPUs as objects.

use crate::children::program::Program;
use crate::counted::{self, Counted};
use crate::oddities::Oddities;
use crate::peers::Peers;
use crate::printer::Printer;
use crate::ration::Ration;
use crate::services::shell::Sessions;
use crate::shared::Shared;
#[cfg(test)]
use crate::{statistics::Statistics, trace::Trace};
use abi::handoff::{Compat, Presence, Sleep};
use abi::token::Token;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64};
use machine::Vcpu;

/// What all CPUs of a guest share.
pub struct Vm<M> {
    /// Its memory.
    pub memory: M,
    /// What it can see of the hypervisor. Never changes.
    pub presence: Presence,
    /// CPU features that need a control which this CPU may lack. Never changes.
    pub features: Features,
    /// What opens the owner's services. Never changes.
    pub token: Token,
    /// What the guest prints, where it is offered that. Never changes.
    pub printer: Option<Printer>,
    /// Buffers that its kernel shares. Kept and released by services.
    pub shared: Shared,
    /// Whose clients its programs may be. Never changes.
    pub compat: Compat,
    /// How it is put to sleep. Never changes.
    pub sleep: [Sleep; 2],
    /// Whether it looks woken after a sleep that was refused. Written by the
    /// controller `sleep` on any CPU.
    pub woken: AtomicBool,
    /// Sessions of the debug shell. Used by services on any CPU.
    pub shell: Sessions,
    /// Lines that the guest's kernel may write into the log.
    pub kernel_lines: Ration,
    /// Lines that its programs may.
    pub program_lines: Ration,
    /// Lines of the log that greetings may take, whoever asks for them.
    pub greeting_lines: Ration,
    /// Greetings so far. Counted by the service `hello` on any CPU.
    pub greetings: AtomicU64,
    /// The page that shows another one, and that one; 0 if there is none. Set
    /// once, by a breakable service; read by the controller `mirror`.
    #[cfg(feature = "breakable")]
    pub mirror: [AtomicU64; 2],
    /// The VMs of its programs, if the config has memory for them: a
    /// `children::Children`, whose type is the vendor's. Set before it runs.
    pub children: Option<&'static (dyn Any + Send + Sync)>,
    /// What it did that no ordinary system does. Counted by controllers on any
    /// CPU.
    pub oddities: Oddities,
    /// What is counted on each CPU. Noted by each before its guest runs.
    pub counted: counted::All,
    /// Ticks of the time-stamp counter a second. Set before the guest runs.
    pub ticks_per_second: u64,
    /// Whether its nested tables may have 1 GiB pages. Set before it runs.
    pub gib_pages: bool,
    /// Its CPUs. Made before the guest runs.
    pub peers: Peers,
    /// How many CPUs are handled. Set before the guest runs.
    pub cpus: u32,
    /// Bytes of the hypervisor's memory that are in use. Set before the guest
    /// runs; nothing is allocated later.
    pub memory_used: u64,
}

/// Features of the CPU that a guest can use only with a control of VT-x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// RDTSCP and RDPID.
    pub rdtscp: bool,
    /// INVPCID.
    pub invpcid: bool,
    /// XSAVES and XRSTORS.
    pub xsaves: bool,
    /// TPAUSE, UMONITOR, UMWAIT.
    pub user_wait: bool,
}

impl Features {
    /// AMD-V needs no controls for them.
    pub const ALL: Self = Self {
        rdtscp: true,
        invpcid: true,
        xsaves: true,
        user_wait: true,
    };
}

impl<M> Vm<M> {
    /// A guest that has not run yet.
    pub fn new(memory: M, presence: Presence, features: Features) -> Self {
        Self {
            memory,
            presence,
            features,
            token: Token::NONE,
            printer: None,
            shared: Shared::default(),
            compat: Compat::default(),
            sleep: [Sleep::default(); 2],
            woken: AtomicBool::new(false),
            shell: Sessions::default(),
            kernel_lines: Ration::default(),
            program_lines: Ration::default(),
            greeting_lines: Ration::default(),
            greetings: AtomicU64::new(0),
            #[cfg(feature = "breakable")]
            mirror: [AtomicU64::new(0), AtomicU64::new(0)],
            children: None,
            oddities: Oddities::default(),
            counted: counted::All::default(),
            ticks_per_second: 0,
            gib_pages: false,
            peers: Peers::new(1),
            cpus: 1,
            memory_used: 0,
        }
    }
}

/// One CPU of the guest, and what is counted on it.
pub struct Cpu<V> {
    /// Its number: 0 is the one on which the loader ran.
    pub number: u32,
    /// The vCPU.
    pub vcpu: V,
    /// What goes to the program that runs it, if it is a child's.
    pub program: Program,
    /// What is counted on it.
    pub counted: &'static Counted,
}

impl<V: Vcpu> Cpu<V> {
    /// A CPU that has not run yet.
    pub fn watched(vcpu: V, counted: &'static Counted) -> Self {
        Self {
            number: 0,
            vcpu,
            counted,
            program: Program::default(),
        }
    }
}

#[cfg(test)]
impl<V: Vcpu> Cpu<V> {
    /// A CPU with statistics and a trace of its own.
    pub(crate) fn new(vcpu: V) -> Self {
        let words = (0..64).map(|_| AtomicU64::new(0));
        let words: Vec<AtomicU64> = words.collect();
        Self::traced(vcpu, Trace::new(words.leak()))
    }

    /// A CPU with this trace, and statistics of its own.
    pub(crate) fn traced(vcpu: V, trace: Trace) -> Self {
        let statistics = Statistics::default();
        Self::watched(vcpu, Box::leak(Box::new(Counted { statistics, trace })))
    }
}
