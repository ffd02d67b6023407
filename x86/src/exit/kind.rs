//! Kinds of exits, for counters and traces: what an exit is, without what it
//! carries.

use super::{Exit, Instruction};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal,)*) => {
        /// What an exit is, without what it carries.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Kind { $($kind,)* }

        impl Kind {
            /// All kinds, in the order of their numbers.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// A short name, as people and tools see it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

// The numbers stand in traces: new kinds go to the end.
kinds! {
    Cpuid "cpuid",
    Hypercall "hypercall",
    ReadMsr "rdmsr",
    WriteMsr "wrmsr",
    SetExtendedControl "xsetbv",
    Control "control-register",
    NestedFault "nested-fault",
    Invd "invd",
    Virtualisation "vmx-svm",
    Nmi "nmi",
    NmiWindow "nmi-window",
    Init "init",
    Startup "startup",
    TripleFault "triple-fault",
    EntryFailed "entry-failed",
    Other "other",
    TaskSwitch "task-switch",
    Debug "debug-register",
    Port "port",
    NestedTables "nested-tables",
    Exception "exception",
    Interrupt "interrupt",
    InterruptWindow "interrupt-window",
    SystemManagement "smi",
    Apic "apic",
    PreemptionTimer "preemption-timer",
    MonitorTrap "monitor-trap",
    Hlt "hlt",
    Pause "pause",
    Monitor "monitor",
    Mwait "mwait",
    Rdtsc "rdtsc",
    Rdtscp "rdtscp",
    Rdpmc "rdpmc",
    Rdpru "rdpru",
    Rdrand "rdrand",
    Rdseed "rdseed",
    Wbinvd "wbinvd",
    Invlpg "invlpg",
    Invpcid "invpcid",
    Xsaves "xsaves",
    Xrstors "xrstors",
    UserWait "user-wait",
    Rsm "rsm",
    DescriptorTable "descriptor-table",
    Flow "flow",
}

impl Exit {
    /// Its kind.
    #[inline]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Cpuid { .. } => Kind::Cpuid,
            Self::Hypercall => Kind::Hypercall,
            Self::ReadMsr { .. } => Kind::ReadMsr,
            Self::WriteMsr { .. } => Kind::WriteMsr,
            Self::SetExtendedControl { .. } => Kind::SetExtendedControl,
            Self::Control(_) => Kind::Control,
            Self::Debug(_) => Kind::Debug,
            Self::Port(_) => Kind::Port,
            Self::NestedFault(_) => Kind::NestedFault,
            Self::NestedTables { .. } => Kind::NestedTables,
            Self::Instruction(instruction) => instruction.kind(),
            Self::Virtualisation => Kind::Virtualisation,
            Self::Exception { .. } => Kind::Exception,
            Self::Interrupt { .. } => Kind::Interrupt,
            Self::InterruptWindow => Kind::InterruptWindow,
            Self::Nmi => Kind::Nmi,
            Self::NmiWindow => Kind::NmiWindow,
            Self::SystemManagement => Kind::SystemManagement,
            Self::Init => Kind::Init,
            Self::Startup { .. } => Kind::Startup,
            Self::TaskSwitch(_) => Kind::TaskSwitch,
            Self::Apic { .. } => Kind::Apic,
            Self::PreemptionTimer => Kind::PreemptionTimer,
            Self::MonitorTrap => Kind::MonitorTrap,
            Self::TripleFault => Kind::TripleFault,
            Self::EntryFailed(_) => Kind::EntryFailed,
            Self::Other { .. } => Kind::Other,
        }
    }
}

impl Instruction {
    const fn kind(self) -> Kind {
        match self {
            Self::Hlt => Kind::Hlt,
            Self::Pause => Kind::Pause,
            Self::Monitor => Kind::Monitor,
            Self::Mwait => Kind::Mwait,
            Self::Rdtsc => Kind::Rdtsc,
            Self::Rdtscp => Kind::Rdtscp,
            Self::Rdpmc => Kind::Rdpmc,
            Self::Rdpru => Kind::Rdpru,
            Self::Rdrand => Kind::Rdrand,
            Self::Rdseed => Kind::Rdseed,
            Self::Invd => Kind::Invd,
            Self::Wbinvd => Kind::Wbinvd,
            Self::Invlpg(_) => Kind::Invlpg,
            Self::Invpcid => Kind::Invpcid,
            Self::Xsaves => Kind::Xsaves,
            Self::Xrstors => Kind::Xrstors,
            Self::UserWait => Kind::UserWait,
            Self::Rsm => Kind::Rsm,
            Self::DescriptorTable => Kind::DescriptorTable,
            Self::Iret | Self::Flow(_) => Kind::Flow,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_dense_and_their_names_differ() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            let same = Kind::ALL.iter().filter(|other| other.name() == kind.name());
            assert_eq!(same.count(), 1, "{}", kind.name());
        }
    }
}
