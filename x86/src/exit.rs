//! Why the guest stopped running: vendor-neutral, with plain payloads. Values
//! that nobody knows survive as they are.

mod frequent;
mod kind;

pub use frequent::Frequent;
pub use kind::Kind;

use crate::event::Event;
use crate::segment::SegmentName;
use crate::{Gpa, Gva};

/// One exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// CPUID.
    Cpuid {
        /// EAX.
        leaf: u32,
        /// ECX.
        subleaf: u32,
    },
    /// The call instruction: VMCALL or VMMCALL.
    Hypercall,
    /// RDMSR.
    ReadMsr {
        /// ECX.
        number: u32,
    },
    /// WRMSR.
    WriteMsr {
        /// ECX.
        number: u32,
        /// EDX:EAX.
        value: u64,
    },
    /// XSETBV.
    SetExtendedControl {
        /// ECX.
        index: u32,
        /// EDX:EAX.
        value: u64,
    },
    /// An access to a control register.
    Control(ControlAccess),
    /// MOV to or from a debug register.
    Debug(RegisterAccess),
    /// IN, OUT, INS or OUTS.
    Port(PortAccess),
    /// An access that the nested tables do not allow.
    NestedFault(NestedFault),
    /// An entry of the nested tables is malformed, for this address.
    NestedTables {
        /// The guest-physical address.
        gpa: Gpa,
    },
    /// An instruction that is watched, or that VT-x never lets a guest run by
    /// itself.
    Instruction(Instruction),
    /// An instruction that is unknown to a CPU without VMX, SMX, TDX, SVM, or
    /// another feature that is hidden.
    Virtualisation,
    /// An exception that is watched. It has not been raised in the guest.
    Exception {
        /// The exception as an event: vector and error code.
        event: Event,
        /// CR2 of a page fault, the new bits of DR6 of a debug exception.
        detail: u64,
    },
    /// An external interrupt, with its vector where it is acknowledged.
    Interrupt {
        /// The vector.
        vector: Option<u8>,
    },
    /// The guest can take an external interrupt now.
    InterruptWindow,
    /// A non-maskable interrupt arrived while the guest ran.
    Nmi,
    /// The guest can take an NMI now.
    NmiWindow,
    /// A system-management interrupt.
    SystemManagement,
    /// An INIT signal.
    Init,
    /// A start-up IPI, with its vector.
    Startup {
        /// The page at which the CPU starts.
        vector: u8,
    },
    /// A switch to another hardware task, outside 64-bit mode.
    TaskSwitch(TaskSwitch),
    /// The virtual APIC: an access, a write, an EOI, a threshold.
    Apic {
        /// Exit reason or EXITCODE.
        reason: u64,
        /// Exit qualification or EXITINFO1.
        detail: u64,
    },
    /// The VMX-preemption timer ran out, or what stands for it on AMD-V: the
    /// guest was not entered.
    PreemptionTimer,
    /// One instruction ran under the monitor trap flag.
    MonitorTrap,
    /// A triple fault, or on AMD a shutdown.
    TripleFault,
    /// The VM entry failed: no guest instruction ran.
    EntryFailed(EntryFailure),
    /// A reason that is not known, as the hardware gave it.
    Other {
        /// Exit reason or EXITCODE.
        reason: u64,
        /// Exit qualification or EXITINFO1.
        detail: u64,
    },
}

/// An access to a control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlAccess {
    /// MOV to or from one.
    Move(RegisterAccess),
    /// CLTS.
    ClearTaskSwitched,
    /// LMSW.
    LoadMachineStatus {
        /// The operand.
        value: u16,
    },
    /// One that the hardware does not tell from the others: the instruction
    /// has to be decoded.
    Undecoded {
        /// Which control register.
        register: u8,
        /// It is written.
        write: bool,
    },
}

/// MOV between a control or debug register and a general-purpose one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterAccess {
    /// Which control or debug register.
    pub register: u8,
    /// It is written.
    pub write: bool,
    /// The general-purpose register, where the hardware says which: 0 RAX,
    /// 1 RCX, 2 RDX, 3 RBX, 4 RSP, 5 RBP, 6 RSI, 7 RDI, 8 R8 to 15 R15.
    pub general: Option<u8>,
}

/// IN, OUT, INS or OUTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// The first port.
    pub port: u16,
    /// Bytes: 1, 2 or 4.
    pub size: u8,
    /// IN or INS.
    pub input: bool,
    /// INS or OUTS.
    pub string: bool,
    /// With a REP prefix.
    pub repeat: bool,
    /// The segment of OUTS, where the hardware says which.
    pub segment: Option<SegmentName>,
    /// EAX: what OUT writes, in its low `size` bytes.
    pub value: u32,
    /// RIP of the next instruction, where the hardware says it.
    pub next: Option<u64>,
}

/// Instructions that exit and carry nothing but themselves, or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Instruction {
    Hlt,
    Pause,
    Monitor,
    Mwait,
    Rdtsc,
    Rdtscp,
    Rdpmc,
    Rdpru,
    Rdrand,
    Rdseed,
    Invd,
    Wbinvd,
    /// With its linear address, where the hardware says it.
    Invlpg(Option<Gva>),
    Invpcid,
    Xsaves,
    Xrstors,
    /// TPAUSE or UMWAIT.
    UserWait,
    Rsm,
    /// LGDT, SGDT, LIDT, SIDT, LLDT, SLDT, LTR, STR.
    DescriptorTable,
    /// Of AMD-V's intercepts.
    Iret,
    /// PUSHF, POPF, INT n, INT1: of AMD-V's intercepts.
    Flow(u8),
}

/// How a task switch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskSource {
    /// CALL.
    Call,
    /// IRET.
    Iret,
    /// JMP.
    Jump,
    /// A task gate in the IDT.
    Gate,
}

/// A switch to another hardware task. Nothing of it has happened yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSwitch {
    /// The new task's selector.
    pub selector: u16,
    /// What asked for it.
    pub source: TaskSource,
    /// The error code to be pushed on the new task's stack, where AMD-V says
    /// so here; VT-x says it in the event that was being delivered.
    pub error: Option<u32>,
}

/// How memory was accessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A data write.
    pub write: bool,
    /// An instruction fetch.
    pub fetch: bool,
}

/// An access that the nested tables do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault {
    /// The guest-physical address.
    pub gpa: Gpa,
    /// The linear address, where the hardware gives it.
    pub gva: Option<Gva>,
    /// The access.
    pub access: Access,
    /// The access was to the guest's own page tables.
    pub walk: bool,
}

/// Why a VM entry failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFailure {
    /// VT-x: VMLAUNCH or VMRESUME failed with this VM-instruction error.
    Instruction(u32),
    /// The guest state broke a rule (VT-x: exit qualification; AMD-V: 0).
    GuestState(u64),
    /// An MSR of the load list could not be loaded (its index).
    MsrLoad(u64),
    /// A machine check happened during the entry.
    MachineCheck,
}
