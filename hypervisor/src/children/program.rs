//! What goes between a child's vCPU and the program that runs it: the exit that
//! the program is to answer, and its answer.

use abi::child::{entry, exit};
use abi::record::VmExit;
use x86::{Exit, Gpa};

/// One vCPU's. Of the guest's own CPUs nothing goes to a program.
#[derive(Debug)]
pub struct Program {
    /// What it gets when the loop is left, if there is something.
    pub exit: VmExit,
    /// Whether there is: the loop is to be left.
    pub is_told: bool,
    /// An exit that is this CPU's business, which the guest is to hear of.
    pub arrived: Option<Exit>,
    /// An access whose value the program has yet to say. It is done when the
    /// program has.
    pub waiting: Option<Exit>,
    /// The value, or values, that it said.
    pub answer: Option<Answer>,
    /// The page where its records are, if it said so: the child's own.
    pub records: Option<Gpa>,
    /// It shut down: nothing runs before its registers are set.
    pub is_shut: bool,
    /// What it wants to see: flags of the entry.
    pub flags: u32,
}

/// What a program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These values.
    Values([u64; 4]),
    /// A general-protection fault.
    Fault,
}

/// An exit of which nothing is known but its kind.
#[inline(always)]
pub const fn plain(kind: u32) -> VmExit {
    VmExit {
        kind,
        flags: 0,
        size: 0,
        port: 0,
        address: 0,
        data: 0,
        values: [0; 5],
        rip: 0,
    }
}

impl Default for Program {
    fn default() -> Self {
        Self {
            exit: plain(0),
            is_told: false,
            arrived: None,
            waiting: None,
            answer: None,
            records: None,
            is_shut: false,
            flags: 0,
        }
    }
}

impl Program {
    /// Nothing waits, and nothing is told. Where records are, and what the vCPU exits
    /// for, stays.
    pub fn reset(&mut self) {
        let Self { records, flags, .. } = *self;
        *self = Self {
            records,
            flags,
            ..Self::default()
        };
    }

    /// Gives `record` to the program.
    #[inline(always)]
    pub fn tell(&mut self, record: VmExit) {
        self.exit = record;
        self.is_told = true;
    }

    /// Gives it `record`, and notes `exit` for the guest.
    pub fn leave_for(&mut self, exit: &Exit, record: VmExit) {
        self.arrived = Some(*exit);
        self.tell(record);
    }

    /// Gives it `record` and keeps `cause` until it has answered.
    pub fn ask(&mut self, cause: &Exit, record: VmExit) {
        let flags = record.flags | exit::READ;
        self.tell(VmExit { flags, ..record });
        self.waiting = Some(*cause);
    }

    /// Whether it wants to see what this flag stands for.
    pub const fn wants(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The flags that stay until the next entry.
    pub const KEPT: u32 = entry::CPUID | entry::MSRS | entry::WINDOW;
}
